package report

import (
	"math"
	"strconv"
	"strings"
)

// An axis maps values to pixels.
type axis struct {
	low, high float64 // of the values
	from, to  float64 // pixels
	log       bool
}

// newAxis makes room for all values; a logarithmic one ends at whole or half decades
// and wants values above 0.
func newAxis(values []float64, log bool, from, to float64) axis {
	a := axis{math.Inf(1), math.Inf(-1), from, to, log}
	for _, v := range values {
		if log && v <= 0 {
			continue
		}
		a.low, a.high = min(a.low, v), max(a.high, v)
	}
	if a.low > a.high {
		a.low, a.high = 1, 10
	}
	if log {
		a.low, a.high = below(a.low*0.95), above(a.high*1.05)
		return a
	}
	a.low = 0
	step := a.step()
	a.high = max(step, math.Ceil(a.high/step*1.02)*step)
	return a
}

// below and above are the nearest of 1, 2, 5 times a power of ten.
func below(v float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{5, 2} {
		if f*p <= v {
			return f * p
		}
	}
	return p
}

func above(v float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 5} {
		if f*p >= v {
			return f * p
		}
	}
	return 10 * p
}

func (a *axis) at(v float64) float64 {
	if !a.log {
		return a.from + (v-a.low)/(a.high-a.low)*(a.to-a.from)
	}
	v = max(v, a.low)
	return a.from + (math.Log10(v)-math.Log10(a.low))/(math.Log10(a.high)-math.Log10(a.low))*(a.to-a.from)
}

// step is between the ticks of a linear axis: about five.
func (a *axis) step() float64 { return above((a.high - a.low) / 5.001) }

// ticks are at most so many values with a line.
func (a *axis) ticks(most int) (all []float64) {
	if !a.log {
		step := a.step()
		for i := 0; ; i++ {
			v := float64(i) * step
			if v > a.high*1.0001 {
				return all
			}
			all = append(all, v)
		}
	}
	first, last := math.Ceil(math.Log10(a.low)-1e-9), math.Floor(math.Log10(a.high)+1e-9)
	every := math.Ceil((last - first + 1) / float64(most))
	for e := first; e <= last; e += max(every, 1) {
		all = append(all, math.Pow(10, e))
	}
	if len(all) > 2 {
		return all
	}
	all = nil // few decades have room for what is between
	for e := first - 1; e <= last; e++ {
		for _, f := range []float64{1, 2, 5} {
			if v := f * math.Pow(10, e); v >= a.low*0.999 && v <= a.high*1.001 {
				all = append(all, v)
			}
		}
	}
	for len(all) > most { // every other one, the ends last
		var some []float64
		for i, v := range all {
			if i%2 == 0 {
				some = append(some, v)
			}
		}
		all = some
	}
	return all
}

// short is a number at a tick.
func short(v float64) string {
	for _, unit := range []struct {
		of   float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= unit.of {
			return strconv.FormatFloat(v/unit.of, 'g', 4, 64) + unit.name
		}
	}
	return strings.Replace(strconv.FormatFloat(v, 'g', 4, 64), "e-0", "e-", 1)
}
