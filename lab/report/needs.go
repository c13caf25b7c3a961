package report

import "fmt"

// A place is so many devices. Each pays once a minute and opens and closes one
// channel a year.
type place struct {
	name    string
	devices float64
}

var places = []place{{"A gateway", 100}, {"A site", 10_000}, {"A city", 1_000_000}, {"The whole internet", 20e9}}

const (
	paymentsPerSecond = 1.0 / 60 // of a device
	// A block a ten minutes, of a million virtual bytes.
	chainVBYear = 1e6 * 6 * 24 * daysYear
	daysYear    = 365.25
)

// A need is what a place takes of something, by a formula.
type need struct {
	name, formula string
	metrics       []string
	of            func(p place, v []float64) float64
}

var needs = []need{
	{"payments a second", "devices / 60", nil, func(p place, _ []float64) float64 { return p.devices * paymentsPerSecond }},
	{"processors, at the payee", "payments/s × payee's processor time", []string{"payee_cpu_ms"}, func(p place, v []float64) float64 {
		return p.devices * paymentsPerSecond * v[0] / 1e3
	}},
	{"network, Mbit/s", "payments/s × bytes on the wire × 8", []string{"wire_bytes"}, func(p place, v []float64) float64 {
		return p.devices * paymentsPerSecond * v[0] * 8 / 1e6
	}},
	{"written to stores, GB a day", "payments/s × bytes to stores × 86,400", []string{"store_bytes"}, func(p place, v []float64) float64 {
		return p.devices * paymentsPerSecond * v[0] * 86_400 / 1e9
	}},
	{"share of the whole chain's room, %", "devices × size of opening and closing / (1,000,000 vB × 52,596 blocks a year); on chain payments a year × size of one in place of devices × size", []string{"chain_vb"}, func(p place, v []float64) float64 {
		return 100 * p.devices * v[0] / chainVBYear
	}},
}

// direct is what the last one is where every payment is in a transaction.
var direct = need{"share of the whole chain's room, %", "", []string{"chain_vb_1000"}, func(p place, v []float64) float64 {
	return 100 * p.devices * paymentsPerSecond * 86_400 * daysYear * v[0] / 1000 / chainVBYear
}}

// basis is where a rail's figures for needs come from: the first workload that has
// them.
var basis = []string{"site-1000", "site-110", "sensors", "vending"}

func (r *Report) based(rail, name string) *Cell {
	for _, w := range basis {
		if c := r.Cell(w, rail, name); c.Spread != nil {
			return c
		}
	}
	return r.Cell(basis[len(basis)-1], rail, name)
}

// Needs is the table of places, and its formulas.
func (r *Report) Needs() (t *Table, formulas []string) {
	t = &Table{Heads: []Head{{"", ""}}}
	for _, p := range places {
		t.Heads = append(t.Heads, Head{p.name, fmt.Sprintf("%s devices", number(p.devices))})
	}
	for _, n := range needs {
		formulas = append(formulas, n.name+" = "+n.formula)
	}
	for _, a := range r.Rails {
		if r.based(a.Name, "wire_bytes").Spread == nil { // a peer, or not measured
			continue
		}
		t.Rows = append(t.Rows, Line{Group: a.Title})
		for _, n := range needs {
			if a.Class == Direct && n.name == direct.name {
				n = direct
			}
			t.Rows = append(t.Rows, r.need(t, a.Name, &n))
		}
	}
	return t, formulas
}

func (r *Report) need(t *Table, rail string, n *need) Line {
	line := Line{Entries: []Entry{{Text: n.name, Head: true}}}
	var values []float64
	link, missing := "", ""
	for _, name := range n.metrics {
		c := r.based(rail, name)
		if c.Spread == nil {
			missing = c.Missing
			continue
		}
		values, link = append(values, c.Median), c.Workload+"-"+c.Rail
		line.Entries[0].Sub = fmt.Sprintf("from %s %s, %s", number(c.Median), metric(name).Unit, c.Workload)
	}
	for _, p := range places {
		if missing != "" {
			line.Entries = append(line.Entries, Entry{Text: "–", Note: t.note(missing)})
			continue
		}
		line.Entries = append(line.Entries, Entry{Text: number(n.of(p, values)), Link: link})
	}
	return line
}
