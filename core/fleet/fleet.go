// Package fleet is the devices of a gateway: who they are, what they are told to
// do, and what they may spend; and the device's side of the same (End).
//
// # Commands
//
// The books of orders ask the fleet to deliver (earn.Deliver). The fleet numbers
// that as a Command, writes it down, and repeats it until the device's signed Ack
// comes or the order's deadline passes; then it answers with earn.Delivered. The
// kind of an error there says what is known:
//
//	nil      the device has acted, and signed that it has
//	Refused  the device has certainly not acted, and the money may go back
//	Invalid  the device does not exist, or is revoked
//	Unpaid   it was not begun, and may be tried again
//	Pending  nobody knows: no answer came, or the device was cut off while it acted.
//	         The order is not begun again, however often the books ask
//
// A device writes down that it begins (intent), acts, and writes down the signed
// result. Cut off before the intent, it has not acted and is told again. Cut off
// after the result, it answers a repetition with the same ack. Cut off between the
// two, it says Unknown and does not act again: a customer may then have paid for
// nothing, or be refunded what he has, but nothing is given twice. Where the
// actuator knows what it has done, by a drop sensor or a meter, or where doing it
// twice is harmless, EndConfig.Resume has it asked instead; if that is wrong,
// things are given twice, and never not at all.
//
// No order of messages does harm. Numbers are remembered modulo Window and only go
// up, so a replay is known. Commands carry their deadline, so one that was held
// back is refused, by a device whose clock is set. They are signed for one
// device's key, so a broker in between can fire nothing. Acks count, so a device
// whose memory was copied is found out; and a gateway whose store was restored
// from an old copy hears from its devices that they are ahead of it.
//
// # In JSON, for microcontrollers
//
// A device without a key shares a secret with the fleet. Its command and its
// answer, on one line each:
//
//	{"device":"tap-3","seq":1,"order":"01…00","verb":"open","item":"beer","units":2,"until_ms":1800000060000,"sig":"5f…"}
//	{"device":"tap-3","seq":1,"order":"01…00","counter":1,"ok":true,"sig":"ac…"}
//
// What is signed is not the JSON but its fields, a line for each, without a line
// end after the last: of a command the device's key ("-" if it has none), gateway,
// device, seq, order, verb, item, units, until_ms, test (0 or 1); of an ack
// gateway, device, seq, order, counter, result (0 not done, 1 done, 2 unknown),
// reading in hex, why. sig is the hex of
//
//	HMAC-SHA256(secret, "coinop/mac/command\x00" + lines)   and  "coinop/mac/ack\x00" for an ack
//
// or of a device with a key 64 bytes of ECDSA over keys.Digest("coinop/ack", lines).
// Fields that are 0, false or empty may be left out; they are signed all the same.
// The binary messages carry the same fields, and the same signatures.
//
// # Budgets
//
// A device's limits are spend.Limits for each. Payments are reserved by ID, once,
// then Spent or Unspent. Gateways that share a fleet lease slices of each budget
// from one keeper (Quota): one that is cut off spends what it holds, and refuses
// then; all together never spend more than the budget.
//
// Invariants, asserted at every step: every command that waits has its place in
// the queue; every payment is open or settled, and at most KeepSpends are kept.
package fleet

