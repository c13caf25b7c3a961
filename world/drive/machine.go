package drive

import (
	"fmt"
	"runtime/debug"
	"slices"

	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// A Core decides. See package step for what it must keep to.
type Core interface {
	Step(step.Input) step.Effects
}

// An Event is something that happened to one core, or with Core "" to all.
type Event struct {
	Core string
	What any // as in step.Input.Events
}

// MaxWaves bounds how often the cores of a machine may answer one another
// within a round. The longest honest chain is ask, order, outcome, answer.
const MaxWaves = 16

// A Machine is the cores that share one store. It is pure: Round steps them
// and returns what they want done together.
//
// Cores of one machine talk without touching the disk. A packet from one to
// another, or an outcome to a core that listens, is delivered within the round,
// because one durable write covers both sides: either both have happened or
// neither has.
type Machine struct {
	seats     map[string]*seat
	listeners map[string][]string // by the core they listen to

	// Room that every round uses again, because a busy machine makes a hundred
	// rounds a second of a thousand events each.
	next    [2][]Event
	touched []*seat
}

type seat struct {
	name    string
	core    Core
	waiting []any
	broken  error
}

// NewMachine returns a machine without cores.
func NewMachine() *Machine {
	return &Machine{seats: map[string]*seat{}, listeners: map[string][]string{}}
}

// Add puts a core into the machine, and lets listeners hear it.
func (m *Machine) Add(name string, c Core, listeners ...string) {
	if m.seats[name] != nil {
		panic("drive: two cores are named " + name)
	}
	m.seats[name] = &seat{name: name, core: c}
	for _, who := range listeners {
		m.Listen(name, who)
	}
}

// Listen has the outcomes of a core also delivered to the core called who, as
// Recv{From: core, Msg: step.Outcome}. Neither needs to be there yet. There is
// no listening to all cores of a kind: with a thousand channels, each outcome
// would step a thousand cores.
func (m *Machine) Listen(core, who string) {
	if !slices.Contains(m.listeners[core], who) {
		m.listeners[core] = append(m.listeners[core], who)
	}
}

// Remove takes a core out. Events that still come for it are answered as for
// one that never was.
func (m *Machine) Remove(name string) { delete(m.seats, name) }

// Core returns the core called name, or nil. Only the goroutine that calls
// Round may look at it.
func (m *Machine) Core(name string) Core {
	if s := m.seats[name]; s != nil {
		return s.core
	}
	return nil
}

// Names lists the cores in alphabetical order.
func (m *Machine) Names() []string {
	names := make([]string, 0, len(m.seats))
	for name := range m.seats {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Round steps every core that something has happened to, and then those that
// they spoke to, until all are quiet. A core that panics is broken: it is never
// stepped again, its part of the round is dropped, and the others go on.
func (m *Machine) Round(at step.Time, events []Event) step.Effects {
	var fx step.Effects
	for wave := 0; len(events) > 0; wave++ {
		step.Assert(wave < MaxWaves, "cores still talk after %d waves: %+v", wave, events[0])
		next := &m.next[wave%2]
		*next = m.wave(at, events, &fx, (*next)[:0])
		if wave > 0 {
			clear(events) // ours: let go of what it holds
		}
		events = *next
	}
	return fx
}

// wave appends to next what the cores tell one another.
func (m *Machine) wave(at step.Time, events []Event, fx *step.Effects, next []Event) []Event {
	touched := m.touched[:0]
	for _, e := range m.addressed(events) {
		s := m.seats[e.Core]
		if s == nil || s.broken != nil {
			fx.Done = append(fx.Done, refusal(e, s))
			continue
		}
		if len(s.waiting) == 0 {
			touched = append(touched, s)
		}
		s.waiting = append(s.waiting, e.What)
	}
	for _, s := range touched {
		did := s.step(at)
		fx.Put = join(fx.Put, did.Put)
		for _, p := range did.Send {
			p.From = s.name
			if m.seats[p.To] != nil {
				next = append(next, Event{p.To, step.Recv{From: s.name, Msg: p.Msg}})
			} else {
				fx.Send = append(fx.Send, p)
			}
		}
		for _, a := range did.Wake {
			a.Core = s.name
			fx.Wake = append(fx.Wake, a)
		}
		for i := range did.Done {
			did.Done[i].Core = s.name
		}
		fx.Done = join(fx.Done, did.Done)
		if len(m.listeners[s.name]) == 0 {
			continue
		}
		for _, d := range did.Done {
			for _, who := range m.listeners[s.name] {
				if m.seats[who] != nil {
					next = append(next, Event{who, step.Recv{From: s.name, Msg: d}})
				}
			}
		}
	}
	m.touched = touched
	return next
}

// join is append that does not copy what comes first.
func join[T any](all, more []T) []T {
	if len(all) == 0 {
		return more
	}
	return append(all, more...)
}

// addressed turns events for all cores into one for each.
func (m *Machine) addressed(events []Event) []Event {
	if !slices.ContainsFunc(events, func(e Event) bool { return e.Core == "" }) {
		return events
	}
	var each []Event
	for _, e := range events {
		if e.Core != "" {
			each = append(each, e)
			continue
		}
		for _, name := range m.Names() {
			each = append(each, Event{name, e.What})
		}
	}
	return each
}

// step gives the core what waits for it. The core may keep the events, not the
// slice.
func (s *seat) step(at step.Time) (fx step.Effects) {
	events := s.waiting
	defer func() {
		clear(events)
		s.waiting = events[:0]
		if r := recover(); r != nil {
			s.broken = &money.Error{Kind: money.Broken, Op: "step " + s.name, Err: fmt.Errorf("%v\n%s", r, debug.Stack())}
			fx = step.Effects{Done: []step.Outcome{{ID: Died, Err: s.broken}}}
		}
	}()
	return s.core.Step(step.Input{At: at, Events: events})
}

// Died is the ID of the outcome that reports a broken core.
const Died = "died"

// refusal answers an event that no core can take.
func refusal(e Event, s *seat) step.Outcome {
	if s != nil {
		return step.Outcome{Core: e.Core, ID: Died, Err: s.broken}
	}
	return step.Outcome{Core: e.Core, ID: Died, Err: &money.Error{Kind: money.Refused, Op: "tell " + e.Core, Err: ErrNoCore}}
}
