package main

import (
	"context"

	"coinop.dev/core/money"
)

// A Setup is the network to measure: nodes in a row, with one channel between
// neighbours. The first pays the last.
type Setup struct {
	Hops        int   // channels; 1 or 2
	CapacitySat int64 // of each channel, all of it the payer's side
	Home        string
	Args        []string // for the nodes, by who starts them
}

// Start brings up a network of one implementation, with channels that can be
// used at once.
type Start func(ctx context.Context, s Setup) (Network, error)

// A Network is one that runs. All nodes must be processes of their own, and as
// durable as their makers ship them.
type Network interface {
	// Version names the implementation.
	Version() string
	// Prepare makes n invoices at the last node and forgets earlier ones. It is
	// not measured.
	Prepare(ctx context.Context, n int, amount money.Amount) error
	// Pay pays the i-th invoice and returns when the payer has the proof. Many
	// calls at once are the load.
	Pay(ctx context.Context, i int) error
	// Count is how many of the prepared invoices the last node has been paid.
	Count(ctx context.Context) (int, error)
	// Pids is the nodes' processes, the payer first, by name.
	Pids() []Node
	// Stop ends all of it.
	Stop()
}

// A Node is a process that is measured.
type Node struct {
	Name string
	Pid  int
}

// implementations by the name that --who gives them.
var implementations = map[string]Start{"lnd": startLnd, "coinop": startCoinop}
