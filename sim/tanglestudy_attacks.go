package sim

import (
	"math"

	"coinop.dev/core/ledger/tangle/dag"
)

// A Parasite is an attack by a hidden chain (white paper 1.4.3, section 4.1): it holds
// a payment that conflicts with one in the main Tangle, approves main blocks until
// that payment is made, grows in secret while the payee waits, and is shown.
type Parasite struct {
	Load  float64 // lambda h of the honest
	Power float64 // mu/lambda: blocks of the attacker per honest one
	Alpha float64 // of the honest walks
	Wait  float64 // of the payee, in h; the attacker prepares three times as long
}

// TangleParasite is the probability that an honest walk, right after the chain is
// shown, ends on it, against Power and alpha: a curve over alphas (X) for each power.
// The probability is exact for each Tangle grown; the interval is over these. With an
// alpha of 0 a walker leaves the main Tangle wherever the chain approves it, and does
// not come back: the longer the payee waits, the surer the attack, whatever its power.
// With a high one it succeeds while mu Wait is more than lambda (Wait - t0), t0 being
// the adaptation period, which the attacker, alone on its chain, does not need.
func TangleParasite(runs Runs, p Parasite, powers, alphas []float64) (curves [][]CurvePoint) {
	for _, power := range powers {
		p.Power = power
		e := runs.estimates(func(seed uint64) []float64 { return p.run(seed, alphas) })
		var curve []CurvePoint
		for k, alpha := range alphas {
			curve = append(curve, CurvePoint{alpha, e[k].within(0, 1), 0})
		}
		curves = append(curves, curve)
	}
	return curves
}

// within cuts an interval to what can be.
func (e Estimate) within(low, high float64) Estimate {
	e.Low, e.High = max(e.Low, low), min(e.High, high)
	return e
}

// run grows one Tangle, honest by Alpha, and a parasite beside it.
func (p Parasite) run(seed uint64, alphas []float64) []float64 {
	t := newTangle(seed, p.Load, dag.Options{})
	honest := walk(dag.Walk{Alpha: p.Alpha, Depth: int(10 * p.Load), Walkers: 2})
	var chain []dag.Block
	grow := func(until float64, reference bool) {
		for at := t.now; ; {
			at += t.r.ExpFloat64() / (p.Load * p.Power)
			t.grow(min(at, until), honest, nil)
			if at > until {
				return
			}
			var parents []dag.ID
			if len(chain) > 0 {
				parents = append(parents, chain[len(chain)-1].ID)
			}
			if tips := t.visible.URTS(dag.NonLazy, 1, 0, t.r.Uint64); reference || len(chain) == 0 {
				parents = append(parents, tips...)
			}
			chain = append(chain, dag.Block{ID: number(1<<30 + len(chain)), Parents: parents})
		}
	}
	t.grow(warm, honest, nil)
	grow(warm+3*p.Wait, true)
	grow(warm+4*p.Wait, false)
	for _, b := range chain {
		if err := t.visible.Attach(b, 0); err != nil {
			panic(err) // a study's own mistake
		}
	}
	// Walks start before the payment, in the time of the references: W covers what
	// both have issued since.
	depth := int(p.Load*p.Wait*1.2) + len(chain)
	success := make([]float64, len(alphas))
	for k, alpha := range alphas {
		if len(chain) > 0 {
			success[k] = t.visible.Exit(chain[0].ID, dag.Walk{Alpha: alpha, Depth: depth})
		}
	}
	return success
}

// A Split is an attack that keeps two conflicting branches equally heavy, so that
// neither wins (white paper 1.4.3, section 4.2).
type Split struct {
	Load     float64 // lambda h of the honest
	Power    float64 // mu/lambda; all of it goes to what is lighter
	Duration float64 // in h
}

// A SplitPoint is how a split ends for one alpha.
type SplitPoint struct {
	Alpha     float64  `json:"alpha"`
	Loser     Estimate `json:"loser"`     // share of the smaller branch among honest blocks of the last 10 h; 0.5 is a perfect split
	Undecided Estimate `json:"undecided"` // share of runs in which Loser is above 10 %
}

// TangleSplit shows that a high alpha decides soon, and a low one lets the Tangle be
// split.
func TangleSplit(runs Runs, s Split, alphas []float64) (curve []SplitPoint) {
	for _, alpha := range alphas {
		e := runs.estimates(func(seed uint64) []float64 {
			loser := s.run(seed, alpha)
			undecided := 0.0
			if loser > 0.1 {
				undecided = 1
			}
			return []float64{loser, undecided}
		})
		curve = append(curve, SplitPoint{alpha, e[0].within(0, 0.5), e[1].wilson()})
	}
	return curve
}

