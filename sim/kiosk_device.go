package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"coinop.dev/core/earn"
	"coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
)

// A thing is a device: a machine with one core, and what it does in the real world.
type thing struct {
	name   string
	m      *Machine
	config fleet.EndConfig
	sensor bool // it knows what it has done
	broken bool // it does nothing, and says so
	slow   bool // it takes longer than its orders have

	acted map[money.OrderID]int    // in the world, whatever anybody remembers
	said  map[string]money.OrderID // what it has signed that it did, by the ack's bytes

	copied   *Disk // an old copy of its memory
	restored bool
}

// furnish puts the devices into the world: a tap that is linked as a peer and has a
// sensor, a pump that shares a secret, and a lamp, which knows nothing of itself
// after a power cut and may be restored from an old copy.
func (k *Kiosk) furnish() error {
	for i, name := range []string{"lamp", "pump", "tap", "valve"} {
		t := &thing{name: name, sensor: i == 1 || i == 2, acted: map[money.OrderID]int{}, said: map[string]money.OrderID{}}
		t.config = fleet.EndConfig{
			Device: name, Resume: t.sensor, Firmware: "1",
			Gateways: []keys.Public{k.fleets[0].Node.Public(), k.fleets[1].Node.Public()},
		}
		at := fleet.Outlet(name)
		switch name {
		case "pump":
			t.config.Shared = fleet.Secret(k.fleets[0].Root, name, uint32(i+1))
		case "tap":
			t.config.Key = k.sellerKey.Derive("sim/" + name)
			at = t.config.Key.Public().PeerName()
		default:
			t.config.Key = k.sellerKey.Derive("sim/" + name)
		}
		r := k.Random("things")
		t.broken, t.slow = name == "lamp" && r.IntN(3) == 0, name == "valve" && r.IntN(2) == 0
		var err error
		t.m, err = k.Add(at, func(db step.Reader) (*drive.Machine, error) {
			end, err := fleet.LoadEnd(db, t.config)
			m := drive.NewMachine()
			if err == nil {
				m.Add(fleet.EndName, k.wrap(fleet.EndName, end))
			}
			return m, err
		})
		if err != nil {
			return err
		}
		k.things = append(k.things, t)
		if name == "tap" {
			k.Connect(t.m, k.seller)
		}
	}
	return nil
}

func (k *Kiosk) thing(m *Machine) *thing {
	for _, t := range k.things {
		if t.m == m {
			return t
		}
	}
	return nil
}

func (k *Kiosk) named(name string) *thing {
	for _, t := range k.things {
		if t.name == name {
			return t
		}
	}
	return nil
}

// act is what an actuator does: once, in time, and for nothing that is not paid.
// It may be jammed, slow, or never answer, and it may not know.
func (k *Kiosk) act(t *thing, a fleet.Act) {
	r := k.Random("actuator")
	now := k.clock(t.m)
	done := fleet.Acted{Gateway: a.Gateway, Seq: a.Seq, Reading: []byte(a.Item)}
	switch {
	case a.Again && t.acted[a.Order] > 0:
	case a.Again && a.Until != 0 && a.Until <= now:
		done.Err = errors.New("the power came back too late")
	case t.broken || !k.calm && r.IntN(10) == 0:
		done.Err = errors.New("jammed")
	default:
		k.log("%s acts for %v", t.name, a.Order)
		t.acted[a.Order]++
		k.mayAct(t, a, now)
	}
	late := step.Time(r.Int64N(500))
	switch {
	case k.calm:
	case t.slow && r.IntN(2) == 0:
		late += 5*step.Second + step.Time(r.Int64N(int64(10*step.Second)))
	case r.IntN(20) == 0:
		return // it hangs until it is switched off and on
	case r.IntN(20) == 0:
		done.Unknown = true
	}
	life := t.m.life
	k.At(k.Now+late, func() {
		if t.m.life == life { // what was asked before a power cut is not answered after it
			k.Tell(k.Now, t.m, fleet.EndName, done)
		}
	})
}

// mayAct checks an act the moment it begins.
func (k *Kiosk) mayAct(t *thing, a fleet.Act, now step.Time) {
	o, s := k.till().Order(a.Order), k.byID[a.Order]
	switch {
	case s == nil:
		k.Fail(fmt.Errorf("device %s acts for order %v, which nobody has made", t.name, a.Order))
	case t.acted[a.Order] > 1 && !t.restored:
		k.Fail(fmt.Errorf("device %s acts %d times for order %v", t.name, t.acted[a.Order], a.Order))
	case a.Until != 0 && a.Until <= now && !a.Again:
		k.Fail(fmt.Errorf("device %s acts for order %v %d ms after its expiry", t.name, a.Order, now-a.Until))
	case s.Device != t.name || s.To != earn.Fleet || a.Test != s.Test:
		k.Fail(fmt.Errorf("device %s acts for order %v, which is of %s (test: %t, %t)", t.name, a.Order, s.Device, s.Test, a.Test))
	case !s.Test && (o.State == "quoted" || o.Paid < s.Quote.Due):
		k.Fail(fmt.Errorf("device %s acts for order %v, which is %s with %v of %v", t.name, a.Order, o.State, o.Paid, s.Quote.Due))
	}
}

// restore gives a device an old copy of its memory.
func (k *Kiosk) restore(t *thing) {
	if t.copied == nil || k.calm {
		return
	}
	t.m.Disk, t.restored = t.copied.copy(), true
	k.log("%s is restored from an old copy", t.name)
	k.reboot(t.m)
}

