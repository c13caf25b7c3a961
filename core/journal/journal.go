// Package journal numbers what happens on a machine, durably, until somebody who
// keeps books has it.
//
// Cores send a Note to the core called Name. The round that takes the note writes
// the event beside what the core itself wrote: an order that is paid has its
// entry, or neither is there. Books tail the journal and say with Trim how far
// they are; before that nothing is dropped, so books may be away for a while and
// miss nothing.
//
// Invariants, asserted at every step: events are numbered from 1 without a gap;
// the journal holds those after the last one trimmed, all of them.
package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/step"
)

// Name is the journal's name among a machine's cores.
const Name = "journal"

const (
	// MaxData bounds the data of an event, in bytes.
	MaxData = 4096
	// MaxName bounds an event's type and its subject, each, in bytes.
	MaxName = 128
	// MaxKept is how many events wait for the books before the journal is Full.
	MaxKept = 65_536
	// Heard is the ID of the outcome that tells of each new event.
	Heard = "event"
)

// The types of events. Those whose first word is order, session or payment are
// about money and are kept also when the journal is full.
const (
	OrderPaid      = "order.paid"
	OrderDelivered = "order.delivered"
	OrderSettled   = "order.settled"
	OrderRefunded  = "order.refunded"
	OrderFailed    = "order.failed"
	OrderExpired   = "order.expired"
	SessionOpened  = "session.opened"
	SessionClosed  = "session.closed"
	PaymentSettled = "payment.settled" // what this machine paid
	PaymentFailed  = "payment.failed"
	DeviceAdded    = "device.added"
	DeviceChanged  = "device.changed"
	DeviceRevoked  = "device.revoked"
	DeviceSeen     = "device.seen"
	DeviceFault    = "device.fault"
	PriceChanged   = "price.changed"
	TestFired      = "test.fired"
)

// A Note is what another core, or a driver, has to say. Type and Subject are of
// at most MaxName bytes, Data is JSON of at most MaxData.
type Note struct {
	Type    string
	Subject string // what it is about: an order's ID in hex, a device, a service
	Data    []byte
}

// An Event is a note with its number and its time.
type Event struct {
	N       uint64 // from 1, without a gap
	At      step.Time
	Type    string
	Subject string
	Data    []byte // JSON; not to be changed
}

// Trim says that all events up to UpTo are in the books.
type Trim struct{ UpTo uint64 }

var (
	// ErrFull answers a note that is not about money while the journal is Full.
	ErrFull = fmt.Errorf("%d events wait for the books; see why those take none", MaxKept)
	// ErrTooLong comes with an event that was written without what was too long.
	ErrTooLong = fmt.Errorf("a type or subject has more than %d bytes, or data more than %d; the event stands without it", MaxName, MaxData)
)

// Journal is the core.
type Journal struct {
	trimmed uint64  // number of the last event that the books have
	kept    []Event // those after it
}

// Step takes notes down.
func (j *Journal) Step(in step.Input) step.Effects {
	j.check()
	var fx step.Effects
	for _, event := range in.Events {
		switch ev := event.(type) {
		case step.Recv:
			if note, ok := ev.Msg.(Note); ok {
				j.note(note, in.At, &fx)
			}
		case Note:
			j.note(ev, in.At, &fx)
		case Trim:
			j.trim(ev.UpTo, &fx)
		case step.Rang, step.Linked, step.Unlinked:
		default:
			panic(fmt.Sprintf("journal: cannot handle %T", event))
		}
	}
	return fx
}

// note writes an event. Money is never dropped: what does not fit into an event
// is left out of it, and the outcome says so.
func (j *Journal) note(note Note, at step.Time, fx *step.Effects) {
	if j.Full() && !aboutMoney(note.Type) {
		fx.Done = append(fx.Done, step.Outcome{ID: Heard, Err: ErrFull})
		return
	}
	e := Event{N: j.Last() + 1, At: at, Type: note.Type, Subject: note.Subject, Data: note.Data}
	var err error
	if len(e.Type) > MaxName || len(e.Subject) > MaxName || len(e.Data) > MaxData {
		e.Type, e.Subject = e.Type[:min(len(e.Type), MaxName)], e.Subject[:min(len(e.Subject), MaxName)]
		if len(e.Data) > MaxData {
			e.Data = nil
		}
		err = ErrTooLong
	}
	j.kept = append(j.kept, e)
	fx.Put = append(fx.Put, e.record())
	fx.Done = append(fx.Done, step.Outcome{ID: Heard, Value: e, Err: err})
}

