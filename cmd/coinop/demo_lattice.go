//go:build !omit_demo && !omit_ledger

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"time"

	"coinop.dev"
	"coinop.dev/cmd/coinop/page"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	latticewallet "coinop.dev/core/ledger/lattice/wallet"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/engine"
	nanonet "coinop.dev/engine/lattice"
	"coinop.dev/engine/lattice/rpc"
	"coinop.dev/rail/nanorail"
)

// latticeInFlight is how many orders are paid at a time: an account's blocks follow
// one another, and are cemented one after the other.
const latticeInFlight = 4

// A latticeGrid is a grid's nodes of a block lattice: each a representative with a
// quarter of the votes.
type latticeGrid struct {
	*grid
	network lattice.Network
	first   []step.Record
	genesis eddsa.Secret
	reps    []eddsa.Secret
	second  eddsa.Secret // the buyer's key's second account
	faucet  faucet
	picture *latticePicture
	running [gridNodes]*latticeNode // with d.mu held
	places  [gridNodes]struct{ listen, rpc, socket string }
	spare   lattice.Block // the newest of second that is final
	paidOut money.Amount  // by second, to whoever won; with d.mu held
}

func newLatticeGrid(g *grid) *latticeGrid {
	l := &latticeGrid{grid: g, picture: newLatticePicture(g)}
	for i := range l.places {
		l.places[i].listen, l.places[i].rpc, l.places[i].socket = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	}
	g.most = latticeInFlight
	g.network.Ledger, g.network.WorkIs = "raw", "some 1,000 tries for a send"
	return l
}

func (l *latticeGrid) prepare(ctx context.Context) (err error) {
	var seed [32]byte
	rand.Read(seed[:])
	l.genesis = lattice.NewSecret(seed)
	for _, n := range l.nodes {
		l.reps = append(l.reps, latticeSecret(n.key, "rep"))
	}
	if l.network, l.first, err = newLattice(ctx, "coinop demo", l.genesis, l.reps); err != nil {
		return err
	}
	raw, err := nanorail.FormatNetwork(l.network)
	if err != nil {
		return err
	}
	for i, n := range l.nodes {
		if err := begin(&n.config, l.first); err != nil {
			return err
		}
		l.grid.mu.Lock()
		n.shown.Role, n.shown.Share = "representative", shareOf(l.network.Reps.Of(l.reps[i].Public()), l.network.Supply())
		l.grid.mu.Unlock()
	}
	return os.WriteFile(l.file, raw, 0o600)
}

// shareOf is a part of all, for people.
func shareOf(part, all lattice.Raw) float64 {
	if all.IsZero() {
		return 0
	}
	return (float64(part.Hi)*(1<<64) + float64(part.Lo)) / (float64(all.Hi)*(1<<64) + float64(all.Lo))
}

func (l *latticeGrid) run(i int) coinop.Resident {
	return func(ctx context.Context, m *engine.Machine) (func() error, error) {
		at := &l.places[i]
		o := nanonet.Options{
			Config: node.Config{Network: l.network, Reps: []eddsa.Secret{l.reps[i]}}, Listen: at.listen, Peers: l.peers(i), Closed: true,
		}
		n, err := openLatticeOf(ctx, m, o, rpc.Options{Work: true}, at.rpc, at.socket)
		if err != nil {
			return nil, err
		}
		// A restarted node is found at the same places.
		at.listen, at.rpc, at.socket = n.Addr().String(), n.rpc.addr, n.socket.addr
		heard, err := n.Subscribe(4096, node.Watch{Blocks: true, Elections: true})
		if err != nil {
			n.Close()
			return nil, err
		}
		go l.picture.hear(heard)
		l.mu.Lock()
		l.running[i] = n
		l.mu.Unlock()
		return func() error {
			l.mu.Lock()
			l.running[i] = nil
			l.mu.Unlock()
			return n.Close()
		}, nil
	}
}

func (l *latticeGrid) place(i int) string { return l.places[i].listen }

func (l *latticeGrid) door(i int) string {
	return url.Values{"net": {l.file}, "node": {"http://" + l.places[i].rpc}, "socket": {"ws://" + l.places[i].socket}}.Encode()
}

// nodesNow are those that run.
func (l *latticeGrid) nodesNow() [gridNodes]*latticeNode {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.running
}

func (l *latticeGrid) joined(ctx context.Context) error {
	for _, n := range l.nodesNow() {
		for len(n.Peers()) < gridNodes-1 {
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("a node has %d of %d peers: %w", len(n.Peers()), gridNodes-1, ctx.Err())
			}
		}
	}
	return nil
}

