package fleet_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"coinop.dev/core/earn"
	"coinop.dev/core/fleet"
	"coinop.dev/core/journal"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
)

// books is as much of core/earn as a fleet sees: orders that are owed until they
// are delivered, given back, or too late.
type books struct {
	orders map[money.OrderID]*owed
}

type owed struct {
	device string
	until  step.Time
	state  string // owed, delivered, refunded, unknown
	doubt  bool   // the fleet cannot say; asked for again all the same
}

func (b *books) Step(in step.Input) (fx step.Effects) {
	for _, event := range in.Events {
		switch ev := event.(type) {
		case earn.Deliver: // a new order, paid
			b.orders[ev.Order] = &owed{device: ev.Device, until: ev.Until, state: "owed"}
			fx.Put = append(fx.Put, b.record(ev.Order))
			fx.Send = append(fx.Send, step.Packet{To: fleet.Name, Msg: ev})
		case step.Recv:
			if d, ok := ev.Msg.(earn.Delivered); ok {
				b.delivered(d, in.At, &fx)
			}
		case step.Rang:
			for id, o := range b.orders {
				if o.state == "owed" {
					fx.Send = append(fx.Send, step.Packet{To: fleet.Name, Msg: earn.Deliver{Order: id, Item: "beer", Units: 1, Device: o.device, Until: o.until}})
				}
			}
			slices.SortFunc(fx.Send, func(a, b step.Packet) int {
				x, y := a.Msg.(earn.Deliver).Order, b.Msg.(earn.Deliver).Order
				return slices.Compare(x[:], y[:])
			})
		}
	}
	return fx
}

func (b *books) delivered(d earn.Delivered, now step.Time, fx *step.Effects) {
	o := b.orders[d.Order]
	switch {
	case o == nil || o.state != "owed":
		return
	case d.Err == nil:
		o.state = "delivered"
	case errors.Is(d.Err, money.Refused) || errors.Is(d.Err, money.Invalid):
		o.state = "refunded" // certainly nothing was done
	case errors.Is(d.Err, money.Pending) && o.until != 0:
		o.state = "unknown"
	default: // tried again, as core/earn does
		o.doubt = errors.Is(d.Err, money.Pending)
		fx.Wake = append(fx.Wake, step.Alarm{ID: "deliver", At: now + 5*step.Second})
		return
	}
	fx.Put = append(fx.Put, b.record(d.Order))
}

func (b *books) record(id money.OrderID) step.Record {
	o := b.orders[id]
	v := binary.BigEndian.AppendUint64(nil, uint64(o.until))
	return step.Record{Key: "books/" + id.Key(), Value: append(v, o.device+"|"+o.state...)}
}

func loadBooks(d disk) *books {
	b := &books{map[money.OrderID]*owed{}}
	d.Scan("books/", func(key string, value []byte) bool {
		id, _ := money.OrderIDFromKey(key[len("books/"):])
		o := &owed{until: step.Time(binary.BigEndian.Uint64(value))}
		o.device, o.state, _ = cut(string(value[8:]))
		b.orders[id] = o
		return true
	})
	return b
}

