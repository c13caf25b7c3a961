package paywordrail

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"coinop.dev/core/channel/payword"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/engine"
	"coinop.dev/world/drive"
)

// A Meterer is a rail that pays by the coin. Ask for it with rail.As.
type Meterer interface {
	// Meter pays coins for a session and returns once the payee has stamped
	// them. Unlike an order it pays again each time, it makes no receipt, and
	// no purse limits it. Its errors are a rail's: Unpaid means that none of
	// these coins was paid.
	//
	// It is made for thousands of callers at once: they share the channel's
	// steps, and a call allocates nothing.
	Meter(ctx context.Context, session money.OrderID, coins uint64) error
}

const (
	// maxFlying bounds the ticks of a session that are not stamped yet. Calls
	// that come meanwhile make one tick together: more ticks would only make
	// the same tickets smaller.
	maxFlying = 4
	// MaxSessions bounds the sessions that have calls waiting, and maxBatches
	// the ticks that a session's calls make.
	MaxSessions = 1024
	maxBatches  = 64
)

// meter gathers the calls of each session into ticks.
type meter struct {
	m     *engine.Machine
	core  string
	most  uint64        // coins of a tick: no more can be settled at once
	limit uint64        // coins of a call: the credit
	kick  chan struct{} // something may be sent
	quit  context.CancelFunc

	mu       sync.Mutex
	sessions map[money.OrderID]*session
	closed   error
}

// session is the calls for one session that are not answered.
type session struct {
	batches []*batch // oldest first
	flying  int      // so many of them are with the channel
}

// batch is the calls that one tick pays for.
type batch struct {
	coins uint64
	done  chan struct{}
	err   error // once done is closed
}

func newMeter(m *engine.Machine, core string, p payword.Proposal) *meter {
	ctx, quit := context.WithCancel(context.Background())
	t := &meter{
		m: m, core: core, most: p.Every, limit: p.Credit, quit: quit,
		kick: make(chan struct{}, 1), sessions: map[money.OrderID]*session{},
	}
	m.Host.Hear(t.hear)
	go t.run(ctx)
	return t
}

var errClosed = errors.New("the rail is closed")

func fail(kind money.Kind, id money.OrderID, err error) error {
	return &money.Error{Kind: kind, Op: "meter " + id.String(), Err: err}
}

func (t *meter) pay(ctx context.Context, id money.OrderID, coins uint64) error {
	if coins == 0 || coins > t.limit {
		return fail(money.Invalid, id, fmt.Errorf("%d coins at a time; it must be 1 to %d, the credit", coins, t.limit))
	}
	b, err := t.join(id, coins)
	if err != nil {
		return err
	}
	t.wake()
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return fail(money.Pending, id, ctx.Err())
	}
}

func (t *meter) wake() {
	select {
	case t.kick <- struct{}{}:
	default: // run has been told
	}
}

// join adds a call to the last batch of its session, unless that is on its way
// or full.
func (t *meter) join(id money.OrderID, coins uint64) (*batch, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sessions[id]
	switch {
	case t.closed != nil:
		return nil, fail(money.Unpaid, id, t.closed)
	case s == nil && len(t.sessions) == MaxSessions:
		return nil, fail(money.Unpaid, id, fmt.Errorf("%d sessions wait already; try again when one is answered", MaxSessions))
	case s == nil:
		s = &session{}
		t.sessions[id] = s
	}
	if n := len(s.batches); n > s.flying {
		if last := s.batches[n-1]; last.coins+coins <= t.most {
			last.coins += coins
			return last, nil
		}
	}
	if len(s.batches) == maxBatches {
		return nil, fail(money.Unpaid, id, fmt.Errorf("%d ticks of the session wait already; try again when one is stamped", maxBatches))
	}
	b := &batch{coins: coins, done: make(chan struct{})}
	s.batches = append(s.batches, b)
	return b, nil
}

// run hands ticks to the channel until the rail is closed or the machine stops.
func (t *meter) run(ctx context.Context) {
	err := errClosed
	for ctx.Err() == nil {
		select {
		case <-t.kick:
			for _, tick := range t.ready() {
				// Not ctx: half of a handing-over helps nobody, and the inbox
				// of a stopped machine refuses.
				t.m.Host.Tell(context.Background(), t.core, tick)
			}
		case <-ctx.Done():
		case <-t.m.Stopped():
			err = drive.ErrStopped
			t.quit()
		}
	}
	t.end(err)
}

// ready takes the batches that may fly now.
func (t *meter) ready() (ticks []payword.Tick) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, s := range t.sessions {
		for s.flying < min(len(s.batches), maxFlying) {
			ticks = append(ticks, payword.Tick{Session: id, Coins: s.batches[s.flying].coins})
			s.flying++
		}
	}
	return ticks
}

// hear answers the calls that a stamp covers, or whose tick is refused. It runs
// on the host's goroutine.
func (t *meter) hear(o step.Outcome) {
	if o.Core != t.core {
		return
	}
	switch v := o.Value.(type) {
	case payword.Metered:
		t.mu.Lock()
		t.stamped(v)
		t.mu.Unlock()
	case payword.Tick:
		t.mu.Lock()
		t.refused(v, o.Err)
		t.mu.Unlock()
	default:
		if o.ID == drive.Died {
			t.end(o.Err)
		}
		return
	}
	t.wake() // there is room for another tick
}

// stamped ends the batches whose coins a stamp covers. Ticks are stamped in the
// order they were made, and a tick as a whole.
func (t *meter) stamped(v payword.Metered) {
	s := t.sessions[v.Session]
	for s != nil && s.flying > 0 && s.batches[0].coins <= v.New {
		v.New -= s.batches[0].coins
		t.answer(v.Session, s, 0, nil)
	}
}

// refused ends a batch of as many coins as were refused: which one, if there are
// several, makes no difference to anybody.
func (t *meter) refused(v payword.Tick, err error) {
	s := t.sessions[v.Session]
	for i := 0; s != nil && i < s.flying; i++ {
		if s.batches[i].coins == v.Coins {
			t.answer(v.Session, s, i, err)
			return
		}
	}
}

// answer ends the batch at i, which is flying.
func (t *meter) answer(id money.OrderID, s *session, i int, err error) {
	b := s.batches[i]
	b.err = err
	close(b.done)
	s.batches = slices.Delete(s.batches, i, i+1)
	if s.flying--; len(s.batches) == 0 {
		delete(t.sessions, id)
	}
}

func (t *meter) close() { t.quit() }

// end answers all calls: those that were not handed over are certainly unpaid.
func (t *meter) end(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = err
	for id, s := range t.sessions {
		for i, b := range s.batches {
			kind := money.Pending
			if i >= s.flying {
				kind = money.Unpaid
			}
			b.err = fail(kind, id, err)
			close(b.done)
		}
	}
	clear(t.sessions)
}
