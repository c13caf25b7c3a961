//go:build !omit_demo && !omit_ledger

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"coinop.dev"
	"coinop.dev/cmd/coinop/page"
	"coinop.dev/core/keys"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/engine"
	tanglenet "coinop.dev/engine/tangle"
	"coinop.dev/rail/iotarail"
)

const (
	// tangleSigners are the coordinators among the nodes, of which tangleThreshold
	// must sign. The first proposes the milestones, one in tangleEvery.
	tangleSigners   = 3
	tangleThreshold = 2
	tangleEvery     = 500 * step.Millisecond
	// tangleCoins is how many outputs the buyer begins with: as many payments can be
	// on their way, for what comes back is spent only when it is confirmed.
	tangleCoins = 16
	// tangleData is how often each node says something of its own, so that there are
	// other blocks for payments to approve.
	tangleData = 700 * time.Millisecond
)

// A tangleGrid is a grid's nodes of a Tangle.
type tangleGrid struct {
	*grid
	network *tangle.Network
	genesis eddsa.Secret
	secrets []eddsa.Secret // of the coordinators
	second  eddsa.Secret
	picture *tanglePicture
	running [gridNodes]*tangleNode // with d.mu held
	rests   [gridNodes]string
	silent  bool // with d.mu held
	spare   tangle.Unspent
	paidOut money.Amount // with d.mu held
	ending  chan struct{}
}

func newTangleGrid(g *grid) *tangleGrid {
	t := &tangleGrid{grid: g, picture: newTanglePicture(g), ending: make(chan struct{})}
	for i := range t.rests {
		t.rests[i] = "127.0.0.1:0"
	}
	g.network.Ledger, g.network.WorkIs = "base units", "some 27 tries for a block"
	g.network.Quorum = float64(tangleThreshold) / tangleSigners
	return t
}

func (t *tangleGrid) prepare(context.Context) (err error) {
	var seed [32]byte
	rand.Read(seed[:])
	t.genesis = eddsa.NewSecret(eddsa.SHA512, seed)
	for i, n := range t.nodes {
		n.config.Listen = "127.0.0.1:0"
		if i < tangleSigners {
			t.secrets = append(t.secrets, tangleSecret(n.key))
			n.shown.Role = "coordinator"
		}
	}
	if t.network, err = newTangle("coinop demo", t.genesis, t.secrets, tangleThreshold); err != nil {
		return err
	}
	raw, err := iotarail.FormatNetwork(t.network)
	if err != nil {
		return err
	}
	return os.WriteFile(t.file, raw, 0o600)
}

func (t *tangleGrid) run(i int) coinop.Resident {
	return func(ctx context.Context, m *engine.Machine) (func() error, error) {
		if err := t.openNode(ctx, m, i); err != nil {
			return nil, err
		}
		stop := make(chan struct{})
		go t.talk(i, stop)
		return func() error {
			close(stop)
			t.mu.Lock()
			n := t.running[i]
			t.running[i] = nil
			t.mu.Unlock()
			if n == nil {
				return nil
			}
			return n.Close()
		}, nil
	}
}

// openNode has a machine run node i.
func (t *tangleGrid) openNode(ctx context.Context, m *engine.Machine, i int) error {
	o := tanglenet.Options{Config: node.Config{Network: t.network}}
	for k, at := range t.peers(i) {
		o.Peers = append(o.Peers, fmt.Sprintf("%v@%s", t.nodes[k].key.Public(), at))
	}
	if i < tangleSigners {
		t.mu.Lock()
		o.Config.Coordinator = node.Coordinator{Secret: t.secrets[i], Primary: i == 0 && !t.silent, Interval: tangleEvery}
		t.mu.Unlock()
	}
	n, err := openTangleOf(ctx, m, o, t.rests[i])
	if err != nil {
		return err
	}
	t.rests[i] = n.rest.addr
	t.mu.Lock()
	t.running[i] = n
	t.mu.Unlock()
	return nil
}

