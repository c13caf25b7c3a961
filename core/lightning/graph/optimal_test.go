package graph_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"coinop.dev/core/lightning/graph"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
)

// trail is a path that brute force found, from the payee backwards.
type trail struct {
	amount money.Amount // that the first node sends
	fee    money.Amount
	cltv   uint32
	hops   int
	cost   float64
}

// every yields all paths without loops from r.From to r.To, and their cost as
// the package documents it, in floats.
func every(g *graph.Graph, channels, nodes int, r graph.Request, yield func(trail)) {
	used := make([]bool, nodes)
	var walk func(at int, t trail)
	walk = func(at int, t trail) {
		if name(at) == r.From {
			yield(t)
			return
		}
		used[at] = true
		defer func() { used[at] = false }()
		for i := range channels {
			c, _ := g.Channel(wire.SCID(i))
			for side := range 2 {
				from, to := number(c.Nodes[side]), number(c.Nodes[1-side])
				p := c.Policies[side]
				capacity := float64(c.Capacity) * 1000
				if to != at || used[from] || p.Disabled || t.amount < p.Min || p.Max != 0 && t.amount > p.Max || float64(t.amount) > capacity {
					continue
				}
				next := t
				next.hops++
				next.cost++
				next.cost += (500 + math.Floor(float64(r.Amount)/1000)) * (math.Log2(capacity+1) - math.Log2(capacity+1-float64(t.amount)))
				if name(from) != r.From {
					fee := p.FeeBase + t.amount*money.Amount(p.FeePPM)/1_000_000
					next.amount, next.fee, next.cltv = t.amount+fee, t.fee+fee, t.cltv+uint32(p.CLTVDelta)
					next.cost += 500 + float64(fee) + float64(t.amount)*float64(p.CLTVDelta)*15/1e9
				}
				walk(from, next)
			}
		}
	}
	walk(number(r.To), trail{amount: r.Amount, cltv: r.FinalCLTV})
}

// small is a random network that brute force can walk.
func small(t testing.TB, rng *rand.Rand, limits bool) (g *graph.Graph, nodes, channels int) {
	g = graph.New(chain, graph.Limits{})
	nodes, channels = 5+rng.IntN(3), 7+rng.IntN(5)
	policy := func() graph.Policy {
		p := tariff(money.Amount(rng.IntN(3000)), uint32(rng.IntN(20_000)), uint16(rng.IntN(200)))
		if limits {
			p.Min, p.Disabled = money.Amount(rng.IntN(2)*1_000_000), rng.IntN(8) == 0
		}
		return p
	}
	for i := range channels {
		a := rng.IntN(nodes)
		b := (a + 1 + rng.IntN(nodes-1)) % nodes
		link(t, g, wire.SCID(i), a, b, int64(10_000)<<rng.IntN(8), policy(), policy())
	}
	return g, nodes, channels
}

// The path found costs what the best of all paths costs. Not to the msat: a
// path that is cheaper at one node may arrive there with a larger amount, and
// the logarithm is a parabola. 1 % covers both.
func TestThePathIsTheBestOfAll(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	found := 0
	for range 1500 {
		g, nodes, channels := small(t, rng, true)
		r := graph.Request{From: name(0), To: name(1), Amount: money.Amount(1 + rng.IntN(6_000_000)), FinalCLTV: 9, MaxFee: money.BTC}
		best := math.Inf(1)
		costs := map[[2]uint64]float64{} // of paths, by what shows of them
		every(g, channels, nodes, r, func(x trail) {
			best = min(best, x.cost)
			key := [2]uint64{uint64(x.fee), uint64(x.cltv)}
			if c, ok := costs[key]; !ok || x.cost < c {
				costs[key] = x.cost
			}
		})
		p, err := g.Route(r, nil)
		if (err == nil) != !math.IsInf(best, 1) {
			t.Fatalf("brute force finds a path of cost %v; Route says %v", best, err)
		}
		if err != nil {
			continue
		}
		found++
		satisfies(t, g, withDefaults(r), p)
		cost, ok := costs[[2]uint64{uint64(p.Fee), uint64(p.CLTV)}]
		if !ok || cost > best*1.01+1 {
			t.Errorf("the path %+v costs %v; the best costs %v", p, cost, best)
		}
	}
	if found < 500 {
		t.Errorf("only %d networks have a path; the test is about nothing", found)
	}
}

