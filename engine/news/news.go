// Package news hands what a ledger's node tells of by itself to all who listen: each
// gets what it wants, in a channel of its own, and what finds no room there is lost
// and counted, because the node does not wait.
package news

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// MaxSubscriptions bounds those who hear a node's news.
const MaxSubscriptions = 64

// A Hearing is who listens to one node. W says what of the news somebody wants.
type Hearing[W any] struct {
	name string
	told func(wants []W)

	telling sync.Mutex // of what is wanted; taken before mu
	mu      sync.Mutex
	subs    map[*Subscription[W]]bool // nil once closed
}

// New is the hearing of a node that name stands for in errors. told is called with
// all that is wanted whenever that may have changed, by one at a time.
func New[W any](name string, told func(wants []W)) *Hearing[W] {
	return &Hearing[W]{name: name, told: told, subs: map[*Subscription[W]]bool{}}
}

// A Subscription is the news of a node. C is closed when the hearing is, or the
// subscription. Its methods may not be called on the host's goroutine.
type Subscription[W any] struct {
	C    <-chan any
	h    *Hearing[W]
	c    chan any
	want W // of the hearing's mu
	lost atomic.Uint64
}

// Subscribe gives the news to one who reads it soon: room of it waits. What is wanted
// is told of whatever the node hears later.
func (h *Hearing[W]) Subscribe(room int, want W) (*Subscription[W], error) {
	c := make(chan any, room)
	s := &Subscription[W]{C: c, h: h, c: c, want: want}
	if err := h.add(s); err != nil {
		return nil, err
	}
	h.watch()
	return s, nil
}

func (h *Hearing[W]) add(s *Subscription[W]) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.subs == nil:
		return fmt.Errorf("the %s is closed", h.name)
	case len(h.subs) >= MaxSubscriptions:
		return fmt.Errorf("all %d places for those who hear the news of the %s are taken", MaxSubscriptions, h.name)
	}
	h.subs[s] = true
	return nil
}

// watch tells what is wanted now.
func (h *Hearing[W]) watch() {
	h.telling.Lock()
	defer h.telling.Unlock()
	var wants []W
	h.mu.Lock()
	for s := range h.subs {
		wants = append(wants, s.want)
	}
	h.mu.Unlock()
	h.told(wants)
}

// Tell gives news to those who want it. It never waits.
func (h *Hearing[W]) Tell(what any, wanted func(W) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		if !wanted(s.want) {
			continue
		}
		select {
		case s.c <- what:
		default:
			s.lost.Add(1)
		}
	}
}

// Close ends all subscriptions, and there are no more.
func (h *Hearing[W]) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		close(s.c)
	}
	h.subs = nil
}

// Want changes what of the news is heard.
func (s *Subscription[W]) Want(w W) {
	s.h.mu.Lock()
	s.want = w
	s.h.mu.Unlock()
	s.h.watch()
}

// Lost is how much news found no room.
func (s *Subscription[W]) Lost() uint64 { return s.lost.Load() }

// Close ends the subscription.
func (s *Subscription[W]) Close() {
	s.h.mu.Lock()
	if s.h.subs[s] {
		delete(s.h.subs, s)
		close(s.c)
	}
	s.h.mu.Unlock()
	s.h.watch()
}