import (
	"crypto/hmac"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/earn"
	"coinop.dev/core/journal"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// Name is the fleet's name among a gateway's cores, EndName that of the device's
// side among a device's.
const (
	Name    = "fleet"
	EndName = "fleet/end"
)

// Config is what a fleet must be told.
type Config struct {
	// Root is the fleet's secret: what devices without a key share with it, and
	// their credentials, come from it. Gateways of one fleet have the same.
	Root keys.Secret
	// Node is this gateway's key: it signs commands.
	Node keys.Secret
	// Number is this gateway's among those of the fleet, below MaxGateways.
	Number int
	// Shared budgets are leased from the outlet Quota. Without other gateways this
	// one grants itself.
	Shared bool
}

// Fleet is the core.
type Fleet struct {
	config     Config
	generation uint32 // the highest that was given
	changed    bool   // the head must be on disk with this step

	devices map[string]*device
	byKey   map[keys.Public]*device
	sorted  []*device // by name, between events

	unsorted bool

	commands map[money.OrderID]*command // those that an answer is awaited for
	due      queue                      // by when something must be done about them
	alarm    step.Time                  // that is set; 0 for none
	began    step.Time                  // when the first step was: the books ask anew since

	invites map[[idSize]byte]*invite

	spends  map[spendKey]*spending
	open    int         // spends that are not settled
	settled []*spending // by age
	nth     uint64      // number of the next one that is settled
	waiting []waiting   // spends that wait for a lease, by age

	// What lives for one step.
	firm    bool // what is touched cannot wait
	touched []*device
	budgets []*device
}

// New returns an empty fleet.
func New(c Config) *Fleet {
	step.Assert(c.Number >= 0 && c.Number < MaxGateways, "fleet: gateway %d of %d", c.Number, MaxGateways)
	step.Assert(!c.Root.IsZero() && !c.Node.IsZero(), "fleet: it needs a root and a node key")
	return &Fleet{
		config: c, devices: map[string]*device{}, byKey: map[keys.Public]*device{},
		commands: map[money.OrderID]*command{}, invites: map[[idSize]byte]*invite{}, spends: map[spendKey]*spending{},
	}
}

// Step is the whole fleet.
func (f *Fleet) Step(in step.Input) step.Effects {
	f.check()
	var fx step.Effects
	f.touched, f.budgets, f.changed, f.firm = f.touched[:0], f.budgets[:0], false, false
	if f.began == 0 {
		f.began = in.At
	}
	if f.alarm <= in.At {
		f.alarm = 0 // it rings, or was lost
	}
	f.overdue(in.At, &fx)
	for _, event := range in.Events {
		f.event(event, in.At, &fx)
		if f.unsorted {
			slices.SortFunc(f.sorted, func(a, b *device) int { return byName(a, b.Name) })
			f.unsorted = false
		}
	}
	f.wake(&fx)
	f.write(&fx)
	return fx
}

func (f *Fleet) event(event any, now step.Time, fx *step.Effects) {
	switch ev := event.(type) {
	case Add:
		f.add(ev, fx)
	case Change:
		f.change(ev, now, fx)
	case Revoke:
		f.revoke(ev, now, fx)
	case Forget:
		f.forget(ev, fx)
	case Sync:
		f.sync(ev, now, fx)
	case Invite:
		f.invite(ev, now, fx)
	case Claim:
		f.claim(ev, now, fx)
	case Seen:
		f.see(ev, now, fx)
	case Failed:
		if d := f.devices[ev.Name]; d != nil {
			f.fault(d, ev.Text, now, fx)
		}
	case Acked:
		f.acked(f.devices[ev.Name], ev.Ack, now, fx)
	case Spend:
		f.spend(ev, now, fx)
	case Spent:
		f.settle(ev, fx)
	case Unspent:
		f.unspent(ev, now, fx)
	case Leased:
		f.leased(ev, now, fx)
	case Release:
		f.release(now, fx)
	case step.Recv:
		f.recv(ev, now, fx)
	case step.Linked:
		if d := f.byPeer(ev.Peer); d != nil {
			d.linked, d.online = true, false
			f.see(Seen{Name: d.Name, Online: true}, now, fx)
		}
	case step.Unlinked:
		if d := f.byPeer(ev.Peer); d != nil {
			d.linked = false
			f.see(Seen{Name: d.Name}, now, fx)
		}
	case step.Rang:
		f.alarm = 0
	default:
		panic(fmt.Sprintf("fleet: it cannot handle %T", event))
	}
}

func (f *Fleet) recv(ev step.Recv, now step.Time, fx *step.Effects) {
	switch msg := ev.Msg.(type) {
	case earn.Deliver:
		f.deliver(msg, now, fx)
	case earn.Withdraw:
		if c := f.commands[msg.Order]; c != nil {
			f.giveUp(c, earn.Delivered{Err: c.error(money.Refused, errWithdrawn)}, now, fx)
		}
	case Ack: // whoever brings it: its signature counts
		f.acked(f.devices[msg.Device], msg, now, fx)
	case Status:
		if d := f.byPeer(ev.From); d != nil && d.Name == msg.Device {
			f.see(Seen{Name: d.Name, Firmware: msg.Firmware, Online: true}, now, fx)
		}
	case Trouble:
		if d := f.byPeer(ev.From); d != nil && d.Name == msg.Device {
			f.fault(d, msg.Text, now, fx)
		}
	case Leased:
		f.leased(msg, now, fx)
	}
}

// byPeer is the device in service that a link leads to.
func (f *Fleet) byPeer(peer string) *device {
	const prefix = "peer/"
	if len(peer) < len(prefix) || peer[:len(prefix)] != prefix {
		return nil
	}
	key, err := keys.ParsePublicHex(peer[len(prefix):])
	if err != nil {
		return nil
	}
	d := f.byKey[key]
	if d == nil || d.Revoked {
		return nil
	}
	return d
}

// note tells the journal.
func (f *Fleet) note(kind, subject string, data any, fx *step.Effects) {
	raw, err := json.Marshal(data)
	step.Assert(err == nil, "fleet: a note on %s: %v", subject, err)
	fx.Send = append(fx.Send, step.Packet{To: journal.Name, Msg: journal.Note{Type: kind, Subject: subject, Data: raw}})
}

// touch has a device written with this step.
func (f *Fleet) touch(d *device) {
	if !d.touched {
		d.touched = true
		f.touched = append(f.touched, d)
	}
}

func (f *Fleet) touchBudget(d *device) {
	if !d.budget.touched {
		d.budget.touched = true
		f.budgets = append(f.budgets, d)
	}
}

// write puts what this step has changed, each record once. What is only seen or
// counted is lazy; it rides with the next write that cannot wait.
func (f *Fleet) write(fx *step.Effects) {
	for _, d := range f.touched {
		if d.touched {
			d.touched = false
			r := d.record()
			r.Lazy = !f.firm
			fx.Put = append(fx.Put, r)
		}
	}
	for _, d := range f.budgets {
		if d.budget != nil && d.budget.touched {
			d.budget.touched = false
			fx.Put = append(fx.Put, d.budgetRecord())
		}
	}
	if f.changed {
		fx.Put = append(fx.Put, f.head())
	}
}

// wake sets the alarm to when something must be done next.
func (f *Fleet) wake(fx *step.Effects) {
	next := step.Time(0)
	if len(f.due) > 0 {
		next = f.due[0].due
	}
	if len(f.waiting) > 0 && (next == 0 || f.waiting[0].until < next) {
		next = f.waiting[0].until
	}
	if next != 0 && (f.alarm == 0 || next < f.alarm) {
		f.alarm = next
		fx.Wake = append(fx.Wake, step.Alarm{ID: "due", At: next})
	}
}

func (f *Fleet) check() {
	step.Assert(len(f.devices) == len(f.sorted) && len(f.devices) <= MaxDevices, "fleet: %d devices, %d in order", len(f.devices), len(f.sorted))
	step.Assert(len(f.commands) == len(f.due), "fleet: %d commands, %d of them due", len(f.commands), len(f.due))
	step.Assert(f.open >= 0 && f.open+len(f.settled) == len(f.spends) && len(f.settled) <= KeepSpends, "fleet: %d payments, of them %d open and %d settled", len(f.spends), f.open, len(f.settled))
}

// equal compares secrets' sums in constant time.
func equal(a, b []byte) bool { return hmac.Equal(a, b) }

// Durable is everything the fleet has on disk, for whoever wants to check it.
func (f *Fleet) Durable() []step.Record {
	all := []step.Record{}
	if f.generation > 0 {
		all = append(all, f.head())
	}
	for _, d := range f.sorted {
		all = append(all, d.record())
		if d.budget != nil {
			all = append(all, d.budgetRecord())
		}
		for _, c := range d.commands {
			all = append(all, c.record())
		}
	}
	for id, v := range f.invites {
		all = append(all, v.record(id))
	}
	for _, s := range f.spends {
		all = append(all, s.record())
	}
	slices.SortFunc(all, func(a, b step.Record) int { return strings.Compare(a.Key, b.Key) })
	return all
}

// Load reads a fleet back.
func Load(db step.Reader, c Config) (*Fleet, error) {
	f := New(c)
	raw, err := db.Get(headKey)
	if err != nil {
		return nil, err
	}
	if raw != nil {
		if err := codec.Record(db, headKey, f.readHead); err != nil {
			return nil, err
		}
	}
	for _, part := range []struct {
		prefix string
		read   func(name string, r *codec.Reader)
	}{
		{devicePrefix, f.readDevice}, {budgetPrefix, f.readBudget}, {commandPrefix, f.readCommand},
		{invitePrefix, f.readInvite}, {spendPrefix, f.readSpend},
	} {
		if err := codec.Scan(db, part.prefix, part.read); err != nil {
			return nil, err
		}
	}
	f.order()
	return f, nil
}
