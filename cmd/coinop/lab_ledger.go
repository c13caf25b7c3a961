//go:build !omit_lab

package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"coinop.dev/lab"
)

// ledgerFlags are those of lab run that measure a network of a ledger's nodes.
type ledgerFlags struct{ lab.LedgerOptions }

func (l *ledgerFlags) add(c *cobra.Command) {
	l.Fill()
	f := c.Flags()
	nodes := 0
	f.IntVar(&l.Nodes, "nodes", nodes, "of a ledger's network, rail nano or iota, each a process; 0: a payer and a payee")
	f.IntVar(&l.Accounts, "accounts", l.Accounts, "that send to each other, for --nodes")
	f.IntVar(&l.Rate, "rate", 0, "transfers a second, for --nodes; 0: as many as get through")
	f.DurationVar(&l.Interval, "interval", l.Interval, "between milestones, for --nodes on rail iota")
	f.Float64Var(&l.Alpha, "alpha", l.Alpha, "of the walk that chooses tips, for --nodes on rail iota; 0: uniformly, without a walk")
	f.IntVar(&l.Zeros, "zeros", l.Zeros, "trailing zeros of a block's work, for --nodes on rail iota")
}

// labLedger measures a network of nodes.
func (u *ui) labLedger(cmd *cobra.Command, l *ledgerFlags, o lab.Options, runs int) error {
	l.Rail, l.Store, l.Dir, l.Profile, l.Command = o.Rail, o.Store, o.Dir, o.Profile, o.Command
	if cmd.Flags().Changed("payments") {
		l.Transfers = o.Payments
	}
	if err := l.Check(); err != nil {
		return err
	}
	table := !u.json && terminal(u.out)
	var all []lab.LedgerResult
	for range runs {
		bar := newBar(u, "transfers", uint64(l.Transfers))
		r, err := lab.RunLedger(cmd.Context(), l.LedgerOptions, bar.set)
		bar.end()
		if err != nil {
			return err
		}
		all = append(all, r)
		if !table {
			if err := u.print(r); err != nil {
				return err
			}
		}
	}
	if table {
		lab.WriteLedger(u.out, all)
		fmt.Fprintln(u.out, "limit: all processors of this computer, if every node checked every signature once, in batches, and did nothing else")
	}
	return nil
}

// ledgerGrowth fills a ledger, ten times as far each time, and in the end as far as
// it was asked for.
func (u *ui) ledgerGrowth(cmd *cobra.Command, o lab.Options, from, to int) error {
	sizes := lab.Decades(from, to)
	if n := len(sizes); n > 0 && sizes[n-1] < to {
		sizes = append(sizes, to)
	}
	bar := newBar(u, "blocks", uint64(to))
	var all []lab.LedgerGrowth
	err := lab.GrowLedger(cmd.Context(), lab.LedgerOptions{Rail: o.Rail, Store: o.Store, Dir: o.Dir, Profile: o.Profile, Command: o.Command, Transfers: 1, Interval: time.Second}, sizes, bar.set, func(g lab.LedgerGrowth) error {
		all = append(all, g)
		if u.json || !terminal(u.out) {
			return u.print(g)
		}
		return nil
	})
	bar.end()
	if !u.json && terminal(u.out) {
		lab.WriteLedgerGrowth(u.out, all)
	}
	return err
}
