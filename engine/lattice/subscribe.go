package nanonet

import (
	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/core/step"
	"coinop.dev/engine/news"
)

// A Subscription is news of a node: values of node.Confirmed and, as far as they
// are wanted, Unconfirmed, Started, Stopped, Voted and Reported. C is closed when
// the node is, or the subscription.
type Subscription = news.Subscription[node.Watch]

// Subscribe gives the news to one who reads it soon: room of it waits, and what
// finds no room is lost and counted. What is wanted is told of whatever the core
// hears later. Neither it nor a Subscription's methods may be called on the host's
// goroutine.
func (n *Node) Subscribe(room int, want node.Watch) (*Subscription, error) {
	return n.hearing.Subscribe(room, want)
}

// watch asks the core for what somebody wants.
func (n *Node) watch(wants []node.Watch) {
	var all node.Watch
	for _, w := range wants {
		all.Votes = all.Votes || w.Votes
		all.Elections = all.Elections || w.Elections
		all.Blocks = all.Blocks || w.Blocks
		all.Telemetry = all.Telemetry || w.Telemetry
	}
	n.machine.Host.Tell(n.ctx, node.Core, all)
}

// hear is told every outcome on the host's goroutine.
func (n *Node) hear(o step.Outcome) {
	if o.Core != node.Core || o.Value == nil {
		return
	}
	var wanted func(node.Watch) bool
	switch o.ID {
	case node.ConfirmedID:
		wanted = func(node.Watch) bool { return true }
	case node.UnconfirmedID:
		wanted = func(w node.Watch) bool { return w.Blocks }
	case node.StartedID, node.StoppedID:
		wanted = func(w node.Watch) bool { return w.Elections }
	case node.VotedID:
		wanted = func(w node.Watch) bool { return w.Votes }
	case node.TelemetryID:
		wanted = func(w node.Watch) bool { return w.Telemetry }
	default:
		return
	}
	n.hearing.Tell(o.Value, wanted)
}
