//go:build omit_gateway

package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
)

// serveGateway is not in this build: such a machine sells over links alone.
func serveGateway(context.Context, *ui, Config) error {
	return usage{errors.New("this build has no gateway: leave out http, metrics, mqtt, coap and serial")}
}

func getCommand(*ui) *cobra.Command { return nil }

func readCommand(*ui) *cobra.Command { return nil }