func aboutMoney(kind string) bool {
	word, _, _ := strings.Cut(kind, ".")
	return word == "order" || word == "session" || word == "payment"
}

// trim forgets. It is lazy: books that are told of an event twice file it once.
func (j *Journal) trim(upTo uint64, fx *step.Effects) {
	if upTo <= j.trimmed || upTo > j.Last() {
		return
	}
	n := int(upTo - j.trimmed)
	for _, e := range j.kept[:n] {
		fx.Put = append(fx.Put, step.Record{Key: eventKey(e.N), Lazy: true})
	}
	clear(j.kept[:n])
	j.kept = j.kept[n:]
	j.trimmed = upTo
	head := j.head()
	head.Lazy = true
	fx.Put = append(fx.Put, head)
}

// Last is the number of the newest event, 0 before the first.
func (j *Journal) Last() uint64 { return j.trimmed + uint64(len(j.kept)) }

// Full reports whether so many events wait for the books that nothing new should
// be begun. What is under way is still written down.
func (j *Journal) Full() bool { return len(j.kept) >= MaxKept }

// Since returns at most most events after number n, oldest first, and of those
// that are trimmed none.
func (j *Journal) Since(n uint64, most int) []Event {
	after := j.kept[min(max(n, j.trimmed)-j.trimmed, uint64(len(j.kept))):]
	return slices.Clone(after[:max(0, min(most, len(after)))])
}

func (j *Journal) check() {
	if n := len(j.kept); n > 0 {
		step.Assert(j.kept[0].N == j.trimmed+1 && j.kept[n-1].N == j.Last(),
			"journal: %d events from %d to %d after %d", n, j.kept[0].N, j.kept[n-1].N, j.trimmed)
	}
}

// Records.

const prefix = "journal/"

// headKey differs from every event's by its length.
const headKey = prefix + "head"

func eventKey(n uint64) string {
	return string(binary.BigEndian.AppendUint64([]byte(prefix), n))
}

func (e Event) record() step.Record {
	b := codec.AppendUint(nil, uint64(e.At))
	b = codec.AppendBytes(b, e.Type)
	b = codec.AppendBytes(b, e.Subject)
	return step.Record{Key: eventKey(e.N), Value: codec.AppendBytes(b, e.Data)}
}

func readEvent(n uint64, value []byte) (Event, error) {
	r := codec.NewReader(value)
	e := Event{N: n, At: step.Time(r.Uvarint()), Type: r.String(MaxName, "type"), Subject: r.String(MaxName, "subject")}
	e.Data = r.Bytes(MaxData, "data")
	return e, r.Close()
}

func (j *Journal) head() step.Record {
	return step.Record{Key: headKey, Value: codec.AppendUint(nil, j.trimmed)}
}

// Durable is everything the journal has on disk, for whoever wants to check it.
func (j *Journal) Durable() []step.Record {
	all := []step.Record{}
	for _, e := range j.kept {
		all = append(all, e.record())
	}
	if j.trimmed > 0 {
		all = append(all, j.head())
	}
	return all
}

// Load reads a journal back.
func Load(db step.Reader) (*Journal, error) {
	j := &Journal{}
	raw, err := db.Get(headKey)
	if err != nil {
		return nil, err
	}
	if raw != nil {
		r := codec.NewReader(raw)
		j.trimmed = r.Uvarint()
		if err := r.Close(); err != nil {
			return nil, fmt.Errorf("record %s: %w", headKey, err)
		}
	}
	var fault error
	err = db.Scan(prefix, func(key string, value []byte) bool {
		if key != headKey {
			fault = j.load(strings.TrimPrefix(key, prefix), value)
		}
		return fault == nil
	})
	if err = errors.Join(err, fault); err != nil {
		return nil, fmt.Errorf("records %s: %w", prefix, err)
	}
	return j, nil
}

func (j *Journal) load(number string, value []byte) error {
	if len(number) != 8 {
		return fmt.Errorf("key %q is not an event's", number)
	}
	n := binary.BigEndian.Uint64([]byte(number))
	if n != j.Last()+1 {
		return fmt.Errorf("event %d follows %d; the store is damaged, restore a backup", n, j.Last())
	}
	e, err := readEvent(n, value)
	if err != nil {
		return fmt.Errorf("event %d: %w", n, err)
	}
	j.kept = append(j.kept, e)
	return nil
}
