package report

import (
	"fmt"
	"slices"
	"strings"
)

// An Entry is one place of a table, for all formats.
type Entry struct {
	Text string
	Sub  string // smaller, below
	Hint string // the extremes and the number of runs
	Link string // where its samples are: a workload and a rail
	Note string // the letter of the reason why it is missing
	Head bool   // names its row
	Said bool   // somebody else's
}

// A Table is a table of the report.
type Table struct {
	Heads []Head
	Rows  []Line
	// Reasons are why entries are missing, a, b, c and so on.
	Reasons []string
}

// A Head names a column.
type Head struct{ Title, Sub string }

// A Line is a row; one that only names a group has no entries.
type Line struct {
	Group   string
	Entries []Entry
	Reason  string // why it has no figure of ours at all: this build does not run it
}

// note is the letter of a reason.
func (t *Table) note(reason string) string {
	at := -1
	for i, r := range t.Reasons {
		if r == reason {
			at = i
		}
	}
	if at < 0 {
		at = len(t.Reasons)
		t.Reasons = append(t.Reasons, reason)
	}
	return letter(at)
}

func letter(i int) string {
	if i < 26 {
		return string(rune('a' + i))
	}
	return letter(i/26-1) + letter(i%26)
}

// cell is a figure, its interval below it.
func (t *Table) cell(c *Cell) Entry {
	if c.Spread == nil {
		return Entry{Text: "–", Note: t.note(c.Missing)}
	}
	e := Entry{Link: c.Workload + "-" + c.Rail, Hint: fmt.Sprintf("%d runs, minimum %s, maximum %s", c.N, number(c.Min), number(c.Max))}
	low, high := c.bounds()
	switch {
	case c.Of > 0:
		e.Text, e.Sub = fmt.Sprintf("%d of %d", c.Hits, c.Of), fmt.Sprintf("%s to %s", percent(low), percent(high))
		e.Hint = fmt.Sprintf("%d runs", c.N)
	case low == high:
		e.Text = number(c.Median)
	default:
		e.Text, e.Sub = number(c.Median), number(low)+" – "+number(high)
	}
	return e
}

// pairOf joins two figures into one entry.
func (t *Table) pairOf(a, b *Cell) Entry {
	x, y := t.cell(a), t.cell(b)
	if a.Spread == nil || b.Spread == nil {
		return x
	}
	x.Text, x.Hint = x.Text+" / "+y.Text, x.Hint+"; "+y.Hint
	x.Sub = ""
	if aLow, aHigh := a.bounds(); aLow != aHigh {
		bLow, bHigh := b.bounds()
		x.Sub = fmt.Sprintf("%s–%s / %s–%s", number(aLow), number(aHigh), number(bLow), number(bHigh))
	}
	return x
}

// rate is the fee rate of the main table, in sat/vB.
const rate = 10

// Main is the survey's Table II: a row for each rail.
func (r *Report) Main() *Table {
	t := &Table{Heads: []Head{
		{"", ""},
		{"Published", "payments/s; fee; time"},
		{"Payments/s", "sensors, 64 in flight"}, {"Receipt p50 / p99, ms", "vending, 4 in flight"},
		{"Fee, sat", fmt.Sprintf("at %d sat/vB", rate)}, {"On chain, vB", "1,000 payments"},
		{"On the wire, B", "vending"}, {"Payer's CPU, ms", "vending"},
		{"Payee's risk, sat", "streaming"}, {"Back after outage, ms", "of a node"}, {"Double spends", "simulated seeds"},
	}}
	class := Class("")
	for i, a := range r.Rails {
		if a.Class != class {
			class = a.Class
			t.Rows = append(t.Rows, Line{Group: strings.ToUpper(string(class[:1])) + string(class[1:])})
		}
		cell := func(w, m string) *Cell { return r.Cell(w, a.Name, m) }
		line := Line{Entries: []Entry{{Text: a.Title, Sub: a.Kind, Head: true}}}
		line.Entries = append(line.Entries, said(a.Name))
		risk := cell("streaming", "payee_risk_msat").scaled(1e-3)
		line.Entries = append(line.Entries,
			t.cell(cell("sensors", "pps")), t.pairOf(cell("vending", "p50_ms"), cell("vending", "p99_ms")),
			t.cell(cell("vending", fmt.Sprintf("fee_%d_sat", rate))), t.cell(cell("vending", "chain_vb_1000")),
			t.cell(cell("vending", "wire_bytes")), t.cell(cell("vending", "payer_cpu_ms")),
			t.cell(&risk), t.cell(cell("outage", "back_ms")), t.cell(cell("attack", "broken")))
		if receipt := &line.Entries[3]; a.Class == Direct && receipt.Note == "" {
			receipt.Sub = "and the wait for a block, 10 min"
		}
		t.Rows = append(t.Rows, line)
		if i == len(r.Rails)-1 || r.Rails[i+1].Class != class {
			t.others(class)
		}
	}
	return t
}

