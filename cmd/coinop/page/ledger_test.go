package page

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// A pretended ledger grows as its seconds do: the same second gives the same blocks.

// dice are the same for the same number.
func dice(n uint64) uint64 {
	n ^= n >> 33
	n *= 0xff51afd7ed558ccd
	n ^= n >> 33
	n *= 0xc4ceb9fe1a85ec53
	return n ^ n>>33
}

func hexOf(n uint64) string {
	return fmt.Sprintf("%016X%016X%016X%016X", dice(n), dice(n+1), dice(n+2), dice(n+3))
}

// ledgered is pretend over a network of four nodes.
func ledgered(s float64, rail string) State {
	st := pretend(s)
	st.Scenario, st.Rail, st.Unit, st.Source, st.RatePerS = "charger", rail, "mWh", "a simulated meter", 4
	n := uint64(s * 4)
	st.Payments, st.Delivered, st.PriceMsat, st.PaidMsat = n, 513*n, 500, 256_500*n
	st.CapacityMsat, st.LeftMsat, st.AtRiskBuyerMsat, st.AtRiskSellerMsat, st.P50Ms, st.P99Ms = 0, 0, 0, 0, 31.4, 88.1
	st.Buyer.Name, st.Buyer.OnchainSat, st.Buyer.ChannelMsat, st.Buyer.HoldsMsat = "car", 0, 0, 1_000_000_000-st.PaidMsat
	st.Seller.Name, st.Seller.ChannelMsat, st.Seller.HoldsMsat, st.Seller.Kills = "charger", 0, st.PaidMsat, 0
	st.Chain = Chain{}
	st.Network = &Network{
		Blocks: 12 + 2*n, Confirmed: 10 + 2*n, Waiting: 2, PerS: 8, P50Ms: 12.4, P99Ms: 41, Ledger: "raw", GivenMsat: 1_000_000_000, WorkIs: "a few tries",
		Quorum: 0.67, Online: 1,
	}
	for i := range 4 {
		st.Network.Nodes = append(st.Network.Nodes, Node{Name: fmt.Sprintf("node %d", i+1), State: Running, Role: "representative", Share: 0.25, Side: i / 2})
	}
	for i := range st.Readings {
		st.Readings[i].Name, st.Readings[i].Value, st.Readings[i].PaidMsat = "meter (simulated)", fmt.Sprintf("%.3f Wh at 7412 W", s+float64(i)/50), 256_500
		st.Readings[i].AtMs = int64(s*1000) - int64(12-i)*250
	}
	st.Events = []Event{{20, Info, "four nodes start, each with its own key and store"}, {420, Good, "they have found each other"}, {900, Good, "the car has 1000000 sat"}}
	return st
}

