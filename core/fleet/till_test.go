package fleet_test

import (
	"errors"
	"flag"
	"path/filepath"
	"testing"

	"coinop.dev/core/earn"
	"coinop.dev/core/fleet"
	"coinop.dev/core/journal"
	"coinop.dev/core/keys"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/internal/persisted"
	"coinop.dev/sim"
	"coinop.dev/world/drive"
)

var update = flag.Bool("update", false, "accept the golden files as they come out now")

// The fleet beside the till that it delivers for, and the real device behind it.
func TestATillSellsThroughADevice(t *testing.T) {
	h := newHouse(t)
	key := h.tap("tap", fleet.Limits{})
	end := newBench(t, fleet.EndConfig{Device: "tap", Key: key, Gateways: []keys.Public{node.Public()}})
	till := earn.NewBook(nil, nil)
	m := drive.NewMachine()
	m.Add(fleet.Name, h.fleet)
	m.Add(earn.Name, till)
	m.Add(journal.Name, &journal.Journal{})
	round := func(core string, event any) step.Effects {
		t.Helper()
		fx := m.Round(h.now, []drive.Event{{Core: core, What: event}})
		for _, d := range fx.Done {
			if d.ID == drive.Died {
				t.Fatal(d.Err)
			}
		}
		return fx
	}
	sell := func(n int, test bool) fleet.Command {
		t.Helper()
		q := offer.Quote{Order: id(n), Service: "beer", Units: 1, At: h.now, Until: h.now + step.Minute}
		s := earn.Sell{Quote: q, Buyer: "http", To: earn.Fleet, Device: "tap", Within: 10 * step.Second, Test: test}
		return one[fleet.Command](t, round(earn.Name, s))
	}
	state := func(n int) string { return till.Order(id(n)).State }

	c := sell(1, false)
	a := end.does(c, nil)
	round(fleet.Name, fleet.Acked{Name: "tap", Ack: a})
	if o := till.Order(id(1)); state(1) != "settled" && state(1) != "delivered" || string(o.Ack) != string(a.Append(nil)) {
		t.Errorf("delivered, it is %+v", o)
	}
	if c := sell(2, true); !c.Test {
		t.Error("a test fire is not marked")
	}

	sell(3, false)
	h.now += 10 * step.Second
	round(fleet.Name, step.Rang{ID: "due"})
	round(earn.Name, step.Rang{ID: "deadline"})
	if state(3) == "delivered" || state(3) == "settled" || state(3) == "paid" {
		t.Errorf("nobody answered, and it is %s", state(3))
	}

	c = sell(4, false)
	round(fleet.Name, fleet.Acked{Name: "tap", Ack: end.does(c, errors.New("jammed"))})
	if o := till.Order(id(4)); o.State == "delivered" || o.State == "settled" || o.State == "paid" || o.Why == "" {
		t.Errorf("jammed, it is %+v", o)
	}
}

// What this version writes, every later one reads.
func TestRecordsOfToday(t *testing.T) {
	h := newHouse(t)
	key := h.tap("tap", fleet.Limits{Order: 100, Total: 1000, Payee: 500, Period: period(t, "weekly"), PerMinute: 9})
	h.must(fleet.Add{Devices: []fleet.Profile{{Name: "meter", Tenant: "house", Tags: []string{"heat"}}}})
	h.tell(fleet.Seen{Name: "tap", Firmware: "1.0", Online: true}, fleet.Failed{Name: "tap", Text: "empty"})
	c := one[fleet.Command](t, h.tell(deliver(1, "tap", noon+step.Minute)))
	h.tell(fleet.Acked{Name: "tap", Ack: ack(c, 5).Seal(key, keys.Secret{})})
	h.tell(deliver(2, "tap", noon+step.Second), deliver(3, "meter", 0))
	h.must(spendOf("tap", 1, 60))
	h.must(spendOf("tap", 2, 70))
	h.tell(fleet.Spent{Device: "tap", ID: id(1)})
	h.invite("pump", false)
	h.now += step.Minute
	h.tell(step.Rang{ID: "due"})
	load := func(d *sim.Disk) (*fleet.Fleet, error) { return fleet.Load(d, h.config) }
	persisted.Test(t, filepath.Join("testdata", "fleet.txt"), *update, h.disk, load)

	b := tapEnd(t)
	b.does(told(1, 1, 0), nil)
	b.command(told(2, 2, 0))
	p := fleet.Policy{Device: "tap", Version: 1, Limits: fleet.Limits{Total: 100}, Payees: []string{"x://shop"}}
	b.tell(step.Recv{Msg: p.Seal(node, key.Public(), keys.Secret{})})
	b.tell(spendOf("tap", 1, 10))
	loadEnd := func(d *sim.Disk) (*fleet.End, error) { return fleet.LoadEnd(d, b.config) }
	persisted.Test(t, filepath.Join("testdata", "end.txt"), *update, b.disk, loadEnd)
}

// Whatever is on a disk, loading it ends with a fleet or an error that names the
// record.
func FuzzLoad(f *testing.F) {
	f.Add("fleet/d/tap", []byte{3, 't', 'a', 'p'})
	f.Add("fleet/c/tap/12345678", []byte{1})
	f.Add("fleet/end/n/\x00\x01", told(1, 1, 0).Append(nil))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		if value == nil {
			return
		}
		d := disk{key: value}
		if l, err := fleet.Load(d, fleet.Config{Root: secret("root"), Node: node}); err == nil {
			l.Step(step.Input{At: noon, Events: []any{step.Rang{ID: step.Start}}})
		}
		c := fleet.EndConfig{Device: "tap", Key: secret("tap"), Gateways: []keys.Public{node.Public()}}
		if l, err := fleet.LoadEnd(d, c); err == nil {
			l.Step(step.Input{At: noon, Events: []any{step.Rang{ID: step.Start}}})
		}
	})
}
