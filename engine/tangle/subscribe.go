package tanglenet

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/step"
)

var errClosed = errors.New("the Tangle node is closed")

// MaxSubscriptions bounds those who hear a node's news.
const MaxSubscriptions = 64

// hearing is who hears what the core tells of by itself.
type hearing struct {
	telling sync.Mutex // of what is wanted; taken before mu
	told    node.Watch // of telling
	mu      sync.Mutex
	subs    map[*Subscription]bool
}

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
type Subscription struct {
	C    <-chan any
	n    *Node
	c    chan any
	want node.Watch // of hearing
	lost atomic.Uint64
}

// Subscribe gives the news to one who reads it soon: room of it waits, and what finds
// no room is lost and counted. What is wanted is told of whatever the core attaches
// later. Neither it nor a Subscription's methods may be called on the host's goroutine.
func (n *Node) Subscribe(room int, want node.Watch) (*Subscription, error) {
	c := make(chan any, room)
	s := &Subscription{C: c, n: n, c: c, want: want}
	if err := n.hearing.add(s); err != nil {
		return nil, err
	}
	n.watch()
	return s, nil
}

func (h *hearing) add(s *Subscription) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.subs == nil:
		return errClosed
	case len(h.subs) >= MaxSubscriptions:
		return fmt.Errorf("all %d places for those who hear a Tangle node's news are taken", MaxSubscriptions)
	}
	h.subs[s] = true
	return nil
}

// Want changes what of the news is heard.
func (s *Subscription) Want(w node.Watch) {
	s.n.hearing.mu.Lock()
	s.want = w
	s.n.hearing.mu.Unlock()
	s.n.watch()
}

// watch asks the core for what somebody wants.
func (n *Node) watch() {
	h := &n.hearing
	h.telling.Lock()
	defer h.telling.Unlock()
	var all node.Watch
	h.mu.Lock()
	for s := range h.subs {
		all.Blocks = all.Blocks || s.want.Blocks
	}
	h.mu.Unlock()
	if all != h.told {
		h.told = all
		n.machine.Host.Tell(n.ctx, node.Core, all)
	}
}

// Lost is how much news found no room.
func (s *Subscription) Lost() uint64 { return s.lost.Load() }

// Close ends the subscription.
func (s *Subscription) Close() {
	h := &s.n.hearing
	h.mu.Lock()
	if h.subs[s] {
		delete(h.subs, s)
		close(s.c)
	}
	h.mu.Unlock()
	s.n.watch()
}

func (n *Node) unsubscribeAll() {
	n.hearing.mu.Lock()
	defer n.hearing.mu.Unlock()
	for s := range n.hearing.subs {
		close(s.c)
	}
	n.hearing.subs = nil
}

// hear is told every outcome on the host's goroutine.
func (n *Node) hear(o step.Outcome) {
	if o.Core != node.Core {
		return
	}
	news := newsOf(o)
	if news == nil {
		return
	}
	n.hearing.mu.Lock()
	defer n.hearing.mu.Unlock()
	_, came := news.(node.Came)
	for s := range n.hearing.subs {
		if came && !s.want.Blocks {
			continue
		}
		select {
		case s.c <- news:
		default:
			s.lost.Add(1)
		}
	}
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
