package c_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coinop.dev/core/earn"
	"coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
	"coinop.dev/world/store/mem"
)

// boss is a gateway that gives commands and keeps the answers.
type boss struct {
	*pair
	d    *commissioned
	mu   sync.Mutex
	acks []fleet.Ack
}

func newBoss(t *testing.T, seed uint64, shared bool) *boss {
	c := newChaos(seed)
	d := newTerms(t, c, 4, 2, 1)
	if shared {
		d.shared = c.secret(t)
	}
	b := &boss{d: d, pair: &pair{agent: newAgent(t, d)}}
	b.message = func(raw []byte) {
		m, err := message.Decode(raw)
		if m == nil || !bytes.Equal(m.Append(nil), raw) {
			t.Errorf("the device says %x: %v", raw, err)
		}
		if a, ok := m.(fleet.Ack); ok {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.acks = append(b.acks, a)
			if !a.Verify(d.key.Public(), d.shared) {
				t.Errorf("the device did not sign %+v", a)
			}
		}
	}
	return b
}

func (b *boss) give(c fleet.Command) { b.tell('M', c.Append(nil)) }

// answer waits for the next ack.
func (b *boss) answer() (a fleet.Ack) {
	b.t.Helper()
	until(b.t, "an acknowledgement", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.acks) == 0 {
			return false
		}
		a, b.acks = b.acks[0], b.acks[1:]
		return true
	})
	return a
}

// silent checks that nothing is answered: what comes after is.
func (b *boss) silent(what string) {
	b.t.Helper()
	time.Sleep(100 * time.Millisecond)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.acks) > 0 {
		b.t.Errorf("%s is answered with %+v", what, b.acks)
	}
	b.acks = nil
}

func TestADeviceActsOnceForEachCommand(t *testing.T) {
	for name, shared := range map[string]bool{"by keys": false, "by a shared secret": true} {
		t.Run(name, func(t *testing.T) {
			b := newBoss(t, 21, shared)
			b.start(-1)
			first := b.d.command(1, orderID(1), "water")
			b.give(first)
			a := b.answer()
			if !a.OK || a.Counter != 1 || a.Seq != 1 || a.Order != orderID(1) || string(a.Reading) != "42" {
				t.Fatalf("%+v", a)
			}
			b.give(first)
			if again := b.answer(); !equalAcks(again, a) {
				t.Errorf("repeated: %+v", again)
			}
			b.kill()
			b.start(-1)
			b.give(first)
			if again := b.answer(); !equalAcks(again, a) {
				t.Errorf("repeated after a power cut: %+v", again)
			}
			b.give(b.d.command(2, orderID(2), "jam"))
			if a := b.answer(); a.OK || a.Unknown || a.Counter != 2 || a.Why != "it is jammed" {
				t.Errorf("jammed: %+v", a)
			}
			b.give(first) // of which the device has kept only how it went
			if a := b.answer(); !a.OK || a.Counter != 3 || a.Order != orderID(1) || len(a.Reading) != 0 {
				t.Errorf("repeated late: %+v", a)
			}
			for _, n := range []uint64{1, 2} { // remembered, and not
				b.give(b.d.command(n, orderID(7), "water"))
				if a := b.answer(); a.Order == orderID(7) || a.Seq != n {
					t.Errorf("another order's number %d: %+v", n, a)
				}
			}
			for _, n := range []uint64{40, 38, 39, 41} { // some were lost, and come later
				b.give(b.d.command(n, orderID(n), "water"))
				if a := b.answer(); !a.OK || a.Seq != n {
					t.Errorf("command %d: %+v", n, a)
				}
			}
			b.give(b.d.command(9, orderID(9), "water")) // too old: a gateway with an old memory learns how far they were
			if a := b.answer(); a.Seq != 41 {
				t.Errorf("command 9 after 41: %+v", a)
			}
			if got, want := b.acted(), []money.OrderID{orderID(1), orderID(40), orderID(38), orderID(39), orderID(41)}; !slices.Equal(got, want) {
				t.Errorf("it acted on %v, not %v", got, want)
			}
		})
	}
}

func equalAcks(a, b fleet.Ack) bool { return bytes.Equal(a.Append(nil), b.Append(nil)) }

func TestOnlyTheGatewayCommands(t *testing.T) {
	b := newBoss(t, 22, false)
	b.start(-1)
	c, good := newChaos(23), b.d.command(1, orderID(1), "water")
	other := good
	other.Device = "pump-4"
	more := good
	more.Units = 4
	for _, bad := range []fleet.Command{
		good.Seal(c.secret(t), b.d.key.Public(), keys.Secret{}), other.Seal(b.d.gateway, b.d.key.Public(), keys.Secret{}), more,
		good.Seal(b.d.gateway, c.secret(t).Public(), keys.Secret{}), good.Seal(keys.Secret{}, keys.Public{}, c.secret(t)),
	} {
		b.give(bad)
	}
	b.silent("a command of nobody's")
	b.give(good)
	if a := b.answer(); !a.OK || a.Counter != 1 {
		t.Errorf("%+v", a)
	}
}