// latticed is ledgered over Nano's lattice.
func latticed(s float64) State {
	st := ledgered(s, "nano")
	n := st.Payments
	car := Account{Name: "car", Address: "nano_1car", Msat: st.Buyer.HoldsMsat, Height: n + 1}
	charger := Account{Name: "charger", Address: "nano_1charger", Msat: st.Seller.HoldsMsat, Height: n}
	for p := max(12, n) - 11; p <= n; p++ {
		fate := func(ahead uint64) Fate {
			if p+ahead > n {
				return Waits
			}
			return Final
		}
		car.Blocks = append(car.Blocks, LatticeBlock{Seq: 20 + 2*p, Hash: hexOf(2 * p), Kind: "send", State: fate(1), Height: p + 1, Msat: 256_500, To: "charger"})
		if p < n {
			charger.Blocks = append(charger.Blocks, LatticeBlock{Seq: 23 + 2*p, Hash: hexOf(2*p + 1), Kind: "receive", State: fate(2), Height: p, Msat: 256_500, From: hexOf(2 * p)})
		}
	}
	genesis := Account{Name: "faucet", Address: "nano_1gen", Msat: 7_999_000_000, Height: 7, Blocks: []LatticeBlock{{Seq: 1, Hash: hexOf(900), Kind: "open", State: Final, Height: 1}, {Seq: 8, Hash: hexOf(901), Kind: "send", State: Final, Height: 7, Msat: 1_000_000_000, To: "car"}}}
	second := Account{Name: "car’s second", Address: "nano_1two", Msat: 100_000, Height: 1, Blocks: []LatticeBlock{{Seq: 12, Hash: hexOf(902), Kind: "open", State: Final, Height: 1, Msat: 100_000, From: hexOf(903)}}}
	st.Lattice = &Lattice{Accounts: []Account{car, charger, second, genesis}}
	for i := range uint64(4) {
		e := Election{Hash: hexOf(2 * (n - i)), Whose: "car", Kind: "send", Blocks: 1, Over: i > 0, Final: 1, TookMs: 11.2 + float64(i)}
		for k := range 4 {
			e.Votes = append(e.Votes, Ballot{Node: fmt.Sprintf("node %d", k+1), Share: 0.25, Final: i > 0 || k < 1})
		}
		if i == 0 {
			e.Final, e.Votes = 0.25, e.Votes[:3]
		} else if i%2 == 1 {
			e.Whose, e.Kind = "charger", "receive"
		}
		st.Lattice.Elections = append([]Election{e}, st.Lattice.Elections...)
	}
	return st
}

// forked is latticed while the second account spends twice.
func forked(s float64, over bool) State {
	st := latticed(s)
	a := &st.Lattice.Accounts[2]
	n := st.Payments
	one := LatticeBlock{Seq: 17 + 2*n, Hash: hexOf(950), Kind: "send", State: Waits, Height: 2, Msat: 50_000, To: "node 1’s"}
	two := LatticeBlock{Seq: 18 + 2*n, Hash: hexOf(960), Kind: "send", State: Waits, Height: 2, Msat: 50_000, To: "faucet"}
	st.Network.Doubles, st.Network.Last = 1, &Double{A: "node 1’s account", B: "the faucet", NodeA: "node 1", NodeB: "node 4"}
	e := &st.Lattice.Elections[3]
	e.Whose, e.Blocks, e.Votes[1].Other = "car’s second", 2, true
	if over {
		one.State, two.State, a.Height, a.Msat = Final, Lost, 2, 50_000
		st.Network.Last.Wins, st.Network.Last.Nodes = "node 1’s account", 4
		e.Over, e.Final, e.Votes = true, 1, st.Lattice.Elections[2].Votes
	}
	a.Blocks = append(a.Blocks, one, two)
	return st
}

// tangled is ledgered over a Tangle.
func tangled(s float64) State {
	st := ledgered(s, "iota")
	st.P50Ms, st.P99Ms = 1320, 2105
	n := st.Network
	n.Ledger, n.P50Ms, n.P99Ms, n.Quorum, n.Online, n.WorkIs = "base units", 980, 2040, 2./3, 1, "3 on the smallest block"
	for i := range n.Nodes {
		n.Nodes[i].Role, n.Nodes[i].Share = "coordinator", 0
	}
	n.Nodes[3].Role = ""
	count := uint64(s*12) + 30
	t := &Tangle{Milestone: uint32(s), SinceMs: 400, EveryMs: 1000, Threshold: 2, Signers: 3, Zeros: 3, Conflicting: 1}
	approved := map[uint64]bool{}
	for q := max(count, MaxTangle) - MaxTangle + 1; q <= count; q++ {
		b := TangleBlock{Seq: q, ID: strings.ToLower(hexOf(q)[:16]), Kind: []string{"payment", "data", "payment", "data", "empty"}[dice(q)%5], State: Final, Milestone: uint32(q / 12)}
		for i := range 1 + dice(q+77)%3 {
			b.Parents = append(b.Parents, q-1-min(q-1, dice(q*9+i)%9))
		}
		if q%12 == 0 {
			b.Kind, b.Parents = "milestone", []uint64{q - 1, q - 2, q - 4, q - 5, q - 12}
		}
		for _, p := range b.Parents {
			approved[p] = true
		}
		t.Blocks = append(t.Blocks, b)
	}
	for i := range t.Blocks {
		b := &t.Blocks[i]
		if b.Seq > count/12*12 || b.Seq == count/12*12-3 {
			b.Milestone, b.State = 0, Waits
			if !approved[b.Seq] {
				b.State = Tip
				t.Tips++
			}
		}
	}
	n.Blocks, n.Confirmed, n.Waiting, n.PerS = count, count/12*12, int(count%12), 12
	st.Tangle = t
	return st
}

