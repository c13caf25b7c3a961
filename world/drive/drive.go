// Package drive carries out what cores decide. It is the only bridge between
// core and world: Machine steps cores together, Carry keeps the order of
// effects, Host feeds a machine from many goroutines and commits for all of
// them at once. The simulator uses the same Machine and the same Carry.
package drive

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// A World does things. Production has one, the simulator has another.
type World interface {
	Commit([]step.Record) error // durable when it returns nil
	Send(step.Packet)
	Wake(step.Alarm)
	Done(step.Outcome)
}

// Carry does fx in order. On error nothing was sent, and the cores must not be
// stepped again: nobody knows what the disk holds.
func Carry(w World, fx step.Effects) error {
	if len(fx.Put) > 0 {
		if err := w.Commit(fx.Put); err != nil {
			return fmt.Errorf("commit %d records: %w", len(fx.Put), err)
		}
	}
	for _, p := range fx.Send {
		w.Send(p)
	}
	for _, a := range fx.Wake {
		w.Wake(a)
	}
	for _, d := range fx.Done {
		w.Done(d)
	}
	return nil
}

const (
	// MaxInbox bounds the events that wait for a host. When it is full Tell
	// blocks, which is how a slow disk slows the network instead of growing
	// memory.
	MaxInbox = 8192
	// MaxWaiters bounds the callers that wait in Ask.
	MaxWaiters = 16384
	// MaxAlarms bounds the alarms that are set. An alarm is a hint; one too
	// many is dropped and the next start asks for it again.
	MaxAlarms = 65536
)

var (
	// ErrStopped is what Tell and Ask return once Run has.
	ErrStopped = errors.New("the machine has stopped")
	// ErrNoCore means no core has that name.
	ErrNoCore = errors.New("no such core on this machine")
	// ErrBusy means MaxWaiters callers wait already.
	ErrBusy = fmt.Errorf("%d callers wait already; try again when one is answered", MaxWaiters)
)

// A Committer is the part of a store that a host needs.
type Committer interface {
	Commit([]step.Record) error
}

// MaxLazy bounds the lazy records that wait for a commit.
const MaxLazy = 8192

// A Writer commits, and lets lazy records wait for those that are not: a payment
// that is settled is then on disk with the next one that is promised, for no
// fsync of its own.
type Writer struct {
	DB      Committer
	waiting []step.Record
}

// Commit makes records durable, after all that wait, unless all of them are
// lazy.
func (w *Writer) Commit(records []step.Record) error {
	w.waiting = append(w.waiting, records...)
	for i := range records {
		if !records[i].Lazy {
			return w.Flush()
		}
	}
	if len(w.waiting) >= MaxLazy {
		return w.Flush()
	}
	return nil
}

// Flush commits what waits.
func (w *Writer) Flush() error {
	if len(w.waiting) == 0 {
		return nil
	}
	err := w.DB.Commit(w.waiting)
	clear(w.waiting)
	w.waiting = w.waiting[:0]
	return err
}

// Waiting is the lazy records that a crash would lose.
func (w *Writer) Waiting() []step.Record { return w.waiting }

// flushAfter is how long lazy records wait when nothing else happens.
const flushAfter = time.Second

// An Outlet takes the packets for one name: a peer, the chain, a device. It is
// called on the host's goroutine, in order, and must not block for long.
type Outlet func(step.Packet)

// A Host runs a machine: one goroutine, one bounded inbox, one durable write
// for everything that waited.
type Host struct {
	writer  Writer // of the host's goroutine
	now     func() step.Time
	machine *Machine

	inbox   chan Event
	calls   chan func() // runs on the host's goroutine, between rounds
	stopped chan struct{}
	cause   error // why, once stopped is closed

	mu      sync.Mutex
	outlets map[string]Outlet
	waiters map[waitKey][]chan step.Outcome
	waiting int
	alarms  map[waitKey]*alarm
	heard   []func(step.Outcome)
	rounds  uint64
	events  uint64
}

type waitKey struct{ core, id string }

// NewHost returns a host that commits to db. now tells the time to cores.
func NewHost(db Committer, now func() step.Time) *Host {
	return &Host{
		writer: Writer{DB: db}, now: now, machine: NewMachine(),
		inbox:   make(chan Event, MaxInbox),
		calls:   make(chan func()),
		stopped: make(chan struct{}),
		outlets: map[string]Outlet{},
		waiters: map[waitKey][]chan step.Outcome{},
		alarms:  map[waitKey]*alarm{},
	}
}

