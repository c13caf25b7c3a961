package scale

import (
	"math"
	"slices"
)

// A tally is many values in the memory of a few thousand counters: each bucket is a
// hundredth wide.
type tally struct {
	buckets  map[int]int
	n        int
	sum, max float64
}

var width = math.Log(1.01)

func (t *tally) add(v float64) {
	if t.buckets == nil {
		t.buckets = map[int]int{}
	}
	t.n, t.sum, t.max = t.n+1, t.sum+v, max(t.max, v)
	t.buckets[bucketOf(v)]++
}

const zero = math.MinInt32 // the bucket of nothing

func bucketOf(v float64) int {
	if v <= 0 {
		return zero
	}
	return int(math.Round(math.Log(v) / width))
}

func (t *tally) ranks() Ranks {
	if t.n == 0 {
		return Ranks{}
	}
	var order []int
	for b := range t.buckets {
		order = append(order, b)
	}
	slices.Sort(order)
	at := func(q float64) float64 {
		seen := 0
		for _, b := range order {
			if seen += t.buckets[b]; float64(seen) > q*float64(t.n) {
				if b == zero {
					return 0
				}
				return min(math.Exp(float64(b)*width), t.max)
			}
		}
		return t.max
	}
	r := Ranks{Mean: t.sum / float64(t.n), P50: at(0.5), P95: at(0.95), P99: at(0.99), Max: t.max}
	for _, v := range []*float64{&r.P50, &r.P95, &r.P99} {
		if near := math.Round(*v); near != 0 && math.Abs(*v-near) < 0.006*near {
			*v = near // small whole numbers are kept as they were
		}
	}
	return r
}
