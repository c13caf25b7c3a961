package graph_test

import (
	"math/rand/v2"
	"runtime"
	"testing"

	"coinop.dev/core/lightning/graph"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
)

// The network that the survey counted.
const surveyNodes, surveyChannels = 13_504, 37_093

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkRoute(b *testing.B) {
	for _, c := range []struct {
		name            string
		nodes, channels int
		amount          money.Amount
		learned         int
	}{
		{"survey/1sat", surveyNodes, surveyChannels, money.Sat, 0},
		{"survey/100ksat", surveyNodes, surveyChannels, 100_000 * money.Sat, 0},
		{"survey/100ksat/learned", surveyNodes, surveyChannels, 100_000 * money.Sat, graph.MaxLearned},
		{"tenfold/100ksat", 10 * surveyNodes, 10 * surveyChannels, 100_000 * money.Sat, 0},
	} {
		b.Run(c.name, func(b *testing.B) {
			before := heapInUse()
			g := graph.New(chain, graph.Limits{MaxNodes: 1 << 20, MaxChannels: 1 << 20, MaxBytes: 1 << 30})
			network(b, g, c.nodes, c.channels, 1)
			built := heapInUse() - before
			l := &graph.Liquidity{}
			rng := rand.New(rand.NewPCG(1, 1))
			for range c.learned {
				l.Failed(wire.SCID(1+rng.IntN(c.channels)), name(rng.IntN(c.nodes)), money.Amount(rng.IntN(1e9)), 1)
			}
			found := 0
			for b.Loop() {
				r := graph.Request{
					From: name(c.nodes), To: name(rng.IntN(c.nodes)), Amount: c.amount, FinalCLTV: 18, MaxFee: c.amount/20 + 10_000,
					Extra: []graph.Edge{own(1<<40, c.nodes, 1, money.BTC), own(1<<40+1, c.nodes, 9000, money.BTC)},
				}
				if _, err := g.Route(r, l); err == nil {
					found++
				}
			}
			b.ReportMetric(100*float64(found)/float64(b.N), "%found")
			b.ReportMetric(float64(built)/float64(c.channels), "B/channel")
			b.ReportMetric(float64(heapInUse()-before)/(1<<20), "MiB")
			b.ReportMetric(float64(g.Size())/(1<<20), "MiB-Size")
			runtime.KeepAlive(g)
		})
	}
}

func BenchmarkGossip(b *testing.B) {
	g := graph.New(chain, graph.Limits{})
	c := newCouple(b, 1, 2)
	announced, updated := c.announce(5), c.update(5, 0, seconds)
	b.Run("channel", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if fresh, err := g.Announce(announced, 0); err != nil || !fresh {
				b.Fatal(err)
			}
			if fresh, err := g.Update(updated, now); err != nil || !fresh {
				b.Fatal(err)
			}
			g.Forget(5)
		}
	})
	g.Announce(announced, 0)
	g.Update(updated, now)
	b.Run("stale", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			g.Update(updated, now)
		}
	})
}

func BenchmarkSplit(b *testing.B) {
	g := graph.New(chain, graph.Limits{})
	network(b, g, surveyNodes, surveyChannels, 1)
	rng := rand.New(rand.NewPCG(1, 1))
	parts, found := 0, 0
	for b.Loop() {
		r := graph.Request{From: name(0), To: name(1 + rng.IntN(surveyNodes-1)), Amount: 5_000_000 * money.Sat, FinalCLTV: 18, MaxFee: 100_000 * money.Sat}
		if paths, err := g.Split(r, nil, 16); err == nil {
			found++
			parts += len(paths)
		}
	}
	b.ReportMetric(100*float64(found)/float64(b.N), "%found")
	b.ReportMetric(float64(parts)/float64(max(1, found)), "parts")
}

// BenchmarkRefusal is the dearest request: every search is made, and then those
// that explain why there is no path.
func BenchmarkRefusal(b *testing.B) {
	g := graph.New(chain, graph.Limits{})
	network(b, g, surveyNodes, surveyChannels, 1)
	rng := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct {
		name string
		edit func(r *graph.Request)
	}{
		{"fee", func(r *graph.Request) { r.MaxFee = 1 }},
		{"time", func(r *graph.Request) { r.MaxCLTV = 20 }},
		{"amount", func(r *graph.Request) { r.Amount = 100 * money.BTC }},
		{"no path", func(r *graph.Request) { r.From = name(1 << 20) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				r := graph.Request{From: name(3000), To: name(3001 + rng.IntN(surveyNodes-3001)), Amount: 100_000 * money.Sat, FinalCLTV: 18, MaxFee: money.BTC}
				c.edit(&r)
				g.Route(r, nil)
			}
		})
	}
}
