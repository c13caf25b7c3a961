//go:build omit_sim

package main

import "github.com/spf13/cobra"

func simCommand(*ui) *cobra.Command { return nil }