// sent hears what leaves a machine, and keeps some of it to play it again.
func (k *Kiosk) sent(m *Machine, p step.Packet) {
	msg, ok := p.Msg.(message.Message)
	if !ok {
		return
	}
	switch msg := msg.(type) {
	case fleet.Ack:
		if t := k.thing(m); t != nil && msg.OK {
			t.said[string(msg.Append(nil))] = msg.Order
		}
	case fleet.Command:
	default:
		return
	}
	k.kept = append(k.kept, msg.Append(nil))
}

// attack plays what was overheard: again and late, to somebody else, or changed.
func (k *Kiosk) attack(r *rand.Rand) {
	if len(k.kept) == 0 {
		return
	}
	raw := k.kept[r.IntN(len(k.kept))]
	msg, err := message.Decode(raw)
	if err != nil {
		k.Fail(err)
		return
	}
	t := k.things[r.IntN(len(k.things))]
	switch m := msg.(type) {
	case fleet.Ack:
		k.deliver(t.m, k.seller, k.twist(m, r).Append(nil))
	case fleet.Command:
		if r.IntN(2) == 0 {
			t = k.named(m.Device)
		}
		switch r.IntN(5) {
		case 0:
			m.Device = t.name
		case 1:
			m.Seq += 1 + r.Uint64N(5)
		case 2:
			m.Until += step.Time(r.Int64N(int64(step.Hour)))
		case 3:
			m.Sig = slices.Clone(m.Sig)
			m.Sig[r.IntN(len(m.Sig))] ^= 1
		}
		k.deliver(k.seller, t.m, m.Append(nil))
	}
}

// twist changes an acknowledgement, or leaves it as it is: an old one.
func (k *Kiosk) twist(m fleet.Ack, r *rand.Rand) fleet.Ack {
	switch r.IntN(7) {
	case 0:
		m.OK, m.Unknown, m.Why = true, false, ""
	case 1:
		m.Seq += 1 + r.Uint64N(3)
	case 2:
		m.Counter += 1 + r.Uint64N(3)
	case 3, 4: // to an order that waits
		for _, s := range k.sales {
			if o := k.till().Order(s.id); s.To == earn.Fleet && o.Item != "" && (o.State == "held" || o.State == "paid") {
				m.Order, m.Device, m.OK, m.Unknown, m.Why = s.id, s.Device, true, false, ""
				break
			}
		}
	case 5:
		m.Device = k.things[r.IntN(len(k.things))].name
	}
	return m
}

// witness stands before the fleet and notes which acknowledgements come, and how
// the orders stand at that moment.
type witness struct {
	drive.Core
	k *Kiosk
}

func (w *witness) Unwrap() drive.Core { return w.Core }

func (w *witness) Step(in step.Input) step.Effects {
	for _, event := range in.Events {
		r, ok := event.(step.Recv)
		if !ok {
			continue
		}
		if a, ok := r.Msg.(fleet.Ack); ok {
			w.k.hears(a, in.At)
		}
	}
	return w.Core.Step(in)
}

// hears notes an acknowledgement that the books must believe: its device's own, for
// an order that waits, before its deadline and before anything else was said of it.
func (k *Kiosk) hears(a fleet.Ack, now step.Time) {
	t := k.named(a.Device)
	if t == nil || t.restored || t.said[string(a.Append(nil))] != a.Order {
		return
	}
	o := k.till().Order(a.Order)
	if (o.State == "held" || o.State == "paid") && o.Item != "" && (o.Until == 0 || now < o.Until) {
		k.heard = append(k.heard, a.Order)
	}
}

// believed checks what was witnessed in the step that has just been carried out.
func (k *Kiosk) believed() error {
	heard := k.heard
	k.heard = nil
	if k.seller.life != k.life {
		k.life = k.seller.life
		return nil // a crash came between, and the device says it again
	}
	for _, id := range heard {
		if o := k.till().Order(id); o.State != "delivered" && o.State != "settled" {
			return fmt.Errorf("order %v was acknowledged in time, and is %s: %s", id, o.State, o.Why)
		}
	}
	return nil
}

// builtIn is the outlet of what is built in: it does an order once, and answers
// each time it is asked.
func (k *Kiosk) builtIn(d earn.Deliver) {
	r := k.Random("built in")
	now := k.clock(k.seller)
	answer := earn.Delivered{Order: d.Order, Payload: []byte("goods")}
	switch {
	case k.within[d.Order]:
	case d.Until != 0 && d.Until <= now:
		answer.Err = &money.Error{Kind: money.Refused, Op: "deliver", Err: errors.New("too late")}
	case !k.calm && r.IntN(8) == 0:
		answer.Err = errors.New("stuck")
	case !k.calm && r.IntN(8) == 0:
		answer.Err = &money.Error{Kind: money.Refused, Op: "deliver", Err: errors.New("sold out")}
	case !k.calm && r.IntN(8) == 0:
		return
	default:
		k.within[d.Order] = true
		o, s := k.till().Order(d.Order), k.byID[d.Order]
		if s == nil || o.Paid < s.Quote.Due || o.State == "quoted" {
			k.Fail(fmt.Errorf("order %v is delivered, and is %s with %v", d.Order, o.State, o.Paid))
		}
	}
	k.Tell(k.Now+step.Time(r.Int64N(3000)), k.seller, earn.Name, answer)
}
