package report

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"strings"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"letter": letter,
	"less":   func(a, b int) int { return a - b },
	"group":  func(h []Head) int { return len(h) },
}).Parse(pageText))

// WriteHTML writes the page: one file, no script, nothing fetched.
func (r *Report) WriteHTML(w io.Writer) error {
	type detail struct {
		*Workload
		Table   *Table
		Without []Line
		Numbers string
	}
	v := struct {
		About       []string
		Main        *Table
		Quotes      []Quote
		Statistics  string
		Assumptions string
		Figures     []Figure
		Details     []detail
		Failed      []string
		Groups      []sampleGroup
		Rails       []About
		Needs       *Table
		Formulas    []string
		Peers       *Table
		File        string
		When        string
	}{
		About: r.about(), Main: r.Main(), Quotes: r.sources(), Statistics: statistics, Assumptions: assumptions(),
		Figures: r.figures(), Failed: r.failures(), Groups: r.groups(), Rails: r.Rails, File: SamplesFile,
	}
	v.Needs, v.Formulas = r.Needs()
	v.Peers = r.Peers()
	if n := len(r.Sessions); n > 0 {
		v.When = r.Sessions[n-1].Begin.Format("2 January 2006")
	}
	for _, w := range r.Workloads {
		d := detail{Workload: w, Numbers: w.numbers()}
		d.Table, d.Without = r.Detail(w)
		v.Details = append(v.Details, d)
	}
	return page.Execute(w, v)
}

// numbers says what the workload is in numbers.
func (w *Workload) numbers() string {
	raw, err := json.Marshal(w)
	if err != nil {
		return ""
	}
	var all map[string]any
	if json.Unmarshal(raw, &all) != nil {
		return ""
	}
	for _, name := range []string{"name", "title", "story"} {
		delete(all, name)
	}
	raw, _ = json.Marshal(all)
	return strings.NewReplacer(`"`, "", ",", ", ", ":", " ", "{", "", "}", "").Replace(string(raw))
}

// A sampleGroup is the samples of a workload over a rail, as they are in the file.
type sampleGroup struct {
	ID, Title string
	Lines     []sampleLine
}

type sampleLine struct {
	Line int
	Text string
}

func (r *Report) groups() (all []sampleGroup) {
	for _, w := range r.Workloads {
		for _, a := range r.Rails {
			g := sampleGroup{ID: w.Name + "-" + a.Name, Title: w.Name + " over " + a.Name}
			for _, s := range r.samples {
				if s.Workload == w.Name && s.Rail == a.Name && s.Plan == r.plans[w.Name+"/"+a.Name].Plan {
					raw, err := json.Marshal(s)
					if err != nil {
						raw = []byte(fmt.Sprint(err))
					}
					g.Lines = append(g.Lines, sampleLine{s.line, string(raw)})
				}
			}
			if len(g.Lines) > 0 {
				all = append(all, g)
			}
		}
	}
	return all
}
