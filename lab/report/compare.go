package report

import (
	"fmt"
	"io"
	"text/tabwriter"

	"golang.org/x/perf/benchmath"
)

// A Difference is a cell of two reports.
type Difference struct {
	Workload string  `json:"workload"`
	Rail     string  `json:"rail"`
	Metric   string  `json:"metric"`
	Unit     string  `json:"unit,omitempty"`
	A        *Spread `json:"a"`
	B        *Spread `json:"b"`
	Percent  float64 `json:"percent"` // B's median above A's; 0 if A's is 0
	P        float64 `json:"p"`
	// Differs: the samples are unlikely (p < 0.05) to be of one distribution.
	Differs bool   `json:"differs"`
	Note    string `json:"note,omitempty"` // why the test says little

	delta string
}

// otherPlan is why two figures say nothing together.
const otherPlan = "? is of runs with other options, such as a quick report beside a full one"

// Compare tests what both reports have, cell by cell, as benchstat does: medians,
// and the U test of Mann and Whitney at 0.05. Shares are left out.
func Compare(a, b *Report) (all []Difference) {
	for i := range a.Cells {
		x := &a.Cells[i]
		y := b.Cell(x.Workload, x.Rail, x.Metric)
		m := metric(x.Metric)
		if x.Spread == nil || y.Spread == nil || m.Of != "" {
			continue
		}
		if a.plans[x.Workload+"/"+x.Rail].Plan != b.plans[x.Workload+"/"+x.Rail].Plan {
			all = append(all, Difference{Workload: x.Workload, Rail: x.Rail, Metric: x.Metric, Unit: m.Unit, A: x.Spread, B: y.Spread, P: 1, Note: otherPlan, delta: "?"})
			continue
		}
		t := benchmath.AssumeNothing.Compare(benchmath.NewSample(x.values, &benchmath.DefaultThresholds), benchmath.NewSample(y.values, &benchmath.DefaultThresholds))
		d := Difference{Workload: x.Workload, Rail: x.Rail, Metric: x.Metric, Unit: m.Unit, A: x.Spread, B: y.Spread, P: t.P, Differs: t.P < t.Alpha}
		d.delta = t.FormatDelta(x.Median, y.Median)
		if x.Median != 0 {
			d.Percent = 100 * (y.Median - x.Median) / x.Median
		}
		if len(t.Warnings) > 0 {
			d.Note = t.Warnings[0].Error()
		}
		all = append(all, d)
	}
	return all
}

// WriteDifferences prints a table: A, B, and what is different, ~ where nothing is.
func WriteDifferences(w io.Writer, all []Difference) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	group := ""
	for _, d := range all {
		if now := d.Workload + " over " + d.Rail; now != group {
			group = now
			fmt.Fprintf(t, "%s\tA\tB\tB to A\t\n", group)
		}
		unit := ""
		if d.Unit != "" {
			unit = ", " + d.Unit
		}
		fmt.Fprintf(t, "  %s%s\t%s\t%s\t%s\t(p=%.3f n=%d+%d)\n", metric(d.Metric).Label, unit, d.A.text(), d.B.text(), d.delta, d.P, d.A.N, d.B.N)
	}
	t.Flush()
	notes := map[string]bool{}
	for _, d := range all {
		if d.Note != "" && !notes[d.Note] {
			notes[d.Note] = true
			fmt.Fprintln(w, "note:", d.Note)
		}
	}
}

// Changed are those that differ.
func Changed(all []Difference) (some []Difference) {
	for _, d := range all {
		if d.Differs {
			some = append(some, d)
		}
	}
	return some
}
