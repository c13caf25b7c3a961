package report

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
)

// Between these lines of a README the table is written.
const (
	ReadmeBegin = "<!-- coinop lab report: begin -->"
	ReadmeEnd   = "<!-- coinop lab report: end -->"
)

// readmeColumns are those of the main table that fit on a first screen.
var readmeColumns = []int{0, 1, 2, 3, 4, 5, 6, 8, 10}

// Short is the main table's figures for a README: rails with one at least, without
// intervals and reasons, which are in the report.
func (r *Report) Short() string {
	main := r.Main()
	short := &Table{}
	for _, i := range readmeColumns {
		short.Heads = append(short.Heads, main.Heads[i])
	}
	for _, line := range main.Rows {
		out, measured := Line{}, false
		for _, i := range readmeColumns {
			if line.Group != "" || line.Reason != "" {
				break
			}
			e := line.Entries[i]
			measured = measured || e.Link != ""
			if e.Link != "" && strings.HasPrefix(e.Sub, "and ") {
				e.Text += " " + e.Sub // what is not in the figure
			}
			out.Entries = append(out.Entries, Entry{Text: e.Text, Said: e.Said})
		}
		if measured {
			short.Rows = append(short.Rows, out)
		}
	}
	var b strings.Builder
	if n := len(r.Sessions); n > 0 {
		s := &r.Sessions[n-1]
		command, load := "coinop lab report", "unknown"
		if s.Quick {
			command += " --quick"
		}
		if s.Before.LoadAverage != nil {
			load = number(*s.Before.LoadAverage)
		}
		fmt.Fprintf(&b, "Measured by `%s` on %s, %d cores, %s, load %s before, median of up to %d runs:\n\n", command, s.Env.CPU, s.Env.Cores, s.Begin.Format("2 January 2006"), load, s.Runs)
	}
	short.markdown(&b)
	b.WriteString("A dash is a figure that could not be had; the report says why. *Published* is the survey's, or the project's own.\n")
	return b.String()
}

// WriteReadme puts the table between the two lines of a file, and leaves the rest
// alone.
func (r *Report) WriteReadme(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, begins := bytes.Cut(raw, []byte(ReadmeBegin))
	_, after, ends := bytes.Cut(rest, []byte(ReadmeEnd))
	if !begins || !ends {
		return fmt.Errorf("%s has no lines %s and %s to write between", path, ReadmeBegin, ReadmeEnd)
	}
	out := string(before) + ReadmeBegin + "\n" + r.Short() + ReadmeEnd + string(after)
	return writeFile(path, func(w io.Writer) error {
		_, err := io.WriteString(w, out)
		return err
	})
}
