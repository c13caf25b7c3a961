package report

// versus are rails that are measured beside a peer's.
var versus = []struct{ ours, theirs string }{{"lightning", "lnd"}, {"lightning-routed", "lnd-routed"}}

// ratios are the metrics that both have.
var ratios = []string{"pps", "p50_ms", "p99_ms", "cpu_ms", "disk_bytes", "payee_rss_mib"}

// Peers is how our node compares with others' in the same runs; nil if none was
// measured.
func (r *Report) Peers() *Table {
	t := &Table{Heads: []Head{{"", ""}, {"Ours", ""}, {"Theirs", ""}, {"Ours / theirs", "of the medians"}}}
	for _, v := range versus {
		for _, w := range r.Workloads {
			var lines []Line
			for _, name := range ratios {
				ours, theirs := r.Cell(w.Name, v.ours, name), r.Cell(w.Name, v.theirs, name)
				if ours.Spread == nil || theirs.Spread == nil || theirs.Median == 0 {
					continue
				}
				m := metric(name)
				label := m.Label
				if m.Unit != "" {
					label += ", " + m.Unit
				}
				lines = append(lines, Line{Entries: []Entry{{Text: label, Head: true}, t.cell(ours), t.cell(theirs), {Text: number(ours.Median / theirs.Median)}}})
			}
			if len(lines) > 0 {
				t.Rows = append(t.Rows, Line{Group: w.Name + ": " + v.ours + " beside " + v.theirs})
				t.Rows = append(t.Rows, lines...)
			}
		}
	}
	if len(t.Rows) == 0 {
		return nil
	}
	return t
}