// Now is the clock that cores see.
func (h *Host) Now() step.Time { return h.now() }

// Outlet registers where packets to name go. A nil outlet takes it away;
// packets without one are dropped, as a network would.
func (h *Host) Outlet(name string, o Outlet) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if o == nil {
		delete(h.outlets, name)
		return
	}
	h.outlets[name] = o
}

// Hear has f told every outcome, on the host's goroutine: f must be quick and
// must not call the host.
func (h *Host) Hear(f func(step.Outcome)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard = append(h.heard, f)
}

// Do runs f on the host's goroutine, between two rounds. It is how a core is
// added to a running machine and how anyone looks at one.
func (h *Host) Do(ctx context.Context, f func(*Machine)) error {
	done := make(chan struct{})
	select {
	case h.calls <- func() { f(h.machine); close(done) }:
		<-done
		return nil
	case <-h.stopped:
		return h.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Add puts a core into the machine and rings it once with step.Start. Run must
// have been started; Add waits for the current round.
func (h *Host) Add(ctx context.Context, name string, c Core, listeners ...string) error {
	err := h.Do(ctx, func(m *Machine) { m.Add(name, c, listeners...) })
	if err != nil {
		return err
	}
	return h.Tell(ctx, name, step.Rang{ID: step.Start})
}

// Tell hands a core an event. It returns once the event is in the inbox, and
// blocks while the inbox is full.
func (h *Host) Tell(ctx context.Context, core string, what any) error {
	select {
	case h.inbox <- Event{core, what}:
		return nil
	case <-h.stopped:
		return h.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Ask hands a core an event and waits for its outcome with the given ID. If ctx
// ends first the event may still take effect: the error is then ctx's, which is
// money.Pending to anyone who asks for its kind.
func (h *Host) Ask(ctx context.Context, core, id string, what any) (any, error) {
	wait, err := h.Await(core, id)
	if err != nil {
		return nil, err
	}
	if err := h.Tell(ctx, core, what); err != nil {
		ended, stop := context.WithCancel(ctx)
		stop()
		wait(ended)
		return nil, err
	}
	return wait(ctx)
}

// Await registers for the next outcome of a core with the given ID, and returns
// the function that waits for it, which must be called once.
func (h *Host) Await(core, id string) (wait func(context.Context) (any, error), err error) {
	key, answer := waitKey{core, id}, make(chan step.Outcome, 1)
	if err := h.await(key, answer); err != nil {
		return nil, err
	}
	return func(ctx context.Context) (any, error) {
		select {
		case o := <-answer:
			return o.Value, o.Err
		case <-h.stopped:
			h.forget(key, answer)
			return nil, h.Err()
		case <-ctx.Done():
			h.forget(key, answer)
			return nil, ctx.Err()
		}
	}, nil
}

func (h *Host) await(key waitKey, answer chan step.Outcome) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiting >= MaxWaiters {
		return &money.Error{Kind: money.Refused, Op: "ask " + key.core, Err: ErrBusy}
	}
	h.waiting++
	h.waiters[key] = append(h.waiters[key], answer)
	return nil
}

func (h *Host) forget(key waitKey, answer chan step.Outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.waiters[key]
	for i := range list {
		if list[i] == answer {
			h.waiting--
			list[i] = list[len(list)-1]
			list = list[:len(list)-1]
			break
		}
	}
	if len(list) == 0 {
		delete(h.waiters, key)
	} else {
		h.waiters[key] = list
	}
}

// Counts says how well commits are shared: events stepped, and rounds they took.
func (h *Host) Counts() (rounds, events uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rounds, h.events
}

// Run drains the inbox, steps everything that waited, commits once, then sends,
// until ctx ends or a commit fails. Whoever waits then gets the cause.
func (h *Host) Run(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &money.Error{Kind: money.Broken, Op: "run machine", Err: fmt.Errorf("%v", r)}
		}
		h.stop(err)
	}()
	batch := make([]Event, 0, MaxInbox)
	idle := time.NewTicker(flushAfter)
	defer idle.Stop()
	wall, mono := h.now(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), h.writer.Flush())
		case <-idle.C:
			if err := h.writer.Flush(); err != nil {
				return &money.Error{Kind: money.Broken, Op: "run machine", Err: err}
			}
			if jump := time.Duration(h.now()-wall)*time.Millisecond - time.Since(mono); jump.Abs() > time.Second {
				h.rewind()
			}
			wall, mono = h.now(), time.Now()
			continue
		case call := <-h.calls:
			call()
			h.others()
			continue
		case e := <-h.inbox:
			batch = h.drain(append(batch[:0], e))
		}
		if err := Carry((*hands)(h), h.machine.Round(h.now(), batch)); err != nil {
			return &money.Error{Kind: money.Broken, Op: "run machine", Err: err}
		}
		h.mu.Lock()
		h.rounds++
		h.events += uint64(len(batch))
		h.mu.Unlock()
		clear(batch)
	}
}

