package sim

import (
	"fmt"
	"slices"

	"coinop.dev/core/message"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
	"coinop.dev/world/link"
)

// carry is the network without connections.
func (w *World) carry(from, to *Machine, raw []byte) {
	copies := 1
	switch {
	case w.chance("net", w.Faults.Lose) || from.cutTo > w.Now || to.cutTo > w.Now:
		copies = 0
	case w.chance("net", w.Faults.Repeat):
		copies = 2
	}
	for range copies {
		w.deliver(from, to, raw)
	}
	if w.chance("forge", w.Faults.Forge) {
		if bad := forge(raw, w.Random("forge")); bad != nil {
			w.deliver(from, to, bad)
		}
	}
}

func (w *World) deliver(from, to *Machine, raw []byte) {
	delay := 1 + step.Time(w.Random("net").Int64N(int64(max(w.Faults.DelayMax, 1))))
	if w.Distance != nil {
		delay += w.Distance(from, to)
	}
	w.at(w.Now+delay, func() {
		msg, err := message.Decode(raw)
		if err != nil || msg == nil || msg.Core() == "" {
			w.log("%s drops %x", short(to), raw[:min(2, len(raw))])
			return
		}
		w.step(to, drive.Event{Core: msg.Core(), What: step.Recv{From: from.Name, Msg: msg}})
	})
}

// Weather lets machines fall off the network now and then, until a time.
func (w *World) Weather(until step.Time) {
	for t := w.Now + step.Second; t < until; t += step.Second {
		w.at(t, func() {
			for _, m := range w.order {
				if w.chance("partition", w.Faults.Partition) {
					m.cutTo = w.Now + step.Time(w.Random("partition").Int64N(int64(10*step.Second)))
					w.log("%s is cut off for %d ms", short(m), m.cutTo-w.Now)
					w.unplug(m)
				}
			}
		})
	}
}

// Calm ends all faults, so that everything can settle.
func (w *World) Calm() {
	w.Faults = Faults{DelayMax: 10}
	for _, m := range w.order {
		m.cutTo = 0
	}
}

// Dialling is how long it takes at most until a connection that was cut is made
// again.
const Dialling = 5 * step.Second

// A cable is where two machines are connected, again and again.
type cable struct {
	ends [2]*Machine
	conn *conn // the current connection, or nil
}

// A conn is one connection. Messages over it keep their order and are not lost
// singly: when it is cut, each end still gets what was there already, is told
// that it is over, and gets no more.
type conn struct {
	cut  bool // what is sent goes nowhere
	ends [2]end
}

type end struct {
	m      *Machine
	life   int    // of the machine: a crash ends the connection
	number uint64 // as its cores know the connection
	open   bool   // they do
	last   step.Time
}

// alive tells whether cores on this end know the connection.
func (e *end) alive() bool { return e.open && e.life == e.m.life }

// Connect puts a cable between two machines. The first connection over it, and
// every later one, is told to both as step.Linked, by two numbers of its own.
func (w *World) Connect(a, b *Machine) {
	c := &cable{ends: [2]*Machine{a, b}}
	w.cables = append(w.cables, c)
	w.dial(c, w.Now)
}

// dial connects at a time, if both machines are in the network then.
func (w *World) dial(c *cable, at step.Time) {
	w.at(at, func() {
		if off := max(c.ends[0].cutTo, c.ends[1].cutTo); off > w.Now {
			w.dial(c, off+w.delay(Dialling))
			return
		}
		n := &conn{}
		c.conn = n
		for i, m := range c.ends {
			w.links++
			n.ends[i] = end{m: m, life: m.life, number: w.links, last: w.Now + w.delay(w.Faults.DelayMax)}
		}
		for i := range n.ends {
			e, peer := &n.ends[i], n.ends[1-i].m
			w.at(e.last, func() {
				if e.open = !n.cut && e.life == e.m.life; e.open {
					w.step(e.m, drive.Event{What: step.Linked{Peer: peer.Name, Link: e.number}})
				}
			})
		}
	})
}

// delay is at least one millisecond, of the stream that connections use.
func (w *World) delay(most step.Time) step.Time {
	return 1 + step.Time(w.Random("link").Int64N(int64(max(most, 1))))
}

// send sends over a connection, by the number that the sending end has for it.
func (w *World) send(from, to *Machine, number uint64, raw []byte) {
	i := slices.IndexFunc(w.cables, func(c *cable) bool { return c.conn != nil && c.conn.from(from, to, number) >= 0 })
	if i < 0 {
		w.log("%s sends over %d, which is gone", short(from), number)
		return
	}
	if len(raw) > link.MaxMessage {
		w.Fail(fmt.Errorf("%s sends a message of %d bytes; a link carries %d", from.Name, len(raw), link.MaxMessage))
		return
	}
	c := w.cables[i]
	if w.chance("cut", w.Faults.Cut) {
		defer w.cut(c) // with this message on the way
	}
	e := &c.conn.ends[1-c.conn.from(from, to, number)]
	e.last = max(e.last, w.Now+w.delay(w.Faults.DelayMax))
	w.at(e.last, func() {
		if !e.alive() {
			return
		}
		msg, err := message.Decode(raw)
		if err != nil {
			w.Fail(fmt.Errorf("%s sends what cannot be read: %x: %w", from.Name, raw, err))
			return
		}
		if msg == nil || msg.Core() == "" {
			w.log("%s drops %x", short(to), raw[:min(2, len(raw))])
			return
		}
		w.step(to, drive.Event{Core: msg.Core(), What: step.Recv{From: from.Name, Msg: msg, Link: e.number}})
	})
}

// from is which end of the connection has that number, or -1.
func (n *conn) from(from, to *Machine, number uint64) int {
	return slices.IndexFunc(n.ends[:], func(e end) bool {
		return e.number == number && e.m == from && e.alive() && (n.ends[0].m == to || n.ends[1].m == to)
	})
}

// cut ends a connection. Each end learns of it in its own time, and until then
// gets what was on the way; a later connection is made when both have.
func (w *World) cut(c *cable) {
	n := c.conn
	if n == nil {
		return
	}
	c.conn, n.cut = nil, true
	both := w.Now
	for i := range n.ends {
		e, peer := &n.ends[i], n.ends[1-i].m
		at := w.Now + w.delay(w.Faults.DelayMax)
		both = max(both, at)
		w.at(at, func() {
			if e.alive() {
				e.open = false
				w.step(e.m, drive.Event{What: step.Unlinked{Peer: peer.Name, Link: e.number}})
			}
		})
	}
	w.dial(c, both+w.delay(Dialling))
}

// unplug cuts all that a machine is connected by. One that starts again knows of
// none, and is told nothing.
func (w *World) unplug(m *Machine) {
	for _, c := range w.cables {
		if slices.Contains(c.ends[:], m) {
			w.cut(c)
		}
	}
}

func short(m *Machine) string { return m.Name[:min(9, len(m.Name))] }
