//go:build !omit_demo && !omit_ledger

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"coinop.dev"
	"coinop.dev/cmd/coinop/page"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/rail/iotarail"
	"coinop.dev/rail/nanorail"
	"coinop.dev/world/chain"
)

const (
	gridNodes = 4
	// gridRate is how many payments there are in a second unless --rate says
	// otherwise: as many as one can follow in the picture.
	gridRate = 4
	// gridSecond, in satoshi, is what the buyer's second account has to spend twice,
	// and gridDouble what each attempt is about.
	gridSecond = 1000
	gridDouble = 10
	// gridWindow is the time that rates of blocks are taken over.
	gridWindow = 2 * time.Second
	// gridDrain is longer than a wallet takes to ask a node again that was down.
	gridDrain = 75 * time.Second
	// gridQuiet is how often the nodes are asked whether all is done.
	gridQuiet = 50 * time.Millisecond
)

// ledgerCourses are those over ledgers.
var ledgerCourses = map[string]func(*demo) course{
	nanorail.Scheme: func(d *demo) course { return newGrid(d, func(g *grid) gridLedger { return newLatticeGrid(g) }) },
	iotarail.Scheme: func(d *demo) course { return newGrid(d, func(g *grid) gridLedger { return newTangleGrid(g) }) },
}

// A grid is the demo over a ledger: four nodes that keep it, and a buyer and a seller
// that have no copy of it, and pay and are paid through a node each.
type grid struct {
	*demo
	ledger gridLedger
	nodes  []*gridNode
	cables [][]*cable // [j][i], i < j: node j dials node i
	file   string     // the network's

	// All below with d.mu held.
	turn      int // who is killed next
	split     bool
	network   page.Network // but for the nodes
	ticks     []tick       // of blocks
	confirmed []float64    // ms from when a block is seen to when it is final, the newest maxLatencies
	deciding  bool         // a double spend is
	end       *gridEnd
}

// A gridNode is one of the nodes.
type gridNode struct {
	name    string
	config  Config
	key     keys.Secret
	station *station // nil while it is killed
	shown   page.Node
	height  uint64 // blocks or milestones that are final there
}

// A gridEnd is what the nodes say at the end.
type gridEnd struct {
	agree         int // nodes with the same balances
	buyer, seller money.Amount
	held          money.Amount // by others, of what buyer and seller were given
	whole         bool         // all balances on each node add up to the supply
	exact         bool         // and the seller has what it was paid, to the last digit
	conserved     bool         // all of that, on every node
	more          map[string]any
	words         []string
}

// A gridLedger is what is different from ledger to ledger. Its methods are called
// without d.mu unless they say otherwise.
type gridLedger interface {
	// prepare makes the network of the nodes' keys, and what their stores begin with.
	prepare(ctx context.Context) error
	// run has node i run on its machine.
	run(i int) coinop.Resident
	// place is where other nodes reach node i, which runs.
	place(i int) string
	// door is by which parameters of its rail a wallet finds node i, which runs.
	door(i int) string
	// joined waits until the nodes that run have found each other.
	joined(ctx context.Context) error
	// fund gives the buyer its money, and waits until it is there.
	fund(ctx context.Context) error
	look(ctx context.Context)
	// show is called with d.mu held.
	show(p *page.State)
	// double tells node a and node b of two payments of the same money, and returns
	// who is paid, and tells after each look how many nodes know.
	double(ctx context.Context, a, b int) error
	buttons() map[string]func(context.Context) error
	heal(ctx context.Context) error
	// read waits until nothing is on its way, and reads all balances from every node.
	read(ctx context.Context) (*gridEnd, error)
}

func newGrid(d *demo, ledger func(*grid) gridLedger) course {
	// That a node does not answer is what the demo shows.
	d.scenario.usual, d.window, d.level, d.drain = gridRate, gridWindow, slog.LevelError, gridDrain
	g := &grid{demo: d}
	for i := range gridNodes {
		name := fmt.Sprintf("node %d", i+1)
		g.nodes = append(g.nodes, &gridNode{name: name, shown: page.Node{Name: name, State: page.Restarting, Side: i * 2 / gridNodes}})
	}
	g.ledger = ledger(g)
	return g
}

