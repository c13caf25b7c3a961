package tanglenet

import (
	"encoding/hex"
	"strings"

	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/step"
	"coinop.dev/engine/news"
)

// Settled is the news that a milestone has included a payload that this node has
// attached, or never will: Err then says why.
type Settled struct {
	Payload     [32]byte // hash of its bytes; of a transaction, its ID
	Transaction bool     // else tagged data
	node.Settled
	Err error
}

// Halted is the news that nothing is confirmed any more.
type Halted struct{ Err error }

// A Subscription is news of a node: values of node.Confirmed, Settled, node.Double,
// Halted and, if that is wanted, node.Came. C is closed when the node is, or the
// subscription.
type Subscription = news.Subscription[node.Watch]

// Subscribe gives the news to one who reads it soon: room of it waits, and what finds
// no room is lost and counted. What is wanted is told of whatever the core attaches
// later. Neither it nor a Subscription's methods may be called on the host's goroutine.
func (n *Node) Subscribe(room int, want node.Watch) (*Subscription, error) {
	return n.hearing.Subscribe(room, want)
}

// watch asks the core for what somebody wants.
func (n *Node) watch(wants []node.Watch) {
	var all node.Watch
	for _, w := range wants {
		all.Blocks = all.Blocks || w.Blocks
	}
	n.machine.Host.Tell(n.ctx, node.Core, all)
}

// hear is told every outcome on the host's goroutine.
func (n *Node) hear(o step.Outcome) {
	if o.Core != node.Core {
		return
	}
	what := newsOf(o)
	if what == nil {
		return
	}
	_, came := what.(node.Came)
	n.hearing.Tell(what, func(w node.Watch) bool { return !came || w.Blocks })
}

// newsOf is what an outcome means to who listens; nil is nothing.
func newsOf(o step.Outcome) any {
	switch o.ID {
	case node.ConfirmedID, node.DoubleID, node.CameID:
		return o.Value
	case node.HaltID:
		return Halted{o.Err}
	}
	kind, id, _ := strings.Cut(o.ID, "/")
	s := Settled{Transaction: kind == "tx", Err: o.Err}
	if kind != "tx" && kind != "data" || len(id) != hex.EncodedLen(len(s.Payload)) {
		return nil
	}
	if _, err := hex.Decode(s.Payload[:], []byte(id)); err != nil {
		return nil
	}
	s.Settled, _ = o.Value.(node.Settled)
	return s
}
