package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"coinop.dev/rail"
)

func versionCommand(u *ui) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print what this build is", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			v := map[string]string{"version": "devel", "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			if info, ok := debug.ReadBuildInfo(); ok {
				if info.Main.Version != "" && info.Main.Version != "(devel)" {
					v["version"] = info.Main.Version
				}
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						v["revision"] = s.Value
					}
				}
			}
			return u.show(v, func(w io.Writer) {
				fmt.Fprintf(w, "coinop %s %s (%s, %s)\n", v["version"], v["revision"], v["go"], v["platform"])
			})
		},
	}
}

func railsCommand(u *ui) *cobra.Command {
	return &cobra.Command{
		Use: "rails", Short: "List the rails of this build", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			schemes := rail.Default.Schemes()
			return u.show(map[string]any{"rails": schemes}, func(w io.Writer) {
				fmt.Fprintln(w, strings.Join(schemes, "\n"))
			})
		},
	}
}
