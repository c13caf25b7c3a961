//go:build !omit_lab

package main

import (
	"cmp"
	"os"

	"github.com/spf13/cobra"

	"coinop.dev/lab"
)

func labLightCommand(u *ui) *cobra.Command {
	o := lab.LightOptions{Headers: 1_000_000}
	client := ""
	c := &cobra.Command{
		Use: "light", Short: "Have a light client follow a chain as long as Bitcoin's", Args: noArgs,
		Long: "Makes a chain of headers by mainnet's rules, with the easiest work. Judges them all on one processor; then starts\n" +
			"a light client as a process, which gets them over TCP and keeps what it needs on disk, and starts it once more.",
		Example: "  coinop lab light --headers 900000\n  coinop lab light --headers 1000000 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Command = []string{cmp.Or(client, self), "light-client"}
			bar := newBar(u, "headers", uint64(o.Headers))
			r, err := lab.MeasureLight(cmd.Context(), o, bar.set)
			bar.end()
			if err != nil {
				return err
			}
			return u.print(r)
		},
	}
	c.Flags().IntVar(&o.Headers, "headers", o.Headers, "in the chain")
	c.Flags().StringVar(&o.Dir, "dir", "", "on whose disk the store is made (default the system's temporary folder)")
	c.Flags().StringVar(&client, "client", "", "another build of coinop whose light client is measured, such as a device's")
	return c
}
