package report

import (
	"context"
	"fmt"
	"time"

	"coinop.dev/lab/scale"
)

// simulated plays payments over a large network, another one in every run.
func simulated(w *Workload, b *Bench) (*Plan, error) {
	o := scale.Options{Times: w.Times, Payments: w.payments(b.Quick)}
	o.Fill()
	if err := o.Check(); err != nil {
		return nil, err
	}
	planned := o
	planned.Seed = 0 // the run's
	return &Plan{
		Options: planned, Takes: time.Duration(o.Payments*w.Times*w.Times) * 100 * time.Microsecond,
		Run: func(ctx context.Context, run uint64, progress func(float64)) (*Outcome, error) {
			o := o
			o.Seed = run
			r, err := scale.Run(ctx, o, func(done uint64) { progress(float64(done) / float64(o.Payments)) })
			if err != nil {
				return nil, err
			}
			f := figures{
				"success_first": r.First, "success": r.Success, "attempts": r.Attempts, "hops": r.Hops.P50, "hops_p95": r.Hops.P95,
				"network_fee_msat": r.Fee.P50, "network_fee_p95": r.Fee.P95, "search_us": r.SearchUs.P50,
				"network_mib": float64(r.MemoryBytes) / (1 << 20),
			}
			if n := len(r.Tenths); n > 0 {
				f["depleted"] = r.Tenths[n-1].Depleted
			}
			for _, x := range r.Observed {
				f[fmt.Sprintf("seen_%d", x.Nodes)] = x.Seen
				f[fmt.Sprintf("linked_%d", x.Nodes)] = x.Linked
			}
			return &Outcome{Figures: f, Raw: r}, nil
		},
	}, nil
}
