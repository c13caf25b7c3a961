//go:build !omit_lab

package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"coinop.dev"
	"coinop.dev/lab"
)

func labCommand(u *ui) *cobra.Command {
	c := &cobra.Command{Use: "lab", Short: "Measure a rail: both ends as processes, over a real link, on real stores"}
	c.AddCommand(labRunCommand(u), labEndCommand(u))
	return c
}

func labRunCommand(u *ui) *cobra.Command {
	var o lab.Options
	o.Fill()
	var benchfmt bool
	runs := 1
	amount := o.Amount.String()
	c := &cobra.Command{
		Use: "run", Short: "Pay many times and say what a payment takes", Args: noArgs,
		Long: "Starts a payer and a payee as processes, and a regtest chain; opens a channel, pays, closes it, and reads\n" +
			"from counters, the kernel and the chain what a payment took. Beside it stands what this computer can do at best.",
		Example: "  coinop lab run --rail oneway --payments 20000 --concurrency 1000\n" +
			"  coinop lab run --concurrency 1 --payments 2000 --runs 5\n" +
			"  coinop lab run --store bbolt --benchfmt --runs 10 > bbolt.txt",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Amount, err = coinop.ParseAmount(amount); err != nil {
				return usage{err}
			}
			if runs < 1 || runs > maxRuns {
				return usage{fmt.Errorf("runs is %d; it must be 1 to %d", runs, maxRuns)}
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Command = []string{self, "lab", "end"}
			return u.lab(cmd, o, runs, benchfmt)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Rail, "rail", o.Rail, "which rail")
	f.StringVar(&o.Store, "store", o.Store, "where both ends keep their records: pebble, bbolt, or mem, which is not durable")
	f.IntVar(&o.Payments, "payments", o.Payments, "how many are measured")
	f.IntVar(&o.Concurrency, "concurrency", o.Concurrency, "payments in flight")
	f.IntVar(&o.Hops, "hops", o.Hops, "channels in a row, for rails that route")
	f.StringVar(&amount, "amount", amount, "of a payment")
	f.IntVar(&o.Channels, "channels", o.Channels, "channels that the payer opens side by side, for rail lightning")
	f.BoolVar(&o.Static, "static", false, "channels of type static_remotekey, for rail lightning")
	f.BoolVar(&o.Orders, "orders", false, "pay by orders even if the rail has a meter")
	f.StringVar(&o.Dir, "dir", "", "on whose disk the stores are made (default the system's temporary folder)")
	f.IntVar(&runs, "runs", runs, "how often to measure")
	f.BoolVar(&benchfmt, "benchfmt", false, "print lines for benchstat")
	f.StringVar(&o.Profile, "profile", "", "folder for CPU and heap profiles of both ends")
	f.MarkHidden("profile")
	return c
}

// maxRuns bounds a series: what it takes is known long before.
const maxRuns = 1000

// labEndCommand is what lab run starts twice.
func labEndCommand(u *ui) *cobra.Command {
	return &cobra.Command{
		Use: "end", Hidden: true, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return lab.End(cmd.Context(), u.in, u.out) },
	}
}

func (u *ui) lab(cmd *cobra.Command, o lab.Options, runs int, benchfmt bool) error {
	if err := o.Check(); err != nil {
		return err
	}
	table := !u.json && !benchfmt && terminal(u.out)
	var results []lab.Result
	for range runs {
		bar := newBar(u, "payments", uint64(o.Payments))
		r, err := lab.Run(cmd.Context(), o, bar.set)
		bar.end()
		if err != nil {
			return err
		}
		results = append(results, r)
		switch {
		case benchfmt:
			lab.WriteBench(u.out, &r)
		case !table:
			if err := u.print(r); err != nil {
				return err
			}
		}
	}
	if table {
		lab.WriteTable(u.out, results)
	}
	for i := range results {
		if !results[i].Conserved {
			return fmt.Errorf("run %d: the books and the chain do not agree", i+1)
		}
	}
	return nil
}
