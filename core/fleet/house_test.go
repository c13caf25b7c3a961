package fleet_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"coinop.dev/core/earn"
	"coinop.dev/core/fleet"
	"coinop.dev/core/journal"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
)

const noon = 1_800_000_000 * step.Second

func secret(name string) keys.Secret {
	k, err := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte(name+"."), 32)))
	if err != nil {
		panic(err)
	}
	return k
}

func id(n int) (id money.OrderID) {
	binary.BigEndian.PutUint32(id[:], uint32(n))
	return id
}

func period(t testing.TB, text string) spend.Period {
	t.Helper()
	p, err := spend.ParsePeriod(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// disk is records; what is lazy is on it at once.
type disk map[string][]byte

func (d disk) Commit(records []step.Record) error {
	for _, r := range records {
		if r.Value == nil {
			delete(d, r.Key)
		} else {
			d[r.Key] = r.Value
		}
	}
	return nil
}

func (d disk) Get(key string) ([]byte, error) { return d[key], nil }

func (d disk) Scan(prefix string, yield func(string, []byte) bool) error {
	for _, key := range slices.Sorted(maps.Keys(d)) {
		if strings.HasPrefix(key, prefix) && !yield(key, d[key]) {
			break
		}
	}
	return nil
}

// same holds memory against the disk that it was written to.
func same(t testing.TB, disk disk, memory []step.Record) {
	t.Helper()
	if len(memory) != len(disk) {
		t.Fatalf("memory has %d records, the disk %d:\n%+v\n%q", len(memory), len(disk), memory, slices.Sorted(maps.Keys(disk)))
	}
	for _, r := range memory {
		if !bytes.Equal(disk[r.Key], r.Value) {
			t.Fatalf("%q is %x in memory, and on disk %x", r.Key, r.Value, disk[r.Key])
		}
	}
}

// house is a fleet with its disk.
type house struct {
	t      testing.TB
	config fleet.Config
	fleet  *fleet.Fleet
	disk   disk
	now    step.Time
}

func newHouse(t testing.TB) *house {
	c := fleet.Config{Root: secret("root"), Node: secret("node")}
	return &house{t: t, config: c, fleet: fleet.New(c), disk: disk{}, now: noon}
}

// tell steps the fleet, writes what it wants, and holds its memory and what it
// would load against the disk.
func (h *house) tell(events ...any) step.Effects {
	h.t.Helper()
	fx := h.fleet.Step(step.Input{At: h.now, Events: events})
	h.disk.Commit(fx.Put)
	same(h.t, h.disk, h.fleet.Durable())
	return fx
}

func (h *house) reload() {
	h.t.Helper()
	again, err := fleet.Load(h.disk, h.config)
	if err != nil {
		h.t.Fatal(err)
	}
	same(h.t, h.disk, again.Durable())
	h.fleet = again
}

// ask expects one outcome and returns it.
func (h *house) ask(event any) (any, error) {
	h.t.Helper()
	fx := h.tell(event)
	fx.Done = slices.DeleteFunc(fx.Done, func(d step.Outcome) bool { return d.ID == fleet.Heard })
	if len(fx.Done) != 1 {
		h.t.Fatalf("%T has %d outcomes", event, len(fx.Done))
	}
	return fx.Done[0].Value, fx.Done[0].Err
}

func (h *house) must(event any) any {
	h.t.Helper()
	v, err := h.ask(event)
	if err != nil {
		h.t.Fatalf("%T: %v", event, err)
	}
	return v
}

func (h *house) device(name string) fleet.Device {
	h.t.Helper()
	d, ok := h.fleet.Device(name, h.now)
	if !ok {
		h.t.Fatalf("there is no device %s", name)
	}
	return d
}

// tap is a device with a key of its own.
func (h *house) tap(name string, l fleet.Limits) keys.Secret {
	h.t.Helper()
	key := secret(name)
	h.must(fleet.Add{Devices: []fleet.Profile{{Name: name, Key: key.Public(), Limits: l}}})
	return key
}

func deliver(n int, device string, until step.Time) step.Recv {
	return step.Recv{From: earn.Name, Msg: earn.Deliver{Order: id(n), Item: "beer", Units: 2, Device: device, Until: until}}
}

// sent picks the messages of a type out of what was sent.
func sent[M any](fx step.Effects) (all []M) {
	for _, p := range fx.Send {
		if m, ok := p.Msg.(M); ok {
			all = append(all, m)
		}
	}
	return all
}

func one[M any](t testing.TB, fx step.Effects) M {
	t.Helper()
	all := sent[M](fx)
	if len(all) != 1 {
		var m M
		t.Fatalf("%d of %T were sent: %+v", len(all), m, fx.Send)
	}
	return all[0]
}

func notes(fx step.Effects) (types []string) {
	for _, n := range sent[journal.Note](fx) {
		types = append(types, n.Type)
	}
	return types
}

// refused is the limit that an error names, or "".
func refused(err error) *spend.Refusal {
	var r *spend.Refusal
	errors.As(err, &r)
	return r
}

func ack(m fleet.Command, counter uint64) fleet.Ack {
	return fleet.Ack{Gateway: m.Gateway, Device: m.Device, Seq: m.Seq, Order: m.Order, Counter: counter, OK: true}
}
