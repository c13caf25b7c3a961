package dag_test

import (
	"math"
	"slices"
	"testing"

	"coinop.dev/core/ledger/tangle/dag"
	"coinop.dev/core/step"
)

// build attaches blocks named by letters, "ab" being a with parent b, "g" the genesis.
func build(t *testing.T, o dag.Options, blocks ...string) *dag.DAG {
	t.Helper()
	o.Confirmed = func(id dag.ID) (uint32, bool) { return 1, id == dag.ID{'g'} }
	o.Milestone = 1
	d := dag.New(o)
	for _, b := range blocks {
		ids := letters(b)
		if err := d.Attach(dag.Block{ID: ids[0], Parents: ids[1:]}, 0); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
	}
	return d
}

// A fork whose branches weigh 3 and 1: a walker takes the light one with a
// probability of 1/(1+exp(2 alpha)). Sampled and exact agree with it.
func TestAStepPrefersWeight(t *testing.T) {
	d := build(t, dag.Options{}, "ag", "ba", "ca", "db", "ed")
	for _, alpha := range []float64{0, 0.1, 1, 5, 1000} {
		want := 1 / (1 + math.Exp(2*alpha))
		w := dag.Walk{Alpha: alpha}
		if got := d.Exit(dag.ID{'c'}, w); math.Abs(got-want) > 1e-12 {
			t.Errorf("alpha %v: exit probability %v, want %v", alpha, got, want)
		}
		const samples = 4000
		got := d.ExitProbability(dag.ID{'c'}, w, samples, dag.NewRandom(3))
		if math.Abs(got-want) > 4*math.Sqrt(want*(1-want)/samples)+1e-9 {
			t.Errorf("alpha %v: sampled %v, want %v", alpha, got, want)
		}
	}
}

// What a walk does and what one pass computes agree on large DAGs too, whatever the
// depth.
func TestSampledAndExactExitsAgree(t *testing.T) {
	g := newGrower(t, 2000, 12, dag.Options{})
	for _, w := range []dag.Walk{{Alpha: 0}, {Alpha: 0.02, Depth: 100}, {Alpha: 0.5, Depth: 300}, {Alpha: 0.05, Depth: 5000}} {
		sum := 0.0
		for _, id := range g.Tips() {
			const samples = 400
			exact := g.Exit(id, w)
			sum += exact
			got := g.ExitProbability(id, w, samples, g.r.Uint64)
			if math.Abs(got-exact) > 5*math.Sqrt(exact*(1-exact)/samples)+0.005 {
				t.Errorf("%+v: tip %x: sampled %v, exact %v", w, id[:4], got, exact)
			}
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Errorf("%+v: tips have %v together", w, sum)
		}
	}
	if old := g.Exit(name(1000), dag.Walk{Alpha: 0.001}); math.Abs(old-1) > 1e-9 {
		t.Errorf("an old block is approved by all: %v", old)
	}
}

// lazyTangle has a tip that approves only an old block.
func lazyTangle(t *testing.T) (g *grower, lazy dag.ID) {
	g = newGrower(t, 600, 6, dag.Options{})
	lazy = name(1_000_000)
	if err := g.Attach(dag.Block{ID: lazy, Parents: []dag.ID{name(480)}}, 0); err != nil {
		t.Fatal(err)
	}
	return g, lazy
}

// A lazy tip gains nothing from a walk with a high alpha; from a uniform one it does,
// unless walkers that arrive fast are discarded.
func TestLazyTipsAreAvoided(t *testing.T) {
	share := func(w dag.Walk) (share float64) {
		g, lazy := lazyTangle(t)
		w.Depth, w.Walkers = 60, 6
		const n = 600
		for range n {
			for _, tip := range g.MCMC(w, g.r.Uint64) {
				if tip == lazy {
					share += 1.0 / n
				}
			}
		}
		return share
	}
	uniform, weighted, patient := share(dag.Walk{}), share(dag.Walk{Alpha: 0.5}), share(dag.Walk{MinSteps: 10})
	if uniform < 0.02 || weighted > 0.01 || patient > 0.01 {
		t.Errorf("share of the lazy tip: uniform %v, weighted %v, without fast walkers %v", uniform, weighted, patient)
	}
}

