package report

import (
	"fmt"
	"html/template"
	"slices"
)

// A Figure is a plot of the report.
type Figure struct {
	Title, Text string
	SVG         template.HTML
	Half        bool // as wide as half a page
}

// figures are those that have something to show.
func (r *Report) figures() (all []Figure) {
	add := func(f Figure, ok bool) {
		if ok {
			all = append(all, f)
		}
	}
	panels := r.panels(pairs)
	add(r.facets("Payments a second", "payments a second (logarithmic)",
		"Medians of the runs; the bars are 95 % intervals of the median, or minimum and maximum of fewer than six runs.", panels, "pps"))
	add(r.facets("Time to receipt", "milliseconds from asking to the receipt (logarithmic)",
		"Half of the payments are faster than the circle, 95 of 100 than the diamond, 99 of 100 than the triangle.", panels, "p50_ms", "p95_ms", "p99_ms"))
	add(r.facets("Processor time of a payment, beside a signature and a verification", "times one signature and one verification of this computer (logarithmic)",
		"What all ends together take for a payment, as a multiple of what one ECDSA signature and one verification take in the same run. The line is at one.", panels, "cpu_ratio"))
	add(r.facets("What the payer's device writes", "bytes to its store, a payment (logarithmic)", "", panels, "payer_store_bytes"))
	add(r.overSites("Sites: the slowest hundredth", "time to receipt, p99, ms", "p99_ms", true))
	add(r.overSites("Sites: the gateway's memory", "resident at its peak, MiB", "payee_rss_mib", false))
	add(r.fees())
	add(r.drift())
	return all
}

func (r *Report) panels(names []string) (all []*Workload) {
	for _, w := range r.Workloads {
		for _, name := range names {
			if w.Name == name {
				all = append(all, w)
			}
		}
	}
	return all
}

// colour is a rail's in all plots.
func colour(rail string) int {
	for i, r := range Rails {
		if r.About().Name == rail {
			return i
		}
	}
	return -1
}

// measured are the rails that have a figure in one of the workloads.
func (r *Report) measured(panels []*Workload, metrics ...string) (rails []About) {
	for _, a := range r.Rails {
		there := false
		for _, w := range panels {
			for _, m := range metrics {
				there = there || r.Cell(w.Name, a.Name, m).Spread != nil
			}
		}
		if there {
			rails = append(rails, a)
		}
	}
	return rails
}

func (r *Report) facets(title, unit, text string, panels []*Workload, metrics ...string) (Figure, bool) {
	rails := r.measured(panels, metrics...)
	f := facetPlot{title: title, unit: unit, one: metrics[0] == "cpu_ratio"}
	for _, a := range rails {
		f.rows, f.colours = append(f.rows, a.Title), append(f.colours, colour(a.Name))
	}
	for _, w := range panels {
		f.panels = append(f.panels, w.Name)
	}
	if len(metrics) > 1 {
		f.shapes = []string{"p50", "p95", "p99"}
	}
	f.marks = func(panel, row int) (all []mark, why string) {
		for shape, m := range metrics {
			c := r.Cell(panels[panel].Name, rails[row].Name, m)
			if c.Spread == nil {
				why = c.Missing
				continue
			}
			k := c.mark()
			k.shape = shape
			all = append(all, k)
		}
		return all, why
	}
	if len(rails) == 0 || len(panels) == 0 {
		return Figure{}, false
	}
	return Figure{Title: title, Text: text, SVG: template.HTML(f.draw())}, true
}

// mark is a cell with its interval.
func (c *Cell) mark() mark {
	low, high := c.bounds()
	m := metric(c.Metric)
	return mark{x: c.Median, y: c.Median, low: low, high: high, hint: fmt.Sprintf("%s over %s, %s: %s %s, n=%d", c.Workload, c.Rail, m.Label, c.text(), m.Unit, c.N)}
}

func (r *Report) overSites(title, unit, name string, log bool) (Figure, bool) {
	panels := slices.DeleteFunc(r.panels(sites), func(w *Workload) bool { return len(r.measured([]*Workload{w}, name)) == 0 })
	l := linePlot{title: title, x: "devices, a payment a second each", y: unit, xlog: true, ylog: log}
	for _, a := range r.measured(panels, name) {
		var line []mark
		for _, w := range panels {
			if c := r.Cell(w.Name, a.Name, name); c.Spread != nil {
				m := c.mark()
				m.x = float64(w.Devices)
				line = append(line, m)
			}
		}
		l.add(a, line)
	}
	return Figure{Title: title, SVG: template.HTML(l.draw()), Half: true}, l.lines != nil && len(panels) > 1
}

func (l *linePlot) add(a About, line []mark) {
	l.names, l.colours, l.lines = append(l.names, a.Title), append(l.colours, colour(a.Name)), append(l.lines, line)
}

// fees are what a payment of the first workload costs at each rate.
func (r *Report) fees() (Figure, bool) {
	panels := r.panels(pairs)
	if len(panels) == 0 {
		return Figure{}, false
	}
	w := panels[0]
	l := linePlot{title: "Fee of a payment", x: "fee rate, sat/vB", y: "fee, sat (" + w.Name + ")", xlog: true, ylog: true}
	for _, a := range r.measured(panels[:1], "fee_10_sat") {
		var line []mark
		for _, rate := range Market.Rates {
			if c := r.Cell(w.Name, a.Name, fmt.Sprintf("fee_%d_sat", rate)); c.Spread != nil {
				m := c.mark()
				m.x = float64(rate)
				line = append(line, m)
			}
		}
		l.add(a, line)
	}
	const text = "Opening and closing a channel, shared by 1,000 payments, and the routers' fee. A channel that carries ten times as many makes the chain's part a tenth."
	return Figure{Title: l.title, Text: text, SVG: template.HTML(l.draw()), Half: true}, len(l.lines) > 0
}

// drift shows the runs one by one: whether the computer was the same all the time.
func (r *Report) drift() (Figure, bool) {
	panels := r.panels(pairs)
	if len(panels) == 0 {
		return Figure{}, false
	}
	w := panels[0]
	l := linePlot{title: "Run by run", x: "run", y: "payments/s / their median"}
	for _, a := range r.measured(panels[:1], "pps") {
		c := r.Cell(w.Name, a.Name, "pps")
		if c.N < 2 {
			continue
		}
		var line []mark
		for i, v := range c.values {
			share := v / c.Median
			line = append(line, mark{x: float64(i + 1), y: share, low: share, high: share, hint: fmt.Sprintf("%s, run %d: %s payments/s", a.Title, i+1, number(v))})
		}
		l.add(a, line)
	}
	return Figure{Title: l.title, Text: "Workload " + w.Name + ". A line that rises or falls is a computer that changed while it was measured.", SVG: template.HTML(l.draw()), Half: true}, len(l.lines) > 0
}