// fund pays the buyer's two accounts from the genesis account's.
func (l *latticeGrid) fund(ctx context.Context) error {
	at := l.nodesNow()[0]
	buyer, second := nanorail.Key(l.buyer.station.Key, 0).Public(), nanorail.Key(l.buyer.station.Key, 1)
	l.second = second
	l.picture.name(buyer, l.buyer.name)
	l.picture.name(nanorail.Key(l.seller.station.Key, 0).Public(), l.seller.name)
	l.picture.name(second.Public(), l.buyer.name+"’s second")
	l.picture.name(l.genesis.Public(), "the faucet")
	l.picture.called(l.reps[0].Public(), "node 1’s account")
	var history []node.Stored
	if err := at.Look(ctx, func(n *node.Node) { history = n.History(l.genesis.Public(), 0, gridNodes+1) }); err != nil {
		return err
	}
	slices.Reverse(history)
	for _, s := range history {
		l.picture.known(s)
	}
	tip := history[len(history)-1].Block
	l.faucet = faucet{at: at.Node, network: l.network, secret: l.genesis, last: tip, head: tip.Hash()}
	if _, err := l.faucet.send(ctx, buyer, latticewallet.Raw(demoFunds*money.Sat)); err != nil {
		return err
	}
	gift, err := l.faucet.send(ctx, second.Public(), latticewallet.Raw(gridSecond*money.Sat))
	if err != nil {
		return err
	}
	l.spare = lattice.Block{Account: second.Public(), Representative: l.reps[0].Public(), Balance: latticewallet.Raw(gridSecond * money.Sat), Link: gift}
	if err := l.faucet.put(ctx, &l.spare, second); err != nil {
		return err
	}
	for {
		account := node.Account{}
		if err := at.Look(ctx, func(n *node.Node) { account, _ = n.Account(buyer) }); err != nil {
			return err
		}
		if account.ConfirmedHeight > 0 {
			l.look(ctx)
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("it has not pocketed it: %w", ctx.Err())
		}
	}
}

func (l *latticeGrid) look(ctx context.Context) {
	type view struct {
		counts  node.Counts
		quorum  node.Quorum
		open    []node.Election
		buyer   lattice.Raw
		seller  lattice.Raw
		balance map[lattice.Key]node.Account
	}
	var keys []lattice.Key
	for _, m := range l.machines {
		keys = append(keys, l.keyOf(m))
	}
	var best *view
	sides := [2]float64{}
	heights := [gridNodes]uint64{}
	for i, n := range l.nodesNow() {
		if n == nil {
			continue
		}
		v := &view{}
		err := n.Look(ctx, func(n *node.Node) {
			v.counts, v.quorum, v.open = n.Counts(), n.Quorum(), n.Elections()
			v.balance = l.picture.balances(n)
			for k, to := range []*lattice.Raw{&v.buyer, &v.seller} {
				if k < len(keys) {
					*to = belongings(n, keys[k])
				}
			}
		})
		if err != nil {
			continue
		}
		heights[i] = v.counts.Cemented
		if best == nil || v.counts.Cemented > best.counts.Cemented {
			best = v
		}
		l.mu.Lock()
		sides[l.nodes[i].shown.Side] += l.nodes[i].shown.Share
		l.mu.Unlock()
	}
	if best == nil {
		return
	}
	l.picture.update(best.balance, best.open)
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, h := range heights {
		if h > 0 {
			l.nodes[i].height = h
		}
	}
	n := &l.grid.network
	n.Blocks, n.Confirmed = max(n.Blocks, best.counts.Blocks), max(n.Confirmed, best.counts.Cemented)
	n.Waiting, n.Quorum, n.Online = best.counts.Backlog, shareOf(best.quorum.Delta, l.network.Supply()), sides[0]+sides[1]
	if l.split {
		n.Online = max(sides[0], sides[1])
	}
	l.buyer.holds, l.seller.holds = money.Amount(msatOf(best.buyer)), money.Amount(msatOf(best.seller))
}

// keyOf is a machine's account; the zero key before it has started.
func (l *latticeGrid) keyOf(m *demoMachine) lattice.Key {
	key, err := loadKey(m.config.Data)
	if err != nil {
		return lattice.Key{}
	}
	return nanorail.Key(key, 0).Public()
}

// belongings are an account's balance and what waits for it.
func belongings(n *node.Node, k lattice.Key) lattice.Raw {
	a, _ := n.Account(k)
	sum := a.Balance
	for _, r := range n.Receivable(k, rpc.MaxSum, lattice.Raw{}, false) {
		sum, _ = sum.Add(r.Amount)
	}
	return sum
}

func (l *latticeGrid) show(p *page.State) { p.Lattice = l.picture.state(l.reps) }

func (l *latticeGrid) buttons() map[string]func(context.Context) error { return nil }

func (l *latticeGrid) heal(context.Context) error { return nil }

