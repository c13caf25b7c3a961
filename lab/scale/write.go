package scale

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Write prints a result for people.
func (r *Result) Write(w io.Writer) {
	fmt.Fprintf(w, "%s: %d nodes, %d channels, %d sat in them; seed %d\n", r.Source, r.Nodes, r.Channels, r.Capacity, r.Seed)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tmean\tp50\tp95\tp99\tmax")
	for _, row := range []struct {
		name   string
		format string
		of     Ranks
	}{
		{"channels of a node", "%.3g", r.Degrees}, {"capacity of a channel, sat", "%.0f", r.Sizes},
		{"channels on the way", "%.3g", r.Hops}, {"fee, msat", "%.0f", r.Fee}, {"fee, ppm", "%.0f", r.FeePPM}, {"search, µs", "%.0f", r.SearchUs},
	} {
		fmt.Fprint(t, row.name)
		for _, v := range []float64{row.of.Mean, row.of.P50, row.of.P95, row.of.P99, row.of.Max} {
			fmt.Fprintf(t, "\t"+row.format, v)
		}
		fmt.Fprintln(t)
	}
	t.Flush()
	fmt.Fprintf(w, "%d payments: %.2f %% arrive at the first attempt, %.2f %% in the end, %.2f %% find no path; %.3f attempts a payment\n",
		r.Payments, 100*r.First, 100*r.Success, 100*r.NoPath, r.Attempts)
	fmt.Fprintln(t, "amount from, sat\tpayments\tarrive, %")
	for _, d := range r.ByAmount {
		fmt.Fprintf(t, "%d\t%d\t%.2f\n", d.FromSat, d.Payments, 100*d.Success)
	}
	t.Flush()
	fmt.Fprintln(t, "payments so far\tarrive, %\tdepleted channels, %\tchannels on the way")
	for _, x := range r.Tenths {
		fmt.Fprintf(t, "%d\t%.2f\t%.2f\t%.2f\n", x.Payments, 100*x.Success, 100*x.Depleted, x.Hops)
	}
	t.Flush()
	fmt.Fprintln(t, "largest nodes together\tsee, %\tbeside both ends, %")
	for _, x := range r.Observed {
		fmt.Fprintf(t, "%d\t%.2f\t%.2f\n", x.Nodes, 100*x.Seen, 100*x.Linked)
	}
	t.Flush()
	fmt.Fprintf(w, "took %.1f s; tables of %.1f MiB\n", r.TookS, float64(r.MemoryBytes)/(1<<20))
}
