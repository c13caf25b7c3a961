package sim

import (
	"math"
	"slices"

	"coinop.dev/core/step"
)

// Earth says how far nodes are apart: each has a place on a square whose sides take
// Across, and a message takes as long as its way and up to Jitter more. What the
// nodes compute takes no time.
type Earth struct {
	Across step.Time
	Jitter step.Time
	Lose   int // percent of messages
}

// Wide is an earth with some 80 ms between two nodes on average.
var Wide = Earth{Across: 150, Jitter: 20, Lose: 1}

// distance gives every machine a place, by the seed.
func (e Earth) distance(w *World) func(a, b *Machine) step.Time {
	type place struct{ x, y float64 }
	at := map[string]place{}
	where := func(m *Machine) place {
		p, known := at[m.Name]
		if !known {
			r := w.Random("earth")
			p = place{r.Float64(), r.Float64()}
			at[m.Name] = p
		}
		return p
	}
	return func(a, b *Machine) step.Time {
		p, q := where(a), where(b)
		return step.Time(math.Hypot(p.x-q.x, p.y-q.y) * float64(e.Across))
	}
}

// A Confirmation is how long it took, in virtual milliseconds, from handing a block
// or a transaction to one node until it was final: there, and at the last node.
type Confirmation struct {
	Nodes      int      `json:"nodes"`
	Voters     int      `json:"voters"`
	Rate       float64  `json:"rate_per_s"`
	Runs       int      `json:"blocks"`
	P50        float64  `json:"p50_ms"`
	P95        float64  `json:"p95_ms"`
	P99        float64  `json:"p99_ms"`
	P50All     float64  `json:"p50_everywhere_ms"`
	P99All     float64  `json:"p99_everywhere_ms"`
	Messages   float64  `json:"messages_per_block"`                    // of all nodes together
	Signatures *float64 `json:"signatures_checked_per_block_and_node"` // nil: nobody counts
}

// studyPatience is how long the last one may take.
const studyPatience = step.Minute

// times sums up how long each took: where it was handed in, and everywhere.
func (c *Confirmation) times(here, all []float64) {
	slices.Sort(here)
	slices.Sort(all)
	quantile := func(list []float64, q float64) float64 { return list[min(len(list)-1, int(q*float64(len(list))))] }
	c.P50, c.P95, c.P99 = quantile(here, 0.5), quantile(here, 0.95), quantile(here, 0.99)
	c.P50All, c.P99All = quantile(all, 0.5), quantile(all, 0.99)
}
