package main

import (
	"github.com/spf13/cobra"

	"coinop.dev/lab/lightclient"
)

// lightClientCommand is what lab light starts; a device's build has it too, so
// that what it takes there can be measured.
func lightClientCommand(u *ui) *cobra.Command {
	return &cobra.Command{
		Use: "light-client", Hidden: true, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return lightclient.Run(cmd.Context(), u.in, u.out) },
	}
}
