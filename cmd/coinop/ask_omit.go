//go:build omit_gateway

package main

import "github.com/spf13/cobra"

func gatewayCommands(*ui) []*cobra.Command { return nil }
