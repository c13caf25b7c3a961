//go:build !omit_lab

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coinop.dev/lab/report"
)

func labReportCommand(u *ui) *cobra.Command {
	o := report.Options{Out: "."}
	render, readme, config := false, "", ""
	c := &cobra.Command{
		Use: "report", Short: "Measure every rail by the same workloads and write a report", Args: noArgs,
		Long: "Runs vending, streaming, a sensor market, toll bursts, sites of devices, an outage and an attacker over every rail of this\n" +
			"build, again and again, and writes lab-report.html, .md and .csv into the folder it is run in. Every run is a line of\n" +
			"lab-samples.jsonl: what is there is not measured again, so an interrupted report goes on where it stopped.\n" +
			"--quick takes two minutes on two quiet cores, the whole of it an hour. With --config the report is what the console of that gateway shows.",
		Example: "  coinop lab report --quick\n  coinop lab report --out july\n  coinop lab report --quick --readme README.md\n  coinop lab report --config coinop.toml\n  coinop lab report --rail oneway,payword --workload streaming --runs 20\n  coinop lab compare july august",
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Command = []string{self, "lab", "end"}
			data := ""
			if config != "" {
				if data, err = dataOf(config); err != nil {
					return err
				}
				if !cmd.Flags().Changed("out") {
					o.Out = filepath.Join(data, "lab")
				}
			}
			if err := o.Check(); err != nil {
				return usage{err}
			}
			if !render {
				added, fault := u.labReport(cmd.Context(), o)
				if fault != nil && !errors.Is(fault, context.Canceled) {
					return fault
				}
				if err = fault; err != nil {
					fmt.Fprintf(u.err, "stopped: %d runs are kept, and the same command goes on\n", added)
				}
			}
			r, fault := report.Read(o.Out)
			if fault == nil && data != "" {
				fault = r.WriteHTMLFile(filepath.Join(data, consoleReport))
			}
			if fault == nil && readme != "" {
				fault = r.WriteReadme(readme)
			}
			if fault == nil {
				fault = u.showReport(r, o.Out)
			}
			return errors.Join(err, fault)
		},
	}
	f := c.Flags()
	f.BoolVar(&o.Quick, "quick", false, "fewer payments, fewer runs, and only the smallest site")
	f.StringVar(&o.Out, "out", o.Out, "the folder of samples and report")
	f.StringVar(&o.Dir, "dir", "", "on whose disk the stores are made (default the system's temporary folder)")
	f.StringVar(&o.Peers, "peers", "", "the folder interop of the sources: measure lnd in the same report")
	f.IntVar(&o.Runs, "runs", 0, "how often each is measured (default 10, with --quick 2)")
	f.StringSliceVar(&o.Rails, "rail", nil, "only these rails")
	f.StringSliceVar(&o.Workloads, "workload", nil, "only these workloads")
	f.StringVarP(&config, "config", "c", "", "a gateway's TOML file: write into the folder lab of its data, and have its console show the report")
	f.StringVar(&readme, "readme", "", "a file with the report's two marker lines: write the short table between them")
	f.BoolVar(&render, "render", false, "measure nothing, write the report of the samples that are there")
	return c
}

// consoleReport is what a gateway's console shows, in its folder of data.
const consoleReport = "lab.html"

// dataOf is where the machine of a config file keeps its data.
func dataOf(config string) (string, error) {
	c, err := readConfig(config)
	if err != nil {
		return "", err
	}
	if c.Data == "" {
		return "", usage{fmt.Errorf("%s names no folder for data", config)}
	}
	return c.Data, nil
}

// labReport makes the runs that are missing.
func (u *ui) labReport(ctx context.Context, o report.Options) (added int, err error) {
	var b *bar
	added, err = report.Run(ctx, o, func(p report.Progress) {
		if b == nil {
			b = newBar(u, "", 0)
		}
		b.spend(fmt.Sprintf("run %d of %d, %s", p.Run, p.Runs, p.What), p.Done, p.Left)
	})
	if b != nil {
		b.end()
	}
	return added, err
}

// spend shows time spent and left, where steps take unlike times.
func (b *bar) spend(what string, done, left time.Duration) {
	if b.w == nil || time.Since(b.last) < 100*time.Millisecond {
		return
	}
	b.last = time.Now()
	full := int(barWidth * done.Seconds() / max((done+left).Seconds(), 1))
	fmt.Fprintf(b.w, "\r%s%s  %v left  %s\x1b[K", strings.Repeat("█", full), strings.Repeat("░", barWidth-full), left.Round(time.Second), what)
}

func (u *ui) showReport(r *report.Report, dir string) error {
	if err := r.WriteFiles(dir); err != nil {
		return err
	}
	return u.show(r, func(w io.Writer) {
		r.WriteSummary(w)
		fmt.Fprintf(w, "\n%s\n", report.Files(dir))
	})
}

func labCompareCommand(u *ui) *cobra.Command {
	only := false
	c := &cobra.Command{
		Use: "compare <folder> <folder>", Short: "Say what differs between two reports", Args: cobra.ExactArgs(2),
		Long: "Compares the samples of two folders, figure by figure, with benchstat's statistics: medians, their 95 % intervals, and\n" +
			"the U test of Mann and Whitney. ~ means that nothing can be told apart at p < 0.05.",
		Example: "  coinop lab compare july august\n  coinop lab compare --changed before after",
		RunE: func(_ *cobra.Command, args []string) error {
			var both [2]*report.Report
			for i, dir := range args {
				r, err := report.Read(dir)
				if err != nil {
					return err
				}
				both[i] = r
			}
			all := report.Compare(both[0], both[1])
			if only {
				all = report.Changed(all)
			}
			return u.show(all, func(w io.Writer) { report.WriteDifferences(w, all) })
		},
	}
	c.Flags().BoolVar(&only, "changed", false, "only what differs")
	return c
}