func withDefaults(r graph.Request) graph.Request {
	r.MaxCLTV, r.MaxHops = graph.DefaultMaxCLTV, graph.MaxHops
	return r
}

// A limit that only one path keeps to is no obstacle, and 1 below it is named.
func TestAPathWithinALimitIsFound(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for range 1000 {
		g, nodes, channels := small(t, rng, false)
		r := graph.Request{From: name(0), To: name(1), Amount: money.Amount(1 + rng.IntN(1_000_000)), FinalCLTV: 9, MaxFee: money.BTC}
		least := trail{fee: money.MaxAmount, cltv: math.MaxUint32, hops: math.MaxInt}
		every(g, channels, nodes, r, func(x trail) {
			least.fee, least.cltv, least.hops = min(least.fee, x.fee), min(least.cltv, x.cltv), min(least.hops, x.hops)
		})
		if least.fee == money.MaxAmount {
			continue
		}
		for _, c := range []struct {
			want error
			set  func(r *graph.Request, less int) bool
		}{
			{graph.ErrFee, func(r *graph.Request, less int) bool {
				r.MaxFee = least.fee - money.Amount(less)
				return least.fee > 0
			}},
			{graph.ErrCLTV, func(r *graph.Request, less int) bool {
				r.MaxCLTV = least.cltv - uint32(less)
				return true
			}},
			{graph.ErrHops, func(r *graph.Request, less int) bool {
				r.MaxHops = least.hops - less
				return least.hops > 1
			}},
		} {
			at, below := r, r
			c.set(&at, 0)
			if _, err := g.Route(at, nil); err != nil {
				t.Errorf("a path with %+v is there: %v", least, err)
			}
			if !c.set(&below, 1) {
				continue
			}
			if p, err := g.Route(below, nil); !errors.Is(err, c.want) {
				t.Errorf("1 below %+v: %+v, %v; want %v", least, p, err, c.want)
			}
		}
	}
}

// The same facts in another order are the same graph, to every path.
func TestTheOrderOfGossipDoesNotMatter(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for range 200 {
		nodes, free := 8, tariff(0, 0, 0)
		var ends [][2]int
		for range 20 {
			a := rng.IntN(nodes)
			ends = append(ends, [2]int{a, (a + 1 + rng.IntN(nodes-1)) % nodes})
		}
		build := func(order []int) (graph.Path, error) {
			g := graph.New(chain, graph.Limits{})
			for _, i := range order {
				link(t, g, wire.SCID(i), ends[i][0], ends[i][1], 1000, free, free)
			}
			return g.Route(graph.Request{From: name(0), To: name(1), Amount: 7}, nil)
		}
		a, err := build(rng.Perm(len(ends)))
		b, errB := build(rng.Perm(len(ends)))
		if !equalHops(a.Hops, b.Hops) || (err == nil) != (errB == nil) {
			t.Errorf("%+v, %v and %+v, %v", a, err, b, errB)
		}
	}
}

func TestLog2(t *testing.T) {
	before := uint64(0)
	for v := uint64(1); v != 0 && v < math.MaxUint64/2; v += 1 + v/97 {
		got, one := graph.Log2(v)
		if d := float64(got)/float64(one) - math.Log2(float64(v)); math.Abs(d) > 0.01 || got < before {
			t.Fatalf("log2(%d) is off by %v, or falls", v, d)
		}
		before = got
	}
}
