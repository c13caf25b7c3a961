package graph_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"coinop.dev/core/lightning/graph"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
)

// Three ways of 4,000 sat each lead from 1 to 9.
func threeWays(t testing.TB) *graph.Graph {
	g := graph.New(chain, graph.Limits{})
	for i := range 3 {
		link(t, g, wire.SCID(10+i), 1, 2+i, 4000, tariff(0, 0, 0), tariff(0, 0, 0))
		link(t, g, wire.SCID(20+i), 2+i, 9, 4000, tariff(1000, 0, 40), tariff(0, 0, 0))
	}
	return g
}

func TestWhatOnePathCannotCarryIsSplit(t *testing.T) {
	g := threeWays(t)
	r := graph.Request{From: name(1), To: name(9), Amount: 9000 * money.Sat, FinalCLTV: 18, MaxFee: 4 * money.Sat}
	if _, err := g.Route(r, nil); !errors.Is(err, graph.ErrAmount) {
		t.Errorf("one path: %v", err)
	}
	if _, err := g.Split(r, nil, 2); !errors.Is(err, graph.ErrAmount) {
		t.Errorf("two paths: %v", err)
	}
	paths, err := g.Split(r, nil, 4)
	if err != nil {
		t.Fatal(err)
	}
	together(t, g, r, paths)
	r.Amount, r.MaxFee = 12_001*money.Sat, money.BTC
	if _, err := g.Split(r, nil, graph.MaxParts); !errors.Is(err, graph.ErrAmount) {
		t.Errorf("more than there is: %v", err)
	}
	if _, err := g.Split(r, nil, graph.MaxParts+1); err == nil {
		t.Error("33 parts are taken")
	}
}

// A hint of a channel that the graph has does not double it, or make it cheap.
func TestAHintDoesNotDoubleAChannel(t *testing.T) {
	g := threeWays(t)
	r := graph.Request{From: name(1), To: name(9), Amount: 9000 * money.Sat, MaxFee: money.BTC}
	r.Extra = []graph.Edge{{SCID: 20, From: name(2), To: name(9)}, {SCID: 777, From: name(2), To: name(9), Policy: graph.Policy{Disabled: true}}}
	paths, err := g.Split(r, nil, 8)
	if err != nil {
		t.Fatal(err)
	}
	together(t, g, r, paths)
	r.Extra = append(r.Extra, graph.Edge{SCID: 20, From: name(4), To: name(9)}) // an alias that happens to be a channel
	if p, err := g.Route(graph.Request{From: r.From, To: r.To, Amount: 1, Extra: r.Extra}, nil); err != nil || p.Hops[0].Node != name(4) {
		t.Errorf("%+v, %v", p, err)
	}
}

// The fee limit is for all parts.
func TestAllPartsKeepToOneFeeLimit(t *testing.T) {
	g := threeWays(t)
	r := graph.Request{From: name(1), To: name(9), Amount: 9000 * money.Sat, MaxFee: 2999}
	if p, err := g.Split(r, nil, 8); !errors.Is(err, graph.ErrFee) {
		t.Errorf("%+v, %v", p, err)
	}
}

// together checks the sum of the parts and what each channel carries.
func together(t *testing.T, g *graph.Graph, r graph.Request, paths []graph.Path) {
	t.Helper()
	var sum, fee money.Amount
	carried := map[wire.SCID]money.Amount{}
	for _, p := range paths {
		part := withDefaults(r)
		part.Amount = p.Amount
		satisfies(t, g, part, p)
		sum, fee = sum+p.Amount, fee+p.Fee
		for _, h := range p.Hops {
			carried[h.SCID] += h.Amount
		}
	}
	if sum != r.Amount || fee > r.MaxFee {
		t.Errorf("the parts are %d msat for %d; the order was %d for at most %d", sum, fee, r.Amount, r.MaxFee)
	}
	for scid, amount := range carried {
		if c, _ := g.Channel(scid); amount > money.Amount(c.Capacity)*money.Sat {
			t.Errorf("channel %v of %d sat carries %d msat", scid, c.Capacity, amount)
		}
	}
}

func TestPartsNeverOverfillAChannel(t *testing.T) {
	g := graph.New(chain, graph.Limits{})
	network(t, g, 300, 900, 11)
	rng := rand.New(rand.NewPCG(11, 11))
	split := 0
	for range 100 {
		a := 1 + rng.IntN(299)
		r := graph.Request{From: name(0), To: name(a), Amount: money.Amount(1+rng.IntN(20_000_000)) * money.Sat, FinalCLTV: 18, MaxFee: money.BTC}
		paths, err := g.Split(r, nil, 16)
		if err != nil {
			continue
		}
		if len(paths) > 1 {
			split++
		}
		if len(paths) > 16 {
			t.Errorf("%d parts", len(paths))
		}
		together(t, g, r, paths)
	}
	if split < 10 {
		t.Errorf("only %d of 100 payments were split; the test is about nothing", split)
	}
}
