//go:build omit_ledger

package main

import (
	"errors"

	"github.com/spf13/cobra"

	"coinop.dev"
)

// ledgers are the nodes of ledgers that a machine runs: none in this build.
type ledgers struct{}

func ledgerCommand(*ui) *cobra.Command { return nil }

func (l *ledgers) options(c Config) ([]coinop.Option, error) {
	if c.Ledger.Lattice.Network != "" || c.Ledger.Tangle.Network != "" {
		return nil, usage{errors.New("this build runs no node of a ledger (tag omit_ledger)")}
	}
	return nil, nil
}

func (l *ledgers) ready(map[string]any) {}