// conflicted is tangled after money was spent twice.
func conflicted(s float64) State {
	st := tangled(s)
	for i := range st.Tangle.Blocks {
		if b := &st.Tangle.Blocks[i]; i == len(st.Tangle.Blocks)-26 {
			b.Kind, b.State = "payment", Conflicting
		}
	}
	st.Network.Doubles, st.Network.Last = 1, &Double{A: "node 4", B: "the faucet", NodeA: "node 1", NodeB: "node 4", Wins: "the faucet", Nodes: 4}
	return st
}

func nodeKilled(st State) State {
	st.Network.Nodes[3].State, st.Network.Nodes[3].Kills, st.Network.Online = Killed, 1, 0.75
	return st
}

func partitioned(st State) State {
	st.Network.Split, st.RatePerS, st.Network.Waiting, st.Network.Online = true, 0, 34, 0.5
	return st
}

func silenced(st State) State {
	st.Network.Nodes[0].Silent, st.RatePerS, st.Tangle.SinceMs, st.Network.Online = true, 0, 5200, 2./3
	for i := range st.Tangle.Blocks {
		if b := &st.Tangle.Blocks[i]; i > len(st.Tangle.Blocks)-60 && b.State == Final {
			if b.State, b.Milestone = Waits, 0; b.Kind == "milestone" {
				b.Kind = "data"
			}
		}
	}
	return st
}

func ledgerOpening(st State) State {
	st.Phase, st.RatePerS, st.Payments, st.Delivered, st.PaidMsat, st.Readings, st.P50Ms, st.P99Ms = Opening, 0, 0, 0, 0, nil, 0, 0
	st.Network.Blocks, st.Network.Waiting, st.Network.PerS, st.Network.P50Ms = 1, 0, 0, 0
	st.Buyer.HoldsMsat, st.Seller.HoldsMsat = 0, 0
	if st.Lattice != nil {
		genesis := st.Lattice.Accounts[3]
		genesis.Height, genesis.Blocks = 1, genesis.Blocks[:1]
		st.Lattice = &Lattice{Accounts: []Account{{Name: "car"}, {Name: "charger"}, genesis}}
	}
	return st
}

func ledgerEnd(s State) State {
	yes := true
	s.Phase, s.RatePerS, s.ElapsedS = Settled, 0, s.ElapsedS+1
	s.Chain.Conserved = &yes
	s.Network.Agree, s.Network.Waiting, s.Network.PerS = 4, 0, 0
	return s
}

