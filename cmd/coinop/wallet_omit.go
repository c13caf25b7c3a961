//go:build omit_bitcoin

package main

import "github.com/spf13/cobra"

func walletCommand(*ui) *cobra.Command { return nil }

// seeded leaves a URI as it is: without the rail there is no wallet.
func (c *Config) seeded(uri string) (string, error) { return uri, nil }
