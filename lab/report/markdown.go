package report

import (
	"fmt"
	"io"
	"strings"
)

// WriteMarkdown writes the tables; plots are in the HTML.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# The survey's Table II, measured\n\n")
	for _, line := range r.about() {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	b.WriteString("\n")
	main := r.Main()
	main.markdown(&b)
	for _, q := range r.sources() {
		fmt.Fprintf(&b, "Published: %s.\n", q.Source)
	}
	b.WriteString("\n" + statistics + " " + assumptions() + "\n")
	for _, rail := range r.Workloads {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", rail.Title, rail.Story)
		t, without := r.Detail(rail)
		if len(t.Rows) > 0 {
			t.markdown(&b)
		}
		for _, line := range without {
			fmt.Fprintf(&b, "- %s: – (%s)\n", line.Entries[0].Text, line.Entries[1].Text)
		}
	}
	if t := r.Peers(); t != nil {
		b.WriteString("\n## Beside other people's nodes\n\n")
		t.markdown(&b)
	}
	if t, formulas := r.Needs(); len(t.Rows) > 0 {
		b.WriteString("\n## What a gateway, a site, a city and the whole internet would take\n\nBy formula, from the medians above. Each device pays once a minute, and opens and closes one channel a year.\n\n")
		t.markdown(&b)
		for _, f := range formulas {
			fmt.Fprintf(&b, "- %s\n", f)
		}
	}
	if len(r.Failed) > 0 {
		b.WriteString("\n## Runs that failed\n\n")
		for _, line := range r.failures() {
			fmt.Fprintf(&b, "- %s\n", line)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// failures are the runs that failed, those of a workload over a rail together, by the
// last one's words.
func (r *Report) failures() (all []string) {
	for i := 0; i < len(r.Failed); {
		first, runs := r.Failed[i], []string{}
		last := first
		for ; i < len(r.Failed) && r.Failed[i].Workload == first.Workload && r.Failed[i].Rail == first.Rail; i++ {
			last = r.Failed[i]
			runs = append(runs, fmt.Sprint(last.Run))
		}
		all = append(all, fmt.Sprintf("%s over %s, run %s: %s", first.Workload, first.Rail, strings.Join(runs, ", "), last.Error))
	}
	return all
}

func (t *Table) markdown(b *strings.Builder) {
	row := func(cells []string) {
		for _, c := range cells {
			b.WriteString("| " + strings.ReplaceAll(strings.ReplaceAll(c, "|", `\|`), "\n", " ") + " ")
		}
		b.WriteString("|\n")
	}
	var heads, rule []string
	for i, h := range t.Heads {
		text := h.Title
		if h.Sub != "" {
			text += " (" + h.Sub + ")"
		}
		heads = append(heads, text)
		rule = append(rule, []string{"---", "---:"}[b2i(i > 0)])
	}
	row(heads)
	row(rule)
	for _, line := range t.Rows {
		cells := make([]string, len(t.Heads))
		if line.Group != "" {
			cells[0] = "**" + line.Group + "**"
		}
		for i, e := range line.Entries {
			cells[i] = e.Text
			switch {
			case e.Note != "":
				cells[i] += " (" + e.Note + ")"
			case e.Sub != "" && !e.Head:
				cells[i] += " [" + e.Sub + "]"
			case e.Said && e.Text == "":
				cells[i] = ""
			}
		}
		for i := len(line.Entries); line.Reason != "" && i < len(cells); i++ {
			if cells[i] = "–"; i == len(line.Entries) {
				cells[i] += " " + line.Reason
			}
		}
		row(cells)
	}
	b.WriteString("\n")
	for i, reason := range t.Reasons {
		fmt.Fprintf(b, "(%s) %s  \n", letter(i), reason)
	}
	if len(t.Reasons) > 0 {
		b.WriteString("\n")
	}
}

const statistics = "Each figure is the median of the runs; in brackets is the interval in which the true median lies with 95 % confidence (order statistics, no assumption about the distribution), or minimum and maximum where fewer than six runs were made. A dash is a figure that could not be had; the letter says why."

func assumptions() string {
	return fmt.Sprintf("Chain fees are measured bytes at stated rates, not a forecast; at US$ %s a bitcoin, a satoshi is US$ %s.", number(Market.BTCUSD), number(Market.BTCUSD/1e8))
}

// about describes the computer and the sessions.
func (r *Report) about() (all []string) {
	if len(r.Sessions) == 0 {
		return nil
	}
	s := &r.Sessions[len(r.Sessions)-1]
	e := &s.Env
	known := func(text string) string {
		if text == "" {
			return "unknown"
		}
		return text
	}
	memory := ""
	if e.Memory > 0 {
		memory = fmt.Sprintf(", %s GiB", number(float64(e.Memory)/(1<<30)))
	}
	all = append(all,
		fmt.Sprintf("Computer: %s, %d cores%s; %s, %s; %s; program %s.", known(e.CPU), e.Cores, memory, known(e.Kernel), e.System, e.Go, known(e.Program)))
	for i := range r.Sessions {
		s := &r.Sessions[i]
		kind := "full"
		if s.Quick {
			kind = "quick"
		}
		all = append(all, fmt.Sprintf("Session %s (%s, %d runs of each, %d samples): before %s; after %s.", s.Begin.Format("2006-01-02 15:04 MST"), kind, s.Runs, s.Added, s.Before.text(), s.After.text()))
	}
	return append(all, r.quick()...)
}

// quick says what the last session has left out, if it was a quick one.
func (r *Report) quick() []string {
	s := &r.Sessions[len(r.Sessions)-1]
	if !s.Quick {
		return nil
	}
	left, ran := map[string][]string{}, map[string]int{}
	for _, p := range s.Plans {
		if strings.HasPrefix(p.Reason, errOmitted.Error()) {
			left[p.Workload] = append(left[p.Workload], p.Rail)
		} else if p.Reason == "" {
			ran[p.Workload]++
		}
	}
	var out, once []string
	for _, w := range r.Workloads {
		switch rails := left[w.Name]; {
		case len(rails) > 0 && ran[w.Name] == 0:
			out = append(out, w.Name)
		case len(rails) > 0:
			out = append(out, w.Name+" over "+strings.Join(rails, " and "))
		}
		if w.Once && ran[w.Name] > 0 && s.Runs == QuickRuns {
			once = append(once, w.Name)
		}
	}
	line := "Quick: fewer payments and seeds"
	if len(once) > 0 {
		line += "; one run only of " + strings.Join(once, ", ")
	}
	if len(out) > 0 {
		line += "; left out: " + strings.Join(out, ", ")
	}
	return []string{line + "."}
}

func (n *Noise) text() string {
	if n == nil {
		return "not looked at (it was cut off)"
	}
	load := "unknown"
	if n.LoadAverage != nil {
		load = number(*n.LoadAverage)
	}
	return fmt.Sprintf("load %s, fsync %s µs (p99 %s), a fixed loop %s µs (p99 %s times that), steal %s %%",
		load, number(n.FsyncUs), number(n.FsyncP99Us), number(n.SpinUs), number(n.SpinP99), number(n.StealPct))
}
