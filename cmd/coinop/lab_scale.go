//go:build !omit_lab

package main

import (
	"io"

	"github.com/spf13/cobra"

	"coinop.dev/core/money"
	"coinop.dev/lab/scale"
)

func labScaleCommand(u *ui) *cobra.Command {
	var o scale.Options
	o.Fill()
	low, high := o.Low.String(), o.High.String()
	c := &cobra.Command{
		Use: "scale", Short: "Simulate payments over a large network of channels", Args: noArgs,
		Long: "Makes a network as large as the one that the survey counted (13,504 nodes, 37,093 channels), or so many times that, or\n" +
			"reads one, and plays payments over it: what share arrives, over how many channels, for which fee, what becomes of the\n" +
			"balances, and what the largest nodes would learn. docs/lab.md says how the network is made.",
		Example: "  coinop lab scale\n  coinop lab scale --times 10 --payments 100000\n  lncli describegraph > graph.json && coinop lab scale --graph graph.json",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Low, err = money.ParseAmount(low); err == nil {
				o.High, err = money.ParseAmount(high)
			}
			if err == nil {
				err = o.Check()
			}
			if err != nil {
				return usage{err}
			}
			bar := newBar(u, "payments", uint64(o.Payments))
			r, err := scale.Run(cmd.Context(), o, bar.set)
			bar.end()
			if err != nil {
				return err
			}
			return u.show(r, func(w io.Writer) { r.Write(w) })
		},
	}
	f := c.Flags()
	f.IntVar(&o.Times, "times", o.Times, "the survey's network so many times")
	f.StringVar(&o.File, "graph", "", "a graph as lncli describegraph prints it")
	f.IntVar(&o.Payments, "payments", o.Payments, "how many")
	f.IntVar(&o.Attempts, "attempts", o.Attempts, "paths that are tried for a payment")
	f.StringVar(&low, "from", low, "the smallest amount")
	f.StringVar(&high, "to", high, "the largest amount; those between are spread evenly over the logarithm")
	f.Uint64Var(&o.Seed, "seed", o.Seed, "of the network and the payments")
	return c
}