// others makes the calls that wait beside one: a thousand channels that open
// together would else wait for a thousand commits.
func (h *Host) others() {
	for range MaxInbox {
		select {
		case call := <-h.calls:
			call()
		default:
			return
		}
	}
}

func (h *Host) drain(batch []Event) []Event {
	for len(batch) < cap(batch) {
		select {
		case e := <-h.inbox:
			batch = append(batch, e)
		default:
			return batch
		}
	}
	return batch
}

func (h *Host) stop(cause error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cause = cause
	for _, a := range h.alarms {
		a.timer.Stop()
	}
	close(h.stopped)
}

// Stopped is closed when Run has returned.
func (h *Host) Stopped() <-chan struct{} { return h.stopped }

// Err says why Run has returned: ErrStopped, with the cause if it was a failure.
func (h *Host) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cause == nil || errors.Is(h.cause, context.Canceled) {
		return ErrStopped
	}
	return fmt.Errorf("%w: %w", ErrStopped, h.cause)
}

// hands is a Host seen as the World of its machine.
type hands Host

func (w *hands) Commit(records []step.Record) error { return w.writer.Commit(records) }

func (w *hands) Send(p step.Packet) {
	w.mu.Lock()
	o := w.outlets[p.To]
	w.mu.Unlock()
	if o != nil {
		o(p)
	}
}

func (w *hands) Wake(a step.Alarm) {
	h := (*Host)(w)
	key := waitKey{a.Core, a.ID}
	h.mu.Lock()
	defer h.mu.Unlock()
	if set := h.alarms[key]; set != nil {
		set.at = a.At
		set.timer.Reset(h.nap(a.At))
		return
	}
	if len(h.alarms) >= MaxAlarms {
		return
	}
	set := &alarm{at: a.At}
	h.alarms[key] = set
	set.timer = time.AfterFunc(h.nap(a.At), func() { h.ring(key, set) })
}

// alarm is one that is set.
type alarm struct {
	at    step.Time
	timer *time.Timer
}

// rewind sets the timers of all alarms anew: the clock that they were set by was
// put right, or wrong.
func (h *Host) rewind() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.alarms {
		a.timer.Reset(h.nap(a.at))
	}
}

// maxNap is how long an alarm sleeps before it looks at the clock again, which may
// have drifted meanwhile, by less than rewind is for.
const maxNap = time.Minute

func (h *Host) nap(at step.Time) time.Duration {
	return min(max(0, time.Duration(at-h.now())*time.Millisecond), maxNap)
}

// ring rings an alarm, or sends it back to sleep.
func (h *Host) ring(key waitKey, set *alarm) {
	h.mu.Lock()
	if left := h.nap(set.at); left > 0 {
		set.timer.Reset(left)
		h.mu.Unlock()
		return
	}
	delete(h.alarms, key)
	h.mu.Unlock()
	h.Tell(context.Background(), key.core, step.Rang{ID: key.id})
}

func (w *hands) Done(o step.Outcome) {
	h := (*Host)(w)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.heard {
		f(o)
	}
	if o.ID == Died {
		// Everyone who waits for this core waits in vain.
		for key, list := range h.waiters {
			if key.core == o.Core {
				h.answer(key, list, o)
			}
		}
		return
	}
	key := waitKey{o.Core, o.ID}
	if list := h.waiters[key]; list != nil {
		h.answer(key, list, o)
	}
}

func (h *Host) answer(key waitKey, list []chan step.Outcome, o step.Outcome) {
	for _, answer := range list {
		answer <- o // has room for one, and gets only one
	}
	h.waiting -= len(list)
	delete(h.waiters, key)
}
