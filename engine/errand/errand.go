// Package errand does what somebody has to do far away, again and again: each thing
// when it is due, so many at a time, and a connection that is kept up beside them.
package errand

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// MinBackoff and MaxBackoff are how long the other end is left alone after a
	// connection was lost.
	MinBackoff = 100 * time.Millisecond
	MaxBackoff = 10 * time.Second
	// idle is how long nothing is due at most.
	idle = time.Minute
)

// A Runner runs errands.
type Runner struct {
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	wake    chan struct{}
	slots   chan struct{}
}

// Begin begins a thing in a goroutine of its own if it is due and there is room, and
// reports whether it is under way: busy says that it was before.
type Begin func(due time.Time, busy bool, do func()) bool

// New runs at most so many errands at a time.
func New(most int) *Runner {
	r := &Runner{wake: make(chan struct{}, 1), slots: make(chan struct{}, most)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Context ends with the runner.
func (r *Runner) Context() context.Context { return r.ctx }

// Close ends everything, and waits until it has.
func (r *Runner) Close() {
	r.cancel()
	r.running.Wait()
}

// Nudge has look called: something may be due.
func (r *Runner) Nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Start has look called whenever something may be due: it names all that there is to
// begin.
func (r *Runner) Start(look func(begin Begin)) {
	r.running.Go(func() {
		timer := time.NewTimer(0)
		defer timer.Stop()
		for {
			select {
			case <-r.ctx.Done():
				return
			case <-r.wake:
			case <-timer.C:
			}
			now, next := time.Now(), idle
			look(func(due time.Time, busy bool, do func()) bool {
				wait := due.Sub(now)
				if !busy && wait > 0 {
					next = min(next, wait)
				}
				return busy || wait <= 0 && r.begin(do)
			})
			timer.Reset(next)
		}
	})
}

func (r *Runner) begin(do func()) bool {
	select {
	case r.slots <- struct{}{}:
	default:
		return false // whoever is done nudges
	}
	r.running.Go(func() {
		defer r.Nudge()
		defer func() { <-r.slots }()
		do()
	})
	return true
}

// Keep keeps a connection up: hear dials it and returns when it is lost, which lost is
// told.
func (r *Runner) Keep(hear func() error, lost func(error)) {
	r.running.Go(func() {
		for wait := MinBackoff; ; wait = min(2*wait, MaxBackoff) {
			began := time.Now()
			err := hear()
			if r.ctx.Err() != nil {
				return
			}
			lost(err)
			if time.Since(began) > MaxBackoff {
				wait = MinBackoff
			}
			select {
			case <-r.ctx.Done():
				return
			case <-time.After(wait/2 + rand.N(wait/2)):
			}
		}
	})
}