func cut(s string) (string, string, bool) {
	for i := range s {
		if s[i] == '|' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// world is a gateway and two devices, a network between them that loses, repeats
// and reorders, and power cuts anywhere.
type world struct {
	t    *testing.T
	r    *rand.Rand
	now  step.Time
	calm bool // no more faults

	config  fleet.Config
	gateway *drive.Machine
	fleet   *fleet.Fleet
	books   *books
	disk    disk
	writer  *drive.Writer
	alarms  map[string]step.Alarm // each core has one

	devices map[string]*thing
	flying  []packet
	orders  int
}

// maxFlying is what the network holds; the oldest messages are lost first.
const maxFlying = 100

type packet struct {
	to  string // a device, or "" for the gateway
	msg any
}

// thing is a device and what it does in the real world.
type thing struct {
	config fleet.EndConfig
	end    *fleet.End
	disk   disk
	busy   []fleet.Act // begun and not answered
	fired  map[money.OrderID]int
	fails  map[money.OrderID]bool
	sensor bool // it knows what it has done
}

func (w *world) boot() {
	f, err := fleet.Load(w.disk, w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.fleet, w.books = f, loadBooks(w.disk)
	w.gateway = drive.NewMachine()
	w.gateway.Add(fleet.Name, f)
	w.gateway.Add(earn.Name, w.books)
	w.gateway.Add(journal.Name, &journal.Journal{})
	w.alarms = map[string]step.Alarm{}
	w.writer = &drive.Writer{DB: w.disk}
	w.round(drive.Event{What: step.Rang{ID: step.Start}})
}

// round lets the gateway do one thing, with the power failing in the middle.
func (w *world) round(events ...drive.Event) {
	fx := w.gateway.Round(w.now, events)
	fx.Put = slices.DeleteFunc(fx.Put, func(r step.Record) bool { return len(r.Key) > 8 && r.Key[:8] == "journal/" })
	for _, d := range fx.Done {
		if d.ID == drive.Died {
			w.t.Fatal(d.Err)
		}
	}
	if w.cut() { // before the write
		w.boot()
		return
	}
	w.writer.Commit(fx.Put)
	sure := disk{}
	sure.Commit(w.records())
	for _, r := range w.writer.Waiting() {
		sure.Commit([]step.Record{r})
	}
	same(w.t, sure, w.memory())
	for _, p := range fx.Send {
		if w.cut() { // after the write, between two sends
			w.boot()
			return
		}
		if len(p.To) > 7 && p.To[:7] == "device/" {
			w.flying = append(w.flying, packet{p.To[7:], p.Msg})
		}
	}
	for _, a := range fx.Wake {
		w.alarms[a.Core] = a
	}
}

func (w *world) records() (all []step.Record) {
	w.disk.Scan("fleet/", func(key string, value []byte) bool {
		all = append(all, step.Record{Key: key, Value: value})
		return true
	})
	return all
}

func (w *world) memory() []step.Record { return w.fleet.Durable() }

func (w *world) cut() bool { return !w.calm && w.r.IntN(25) == 0 }

// tell lets a device do one thing, with the power failing in the middle: before
// the write, after it, while the actuator works.
func (w *world) tell(name string, event any) {
	d := w.devices[name]
	fx := d.end.Step(step.Input{At: w.now, Events: []any{event}})
	if w.cut() {
		w.reboot(name)
		return
	}
	d.disk.Commit(fx.Put)
	same(w.t, d.disk, d.end.Durable())
	for _, p := range fx.Send {
		if w.cut() {
			w.reboot(name)
			return
		}
		switch m := p.Msg.(type) {
		case fleet.Act:
			if d.fails[m.Order] || m.Again && d.sensor && d.fired[m.Order] > 0 {
				d.busy = append(d.busy, m)
				continue
			}
			if m.Until != 0 && m.Until <= w.now && !m.Again {
				w.t.Errorf("order %v is begun %d ms after its deadline", m.Order, w.now-m.Until)
			}
			d.fired[m.Order]++
			d.busy = append(d.busy, m)
		default:
			w.flying = append(w.flying, packet{"", m})
		}
	}
}

func (w *world) reboot(name string) {
	d := w.devices[name]
	end, err := fleet.LoadEnd(d.disk, d.config)
	if err != nil {
		w.t.Fatal(err)
	}
	d.end, d.busy = end, nil
	w.tell(name, step.Rang{ID: step.Start})
}

func (w *world) order() {
	w.orders++
	name := []string{"tap", "meter"}[w.r.IntN(2)]
	m := earn.Deliver{Order: id(w.orders), Item: "beer", Units: 1, Device: name}
	if w.r.IntN(2) == 0 {
		m.Until = w.now + step.Time(1+w.r.IntN(20))*step.Second
	}
	if w.r.IntN(8) == 0 {
		w.devices[name].fails[m.Order] = true
	}
	w.round(drive.Event{Core: earn.Name, What: m})
}

// move is one thing that happens.
func (w *world) move() {
	n := 6
	if w.calm {
		n = 4
	}
	switch w.r.IntN(n) {
	case 0, 1: // a message arrives, or not, or twice
		if len(w.flying) == 0 {
			return
		}
		w.flying = w.flying[max(0, len(w.flying)-maxFlying):]
		i := w.r.IntN(len(w.flying))
		p := w.flying[i]
		if w.calm || w.r.IntN(5) != 0 {
			w.flying = slices.Delete(w.flying, i, i+1)
		}
		if !w.calm && w.r.IntN(5) == 0 {
			return
		}
		if p.to != "" {
			w.tell(p.to, step.Recv{From: "gateway", Msg: p.msg})
		} else {
			w.round(drive.Event{Core: fleet.Name, What: step.Recv{From: "door", Msg: p.msg}})
		}
	case 2: // an actuator is done
		for _, name := range []string{"tap", "meter"} {
			d := w.devices[name]
			if len(d.busy) == 0 {
				continue
			}
			act := d.busy[0]
			d.busy = d.busy[1:]
			done := fleet.Acted{Gateway: act.Gateway, Seq: act.Seq}
			if d.fails[act.Order] {
				done.Err = errors.New("jammed")
			}
			w.tell(name, done)
			return
		}
	case 3: // time passes
		w.now += step.Time(w.r.IntN(800))
		for _, core := range []string{fleet.Name, earn.Name} {
			if a, ok := w.alarms[core]; ok && a.At <= w.now {
				delete(w.alarms, core)
				w.round(drive.Event{Core: core, What: step.Rang{ID: a.ID}})
			}
		}
	case 4:
		w.order()
	case 5:
		if w.r.IntN(10) == 0 {
			w.round(drive.Event{Core: earn.Name, What: step.Rang{ID: "deliver"}}) // the books ask again
		}
	}
}

func (w *world) add(name string, key keys.Secret, resume bool) {
	w.disk.Commit(w.fleet.Step(step.Input{At: w.now, Events: []any{fleet.Add{Devices: []fleet.Profile{{Name: name, Key: public(key)}}}}}).Put)
	d := &thing{disk: disk{}, fired: map[money.OrderID]int{}, fails: map[money.OrderID]bool{}, sensor: resume}
	d.config = fleet.EndConfig{Device: name, Key: key, Gateways: []keys.Public{w.config.Node.Public()}, Resume: resume}
	if key.IsZero() {
		v, _ := w.fleet.Device(name, w.now)
		d.config.Shared = fleet.Secret(w.config.Root, name, v.Generation)
	}
	d.end = fleet.NewEnd(d.config)
	w.devices[name] = d
}

func public(key keys.Secret) (p keys.Public) {
	if !key.IsZero() {
		p = key.Public()
	}
	return p
}

// Whatever is lost, repeated or cut off, at every step: what the books call
// delivered the device has done once; what they refund it has not done and never
// will; nothing is done twice; and in the end every order has an answer.
func TestPaidMeansDeliveredOrMoneyBack(t *testing.T) {
	seeds := uint64(12)
	if testing.Short() {
		seeds = 10
	}
	tally := map[string]int{}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			w := &world{t: t, r: rand.New(rand.NewPCG(seed, 1)), now: noon, disk: disk{}, devices: map[string]*thing{}, calm: true}
			w.config = fleet.Config{Root: secret("root"), Node: secret("node")}
			w.boot()
			w.add("tap", keys.Secret{}, true)
			w.add("meter", keys.Secret{}, false)
			w.calm = false
			for range 400 {
				w.move()
			}
			w.calm = true
			for n := 0; n < 200 && w.owing(); n++ {
				for range 50 {
					w.move()
				}
			}
			for range 100 { // and nothing happens behind the books' back
				w.move()
			}
			w.judge(tally)
		})
	}
	for _, state := range []string{"delivered", "refunded", "unknown"} {
		if tally[state] == 0 && !testing.Short() {
			t.Errorf("no order ended as %s: %v", state, tally)
		}
	}
	t.Logf("orders ended as %v", tally)
}

