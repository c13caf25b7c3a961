package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/step"
	"coinop.dev/engine"
)

// MaxSeats bounds the devices that are at the doors of a machine.
const MaxSeats = engine.MaxAttached

// A Seat is a device's place at a machine for as long as a door has a line to it:
// what the machine says to the device goes down that line, and what the device says
// is told under the name that the door knows it by. A device has one seat, the last
// it took.
type Seat struct {
	name    string
	shop    *Shop
	receive func(message.Message)
	detach  func()
}

// A Saying is what goes to a device: a message of core/fleet or core/message, behind
// its two-byte type.
type Saying interface{ Append(b []byte) []byte }

// seats are the devices that are here. Its lock may be held when the host's is
// wanted, which the shop's own may not.
type seats struct {
	mu     sync.Mutex
	byName map[string]*Seat
}

// Seat gives a device its place. key is its name as a peer; one that has none gets
// and gives commands and acknowledgements, and no money. say is called on the host's
// goroutine and must not block: what it cannot take is lost, as on any network.
func (s *Shop) Seat(name string, key keys.Public, say func(Saying)) (*Seat, error) {
	d := &Seat{name: name, shop: s, receive: func(message.Message) {}, detach: func() {}}
	s.seats.mu.Lock()
	defer s.seats.mu.Unlock()
	old := s.seats.byName[name]
	if old == nil && len(s.seats.byName) >= MaxSeats {
		return nil, refused("seat "+name, fmt.Errorf("%d devices are here already", MaxSeats))
	}
	if key != (keys.Public{}) {
		var err error
		if d.receive, d.detach, err = s.m.Attach(key, func(msg message.Message) { say(msg) }); err != nil {
			return nil, refused("seat "+name, err)
		}
	}
	if old != nil {
		old.detach()
	}
	if s.seats.byName == nil {
		s.seats.byName = map[string]*Seat{}
	}
	s.seats.byName[name] = d
	s.m.Host.Outlet(fleet.Outlet(name), func(p step.Packet) {
		if msg, ok := p.Msg.(fleet.Message); ok {
			say(msg)
		}
	})
	return d, nil
}

// Leave gives the place up, and says that the device is away unless it sits elsewhere
// by now.
func (d *Seat) Leave() {
	all, m := &d.shop.seats, d.shop.m
	d.detach()
	all.mu.Lock()
	last := all.byName[d.name] == d
	if last {
		delete(all.byName, d.name)
		m.Host.Outlet(fleet.Outlet(d.name), nil)
	}
	all.mu.Unlock()
	if last {
		d.Online(m.Context(), false)
	}
}

// Online says whether the device is there, which has the fleet send what is
// outstanding.
func (d *Seat) Online(ctx context.Context, there bool) error {
	return d.shop.m.Host.Tell(ctx, fleet.Name, fleet.Seen{Name: d.name, Online: there})
}

var errShort = errors.New("a message has two bytes of type")

// Hear takes one message of the device and gives it to whom it is for. It blocks
// while the machine is busy.
func (d *Seat) Hear(ctx context.Context, raw []byte) error {
	if len(raw) < 2 {
		return errShort
	}
	if fleet.Owns(binary.BigEndian.Uint16(raw)) {
		return d.report(ctx, raw)
	}
	msg, err := message.Decode(raw)
	if err == nil && msg != nil {
		d.receive(msg)
	}
	return err
}

// report tells the fleet what the device says of itself.
func (d *Seat) report(ctx context.Context, raw []byte) error {
	msg, err := fleet.Decode(raw)
	if err != nil {
		return err
	}
	var event any
	switch msg := msg.(type) {
	case fleet.Ack:
		event = fleet.Acked{Name: d.name, Ack: msg}
	case fleet.Status:
		event = fleet.Seen{Name: d.name, Firmware: msg.Firmware, Online: true}
	case fleet.Trouble:
		event = fleet.Failed{Name: d.name, Text: msg.Text}
	default:
		return fmt.Errorf("%T is not a device's to say", msg)
	}
	return d.shop.m.Host.Tell(ctx, fleet.Name, event)
}