// Over a ledger the page has the nodes, a picture of what they keep, and no chain.
func TestLedgerInBrowser(t *testing.T) {
	ctx := browse(t)
	h := NewHub()
	noop := func(context.Context) error { return nil }
	server := serve(t, h, map[string]func(context.Context) error{"kill-node": noop, "double": noop, "split": noop})
	h.Publish(latticed(30))
	must(t, ctx, chromedp.Navigate(server.URL))
	text := func(id, want string) {
		t.Helper()
		wait(t, ctx, `document.getElementById('`+id+`').textContent.includes('`+want+`')`)
	}
	text("network-state", "4 of 4 run")
	text("picture-says", "2 blocks wait for votes")
	wait(t, ctx, `document.getElementById('picture').getAttribute('aria-label').includes('car has 121 blocks and 969,220 sat')`)
	wait(t, ctx, `document.querySelectorAll('#picture .box').length >= 20 && document.querySelectorAll('#picture .hop').length >= 8`)
	wait(t, ctx, `document.querySelector('.chain[data-for]').hidden && document.querySelector('[data-do=mine]').hidden && document.querySelector('[data-do=silence]').hidden`)
	wait(t, ctx, `document.querySelectorAll('#decisions li').length === 4`)

	h.Publish(forked(31, false))
	text("double-is", "nobody knows yet")
	h.Publish(forked(31, true))
	text("double-text", "Node 1’s account is paid, on 4 of 4 nodes")
	wait(t, ctx, `document.querySelectorAll('#picture .box.lost').length === 1`)
	h.Publish(nodeKilled(latticed(32)))
	text("status", "Node 4 is killed. The others have 75 % and need 67: paying goes on.")
	h.Publish(partitioned(latticed(33)))
	text("status", "neither side has votes enough")
	text("split-label", "Heal the network")
	// Who cannot follow a moving picture holds it, or reads the list.
	must(t, ctx, chromedp.Focus(chromedp.CSS("#hold")), chromedp.KeyEvent("\r"))
	h.Publish(latticed(40))
	text("hold", "go on")
	wait(t, ctx, `document.getElementById('picture').getAttribute('aria-label').includes('car has 133 blocks')`)
	must(t, ctx, chromedp.KeyEvent("\r"), chromedp.Click(chromedp.CSS("#listing summary")))
	h.Publish(latticed(41))
	wait(t, ctx, `document.querySelectorAll('#listed tr').length === 16`)
	h.Publish(ledgerEnd(latticed(42)))
	text("s-agree", "4 of 4, to the last raw")
	text("stamp", "✓ conserved to the raw")

	h.Publish(conflicted(20))
	text("explorer-is", "The Tangle")
	wait(t, ctx, `document.querySelectorAll('#picture .dot').length > 60 && document.querySelectorAll('#picture .dot.conflicting').length === 1`)
	text("picture-says", "1 of them without effect")
	h.Publish(silenced(tangled(21)))
	text("status", "Node 1, the coordinator, is silent")
}

// What is published is bounded, whatever the demo has.
func TestLedgerIsFitted(t *testing.T) {
	st := tangled(1000)
	st.Lattice = &Lattice{Accounts: make([]Account, 20), Elections: make([]Election, 20)}
	st.Lattice.Accounts[0].Blocks = make([]LatticeBlock, 100)
	st.Lattice.Elections[19].Votes = make([]Ballot, 100)
	st.Tangle.Blocks = append(st.Tangle.Blocks, make([]TangleBlock, 300)...)
	st.Tangle.Blocks[499].Parents = make([]uint64, 40)
	st.Network.Nodes = append(st.Network.Nodes, make([]Node, 20)...)
	st.Network.P50Ms = math.NaN()
	fit := st.fit()
	got := []int{len(fit.Network.Nodes), len(fit.Lattice.Accounts), len(fit.Lattice.Accounts[0].Blocks), len(fit.Lattice.Elections), len(fit.Lattice.Elections[4].Votes), len(fit.Tangle.Blocks), len(fit.Tangle.Blocks[199].Parents)}
	want := []int{MaxNodes, MaxAccounts, MaxRow, MaxElections, MaxNodes, MaxTangle, maxParents}
	if fmt.Sprint(got) != fmt.Sprint(want) || fit.Network.P50Ms != 0 {
		t.Errorf("%v are left; want %v", got, want)
	}
	if len(st.Tangle.Blocks) != 500 || !math.IsNaN(st.Network.P50Ms) {
		t.Error("fitting has changed the demo's own state")
	}
}