// ground starts the nodes.
func (g *grid) ground(ctx context.Context) error {
	g.file = filepath.Join(g.dir, networkFile)
	for i, n := range g.nodes {
		n.config = Config{Config: coinop.Config{Name: n.name, Data: filepath.Join(g.dir, fmt.Sprint("node", i+1))}}
		var err error
		if n.key, err = loadKey(n.config.Data); err != nil {
			return err
		}
		g.cables = append(g.cables, make([]*cable, i))
		for k := range i {
			if g.cables[i][k], err = newCable(); err != nil {
				return err
			}
		}
	}
	g.note(page.Info, fmt.Sprintf("%d nodes start, each with its own key and store, and TCP between them", gridNodes))
	if err := g.ledger.prepare(ctx); err != nil {
		return err
	}
	for i := range g.nodes {
		if err := g.startNode(i); err != nil {
			return err
		}
	}
	if err := g.ledger.joined(ctx); err != nil {
		return err
	}
	g.note(page.Good, "they have found each other")
	return nil
}

func (g *grid) startNode(i int) error {
	n := g.nodes[i]
	s, err := openStation(context.Background(), n.config, nil, g.u.logAt(n.name, g.level), coinop.Beside(g.ledger.run(i)))
	if err != nil {
		if s.Machine != nil {
			s.Close()
		}
		return fmt.Errorf("%s: %w", n.name, err)
	}
	g.mu.Lock()
	n.station, n.shown.State = s, page.Running
	g.mu.Unlock()
	for j := i + 1; j < len(g.cables); j++ {
		g.cables[j][i].lead(g.ledger.place(i))
	}
	return nil
}

// peers are where node i finds those before it. The others dial it.
func (g *grid) peers(i int) (at []string) {
	for _, c := range g.cables[i] {
		at = append(at, c.addr())
	}
	return at
}

// clear ends the nodes.
func (g *grid) clear() {
	for _, row := range g.cables {
		for _, c := range row {
			if c != nil {
				c.close()
			}
		}
	}
	for _, n := range g.nodes {
		if n.station != nil {
			n.station.Close()
		}
	}
}

func (g *grid) sees(*demoMachine) (chain.Source, string) { return nil, "" }

func (g *grid) beat() {}

// open starts buyer and seller, and gives the buyer money.
func (g *grid) open(ctx context.Context) error {
	scheme := g.demoOptions.rail
	buyer, seller := "buyer", "seller"
	if g.demoOptions.scenario == "charger" {
		buyer, seller = "car", "charger"
	}
	g.seller = g.newMachine(seller, scheme+":?"+g.ledger.door(gridNodes-1))
	g.buyer = g.newMachine(buyer, scheme+"://self?"+g.ledger.door(0))
	g.machines = []*demoMachine{&g.buyer, &g.seller}
	g.seller.config.Listen = "127.0.0.1:0"
	g.sells(&g.seller)
	if err := g.start(&g.seller); err != nil {
		return err
	}
	g.seller.config.Listen, g.sellerKey = g.seller.station.Addr, g.seller.station.Key.Public()
	if err := g.start(&g.buyer); err != nil {
		return err
	}
	g.note(page.Info, fmt.Sprintf("the %s pays through node 1, and the %s is paid through node %d; neither has a copy of the ledger", buyer, seller, gridNodes))
	if err := g.ledger.fund(ctx); err != nil {
		return fmt.Errorf("give the %s its money: %w", buyer, err)
	}
	g.note(page.Good, fmt.Sprintf("the %s has %v, by the word of every node", buyer, demoFunds*money.Sat))
	return nil
}

// started links the buyer to the seller: prices, bills and goods go straight from one
// to the other.
func (g *grid) started(ctx context.Context, m *demoMachine, s *station) error {
	if m != &g.buyer {
		return nil
	}
	return s.Engine.Connect(ctx, g.seller.config.Listen, g.sellerKey)
}