// double tells two nodes of two blocks that want one place in the second account's
// chain.
func (l *latticeGrid) double(ctx context.Context, a, b int) error {
	now := l.nodesNow()
	if now[a] == nil || now[b] == nil {
		return errors.New("a node has just gone down; try again")
	}
	amount := latticewallet.Raw(gridDouble * money.Sat)
	blocks := [2]lattice.Block{}
	for i, to := range []lattice.Key{l.reps[0].Public(), l.genesis.Public()} {
		blk := lattice.Block{Account: l.spare.Account, Previous: l.spare.Hash(), Representative: l.spare.Representative, Link: to}
		blk.Balance, _ = l.spare.Balance.Sub(amount)
		blk.Work = lattice.Work(blk.Root(), l.network.WorkSend, 0)
		blk.Sign(l.second)
		blocks[i] = blk
	}
	l.doubled(page.Double{A: "node 1’s account", B: "the faucet", NodeA: l.nodes[a].name, NodeB: l.nodes[b].name})
	told := make(chan error, 2)
	for i, n := range []*latticeNode{now[a], now[b]} {
		l.picture.see(blocks[i].Hash(), blocks[i], lattice.Send)
		go func() { told <- n.ProcessLater(context.WithoutCancel(ctx), blocks[i]) }()
	}
	for range 2 {
		if err := <-told; err != nil {
			l.u.log("demo").Debug("spend twice", "err", err)
		}
	}
	go l.await(func(ctx context.Context) (string, int) {
		names, counts := [2]string{"node 1’s account", "the faucet"}, [2]int{}
		for _, n := range l.nodesNow() {
			if n == nil {
				continue
			}
			n.Look(ctx, func(n *node.Node) {
				for i := range blocks {
					if s, ok := n.Block(blocks[i].Hash()); ok && s.Confirmed {
						counts[i]++
					}
				}
			})
		}
		for i, c := range counts {
			if c > 0 {
				l.mu.Lock()
				if l.spare.Hash() != blocks[i].Hash() {
					l.spare = blocks[i]
					l.paidOut += gridDouble * money.Sat
				}
				l.mu.Unlock()
				return names[i], c
			}
		}
		return "", 0
	})
	return nil
}

// read waits until nothing is on its way on any node, and adds up what each has. What
// an account has not pocketed yet is its own all the same.
func (l *latticeGrid) read(ctx context.Context) (*gridEnd, error) {
	type books struct {
		accounts map[lattice.Key]lattice.Raw
		counts   node.Counts
		sum      lattice.Raw
	}
	readOne := func(n *latticeNode) (b books, err error) {
		b.accounts = map[lattice.Key]lattice.Raw{}
		err = n.Look(ctx, func(n *node.Node) {
			b.counts = n.Counts()
			for _, a := range n.Accounts(lattice.Key{}, rpc.MaxSum) {
				held := belongings(n, a.Key)
				b.accounts[a.Key] = held
				b.sum, _ = b.sum.Add(held)
			}
		})
		return b, err
	}
	var all []books
	for {
		all = all[:0]
		busy := ""
		for i, n := range l.nodesNow() {
			if n == nil {
				return nil, fmt.Errorf("%s is down", l.nodes[i].name)
			}
			b, err := readOne(n)
			if err != nil {
				return nil, err
			}
			if b.counts.Elections+b.counts.Backlog+b.counts.Unchecked > 0 || len(all) > 0 && b.counts.Cemented != all[0].counts.Cemented {
				busy = fmt.Sprintf("%s has %d final blocks and %d that wait", l.nodes[i].name, b.counts.Cemented, b.counts.Backlog+b.counts.Unchecked)
			}
			all = append(all, b)
		}
		if busy == "" {
			break
		}
		select {
		case <-time.After(gridQuiet):
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w", busy, ctx.Err())
		}
	}
	e := &gridEnd{whole: true}
	for _, b := range all {
		e.whole = e.whole && b.sum == l.network.Supply()
		same := len(b.accounts) == len(all[0].accounts)
		for k, raw := range b.accounts {
			same = same && all[0].accounts[k] == raw
		}
		if same {
			e.agree++
		}
	}
	buyer, seller := all[0].accounts[l.keyOf(&l.buyer)], all[0].accounts[l.keyOf(&l.seller)]
	l.mu.Lock()
	defer l.mu.Unlock()
	both, _ := buyer.Add(seller)
	e.exact = both == latticewallet.Raw(demoFunds*money.Sat)
	e.seller, _ = latticewallet.Amount(seller)
	// What tells orders apart stands below one msat: the buyer has given that, too.
	e.buyer = demoFunds*money.Sat - e.seller
	rest, _ := latticewallet.Amount(all[0].accounts[l.second.Public()])
	e.held = rest + l.paidOut
	e.more = map[string]any{"supply_raw": l.network.Supply(), "seller_raw": seller, "buyer_raw": buyer, "accounts": len(all[0].accounts)}
	return e, nil
}