// others adds the survey's systems of a class that are not run.
func (t *Table) others(class Class) {
	for _, o := range Others {
		if o.Class != class {
			continue
		}
		t.Rows = append(t.Rows, Line{Reason: o.Reason, Entries: []Entry{{Text: o.Title, Head: true}, {Said: true}}})
	}
}

// scaled is the cell in another unit.
func (c *Cell) scaled(by float64) Cell {
	out := *c
	if c.Spread != nil {
		var values []float64
		for _, v := range c.values {
			values = append(values, v*by)
		}
		s := newSpread(values)
		out.Spread = &s
	}
	return out
}

// said are the figures of others.
func said(rail string) Entry {
	e := Entry{Said: true}
	if q := quote(rail); q != nil {
		e.Text, e.Hint = strings.Join(slices.DeleteFunc([]string{q.Rate, q.Fee, q.Time}, func(s string) bool { return s == "" }), "; "), q.Source
	}
	return e
}

// sources are whose figures stand in the main table.
func (r *Report) sources() (all []Quote) {
	seen := map[string]bool{}
	for _, a := range r.Rails {
		if q := quote(a.Name); q != nil && !seen[q.Source] {
			seen[q.Source] = true
			all = append(all, *q)
		}
	}
	return all
}

// Detail is a workload: a row for each metric, a column for each rail. Rails that
// have none at all are listed with their reason.
func (r *Report) Detail(w *Workload) (t *Table, without []Line) {
	t = &Table{Heads: []Head{{"", ""}}}
	var rails []About
	for _, a := range r.Rails {
		if reason, ok := r.nothing(w, a.Name); ok {
			without = append(without, Line{Entries: []Entry{{Text: a.Title}, {Text: reason}}})
			continue
		}
		rails = append(rails, a)
		t.Heads = append(t.Heads, Head{a.Title, ""})
	}
	group := ""
	for i := range Metrics {
		m := &Metrics[i]
		if !m.of(w) || len(rails) == 0 {
			continue
		}
		if m.Group != group {
			group = m.Group
			t.Rows = append(t.Rows, Line{Group: group})
		}
		label := m.Label
		if m.Unit != "" {
			label += ", " + m.Unit
		}
		line := Line{Entries: []Entry{{Text: label, Sub: m.Note, Head: true}}}
		for _, a := range rails {
			line.Entries = append(line.Entries, t.cell(r.Cell(w.Name, a.Name, m.Name)))
		}
		t.Rows = append(t.Rows, line)
	}
	return t, without
}

// nothing is why a workload has no figure at all of a rail.
func (r *Report) nothing(w *Workload, rail string) (reason string, none bool) {
	for i := range Metrics {
		if !Metrics[i].of(w) {
			continue
		}
		c := r.Cell(w.Name, rail, Metrics[i].Name)
		if c.Spread != nil {
			return "", false
		}
		reason = c.Missing
	}
	return reason, true
}