// A deadline needs a clock; without one nobody can say that it is not too late.
func TestTooLateIsNotDone(t *testing.T) {
	b := newBoss(t, 24, false)
	b.start(-1)
	now := uint64(time.Now().UnixMilli())
	dated := func(n, at uint64) fleet.Command {
		c := b.d.command(n, orderID(n), "water")
		c.Until = step.Time(at)
		return c.Seal(b.d.gateway, b.d.key.Public(), keys.Secret{})
	}
	b.give(dated(1, now+60_000))
	if a := b.answer(); a.OK || a.Unknown || a.Why != "its clock is not set" {
		t.Errorf("no clock: %+v", a)
	}
	b.tell('C', binary.BigEndian.AppendUint64(nil, now))
	b.give(dated(2, now-1))
	if a := b.answer(); a.OK || a.Unknown || a.Why != "it came too late" {
		t.Errorf("late: %+v", a)
	}
	b.give(dated(3, now+60_000))
	if a := b.answer(); !a.OK {
		t.Errorf("in time: %+v", a)
	}
}

// What takes long is acknowledged when it is done; if the power fails before,
// nobody knows, and the device says so and does not do it again.
func TestAPowerCutWhileActingIsUnknown(t *testing.T) {
	b := newBoss(t, 25, false)
	b.start(-1)
	b.tell('K')
	b.give(b.d.command(1, orderID(1), "water"))
	b.give(b.d.command(2, orderID(2), "water"))
	b.silent("a command that is not done")
	b.tell('D')
	if a := b.answer(); !a.OK || a.Seq != 1 {
		t.Errorf("done: %+v", a)
	}
	b.give(b.d.command(2, orderID(2), "water"))
	until(t, "it begins", func() bool { return len(b.acted()) == 2 })
	b.kill()
	b.start(-1)
	b.tell('L')
	if a := b.answer(); !a.Unknown || a.Seq != 2 || a.Counter != 2 {
		t.Errorf("after the power cut: %+v", a)
	}
	b.give(b.d.command(2, orderID(2), "water"))
	if a := b.answer(); !a.Unknown || a.Counter != 2 || len(b.acted()) != 2 {
		t.Errorf("repeated: %+v, acted on %v", a, b.acted())
	}
}

// The gateway's own fleet, which numbers, seals, repeats and checks, commands the
// device over a link that loses every other message, and tells it the time.
func TestTheFleetCommandsADevice(t *testing.T) {
	t.Parallel()
	b := newBoss(t, 26, false)
	g := &gateway{t: t, d: b.d}
	db, err := mem.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	g.host = drive.NewHost(db, func() step.Time { return step.Time(time.Now().UnixMilli()) })
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() { g.host.Run(ctx); close(stopped) }()
	t.Cleanup(func() { stop(); <-stopped })
	delivered := make(chan earn.Delivered, 16)
	seller := coreFunc(func(in step.Input) (fx step.Effects) {
		for _, event := range in.Events {
			if recv, ok := event.(step.Recv); ok {
				if d, ok := recv.Msg.(earn.Delivered); ok {
					delivered <- d
				}
			}
		}
		return fx
	})
	commander := fleet.New(fleet.Config{Root: newChaos(27).secret(t), Node: b.d.gateway})
	for name, core := range map[string]drive.Core{earn.Name: seller, fleet.Name: commander} {
		if err := g.host.Add(ctx, name, core); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.host.Ask(ctx, fleet.Name, "add", fleet.Add{Ask: "add", Devices: []fleet.Profile{{Name: b.d.name, Key: b.d.key.Public()}}}); err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int64
	g.host.Outlet(fleet.Outlet(b.d.name), func(p step.Packet) {
		if sent.Add(1)%2 == 1 {
			b.tell('M', p.Msg.(message.Message).Append(nil))
		}
	})
	keep := b.message
	b.message = func(raw []byte) {
		keep(raw)
		if m, _ := message.Decode(raw); m != nil && m.Core() == fleet.Name {
			g.host.Tell(ctx, fleet.Name, step.Recv{From: b.d.key.Public().PeerName(), Msg: m})
		}
	}
	b.start(-1)
	b.tell('L') // it says its status, and is told the time
	until(t, "the fleet knows that it is there", func() bool { return sent.Load() > 0 })
	for i, item := range []string{"water", "jam"} {
		deliver := earn.Deliver{Order: orderID(uint64(i)), Item: item, Units: 1, Device: b.d.name, Until: step.Time(time.Now().Add(time.Minute).UnixMilli())}
		g.host.Tell(ctx, fleet.Name, step.Recv{From: earn.Name, Msg: deliver})
		select {
		case d := <-delivered:
			if (d.Err == nil) != (item == "water") || d.Order != deliver.Order || item == "water" && string(d.Payload) != "42" {
				t.Errorf("%s: %+v", item, d)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: no answer", item)
		}
	}
	if acted := b.acted(); len(acted) != 1 {
		t.Errorf("it acted on %v", acted)
	}
}

// coreFunc is a core of one function.
type coreFunc func(step.Input) step.Effects

func (f coreFunc) Step(in step.Input) step.Effects { return f(in) }