// Blocks that are invalid, or conflict with the first tip, are not chosen.
func TestWalkersAskBeforeTheyStep(t *testing.T) {
	// b and c conflict; e sees both, and is invalid.
	d := build(t, dag.Options{}, "ag", "ba", "ca", "db", "ecb", "fc", "hd", "if")
	invalid := dag.ID{'e'}
	side := func(id dag.ID) byte {
		if d.Approves(id, dag.ID{'b'}) {
			return 'b'
		}
		return 'c'
	}
	seen := map[byte]int{}
	for seed := range uint64(300) {
		for _, w := range []dag.Walk{{}, {Alpha: 0.1}, {Alpha: 0.1, Back: 1.0 / 3}, {Alpha: 0.01, Model: 1}} {
			w.Valid = func(id dag.ID) bool { return id != invalid }
			w.Joint = func(a, b dag.ID) bool { return side(a) == side(b) }
			tips := d.MCMC(w, dag.NewRandom(seed))
			if len(tips) == 0 {
				t.Fatalf("no tip: %+v", w)
			}
			for _, tip := range tips {
				if tip == invalid || side(tip) != side(tips[0]) {
					t.Fatalf("%+v chose %s", w, tips)
				}
			}
			seen[side(tips[0])]++
		}
	}
	if seen['b'] == 0 || seen['c'] == 0 {
		t.Errorf("one side is never chosen: %v", seen)
	}
	none := dag.Walk{Valid: func(dag.ID) bool { return false }}
	if tips := d.MCMC(none, dag.NewRandom(1)); len(tips) != 0 {
		t.Errorf("nothing is valid, and %s was chosen", tips)
	}
	if tips := dag.New(dag.Options{}).MCMC(dag.Walk{}, dag.NewRandom(1)); len(tips) != 0 {
		t.Errorf("tips of nothing: %x", tips)
	}
}

// A model walk with a high alpha keeps a low one on the heavy branch.
func TestTheModelDecides(t *testing.T) {
	d := build(t, dag.Options{}, "ag", "ba", "ca", "db", "ed", "he", "fc")
	light := func(model float64) (n int) {
		w := dag.Walk{Alpha: 0.001, Model: model, Walkers: 8}
		w.Joint = func(a, b dag.ID) bool { return d.Approves(a, dag.ID{'b'}) == d.Approves(b, dag.ID{'b'}) }
		for seed := range uint64(200) {
			if tips := d.MCMC(w, dag.NewRandom(seed)); d.Approves(tips[0], dag.ID{'c'}) {
				n++
			}
		}
		return n
	}
	if without, with := light(0), light(10); without < 50 || with > 0 {
		t.Errorf("the light branch was chosen %d times of 200 without a model, %d times with", without, with)
	}
}

// Uniform: every tip as often as any other, two different ones each time.
func TestURTSIsUniform(t *testing.T) {
	d := build(t, dag.Options{}, "ag", "bg", "cg", "dg", "eg")
	seen := map[dag.ID]int{}
	const n = 5000
	r := dag.NewRandom(5)
	for range n {
		ids := d.URTS(dag.NonLazy, 2, 0, r)
		if len(ids) != 2 || ids[0] == ids[1] {
			t.Fatalf("%s", ids)
		}
		seen[ids[0]]++
		seen[ids[1]]++
	}
	chi := 0.0
	for _, k := range seen {
		want := 2.0 * n / 5
		chi += (float64(k) - want) * (float64(k) - want) / want
	}
	if len(seen) != 5 || chi > 20 { // 4 degrees of freedom: once in 2000
		t.Errorf("chi square %v of %v", chi, seen)
	}
	if got := d.URTS(dag.NonLazy, 8, 0, r); len(got) != 5 {
		t.Errorf("%d of five", len(got))
	}
}

