package sim

import (
	"math"

	"coinop.dev/core/ledger/tangle/dag"
)

// warm is how long a study waits for a steady state, in h.
const warm = 15

// TangleTips is the number of tips in a steady state, divided by the law's: at each
// load lambda h (X), the mean number of tips over so many h, over 2 lambda h (white
// paper 1.4.3, equation (1), k = 2: L0 = k lambda h/(k-1)). The law's value is 1. Tips
// are chosen uniformly, two different ones. The law is for many tips: measured there
// is up to half a tip more.
func TangleTips(runs Runs, loads []float64, duration float64) (curve []CurvePoint) {
	for _, load := range loads {
		e := runs.estimates(func(seed uint64) []float64 {
			t := newTangle(seed, load, dag.Options{Unweighted: true})
			return []float64{t.meanTips(uniform, duration) / (2 * load)}
		})
		curve = append(curve, CurvePoint{load, e[0], 1})
	}
	return curve
}

// TangleTipsByAlpha is the same for weighted walks at one load, against alpha (X).
// The law is for uniform choice; a walk with alpha 0 is not quite uniform over tips,
// and tips that an alpha leaves behind add up without end.
func TangleTipsByAlpha(runs Runs, load float64, alphas []float64, duration float64) (curve []CurvePoint) {
	for _, alpha := range alphas {
		e := runs.estimates(func(seed uint64) []float64 {
			t := newTangle(seed, load, dag.Options{})
			w := dag.Walk{Alpha: alpha, Depth: int(10 * load), Walkers: 2}
			return []float64{t.meanTips(walk(w), duration) / (2 * load)}
		})
		curve = append(curve, CurvePoint{alpha, e[0], 1})
	}
	return curve
}

// meanTips is the mean that those see who come: as over time, since they come as a
// Poisson process.
func (t *tangle) meanTips(c choose, duration float64) float64 {
	sum, n := 0.0, 0.0
	t.grow(warm, c, nil)
	t.grow(warm+duration, c, func(int) {
		sum += float64(t.visible.TipCount())
		n++
	})
	return sum / n
}

// TangleFirstApproval is the mean time from issue to the issue of the first approver,
// in h, against load (X): at high load h until it is seen, then L0/(2 lambda), which
// makes 2 by equation (1). The white paper up to 1.2 had L0 = lambda h/ln 2, whence
// the 1.45 h that is still quoted.
func TangleFirstApproval(runs Runs, loads []float64, duration float64) (curve []CurvePoint) {
	for _, load := range loads {
		e := runs.estimates(func(seed uint64) []float64 {
			t := newTangle(seed, load, dag.Options{Unweighted: true})
			const late = 30 // nobody waits that long: exp(-30)
			t.grow(warm+duration+late, uniform, nil)
			sum, n := 0.0, 0.0
			for _, b := range t.blocks {
				if b.at >= warm && b.at < warm+duration && !math.IsInf(b.approved, 1) {
					sum += b.approved - b.at
					n++
				}
			}
			return []float64{sum / n}
		})
		curve = append(curve, CurvePoint{load, e[0], 2})
	}
	return curve
}

// lambertHalf is W(1/2), W being Lambert's function: the rate, per h, at which the
// number of tips that approve a block grows at first, since K'(t) = K(t-h)/(2h).
const lambertHalf = 0.351734

// renewal is the same rate without an approximation: half of the tips that are seen
// are still tips when all is steady, but not while a block's approvers multiply. A
// block is seen h after its issue, is approved at rate 1/h from then on, and this is
// seen h later; each tip seen brings approvers at rate 1/h. So the rate c solves
// 1 = exp(-c) ((1-exp(-c))/c + exp(-c)/(1+c)), and tips take 1/c = 3.03 h to grow by e,
// not 2.84.
const renewal = 0.330483

// followed is how many blocks of a run a growth study follows, a bit of the tag each.
const followed = 64

// Adaptation is what a study of growing weights finds.
type Adaptation struct {
	// Period is the adaptation period in h against the number of tips L0 = 2 lambda h
	// (X): how many blocks are issued after a block and never come to approve it, over
	// lambda; which is where the line of its later weight meets zero. Law is
	// (1/W(1/2)) ln L0 = 2.84 ln L0, from which it may differ by a constant.
	Period []CurvePoint
	// Slope of Period over ln L0, by least squares in each seed; Law is 2.84. Renewal
	// is what it must be without the white paper's approximation: 3.03.
	Slope   CurvePoint
	Renewal float64
	// Weight gained per lambda h in the h after the period; Law is 1 (times the own
	// weight w).
	Linear CurvePoint
}

