//go:build omit_lab

package main

import "github.com/spf13/cobra"

func labCommand(*ui) *cobra.Command { return nil }
