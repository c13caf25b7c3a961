package lab

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// A row is a line of the table: what, where it is, and what the design asks of
// it.
type row struct {
	name   string
	of     func(r *Result) *float64
	format string
	target func(r *Result) string
}

var rows = []row{
	{"payments/s", func(r *Result) *float64 { return r.Pps }, "%.0f", func(r *Result) string {
		switch {
		case r.Rail == "oneway" && r.Concurrency >= 1000:
			return "≥ 5,000 (aim 50,000)"
		case r.Rail == "payword" && r.Metered:
			return "≥ 200,000"
		}
		return ""
	}},
	{"p50 ms", func(r *Result) *float64 { return r.P50Ms }, "%.3f", nil},
	{"p95 ms", func(r *Result) *float64 { return r.P95Ms }, "%.3f", nil},
	{"p99 ms", func(r *Result) *float64 { return r.P99Ms }, "%.3f", nil},
	{"CPU ms, all ends", func(r *Result) *float64 { return r.CPUMs }, "%.4f", many("≤ 0.4 (aim 0.04)")},
	{"disk bytes (kernel)", func(r *Result) *float64 { return r.DiskBytes }, "%.0f", many("≤ 1024")},
	{"disk bytes (store)", func(r *Result) *float64 { return r.StoreBytes }, "%.0f", nil},
	{"fsyncs", func(r *Result) *float64 { return r.Fsyncs }, "%.4f", nil},
	{"wire bytes", func(r *Result) *float64 { return r.WireBytes }, "%.1f", many("≤ 400")},
	{"signatures", func(r *Result) *float64 { return r.Signatures }, "%.4f", nil},
	{"chain fee msat", func(r *Result) *float64 { return r.FeeMsatPerPayment }, "%.1f", nil},
	{"chain vbytes, all payments", func(r *Result) *float64 { return r.ChainVBytes }, "%.0f", nil},
	{"payer's risk msat", func(r *Result) *float64 { return r.PayerAtRiskMsat }, "%.0f", nil},
	{"payee's risk msat", func(r *Result) *float64 { return r.PayeeAtRiskMsat }, "%.0f", nil},
	{"close to mined ms", func(r *Result) *float64 { return r.FinalityMs }, "%.1f", nil},
	{"one signature µs", func(r *Result) *float64 { return r.SignUs }, "%.1f", nil},
	{"one verification µs", func(r *Result) *float64 { return r.VerifyUs }, "%.1f", nil},
	{"one base multiplication µs", func(r *Result) *float64 { return r.BaseMultUs }, "%.1f", nil},
	{"one ECDH µs", func(r *Result) *float64 { return r.ECDHUs }, "%.1f", nil},
	{"one stamp µs", func(r *Result) *float64 { return r.StampSignUs }, "%.1f", nil},
	{"stamp verified µs", func(r *Result) *float64 { return r.StampVerifyUs }, "%.1f", nil},
	{"one hash µs", func(r *Result) *float64 { return r.HashUs }, "%.3f", nil},
	{"one fsync µs", func(r *Result) *float64 { return r.FsyncUs }, "%.1f", nil},
	{"one round trip µs", func(r *Result) *float64 { return r.RoundTripUs }, "%.1f", nil},
	{"p50 / (fsync + round trip)", func(r *Result) *float64 { return r.LatencyRatio }, "%.2f", single("≤ 2")},
	{"CPU / (sign + verify)", func(r *Result) *float64 { return r.CPURatio }, "%.2f", single("≤ 2")},
	{"CPU ms that curve arithmetic takes", func(r *Result) *float64 { return r.CPULimitMs }, "%.4f", nil},
	{"its share of the CPU", func(r *Result) *float64 { return r.CPUShare }, "%.2f", nil},
}

// endRows are the lines about each end.
var endRows = []struct {
	name   string
	of     func(e *EndResult) *float64
	format string
	target string
}{
	{"CPU ms", func(e *EndResult) *float64 { return e.CPUMs }, "%.4f", ""},
	{"disk bytes (kernel)", func(e *EndResult) *float64 { return e.DiskBytes }, "%.0f", ""},
	{"folder's growth bytes", func(e *EndResult) *float64 { return e.GrowthBytes }, "%.0f", ""},
	{"fsyncs", func(e *EndResult) *float64 { return e.Fsyncs }, "%.4f", ""},
	{"RSS MiB (idle)", func(e *EndResult) *float64 { return e.IdleRSSMiB }, "%.1f", ""},
	{"RSS MiB (now)", func(e *EndResult) *float64 { return e.RSSMiB }, "%.1f", ""},
	{"RSS MiB (private)", func(e *EndResult) *float64 { return e.PrivateMiB }, "%.1f", ""},
	{"RSS MiB (peak)", func(e *EndResult) *float64 { return e.PeakRSSMiB }, "%.1f", "≤ 40"},
	{"RSS MiB (rested)", func(e *EndResult) *float64 { return e.RestedRSSMiB }, "%.1f", ""},
	{"earned msat", func(e *EndResult) *float64 { return e.EarnedMsat }, "%.0f", ""},
}

// lines are all rows that a run has something to say in.
func lines(r *Result) []row {
	all := slices.Clone(rows)
	for i := range r.Ends {
		for _, line := range endRows {
			if line.of(&r.Ends[i]) == nil {
				continue
			}
			of := func(r *Result) *float64 {
				if i >= len(r.Ends) {
					return nil
				}
				return line.of(&r.Ends[i])
			}
			all = append(all, row{r.Ends[i].Name + ": " + line.name, of, line.format, always(line.target)})
		}
	}
	return all
}

func always(target string) func(*Result) string { return func(*Result) string { return target } }

func many(target string) func(*Result) string {
	return func(r *Result) string {
		if r.Rail == "oneway" && r.Concurrency >= 1000 {
			return target
		}
		return ""
	}
}

func single(target string) func(*Result) string {
	return func(r *Result) string {
		if r.Concurrency == 1 {
			return target
		}
		return ""
	}
}

// WriteTable prints runs of one kind for people, a column each.
func WriteTable(w io.Writer, runs []Result) {
	if len(runs) == 0 {
		return
	}
	first := &runs[0]
	fmt.Fprintf(w, "%s over %s, store %s, hops %d, channels %d: %d payments, %d in flight, per payment unless it says otherwise\n",
		first.Rail, first.Link, first.Store, first.Hops, first.Channels, first.Payments, first.Concurrency)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range lines(first) {
		fmt.Fprint(t, line.name)
		for i := range runs {
			fmt.Fprint(t, "\t", line.text(&runs[i]))
		}
		if line.target != nil {
			fmt.Fprint(t, "\t", line.target(first))
		}
		fmt.Fprintln(t)
	}
	fmt.Fprint(t, "conserved")
	for i := range runs {
		fmt.Fprint(t, "\t", runs[i].Conserved)
	}
	fmt.Fprintln(t)
	t.Flush()
}

func (l *row) text(r *Result) string { return text(l.of(r), l.format) }

func text(v *float64, format string) string {
	if v == nil {
		return "–"
	}
	return fmt.Sprintf(format, *v)
}
