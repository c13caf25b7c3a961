package nanonet

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/core/step"
)

var errClosed = errors.New("the lattice node is closed")

// MaxSubscriptions bounds those who hear a node's news.
const MaxSubscriptions = 64

// hearing is who hears what the core tells of by itself.
type hearing struct {
	telling sync.Mutex // of what is wanted; taken before mu

	mu   sync.Mutex
	subs map[*Subscription]bool
}

// A Subscription is news of a node: values of node.Confirmed and, as far as they
// are wanted, Unconfirmed, Started, Stopped, Voted and Reported. C is closed when
// the node is, or the subscription.
type Subscription struct {
	C    <-chan any
	n    *Node
	c    chan any
	want node.Watch // of hearing
	lost atomic.Uint64
}

// Subscribe gives the news to one who reads it soon: room of it waits, and what
// finds no room is lost and counted. What is wanted is told of whatever the core
// hears later. Neither it nor a Subscription's methods may be called on the host's
// goroutine.
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
		return fmt.Errorf("all %d places for those who hear a lattice node's news are taken", MaxSubscriptions)
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

// watch asks the core for what somebody wants.
func (n *Node) watch() {
	n.hearing.telling.Lock()
	defer n.hearing.telling.Unlock()
	var all node.Watch
	n.hearing.mu.Lock()
	for s := range n.hearing.subs {
		all.Votes = all.Votes || s.want.Votes
		all.Elections = all.Elections || s.want.Elections
		all.Blocks = all.Blocks || s.want.Blocks
		all.Telemetry = all.Telemetry || s.want.Telemetry
	}
	n.hearing.mu.Unlock()
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
	n.hearing.mu.Lock()
	defer n.hearing.mu.Unlock()
	for s := range n.hearing.subs {
		if !wanted(s.want) {
			continue
		}
		select {
		case s.c <- o.Value:
		default:
			s.lost.Add(1)
		}
	}
}
