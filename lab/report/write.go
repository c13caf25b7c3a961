package report

import (
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
)

// The files that a report is written to.
const (
	HTMLFile     = "lab-report.html"
	MarkdownFile = "lab-report.md"
	CSVFile      = "lab-report.csv"
)

// WriteFiles writes the report in all formats into a folder.
func (r *Report) WriteFiles(dir string) error {
	for _, f := range []struct {
		name  string
		write func(io.Writer) error
	}{{HTMLFile, r.WriteHTML}, {MarkdownFile, r.WriteMarkdown}, {CSVFile, r.WriteCSV}} {
		if err := writeFile(filepath.Join(dir, f.name), f.write); err != nil {
			return err
		}
	}
	return nil
}

// WriteHTMLFile writes the page to a place of its own.
func (r *Report) WriteHTMLFile(path string) error { return writeFile(path, r.WriteHTML) }

// writeFile replaces a file by a whole new one.
func writeFile(path string, write func(io.Writer) error) error {
	out, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	err = write(out)
	if fault := out.Close(); err == nil {
		err = fault
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Files names what was written.
func Files(dir string) string {
	var all []string
	for _, name := range []string{HTMLFile, MarkdownFile, CSVFile, SamplesFile} {
		all = append(all, filepath.Join(dir, name))
	}
	return strings.Join(all, "  ")
}

// WriteCSV writes a row for each cell.
func (r *Report) WriteCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	out.Write([]string{"workload", "rail", "metric", "unit", "runs", "median", "min", "max", "low95", "high95", "hits", "of", "samples", "missing"})
	exact := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	for i := range r.Cells {
		c := &r.Cells[i]
		row := make([]string, 14)
		row[0], row[1], row[2], row[3], row[13] = c.Workload, c.Rail, c.Metric, metric(c.Metric).Unit, c.Missing
		if c.Spread != nil {
			row[4], row[5], row[6], row[7] = strconv.Itoa(c.N), exact(c.Median), exact(c.Min), exact(c.Max)
			if c.Low != nil {
				row[8], row[9] = exact(*c.Low), exact(*c.High)
			}
			if c.Of > 0 {
				row[10], row[11] = strconv.Itoa(c.Hits), strconv.Itoa(c.Of)
			}
			var lines []string
			for _, n := range c.Samples {
				lines = append(lines, strconv.Itoa(n))
			}
			row[12] = strings.Join(lines, " ")
		}
		out.Write(row)
	}
	out.Flush()
	return out.Error()
}

// WriteSummary prints the main table's measured part for a terminal.
func (r *Report) WriteSummary(w io.Writer) {
	main := r.Main()
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	show := []int{2, 3, 4, 5, 6, 7, 10}
	for _, i := range show {
		fmt.Fprint(t, "\t", main.Heads[i].Title)
	}
	fmt.Fprintln(t)
	named := map[string]bool{}
	for _, line := range main.Rows {
		if line.Group != "" || line.Reason != "" {
			continue
		}
		fmt.Fprint(t, line.Entries[0].Text)
		for _, i := range show {
			e := line.Entries[i]
			fmt.Fprint(t, "\t", e.Text)
			if e.Note != "" {
				fmt.Fprintf(t, " (%s)", e.Note)
				named[e.Note] = true
			}
		}
		fmt.Fprintln(t)
	}
	t.Flush()
	for i, reason := range main.Reasons {
		if named[letter(i)] {
			fmt.Fprintf(w, "(%s) %s\n", letter(i), reason)
		}
	}
}
