//go:build !omit_lab

package main

import (
	"time"

	"github.com/spf13/cobra"

	"coinop.dev/core/step"
	"coinop.dev/lab"
	"coinop.dev/sim"
)

func labCurvesCommand(u *ui) *cobra.Command {
	var o lab.CurveOptions
	o.Rail = "nano"
	o.Fill()
	interval := time.Second
	across := time.Duration(o.Earth.Across) * time.Millisecond
	c := &cobra.Command{
		Use: "curves", Short: "Simulate how long a ledger's network takes to be final, by its size", Args: noArgs,
		Long: "Runs the nodes' own cores in virtual time on an earth where messages take as long as their way, and says how long a\n" +
			"block took to be final at the node that it was given to, and at the last of all nodes. What nodes compute takes no\n" +
			"time here; what it takes on this computer is measured by lab run --nodes.",
		Example: "  coinop lab curves --rail nano --nodes 4,16,50,100\n" +
			"  coinop lab curves --rail iota --interval 1s --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Interval, o.Earth.Across = step.Time(interval.Milliseconds()), step.Time(across.Milliseconds())
			var all []sim.Confirmation
			bar := newBar(u, "networks", uint64(len(o.Nodes)))
			err := lab.Curves(o, func(c sim.Confirmation) error {
				all = append(all, c)
				bar.set(uint64(len(all)))
				if u.json || !terminal(u.out) {
					return u.print(c)
				}
				return cmd.Context().Err()
			})
			bar.end()
			if !u.json && terminal(u.out) {
				lab.WriteCurves(u.out, o.Rail, all)
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.Rail, "rail", o.Rail, "nano or iota")
	f.IntSliceVar(&o.Nodes, "nodes", o.Nodes, "sizes of the network")
	f.IntVar(&o.Voters, "voters", o.Voters, "representatives; of iota, coordinators, at most 7")
	f.IntVar(&o.Blocks, "blocks", o.Blocks, "that are sent")
	f.Float64Var(&o.Rate, "rate", o.Rate, "blocks a second")
	f.DurationVar(&interval, "interval", interval, "between milestones, on iota")
	f.DurationVar(&across, "across", across, "how long a message takes along a side of the earth")
	f.Uint64Var(&o.Seed, "seed", o.Seed, "of places, delays and losses")
	return c
}
