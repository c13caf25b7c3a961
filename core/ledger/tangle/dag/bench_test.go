package dag_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"coinop.dev/core/ledger/tangle/dag"
)

func name(n int) (id dag.ID) {
	binary.LittleEndian.PutUint64(id[:], uint64(n))
	return id
}

// genesis is confirmed by milestone 1.
var genesis = dag.ID{31: 1}

func confirmedGenesis(id dag.ID) (uint32, bool) { return 1, id == genesis }

// grower attaches blocks that were issued some blocks before, as a network with a
// delay does: so there are about twice as many tips as blocks under way.
type grower struct {
	*dag.DAG
	r        *rand.Rand
	n, delay int
	way      []dag.Block
}

func (g *grower) issue() dag.Block {
	parents := g.URTS(dag.NonLazy, 2, 0, g.r.Uint64)
	if len(parents) == 0 {
		parents = []dag.ID{genesis}
	}
	g.n++
	return dag.Block{ID: name(g.n), Parents: parents}
}

func (g *grower) grow(tb testing.TB, n int) {
	for range n {
		g.way = append(g.way, g.issue())
		if len(g.way) > g.delay {
			if err := g.Attach(g.way[0], 0); err != nil {
				tb.Fatal(err)
			}
			g.way = g.way[1:]
		}
	}
}

func newGrower(tb testing.TB, blocks, tips int, o dag.Options) *grower {
	o.Confirmed, o.Milestone, o.Pool.Strict = confirmedGenesis, 1, true
	g := &grower{DAG: dag.New(o), r: rand.New(rand.NewPCG(1, 2)), delay: tips / 2}
	g.grow(tb, blocks)
	return g
}

var sizes = []struct{ blocks, tips int }{
	{1_000, 10}, {1_000, 100}, {10_000, 10}, {10_000, 100}, {10_000, 2000},
	{100_000, 10}, {100_000, 100}, {100_000, 2000},
}

// Walks with other settings, at 100,000 blocks and 100 tips.
func BenchmarkWalks(b *testing.B) {
	for _, c := range []struct {
		name string
		walk dag.Walk
	}{
		{"alpha=0", dag.Walk{}},
		{"alpha=1", dag.Walk{Alpha: 1}},
		{"back", dag.Walk{Alpha: 0.001, Back: 1.0 / 3}},
		{"walkers=10", dag.Walk{Alpha: 0.001, Walkers: 10}},
		{"depth=1000", dag.Walk{Alpha: 0.001, Depth: 1000}},
		{"depth=all", dag.Walk{Alpha: 0.001, Depth: 1 << 20}},
	} {
		b.Run(c.name, func(b *testing.B) {
			g := newGrower(b, 100_000, 100, dag.Options{})
			for b.Loop() {
				b.StopTimer()
				g.grow(b, 1)
				b.StartTimer()
				g.MCMC(c.walk, g.r.Uint64)
			}
		})
	}
}

// What a milestone costs at 100,000 blocks: choosing parents, and the order.
func BenchmarkMilestone(b *testing.B) {
	g := newGrower(b, 100_000, 100, dag.Options{})
	b.Run("heaviest", func(b *testing.B) {
		for b.Loop() {
			g.Heaviest(dag.MaxParents)
		}
	})
	tips := g.Heaviest(dag.MaxParents)
	b.Run("whiteflag", func(b *testing.B) {
		for b.Loop() {
			g.WhiteFlag(tips)
		}
	})
	order, _ := g.WhiteFlag(tips)
	b.Run("confirm", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			g := newGrower(b, 100_000, 100, dag.Options{})
			b.StartTimer()
			if err := g.Confirm(2, order[:50_000]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// One block is attached, and two tips are chosen with exact weights, again and again.
func BenchmarkMCMC(b *testing.B) {
	for _, s := range sizes {
		b.Run(fmt.Sprintf("blocks=%d/tips=%d", s.blocks, s.tips), func(b *testing.B) {
			g := newGrower(b, s.blocks, s.tips, dag.Options{})
			for b.Loop() {
				b.StopTimer()
				g.grow(b, 1)
				b.StartTimer()
				if len(g.MCMC(dag.Walk{Alpha: 0.001}, g.r.Uint64)) != 2 {
					b.Fatal("no tips")
				}
			}
		})
	}
}

func BenchmarkAttach(b *testing.B) {
	for _, unweighted := range []bool{false, true} {
		for _, s := range sizes {
			b.Run(fmt.Sprintf("unweighted=%v/blocks=%d/tips=%d", unweighted, s.blocks, s.tips), func(b *testing.B) {
				g := newGrower(b, s.blocks, s.tips, dag.Options{Unweighted: unweighted})
				for b.Loop() {
					g.grow(b, 1)
				}
			})
		}
	}
}

func BenchmarkMemory(b *testing.B) {
	const blocks = 200_000
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		g := newGrower(b, blocks, 100, dag.Options{})
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(g.Len()), "B/block")
	}
}
