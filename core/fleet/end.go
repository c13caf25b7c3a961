package fleet

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/step"
)

// Actuator is the outlet of a device that does things. It gets an Act and tells
// the End with Acted.
const Actuator = "actuator"

// clockSet is 2020: before that a device's clock has not been set.
const clockSet = 1_577_836_800 * step.Second

var errClock = errors.New("this device's clock is not set, so it cannot tell whether it is too late")

// EndConfig is what a device must be told.
type EndConfig struct {
	Device string
	// Key signs acknowledgements. A device without one has Shared instead.
	Key    keys.Secret
	Shared keys.Secret
	// Gateways are the node keys of those whose commands are obeyed, by number.
	// Where the secret is shared only their count matters.
	Gateways []keys.Public
	// Owner signs policies; if it is zero each gateway does, of itself. A key that is
	// on no gateway is safer, and more work.
	Owner    keys.Public
	Firmware string
	// Resume: after a power cut the actuator is asked again (Act.Again), because it
	// can tell what it has done, or may do it twice. Without it, what was under way
	// is acknowledged as unknown, and not done again.
	Resume bool
	// Counter is the least that the counter of acknowledgements may be, from
	// hardware that no old memory takes back.
	Counter uint64
}

// Act tells the actuator what to do, after that is on disk.
type Act struct {
	Command
	Again bool // after a power cut: it may have been done, in part or all
}

// Acted is the actuator's answer. Unknown says that it cannot tell; without that
// an error means that nothing was done.
type Acted struct {
	Gateway int
	Seq     uint64
	Err     error
	Unknown bool
	Reading []byte // at most MaxReading bytes
}

// slot is one number of one gateway's, modulo Window, and what became of it. A
// slot only ever takes a higher number, so a command is done once, whatever is
// repeated or replayed.
type slot struct {
	command Command // while it is done
	acting  bool
	ack     Ack // when it is done

	from string // who asked last; not on disk
}

func (s *slot) seq() uint64 {
	if s.acting {
		return s.command.Seq
	}
	return s.ack.Seq
}

// End is the device's side as a core.
type End struct {
	config  EndConfig
	public  keys.Public
	counter uint64
	slots   map[int]*slot // by gateway*Window + seq%Window

	policy *Policy
	tally  tally
	spends []*spending // open and settled ones, by age

	Forged uint64 // commands that no gateway of ours has signed
}

// NewEnd returns a device that was never told anything.
func NewEnd(c EndConfig) *End {
	step.Assert(len(c.Gateways) > 0 && len(c.Gateways) <= MaxGateways, "fleet: a device with %d gateways", len(c.Gateways))
	step.Assert(c.Key.IsZero() != c.Shared.IsZero(), "fleet: a device needs a key or a shared secret, and not both")
	e := &End{config: c, counter: c.Counter, slots: map[int]*slot{}}
	if !c.Key.IsZero() {
		e.public = c.Key.Public()
	}
	return e
}

// Step is the whole device.
func (e *End) Step(in step.Input) step.Effects {
	var fx step.Effects
	for _, event := range in.Events {
		switch ev := event.(type) {
		case step.Recv:
			switch m := ev.Msg.(type) {
			case Command:
				e.command(ev.From, m, in.At, &fx)
			case Policy:
				e.obey(m, &fx)
			}
		case Acted:
			e.acted(ev, &fx)
		case Spend:
			e.spend(ev, in.At, &fx)
		case Spent:
			e.spent(ev, &fx)
		case Unspent:
			e.unspent(ev, in.At, &fx)
		case Failed:
			e.tell(Trouble{Device: e.config.Device, Text: plain(ev.Text, MaxText)}, &fx)
		case step.Linked:
			for _, key := range e.config.Gateways {
				if ev.Peer == key.PeerName() {
					m := Status{Device: e.config.Device, Firmware: e.config.Firmware, Counter: e.counter}
					fx.Send = append(fx.Send, step.Packet{To: ev.Peer, Msg: m})
				}
			}
		case step.Unlinked:
		case step.Rang:
			if ev.ID == step.Start {
				e.start(&fx)
			}
		default:
			panic(fmt.Sprintf("fleet: a device cannot handle %T", event))
		}
	}
	return fx
}

// tell sends to every gateway; those that are not linked miss it.
func (e *End) tell(m any, fx *step.Effects) {
	for _, key := range e.config.Gateways {
		fx.Send = append(fx.Send, step.Packet{To: key.PeerName(), Msg: m})
	}
}

// command does what it is told, once, or answers again.
func (e *End) command(from string, m Command, now step.Time, fx *step.Effects) {
	if m.Device != e.config.Device || m.Gateway < 0 || m.Gateway >= len(e.config.Gateways) || m.check() != nil ||
		!m.Verify(e.config.Gateways[m.Gateway], e.public, e.config.Shared) {
		e.Forged++
		return
	}
	at := m.Gateway*Window + int(m.Seq%Window)
	s := e.slots[at]
	if s != nil && (s.acting || s.seq() >= m.Seq) {
		// Known, or older than one that is known, or in its way. If the gateway has
		// lost its memory the answer tells it so.
		s.from = from
		if !s.acting {
			fx.Send = append(fx.Send, step.Packet{To: from, Msg: s.ack})
		}
		return
	}
	s = &slot{command: m, acting: true, from: from}
	e.slots[at] = s
	why := error(nil)
	switch {
	case m.Until != 0 && now < clockSet:
		why = errClock
	case m.Until != 0 && m.Until <= now:
		why = fmt.Errorf("it came %d ms too late", now-m.Until)
	}
	if why != nil {
		e.answer(at, s, Ack{Why: why.Error()}, fx)
		return
	}
	// The intent first: who is cut off from here on has begun.
	fx.Put = append(fx.Put, s.record(at))
	fx.Send = append(fx.Send, step.Packet{To: Actuator, Msg: Act{Command: m}})
}