func (w *world) owing() bool {
	for id, o := range w.books.orders {
		if o.state == "owed" && !w.forever(id, o) {
			return true
		}
	}
	return false
}

// stuck: a device with too much in doubt is told nothing more.
func (w *world) stuck(device string) bool {
	doubts := 0
	for _, o := range w.books.orders {
		if o.device == device && o.state == "owed" && o.doubt {
			doubts++
		}
	}
	return doubts >= fleet.MaxLate
}

// forever: what has no deadline is owed for ever by a device that always fails.
func (w *world) forever(id money.OrderID, o *owed) bool {
	return o.until == 0 && (o.doubt || w.devices[o.device].fails[id] || w.stuck(o.device))
}

func (w *world) judge(tally map[string]int) {
	for id, o := range w.books.orders {
		d := w.devices[o.device]
		fired := d.fired[id]
		tally[o.state]++
		switch {
		case fired > 1:
			w.t.Errorf("order %v was done %d times", id, fired)
		case o.state == "delivered" && fired != 1:
			w.t.Errorf("order %v is delivered, and was done %d times", id, fired)
		case o.state == "refunded" && fired != 0:
			w.t.Errorf("order %v is refunded for certain, and was done", id)
		case o.state == "owed" && !w.forever(id, o):
			w.t.Errorf("order %v has no answer", id)
		case o.state == "unknown" && o.until == 0 && d.sensor:
			w.t.Errorf("order %v is unknown, though its device can tell", id)
		}
	}
}
