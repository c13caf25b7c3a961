//go:build !omit_lab

package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"coinop.dev/core/money"
	"coinop.dev/lab"
)

func labCommand(u *ui) *cobra.Command {
	c := &cobra.Command{Use: "lab", Short: "Measure a rail: all ends as processes, over a real link, on real stores"}
	c.AddCommand(labReportCommand(u), labCompareCommand(u), labScaleCommand(u), labRunCommand(u), labGrowthCommand(u), labLightCommand(u), labCurvesCommand(u), labEndCommand(u))
	return c
}

func labRunCommand(u *ui) *cobra.Command {
	var o lab.Options
	var d doorFlags
	var l ledgerFlags
	var benchfmt bool
	runs := 1
	c := &cobra.Command{
		Use: "run", Short: "Pay many times and say what a payment takes", Args: noArgs,
		Long: "Starts a payer and a payee as processes, and a regtest chain; opens a channel, pays, closes it, and reads\n" +
			"from counters, the kernel and the chain what a payment took. Beside it stands what this computer can do at best.\n" +
			"Between the two are routers if there are hops; they are processes as well, and count.\n" +
			"With --door it measures a gateway and the devices at that door instead, two processes on this computer,\n" +
			"and with --nodes a network of a ledger's nodes, each a process: nano or iota.",
		Example: "  coinop lab run --rail oneway --payments 20000 --concurrency 1000\n" +
			"  coinop lab run --rail lightning --hops 2 --payments 5000 --concurrency 483\n" +
			"  coinop lab run --concurrency 1 --payments 2000 --runs 5\n" +
			"  coinop lab run --store bbolt --benchfmt --runs 10 > bbolt.txt\n" +
			"  coinop lab run --door mqtt --sweep 100,1000,10000 --for 30s\n" +
			"  coinop lab run --door http --past 1000000 --json\n" +
			"  coinop lab run --rail nano --nodes 4 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if runs < 1 || runs > maxRuns {
				return usage{fmt.Errorf("runs is %d; it must be 1 to %d", runs, maxRuns)}
			}
			if d.Door != "" {
				return u.labDoor(cmd, &d, o, runs, benchfmt)
			}
			if l.Nodes > 0 {
				return u.labLedger(cmd, &l, o, runs)
			}
			return u.lab(cmd, o, runs, benchfmt)
		},
	}
	labFlags(c, &o)
	d.add(c)
	l.add(c)
	f := c.Flags()
	f.BoolVar(&o.Orders, "orders", false, "pay by orders even if the rail has a meter")
	f.IntVar(&runs, "runs", runs, "how often to measure")
	f.BoolVar(&benchfmt, "benchfmt", false, "print lines for benchstat")
	f.StringVar(&o.Profile, "profile", "", "folder for CPU and heap profiles of all ends")
	f.MarkHidden("profile")
	return c
}

// labFlags are the flags that say what is measured.
func labFlags(c *cobra.Command, o *lab.Options) {
	o.Fill()
	amount := o.Amount.String()
	f := c.Flags()
	f.StringVar(&o.Rail, "rail", o.Rail, "which rail")
	f.StringVar(&o.Store, "store", o.Store, "where all ends keep their records: pebble, bbolt, or mem, which is not durable")
	f.IntVar(&o.Payments, "payments", o.Payments, "how many are measured")
	f.IntVar(&o.Concurrency, "concurrency", o.Concurrency, "payments in flight")
	f.StringVar(&amount, "amount", amount, "of a payment")
	f.StringVar(&o.Dir, "dir", "", "on whose disk the stores are made (default the system's temporary folder)")
	f.IntVar(&o.Hops, "hops", o.Hops, "channels in a row, for rail lightning")
	f.IntVar(&o.Channels, "channels", o.Channels, "channels that the payer opens side by side, for rail lightning")
	f.BoolVar(&o.Static, "static", false, "channels of type static_remotekey, for rail lightning")
	c.PreRunE = func(*cobra.Command, []string) error {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		o.Command = []string{self, "lab", "end"}
		if o.Amount, err = money.ParseAmount(amount); err != nil {
			return usage{err}
		}
		return nil
	}
}

func labGrowthCommand(u *ui) *cobra.Command {
	o := lab.Options{Rail: "lightning", Concurrency: 483, Payments: 900}
	from, to := 1_000, 100_000
	c := &cobra.Command{
		Use: "growth", Short: "Pay more and more and say what grows with it", Args: noArgs,
		Long: "Makes 1,000 payments, then 10,000 and so on over the same channel. After each it starts all ends again, times that,\n" +
			"and measures a few payments: neither their time nor any memory may grow with the number of those before.\n" +
			"On rail nano it fills the ledger of one node instead, and says what a block costs when there are so many.",
		Example: "  coinop lab growth --rail lightning --to 1000000 --amount 10sat\n" +
			"  coinop lab growth --rail nano --from 100000 --to 5000000",
		RunE: func(cmd *cobra.Command, _ []string) error {
			pasts := lab.Decades(from, to)
			if len(pasts) == 0 {
				return usage{fmt.Errorf("nothing to measure from %d to %d", from, to)}
			}
			if o.Rail == "nano" {
				return u.ledgerGrowth(cmd, o, from, to)
			}
			bar := newBar(u, "payments", uint64(to))
			var all []lab.Growth
			err := lab.Grow(cmd.Context(), o, pasts, bar.set, func(g lab.Growth) error {
				all = append(all, g)
				if u.json || !terminal(u.out) {
					return u.print(g)
				}
				return nil
			})
			bar.end()
			if !u.json && terminal(u.out) {
				lab.WriteGrowth(u.out, all)
			}
			return err
		},
	}
	labFlags(c, &o)
	f := c.Flags()
	f.IntVar(&from, "from", from, "past payments at first")
	f.IntVar(&to, "to", to, "past payments at last, ten times as many each time; 1,000,000 take minutes")
	return c
}

// maxRuns bounds a series: what it takes is known long before.
const maxRuns = 1000

// labEndCommand is what lab run starts for each end.
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