// answer ends a command: its number, the counter and the signed word in one
// write, before anybody hears of it.
func (e *End) answer(at int, s *slot, a Ack, fx *step.Effects) {
	m := s.command
	e.counter++
	a.Gateway, a.Device, a.Seq, a.Order, a.Counter = m.Gateway, m.Device, m.Seq, m.Order, e.counter
	a.Why, a.Reading = plain(a.Why, MaxWhy), slices.Clone(a.Reading[:min(len(a.Reading), MaxReading)])
	s.ack, s.acting, s.command = a.Seal(e.config.Key, e.config.Shared), false, Command{}
	fx.Put = append(fx.Put, s.record(at), e.head())
	if s.from != "" {
		fx.Send = append(fx.Send, step.Packet{To: s.from, Msg: s.ack})
	}
}

func (e *End) acted(ev Acted, fx *step.Effects) {
	at := ev.Gateway*Window + int(ev.Seq%Window)
	s := e.slots[at]
	if s == nil || !s.acting || s.command.Seq != ev.Seq || s.command.Gateway != ev.Gateway {
		return
	}
	a := Ack{OK: ev.Err == nil && !ev.Unknown, Unknown: ev.Unknown, Reading: ev.Reading}
	if ev.Err != nil {
		a.Why = ev.Err.Error()
	}
	e.answer(at, s, a, fx)
}

// start ends what a power cut has interrupted, or asks the actuator again.
func (e *End) start(fx *step.Effects) {
	for at := range MaxGateways * Window {
		s := e.slots[at]
		switch {
		case s == nil || !s.acting:
		case e.config.Resume:
			fx.Send = append(fx.Send, step.Packet{To: Actuator, Msg: Act{Command: s.command, Again: true}})
		default:
			e.answer(at, s, Ack{Unknown: true, Why: "unknown: power lost while acting"}, fx)
		}
	}
}

// Records of a device: its counter, a slot for each number, its policy, what it
// spent.
const (
	endHeadKey   = "fleet/end/head"
	endPolicyKey = "fleet/end/policy"
	endTallyKey  = "fleet/end/tally"
	slotPrefix   = "fleet/end/n/"
	endSpend     = "fleet/end/s/"
)

func (e *End) head() step.Record {
	return step.Record{Key: endHeadKey, Value: codec.AppendUint(nil, e.counter)}
}

func (s *slot) record(at int) step.Record {
	key := slotPrefix + string([]byte{byte(at / Window), byte(at % Window)})
	if s.acting {
		return step.Record{Key: key, Value: s.command.Append(nil)}
	}
	return step.Record{Key: key, Value: s.ack.Append(nil)}
}

// Durable is everything the device has on disk, for whoever wants to check it.
func (e *End) Durable() []step.Record {
	all := []step.Record{}
	if e.counter > e.config.Counter {
		all = append(all, e.head())
	}
	for at, s := range e.slots {
		all = append(all, s.record(at))
	}
	if e.policy != nil {
		all = append(all, step.Record{Key: endPolicyKey, Value: e.policy.Append(nil)})
	}
	if e.tally.minute > 0 {
		all = append(all, e.tallyRecord())
	}
	for _, s := range e.spends {
		all = append(all, s.endRecord())
	}
	slices.SortFunc(all, func(a, b step.Record) int { return strings.Compare(a.Key, b.Key) })
	return all
}

// LoadEnd reads a device back.
func LoadEnd(db step.Reader, c EndConfig) (*End, error) {
	e := NewEnd(c)
	for _, one := range []struct {
		key  string
		read func(r *codec.Reader)
	}{
		{endHeadKey, func(r *codec.Reader) { e.counter = max(e.counter, r.Uvarint()) }},
		{endTallyKey, func(r *codec.Reader) { e.tally = readTally(r) }},
		{endPolicyKey, func(r *codec.Reader) {
			if r.U16() != typePolicy {
				r.Fail(errors.New("it is no policy"))
			}
			p := readPolicy(r)
			e.policy = &p
		}},
	} {
		raw, err := db.Get(one.key)
		if err == nil && raw != nil {
			err = codec.Record(db, one.key, one.read)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := codec.Scan(db, slotPrefix, e.readSlot); err != nil {
		return nil, err
	}
	err := codec.Scan(db, endSpend, e.readSpend)
	slices.SortFunc(e.spends, func(a, b *spending) int {
		if a.nth < b.nth {
			return -1
		}
		return 1
	})
	return e, err
}

func (e *End) readSlot(name string, r *codec.Reader) {
	m, err := Decode(r.Take(r.Len()))
	if err != nil || len(name) != 2 || name[0] >= MaxGateways || name[1] >= Window {
		r.Fail(fmt.Errorf("%q is no place of a command: %v", name, err))
		return
	}
	s := &slot{}
	switch m := m.(type) {
	case Command:
		s.command, s.acting = m, true
	case Ack:
		s.ack = m
	default:
		r.Fail(fmt.Errorf("it is a %T", m))
		return
	}
	e.slots[int(name[0])*Window+int(name[1])] = s
}
