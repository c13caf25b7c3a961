package report

import (
	"math"
	"slices"

	"golang.org/x/perf/benchmath"
)

// confidence is that of all intervals.
const confidence = 0.95

// A Spread is what runs say together: the median, the extremes, and an interval in
// which the true median lies with 95 % confidence, from order statistics, without
// any assumption about the distribution. It takes six runs to have one.
type Spread struct {
	N      int      `json:"n"`
	Median float64  `json:"median"`
	Min    float64  `json:"min"`
	Max    float64  `json:"max"`
	Low    *float64 `json:"low,omitempty"`
	High   *float64 `json:"high,omitempty"`
}

func newSpread(values []float64) Spread {
	sorted := slices.Sorted(slices.Values(values))
	s := Spread{N: len(sorted), Min: sorted[0], Max: sorted[len(sorted)-1]}
	summary := benchmath.AssumeNothing.Summary(benchmath.NewSample(sorted, &benchmath.DefaultThresholds), confidence)
	s.Median = summary.Center
	if !math.IsInf(summary.Lo, 0) && !math.IsInf(summary.Hi, 0) && summary.Confidence >= confidence {
		s.Low, s.High = &summary.Lo, &summary.Hi
	}
	return s
}

// shareInterval is Clopper's and Pearson's: the shares under which so many hits of n,
// or fewer, or more, are not rarer than 2.5 %. With no hit or nothing else the
// interval is one-sided, at 5 %.
func shareInterval(hits, n int) (low, high float64) {
	alpha := 1 - confidence
	if hits > 0 && hits < n {
		alpha /= 2
	}
	low, high = 0, 1
	if hits > 0 {
		low = solve(func(p float64) float64 { return 1 - binomial(hits-1, n, p) - alpha })
	}
	if hits < n {
		high = solve(func(p float64) float64 { return alpha - binomial(hits, n, p) })
	}
	return low, high
}

// binomial is the chance of at most k hits of n.
func binomial(k, n int, p float64) (sum float64) {
	for i := 0; i <= k; i++ {
		a, _ := math.Lgamma(float64(n + 1))
		b, _ := math.Lgamma(float64(i + 1))
		c, _ := math.Lgamma(float64(n - i + 1))
		sum += math.Exp(a - b - c + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
	}
	return sum
}

// solve finds where a rising function is zero between 0 and 1.
func solve(f func(float64) float64) float64 {
	low, high := 0.0, 1.0
	for range 60 {
		if mid := (low + high) / 2; f(mid) < 0 {
			low = mid
		} else {
			high = mid
		}
	}
	return (low + high) / 2
}