// wilson is the interval of a proportion (Wilson's score), which Student's is not fit
// for when nearly all runs agree.
func (e Estimate) wilson() Estimate {
	const z = 1.96
	n := float64(e.Runs)
	middle := (e.Mean + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(e.Mean*(1-e.Mean)/n+z*z/(4*n*n))
	e.Low, e.High = max(0, middle-half), min(1, middle+half)
	return e
}

// The two branches of a split, as tags.
const left, right = 1, 2

func (s Split) run(seed uint64, alpha float64) (loser float64) {
	t := newTangle(seed, s.Load, dag.Options{})
	branch := func(id dag.ID) uint64 { return t.blocks[index(id)].tag }
	for _, tag := range []uint64{left, right} {
		n := t.issue(nil)
		t.blocks[n].tag = tag
		t.show(n)
	}
	// All walks start at the genesis, which both branches approve. They go one by one:
	// of walkers that race, those on the shorter branch arrive first.
	w := dag.Walk{Alpha: alpha, Depth: dag.MaxLimit, Walkers: 1}
	honest := func() []dag.ID {
		tips := t.visible.MCMC(w, t.r.Uint64)
		for range 8 {
			if tip := t.visible.MCMC(w, t.r.Uint64)[0]; branch(tip) == branch(tips[0]) {
				return append(tips, tip)
			}
		}
		return tips
	}
	last := [3]float64{}
	for t.next(s.Load*(1+s.Power), s.Duration) {
		if t.r.Float64() < 1/(1+s.Power) {
			n := t.issue(honest())
			t.way = append(t.way, n)
			if t.now > s.Duration-10 {
				last[t.blocks[n].tag]++
			}
			continue
		}
		lighter := uint64(left)
		if t.visible.Weight(number(left)) > t.visible.Weight(number(right)) {
			lighter = right
		}
		own := w
		own.Valid = func(id dag.ID) bool { return branch(id) == lighter }
		t.show(t.issue(t.visible.MCMC(own, t.r.Uint64))) // no delay for the attacker
	}
	return min(last[left], last[right]) / max(last[left]+last[right], 1)
}

// Laziness is a share of issuers who always approve old blocks, and so check nothing
// new (white paper 1.4.3, section 1 and 4.1).
type Laziness struct {
	Load     float64 // lambda h, of all
	Share    float64 // of lazy blocks
	Age      float64 // of what they approve, in h
	Duration float64 // in h
	MinSteps int     // of honest walkers
}

// A LazyPoint is how many blocks nobody has approved 10 h after their issue.
type LazyPoint struct {
	Alpha  float64  `json:"alpha"`
	Lazy   Estimate `json:"lazy"`   // of the lazy ones
	Honest Estimate `json:"honest"` // of the others
}

// TangleLazy shows that lazy blocks are left behind when alpha is high enough, and
// what that costs the honest.
func TangleLazy(runs Runs, l Laziness, alphas []float64) (curve []LazyPoint) {
	for _, alpha := range alphas {
		e := runs.estimates(func(seed uint64) []float64 {
			w := dag.Walk{Alpha: alpha, Depth: int(l.Load * (l.Age + 5)), Walkers: 2, MinSteps: l.MinSteps}
			if l.MinSteps > 0 {
				w.Walkers = 6 // some will be discarded
			}
			return l.run(seed, walk(w))
		})
		curve = append(curve, LazyPoint{alpha, e[0].within(0, 1), e[1].within(0, 1)})
	}
	return curve
}

func (l Laziness) run(seed uint64, honest choose) []float64 {
	t := newTangle(seed, l.Load, dag.Options{})
	t.grow(warm+l.Age, honest, nil)
	old := len(t.blocks) // a pointer that follows l.Age behind
	for old > 0 && t.blocks[old-1].at > t.now-l.Age {
		old--
	}
	lazy := false
	mixed := func(t *tangle) []dag.ID {
		if lazy = t.r.Float64() < l.Share; !lazy {
			return honest(t)
		}
		for t.blocks[old].at < t.now-l.Age {
			old++
		}
		return []dag.ID{number(old - 1), number(old - 2)}
	}
	begin := t.now
	t.grow(begin+l.Duration+10, mixed, func(n int) { t.blocks[n].lazy = lazy })
	var left, all [2]float64
	for _, b := range t.blocks {
		if b.at < begin || b.at > begin+l.Duration {
			continue
		}
		k := 0
		if b.lazy {
			k = 1
		}
		all[k]++
		if b.approved-b.at > 10 {
			left[k]++
		}
	}
	return []float64{left[1] / max(all[1], 1), left[0] / max(all[0], 1)}
}