// TangleAdaptation follows the cumulative weight of 64 blocks per load and seed, whose
// tips are chosen uniformly (white paper 1.4.3, section 3.1: the adaptation period is
// t0 = h ln L0/W(1/2), and then weight grows by lambda w).
func TangleAdaptation(runs Runs, loads []float64) (a Adaptation) {
	logs := make([]float64, len(loads))
	for k, load := range loads {
		logs[k] = math.Log(2 * load)
	}
	e := runs.estimates(func(seed uint64) []float64 {
		var periods []float64
		linear := 0.0
		for k, load := range loads {
			period, gain := adapt(seed+uint64(k)<<32, load)
			periods = append(periods, period)
			linear += gain / float64(len(loads))
		}
		return append(periods, slope(logs, periods), linear)
	})
	for k, load := range loads {
		a.Period = append(a.Period, CurvePoint{2 * load, e[k], logs[k] / lambertHalf})
	}
	a.Slope, a.Renewal = CurvePoint{0, e[len(loads)], 1 / lambertHalf}, 1/renewal
	a.Linear = CurvePoint{0, e[len(loads)+1], 1}
	return a
}

// adapt returns the mean adaptation period of some blocks, and what they gain per
// block issued in the 5 h before the end.
func adapt(seed uint64, load float64) (period, gain float64) {
	t := newTangle(seed, load, dag.Options{Unweighted: true})
	t.grow(warm, uniform, nil)
	settled := 12 + 1.25*math.Log(2*load)/lambertHalf // long after the period
	marked, missed := 0, 0.0
	var last, all float64
	const apart = 0.25 // h between two followed
	end := warm + apart*followed + settled
	t.grow(end, uniform, func(n int) {
		b := &t.blocks[n]
		for bit := range marked {
			approves := b.tag>>bit&1 == 1
			if !approves {
				missed++
			}
			if b.at > end-5 {
				all++
				if approves {
					last++
				}
			}
		}
		if marked < followed && t.now > warm+apart*float64(marked) {
			b.tag |= 1 << marked
			marked++
		}
	})
	return missed / float64(marked) / load, last / all
}

// TangleWeight is the mean cumulative weight against age in h (X), over lambda h:
// nearly nothing, then exponential growth, then a line. Law is the line, age less
// 2.84 ln L0, where that is positive.
func TangleWeight(runs Runs, load float64, ages []float64) (curve []CurvePoint) {
	e := runs.estimates(func(seed uint64) []float64 {
		t := newTangle(seed, load, dag.Options{Unweighted: true})
		t.grow(warm, uniform, nil)
		marked := 0
		var born [followed]float64
		weights := make([]float64, len(ages))
		const apart = 0.25
		t.grow(warm+apart*followed+ages[len(ages)-1], uniform, func(n int) {
			b := &t.blocks[n]
			for bit := range marked {
				if b.tag>>bit&1 == 0 {
					continue
				}
				for k, age := range ages {
					if b.at-born[bit] <= age {
						weights[k] += 1 / load / followed
					}
				}
			}
			if marked < followed && t.now > warm+apart*float64(marked) {
				b.tag |= 1 << marked
				born[marked] = b.at
				marked++
			}
		})
		return weights
	})
	for k, age := range ages {
		law := max(0, age-math.Log(2*load)/lambertHalf)
		curve = append(curve, CurvePoint{age, e[k], law})
	}
	return curve
}

// TangleConfidence is the mean probability that a walk ends on a tip that approves a
// block, against the block's age in h (X): the exit probability, by which a payee
// decides. No law.
func TangleConfidence(runs Runs, load, alpha float64, ages []float64) (curve []CurvePoint) {
	w := dag.Walk{Alpha: alpha, Depth: int(15 * load), Walkers: 2}
	e := runs.estimates(func(seed uint64) []float64 {
		t := newTangle(seed, load, dag.Options{})
		t.grow(warm+ages[len(ages)-1]+15, walk(w), nil)
		means := make([]float64, len(ages))
		for k, age := range ages {
			sum, n := 0.0, 0.0
			for i, b := range t.blocks {
				if d := t.now - b.at - age; d >= 0 && d < 0.5 && t.visible.Has(number(i)) {
					sum += t.visible.Exit(number(i), w)
					n++
				}
			}
			means[k] = sum / max(n, 1)
		}
		return means
	})
	for k, age := range ages {
		curve = append(curve, CurvePoint{age, e[k], 0})
	}
	return curve
}