// talk attaches a block of data now and then.
func (t *tangleGrid) talk(i int, stop chan struct{}) {
	tick := time.NewTicker(tangleData + time.Duration(i)*90*time.Millisecond)
	defer tick.Stop()
	for n := uint64(0); ; n++ {
		select {
		case <-stop:
			return
		case <-t.ending:
			return
		case <-tick.C:
		}
		at := t.nodesNow()[i]
		if at == nil {
			continue
		}
		ctx, done := context.WithTimeout(context.Background(), tangleData)
		if _, err := at.Submit(ctx, &tangle.TaggedData{Tag: []byte("uptime"), Data: fmt.Appendf(nil, "%s %d", t.nodes[i].name, n)}); err != nil {
			t.u.log("demo").Debug("attach data", "node", t.nodes[i].name, "err", err)
		}
		done()
	}
}

// place is where the machine listens: nodes are linked as machines are.
func (t *tangleGrid) place(i int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[i]
	n.config.Listen = n.station.Addr // where it is found when it is back
	return n.station.Addr
}

func (t *tangleGrid) door(i int) string {
	return url.Values{"net": {t.file}, "node": {"http://" + t.rests[i]}}.Encode()
}

func (t *tangleGrid) nodesNow() [gridNodes]*tangleNode {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running
}

// joined waits until all nodes have a milestone, which takes two that hear each other.
func (t *tangleGrid) joined(ctx context.Context) error {
	for i, n := range t.nodesNow() {
		for {
			info, err := n.Info(ctx)
			if err != nil {
				return err
			}
			if info.Latest.Index > 0 && info.Synced {
				break
			}
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("%s has no milestone, and %d peers: %w", t.nodes[i].name, len(info.Peers), ctx.Err())
			}
		}
	}
	go t.follow()
	return nil
}

// follow draws what the first node that runs has.
func (t *tangleGrid) follow() {
	for {
		select {
		case <-t.ending:
			return
		case <-time.After(40 * time.Millisecond):
		}
		for _, n := range t.nodesNow() {
			if n != nil {
				ctx, done := context.WithTimeout(context.Background(), time.Second)
				n.Look(ctx, t.picture.read)
				done()
				break
			}
		}
	}
}