// An approved block stays in the pool for a while: until it has many children or is
// three seconds older than its first approval.
func TestAnApprovedBlockLeavesThePool(t *testing.T) {
	d := build(t, dag.Options{Pool: dag.Pool{Children: 3}}, "ag")
	has := func(id byte, at step.Time) bool {
		return slices.Contains(d.URTS(dag.NonLazy, 8, at, dag.NewRandom(1)), dag.ID{id})
	}
	attach := func(b string, at step.Time) {
		t.Helper()
		if err := d.Attach(dag.Block{ID: letters(b)[0], Parents: letters(b)[1:]}, at); err != nil {
			t.Fatal(err)
		}
	}
	attach("ba", 1000)
	if !has('a', 4000) || d.TipCount() != 1 {
		t.Error("a is gone, or a tip")
	}
	attach("ca", 1100)
	attach("da", 1200)
	if has('a', 1200) {
		t.Error("a has three children and is in the pool")
	}
	attach("eb", 2000)
	if !has('b', 5000) || has('b', 5001) || has('b', 2000) {
		t.Error("b leaves three seconds after its first child")
	}
	// A lazier child does not take a good tip out of the pool.
	lazier := dag.New(dag.Options{Milestone: 15, Pool: dag.Pool{Strict: true}, Confirmed: func(id dag.ID) (uint32, bool) {
		return uint32(id[1]), id[0] == 'm'
	}})
	for _, b := range []dag.Block{{ID: dag.ID{'a'}, Parents: []dag.ID{{'m', 14}}}, {ID: dag.ID{'b'}, Parents: []dag.ID{{'a'}, {'m', 1}}}} {
		if err := lazier.Attach(b, 0); err != nil {
			t.Fatal(err)
		}
	}
	if good, semi := lazier.URTS(dag.NonLazy, 8, 0, dag.NewRandom(1)), lazier.URTS(dag.SemiLazy, 8, 0, dag.NewRandom(1)); len(good) != 1 || len(semi) != 1 {
		t.Errorf("good tips %s, semi-lazy %s", good, semi)
	}
	strict := build(t, dag.Options{Pool: dag.Pool{Strict: true}}, "ag", "ba")
	if got := strict.URTS(dag.NonLazy, 8, 0, dag.NewRandom(1)); len(got) != 1 || got[0] != (dag.ID{'b'}) {
		t.Errorf("strict: %s", got)
	}
}

// TIP-3's scores, as milestones go by: lazy after C1 by the youngest root, semi-lazy
// and lazy after C2 and M by the oldest.
func TestScoresFallWithMilestones(t *testing.T) {
	d := dag.New(dag.Options{Milestone: 1, Confirmed: func(id dag.ID) (uint32, bool) {
		return uint32(id[1]), id[0] == 'm'
	}})
	attach := func(n int, parents ...dag.ID) {
		if err := d.Attach(dag.Block{ID: name(n), Parents: parents}, 0); err != nil {
			t.Fatal(err)
		}
	}
	attach(1, dag.ID{'m', 1})
	attach(2, name(1), dag.ID{'m', 12})
	attach(3, name(2))
	for milestone, want := range map[uint32][3]dag.Score{
		1:  {dag.NonLazy, dag.NonLazy, dag.NonLazy},
		9:  {dag.NonLazy, dag.NonLazy, dag.NonLazy},
		10: {dag.Lazy, dag.NonLazy, dag.NonLazy},
		14: {dag.Lazy, dag.NonLazy, dag.NonLazy},
		15: {dag.Lazy, dag.SemiLazy, dag.SemiLazy},
		16: {dag.Lazy, dag.SemiLazy, dag.SemiLazy},
		17: {dag.Lazy, dag.Lazy, dag.Lazy},
	} {
		later := dag.New(dag.Options{Milestone: milestone - 1, Confirmed: func(id dag.ID) (uint32, bool) {
			return uint32(id[1]), id[0] == 'm'
		}})
		for n, parents := range [][]dag.ID{{{'m', 1}}, {name(1), {'m', 12}}, {name(2)}} {
			if err := later.Attach(dag.Block{ID: name(n + 1), Parents: parents}, 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := later.Confirm(milestone, nil); err != nil {
			t.Fatal(err)
		}
		for n, s := range want {
			if got := later.Score(name(n + 1)); got != s {
				t.Errorf("milestone %d: block %d has score %d, want %d", milestone, n+1, got, s)
			}
		}
		if got, want := len(later.BelowMaxDepth()), 3; (milestone > 16) != (got == want) {
			t.Errorf("milestone %d: %d below max depth", milestone, got)
		}
		if n := len(later.URTS(dag.NonLazy, 8, 0, dag.NewRandom(1))); (want[2] == dag.NonLazy) != (n > 0) {
			t.Errorf("milestone %d: %d to choose", milestone, n)
		}
		if n := len(later.Tips()); n != 1 {
			t.Errorf("milestone %d: %d tips", milestone, n)
		}
	}
	// What a milestone confirms is a younger root.
	if err := d.Confirm(10, []dag.ID{name(1)}); err != nil {
		t.Fatal(err)
	}
	if y, o, _ := d.Roots(name(3)); y != 12 || o != 10 {
		t.Errorf("roots %d to %d", o, y)
	}
}

// Choosing allocates a few words, whatever there is to choose from.
func TestTipSelectionAllocatesLittle(t *testing.T) {
	g := newGrower(t, 20_000, 100, dag.Options{})
	if n := testing.AllocsPerRun(50, func() { g.MCMC(dag.Walk{Alpha: 0.001}, g.r.Uint64) }); n > 8 {
		t.Errorf("%v allocations", n)
	}
}
