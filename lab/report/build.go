package report

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
)

// A Cell is a figure of the report: a function of samples, or the reason why there
// is none.
type Cell struct {
	Workload string `json:"workload"`
	Rail     string `json:"rail"`
	Metric   string `json:"metric"`
	*Spread  `json:"spread,omitempty"`
	// Hits of Of, for what is counted; the spread is that of the share.
	Hits int `json:"hits,omitempty"`
	Of   int `json:"of,omitempty"`
	// Samples are the lines of the samples' file that it came from.
	Samples []int  `json:"samples,omitempty"`
	Missing string `json:"missing,omitempty"`

	values []float64
}

// A Report is all cells, and what is known of the computer.
type Report struct {
	Sessions  []Session   `json:"sessions"`
	Rails     []About     `json:"rails"`
	Workloads []*Workload `json:"workloads"`
	Cells     []Cell      `json:"cells"`
	Failed    []Sample    `json:"failed,omitempty"` // runs

	samples []Sample
	cells   map[string]*Cell
	plans   map[string]Planned
}

// Read builds the report of a folder.
func Read(dir string) (*Report, error) {
	samples, err := ReadSamples(filepath.Join(dir, SamplesFile))
	if err != nil {
		return nil, err
	}
	sessions, err := ReadSessions(filepath.Join(dir, SessionsFile))
	if err != nil {
		return nil, err
	}
	return Build(samples, sessions), nil
}

// Build makes a report of samples.
func Build(samples []Sample, sessions []Session) *Report {
	r := &Report{Sessions: sessions, samples: samples, cells: map[string]*Cell{}, plans: map[string]Planned{}}
	for _, s := range sessions { // what is planned later replaces what was before
		for _, p := range s.Plans {
			r.plans[p.Workload+"/"+p.Rail] = p
		}
	}
	for _, rail := range Rails {
		if about := rail.About(); slices.ContainsFunc(Workloads, func(w *Workload) bool { return r.has(w.Name, about.Name) }) {
			r.Rails = append(r.Rails, about)
		}
	}
	for _, w := range Workloads {
		if slices.ContainsFunc(r.Rails, func(a About) bool { return r.has(w.Name, a.Name) }) {
			r.Workloads = append(r.Workloads, w)
		}
	}
	for _, w := range r.Workloads {
		for _, a := range r.Rails {
			r.fill(w, a.Name)
		}
	}
	for i := range r.Cells {
		c := &r.Cells[i]
		r.cells[c.Workload+"/"+c.Rail+"/"+c.Metric] = c
	}
	return r
}

func (r *Report) has(w, rail string) bool {
	_, ok := r.plans[w+"/"+rail]
	return ok
}

// fill makes the cells of a workload over a rail.
func (r *Report) fill(w *Workload, rail string) {
	plan := r.plans[w.Name+"/"+rail]
	var good, failed []Sample
	for _, s := range r.samples {
		switch {
		case s.Workload != w.Name || s.Rail != rail || s.Plan != plan.Plan:
		case s.Error != "":
			failed = append(failed, s)
		default:
			good = append(good, derived(s))
		}
	}
	failed = slices.DeleteFunc(failed, func(f Sample) bool { // made again, and good
		return slices.ContainsFunc(good, func(g Sample) bool { return g.Run == f.Run })
	})
	r.Failed = append(r.Failed, failed...)
	for i := range Metrics {
		m := &Metrics[i]
		if !m.of(w) {
			continue
		}
		c := Cell{Workload: w.Name, Rail: rail, Metric: m.Name}
		c.count(m, good)
		if c.Spread == nil {
			c.Missing = why(m, plan, good, failed)
		}
		r.Cells = append(r.Cells, c)
	}
}

// count takes the figures of samples together.
func (c *Cell) count(m *Metric, samples []Sample) {
	hits, of := 0.0, 0.0
	for i := range samples {
		s := &samples[i]
		v, ok := s.Figures[m.Name]
		if !ok {
			continue
		}
		c.values, c.Samples = append(c.values, v), append(c.Samples, s.line)
		hits, of = hits+v, of+s.Figures[m.Of]
	}
	switch {
	case len(c.values) == 0:
	case m.Of == "":
		s := newSpread(c.values)
		c.Spread = &s
	case of > 0:
		c.Hits, c.Of = int(hits), int(of)
		low, high := shareInterval(c.Hits, c.Of)
		c.Spread = &Spread{N: len(c.values), Median: hits / of, Min: low, Max: high, Low: &low, High: &high}
	}
}

// why there is no figure.
func why(m *Metric, plan Planned, good, failed []Sample) string {
	switch {
	case plan.Reason != "":
		return plan.Reason
	case plan.Plan == "":
		return "not asked for"
	case len(good) == 0 && len(failed) > 0:
		return fmt.Sprintf("all %d runs failed, the last one: %s", len(failed), failed[len(failed)-1].Error)
	case len(good) == 0:
		return "not run yet"
	}
	for _, s := range good {
		if reason := s.Missing[m.Name]; reason != "" {
			return reason
		}
	}
	return "the rail does not say"
}

// Cell finds one; a cell that nobody made is missing.
func (r *Report) Cell(w, rail, metric string) *Cell {
	if c := r.cells[w+"/"+rail+"/"+metric]; c != nil {
		return c
	}
	return &Cell{Workload: w, Rail: rail, Metric: metric, Missing: cmp.Or(r.plans[w+"/"+rail].Reason, "not asked for")}
}

// Market is the fee market that chain fees are stated at: rates in sat per virtual
// byte, and what a bitcoin costs.
var Market = struct {
	Rates  []int
	BTCUSD float64
}{[]int{1, 10, 50}, 100_000}

// derived adds the figures that follow from others by a formula.
func derived(s Sample) Sample {
	if s.Figures == nil {
		return s
	}
	all := map[string]float64{}
	for name, v := range s.Figures {
		all[name] = v
	}
	if vb, ok := all["chain_vb_1000"]; ok {
		route, known := all["route_fee_msat"]
		for _, rate := range Market.Rates {
			if known {
				all[fmt.Sprintf("fee_%d_sat", rate)] = vb/1000*float64(rate) + route/1000
			}
		}
	}
	s.Figures = all
	return s
}
