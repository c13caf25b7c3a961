//go:build omit_demo

package main

import "github.com/spf13/cobra"

func demoCommand(*ui) *cobra.Command { return nil }