func (g *grid) look(ctx context.Context) {
	g.ledger.look(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	top := uint64(0)
	for _, n := range g.nodes {
		top = max(top, n.height)
	}
	for _, n := range g.nodes {
		n.shown.Behind = top - n.height
	}
	now := time.Now()
	g.ticks = append(g.ticks, tick{now, g.network.Blocks})
	for len(g.ticks) > 1 && now.Sub(g.ticks[0].at) > gridWindow {
		g.ticks = g.ticks[1:]
	}
	if first := g.ticks[0]; now.After(first.at) && g.network.Blocks >= first.payments {
		g.network.PerS = float64(g.network.Blocks-first.payments) / now.Sub(first.at).Seconds()
	}
	g.network.P50Ms, g.network.P99Ms = percentilesOf(g.confirmed)
}

// final notes how long a block took. It is called with d.mu held.
func (g *grid) final(took time.Duration) {
	if len(g.confirmed) == maxLatencies {
		g.confirmed = g.confirmed[maxLatencies/2:]
	}
	g.confirmed = append(g.confirmed, float64(took.Microseconds())/1000)
}

func (g *grid) show(p *page.State) {
	n := g.network
	n.Split, n.GivenMsat = g.split, uint64((demoFunds+gridSecond)*money.Sat)
	for _, node := range g.nodes {
		n.Nodes = append(n.Nodes, node.shown)
	}
	if n.Last != nil {
		last := *n.Last
		n.Last = &last
	}
	for m, shown := range map[*demoMachine]*page.Machine{&g.buyer: &p.Buyer, &g.seller: &p.Seller} {
		if m.station != nil {
			shown.NodeKey = m.station.Key.Public().String()
		}
	}
	p.Network = &n
	g.ledger.show(p)
	if e := g.end; e != nil {
		p.Chain.Conserved, n.Agree, n.HeldMsat = &e.conserved, e.agree, uint64(e.held)
	}
}

// cut is of the link between buyer and seller.
func (g *grid) cut(down bool) { g.buyer.station.Engine.Cut(g.sellerKey, down) }

func (g *grid) actions() map[string]func(context.Context) error {
	all := map[string]func(context.Context) error{"kill-node": g.killNode, "split": g.toggleSplit, "double": g.spendTwice}
	maps.Copy(all, g.ledger.buttons())
	return all
}

func (g *grid) heal() {
	g.mu.Lock()
	split := g.split
	g.mu.Unlock()
	if split {
		g.toggleSplit(context.Background())
	}
	ctx, stop := context.WithTimeout(context.Background(), demoOpen)
	defer stop()
	if err := g.ledger.heal(ctx); err != nil {
		g.note(page.Warn, err.Error())
	}
}

// spent reports whether the buyer has no money left.
func (g *grid) spent(err error) bool {
	if !errors.Is(err, money.Unpaid) {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	price, _ := g.item.Price.Times(g.scenario.units(g.rate))
	return g.phase == page.Paying && !g.split && g.buyer.holds < price
}

// settle waits for all that is on its way, and reads every node.
func (g *grid) settle(ctx context.Context) (*settlement, error) {
	for g.isDeciding() || g.nodeDown() {
		select {
		case <-time.After(gridQuiet):
		case <-ctx.Done():
			return nil, fmt.Errorf("the nodes are not all back, or have not decided: %w", ctx.Err())
		}
	}
	e, err := g.ledger.read(ctx)
	if err != nil {
		return nil, err
	}
	g.ledger.look(ctx)
	given := (demoFunds + gridSecond) * money.Sat
	g.mu.Lock()
	e.conserved = e.agree == gridNodes && e.whole && e.exact && e.buyer+e.seller+e.held == given && e.seller == g.paid
	g.end = e
	g.buyer.holds, g.seller.holds = e.buyer, e.seller
	n, kills := g.network, 0
	for _, node := range g.nodes {
		kills += node.shown.Kills
	}
	paid := g.paid
	g.mu.Unlock()
	s := &settlement{conserved: e.conserved, more: map[string]any{
		"buyer_msat": e.buyer, "seller_msat": e.seller, "held_by_others_msat": e.held, "given_msat": given, "fees_msat": 0,
		"nodes": gridNodes, "nodes_agree": e.agree, "supply_whole": e.whole, "blocks": n.Blocks, "double_spends": n.Doubles, "node_kills": kills,
		"confirm_p50_ms": n.P50Ms, "confirm_p99_ms": n.P99Ms,
	}}
	maps.Copy(s.more, e.more)
	s.words = append(e.words,
		fmt.Sprintf("%d blocks; half of them were final %.0f ms after a node had seen them", n.Blocks, n.P50Ms),
		fmt.Sprintf("read back from %d of %d nodes, which say the same: %s %v, %s %v, others %v; together what was given, %v: %v",
			e.agree, gridNodes, g.seller.name, e.seller, g.buyer.name, e.buyer, e.held, given, s.conserved))
	s.wrong = fmt.Sprintf("%d of %d nodes agree; %s %v, %s %v and others %v do not add up to %v, or the seller did not get the %v it was paid",
		e.agree, gridNodes, g.buyer.name, e.buyer, g.seller.name, e.seller, e.held, given, paid)
	g.note(page.Good, fmt.Sprintf("%d of %d nodes say the same of every account", e.agree, gridNodes))
	return s, nil
}

func (g *grid) isDeciding() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.deciding
}

func (g *grid) nodeDown() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.nodes, func(n *gridNode) bool { return n.station == nil })
}
