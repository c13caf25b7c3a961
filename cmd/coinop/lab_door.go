//go:build !omit_lab

package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"coinop.dev/lab"
)

// doorFlags are what lab run is told about a gateway's door.
type doorFlags struct {
	lab.DoorOptions
	sweep []int
}

func (d *doorFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&d.Door, "door", "", "measure a gateway at this door instead: mqtt, http or coap")
	f.IntVar(&d.Devices, "devices", 0, "with --door: devices that pay once a second (default 10000; coap 1000), or connections at http (default 64)")
	f.IntSliceVar(&d.sweep, "sweep", nil, "with --door: numbers of devices, one run for each")
	f.DurationVar(&d.For, "for", 30*time.Second, "with --door: how long")
	f.BoolVar(&d.DTLS, "dtls", false, "with --door coap: over DTLS")
	f.IntVar(&d.Verify, "verify", 1, "with --door mqtt: devices check the signature of one stamp in so many, to leave the processor to the gateway")
	f.IntVar(&d.Memory, "memory", 0, "with --door: MiB above which the gateway collects garbage eagerly, as GOMEMLIMIT would have it")
	f.IntVar(&d.Past, "past", 0, "with --door: orders that are in the gateway's books before it starts; its start and pages are timed")
}

// labDoor measures a door once for each number of devices.
func (u *ui) labDoor(cmd *cobra.Command, d *doorFlags, rails lab.Options, runs int, benchfmt bool) error {
	o := d.DoorOptions
	o.Store, o.Dir, o.Profile, o.Command = rails.Store, rails.Dir, rails.Profile, rails.Command
	if cmd.Flags().Changed("rail") {
		o.Rail = rails.Rail
	}
	sweep := d.sweep
	if len(sweep) == 0 {
		sweep = []int{o.Devices}
	}
	var todo []lab.DoorOptions
	for _, n := range sweep {
		o.Devices = n
		one := o
		one.Fill()
		if err := one.Check(); err != nil {
			return err
		}
		for range runs {
			todo = append(todo, one)
		}
	}
	table := !u.json && !benchfmt && terminal(u.out)
	var results []lab.DoorResult
	for _, o := range todo {
		bar := newBar(u, "payments", uint64(o.Devices)*uint64(o.For/time.Second))
		r, err := lab.RunDoor(cmd.Context(), o, bar.set)
		bar.end()
		if err != nil {
			return err
		}
		results = append(results, r)
		switch {
		case benchfmt:
			lab.WriteDoorBench(u.out, &r)
		case !table:
			if err := u.print(r); err != nil {
				return err
			}
		}
	}
	if table {
		lab.WriteDoorTable(u.out, results)
	}
	for i := range results {
		if c := results[i].Conserved; c != nil && !*c {
			return fmt.Errorf("run %d: the devices' stamps and the gateway's till do not agree", i+1)
		}
	}
	return nil
}