// fund pays the buyer's two addresses from the genesis address.
func (t *tangleGrid) fund(ctx context.Context) error {
	at := t.nodesNow()[0]
	t.second = iotarail.Key(t.buyer.station.Key, 1)
	buyer := tangle.NewAddress(iotarail.Key(t.buyer.station.Key, 0).Public())
	var to []tangle.BasicOutput
	for range tangleCoins {
		to = append(to, tangle.BasicOutput{Amount: uint64(demoFunds * money.Sat / tangleCoins), Address: buyer})
	}
	to = append(to, tangle.BasicOutput{Amount: uint64(gridSecond * money.Sat), Address: tangle.NewAddress(t.second.Public())})
	gift, err := tangleGift(t.network, t.genesis, []tangle.Unspent{{ID: tangle.GenesisOutput(0), Amount: t.network.Supply}}, to...)
	if err != nil {
		return err
	}
	if _, err := at.Submit(ctx, gift); err != nil {
		return err
	}
	if _, err := at.Settle(ctx, gift.ID()); err != nil {
		return err
	}
	t.spare = tangle.Unspent{ID: tangle.NewOutputID(gift.ID(), tangleCoins), Amount: uint64(gridSecond * money.Sat)}
	for {
		sum, err := t.sums(ctx, t.nodesNow()[gridNodes-1], buyer)
		if err != nil {
			return err
		}
		if sum[0] == demoFunds*money.Sat { // the last node has it, too
			t.look(ctx)
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// maxCoins bounds the outputs of an address that are added up.
const maxCoins = 100_000

// sums are what addresses have by a node's word.
func (t *tangleGrid) sums(ctx context.Context, n *tangleNode, addresses ...tangle.Address) (all []money.Amount, err error) {
	err = n.Look(ctx, func(n *node.Node) {
		for _, a := range addresses {
			sum := uint64(0)
			for _, o := range n.OutputsOf(a, tangle.OutputID{}, maxCoins) {
				sum += o.Amount
			}
			all = append(all, money.Amount(sum))
		}
	})
	return all, err
}

func (t *tangleGrid) addressOf(m *demoMachine) tangle.Address {
	key, err := loadKey(m.config.Data)
	if err != nil {
		key = keys.Secret{}
		return tangle.Address{}
	}
	return tangle.NewAddress(iotarail.Key(key, 0).Public())
}

func (t *tangleGrid) look(ctx context.Context) {
	var best node.Info
	heights, sides := [gridNodes]uint64{}, [2]int{}
	var eye *tangleNode
	for i, n := range t.nodesNow() {
		if n == nil {
			continue
		}
		info, err := n.Info(ctx)
		if err != nil {
			continue
		}
		heights[i] = uint64(info.Latest.Index)
		if eye == nil || info.Latest.Index > best.Latest.Index {
			best, eye = info, n
		}
		if i < tangleSigners {
			sides[t.nodes[i].shown.Side]++
		}
	}
	if eye == nil {
		return
	}
	var holds []money.Amount
	if len(t.machines) == 2 {
		holds, _ = t.sums(ctx, eye, t.addressOf(&t.buyer), t.addressOf(&t.seller))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, h := range heights {
		if h > 0 {
			t.nodes[i].height = h
		}
	}
	if len(holds) == 2 {
		t.buyer.holds, t.seller.holds = holds[0], holds[1]
	}
	n := &t.grid.network
	n.Confirmed, n.Waiting = max(n.Confirmed, best.Blocks), best.Unconfirmed
	n.Blocks = max(n.Blocks, best.Blocks+uint64(best.Unconfirmed))
	there := sides[0] + sides[1]
	if t.split {
		there = max(sides[0], sides[1])
	}
	n.Online = float64(there) / tangleSigners
	t.nodes[0].shown.Silent = t.silent
	t.picture.tips(best.Tips)
}

func (t *tangleGrid) show(p *page.State) { p.Tangle = t.picture.state() }

func (t *tangleGrid) buttons() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{"silence": t.toggleSilence}
}

// toggleSilence has the coordinator that proposes milestones stop, or go on: its node
// is opened again, on the same machine.
func (t *tangleGrid) toggleSilence(ctx context.Context) error {
	t.mu.Lock()
	n, s := t.running[0], t.nodes[0].station
	if t.phase == page.Settled || n == nil || s == nil {
		t.mu.Unlock()
		return errors.New(t.nodes[0].name + " is not running; wait a moment")
	}
	t.silent = !t.silent
	silent := t.silent
	t.running[0] = nil
	t.mu.Unlock()
	if err := n.Close(); err != nil {
		return err
	}
	if err := t.openNode(ctx, s.Engine, 0); err != nil {
		return err
	}
	if silent {
		t.note(page.Warn, "the coordinator makes no milestones any more")
	} else {
		t.note(page.Good, "the coordinator makes milestones again")
	}
	return nil
}

func (t *tangleGrid) heal(ctx context.Context) error {
	for {
		t.mu.Lock()
		silent, there := t.silent, t.running[0] != nil && t.nodes[0].station != nil
		t.mu.Unlock()
		switch {
		case !silent:
			return nil
		case there:
			return t.toggleSilence(ctx)
		}
		select {
		case <-time.After(gridQuiet):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// double tells two nodes of two transactions that spend one output.
func (t *tangleGrid) double(ctx context.Context, a, b int) error {
	now := t.nodesNow()
	if now[a] == nil || now[b] == nil {
		return errors.New("a node has just gone down; try again")
	}
	other := tangle.NewAddress(t.secrets[0].Public())
	names := [2]string{"node 1’s address", "the faucet"}
	var txs [2]*tangle.Transaction
	for i, to := range []tangle.Address{other, tangle.NewAddress(t.genesis.Public())} {
		var err error
		if txs[i], err = tangleGift(t.network, t.second, []tangle.Unspent{t.spare}, tangle.BasicOutput{Amount: uint64(gridDouble * money.Sat), Address: to}); err != nil {
			return err
		}
	}
	t.doubled(page.Double{A: names[0], B: names[1], NodeA: t.nodes[a].name, NodeB: t.nodes[b].name})
	told := make(chan error, 2)
	for i, n := range []*tangleNode{now[a], now[b]} {
		go func() { _, err := n.Submit(ctx, txs[i]); told <- err }()
	}
	for range 2 {
		if err := <-told; err != nil {
			t.u.log("demo").Debug("spend twice", "err", err)
		}
	}
	go t.await(func(ctx context.Context) (string, int) {
		counts := [2]int{}
		for _, n := range t.nodesNow() {
			if n == nil {
				continue
			}
			n.Look(ctx, func(n *node.Node) {
				for i, tx := range txs {
					if _, ok := n.Included(tx.ID()); ok {
						counts[i]++
					}
				}
			})
		}
		for i, c := range counts {
			if c > 0 {
				t.mu.Lock()
				if id := tangle.NewOutputID(txs[i].ID(), 1); t.spare.ID != id {
					t.spare = tangle.Unspent{ID: id, Amount: t.spare.Amount - uint64(gridDouble*money.Sat)}
					t.paidOut += gridDouble * money.Sat
				}
				t.mu.Unlock()
				return names[i], c
			}
		}
		return "", 0
	})
	return nil
}

// read compares all nodes as one milestone has left them.
func (t *tangleGrid) read(ctx context.Context) (*gridEnd, error) {
	close(t.ending)
	addresses := []tangle.Address{
		t.addressOf(&t.buyer), t.addressOf(&t.seller), tangle.NewAddress(t.second.Public()),
		tangle.NewAddress(t.genesis.Public()), tangle.NewAddress(t.secrets[0].Public()),
	}
	type books struct {
		index  uint32
		sums   []money.Amount
		supply uint64
	}
	for {
		var all []books
		busy := ""
		for i, n := range t.nodesNow() {
			if n == nil {
				return nil, fmt.Errorf("%s is down", t.nodes[i].name)
			}
			var b books
			err := n.Look(ctx, func(n *node.Node) { b.index, b.supply = n.Info().Latest.Index, n.Supply() })
			if err == nil {
				b.sums, err = t.sums(ctx, n, addresses...)
			}
			if err != nil {
				return nil, err
			}
			all = append(all, b)
			if b.index != all[0].index {
				busy = fmt.Sprintf("%s has milestone %d, %s %d", t.nodes[i].name, b.index, t.nodes[0].name, all[0].index)
			}
		}
		t.mu.Lock()
		paid := t.paid
		t.mu.Unlock()
		if busy == "" && all[0].sums[1] < paid {
			busy = fmt.Sprintf("the %s has %v of %v", t.seller.name, all[0].sums[1], paid)
		}
		if busy == "" {
			return t.compare(all[0].index, func(i int) (sums []money.Amount, supply uint64) { return all[i].sums, all[i].supply }), nil
		}
		select {
		case <-time.After(gridQuiet):
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w", busy, ctx.Err())
		}
	}
}

func (t *tangleGrid) compare(index uint32, of func(i int) ([]money.Amount, uint64)) *gridEnd {
	first, _ := of(0)
	e := &gridEnd{whole: true, exact: true}
	for i := range gridNodes {
		sums, supply := of(i)
		e.whole = e.whole && supply == t.network.Supply
		same := true
		for k := range sums {
			same = same && sums[k] == first[k]
		}
		if same {
			e.agree++
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e.buyer, e.seller, e.held = first[0], first[1], first[2]+t.paidOut
	e.more = map[string]any{"supply_msat": t.network.Supply, "milestone": index, "conflicting_blocks": t.picture.conflicts()}
	e.words = []string{fmt.Sprintf("milestone %d; %d blocks with transactions whose money was spent before", index, t.picture.conflicts())}
	return e
}
