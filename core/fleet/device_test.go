package fleet_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

func names(all []fleet.Device) (names []string) {
	for _, d := range all {
		names = append(names, d.Name)
	}
	return names
}

func TestAFleetIsListed(t *testing.T) {
	h := newHouse(t)
	h.must(fleet.Add{Devices: []fleet.Profile{
		{Name: "tap-2", Tenant: "bar", Tags: []string{"beer", "cellar"}, Key: secret("2").Public()},
		{Name: "tap-1", Tenant: "bar", Tags: []string{"beer"}, Key: secret("1").Public()},
		{Name: "meter", Tenant: "house"},
	}})
	fx := h.tell(fleet.Seen{Name: "tap-1", Firmware: "1.4", Online: true}, step.Linked{Peer: secret("2").Public().PeerName()})
	if got := notes(fx); !slices.Equal(got, []string{"device.seen", "device.seen"}) {
		t.Errorf("the journal hears %q", got)
	}
	h.must(fleet.Revoke{Name: "tap-2"})
	h.reload()
	for want, q := range map[string]fleet.Filter{
		"meter tap-1 tap-2": {},
		"tap-1 tap-2":       {Tenant: "bar"},
		"tap-2":             {Tag: "cellar"},
		"meter tap-1":       {State: "offline"}, // after a restart, until they are heard of
		"":                  {State: "faulty"},
		"meter":             {Limit: 1},
		"tap-1":             {After: "meter", Limit: 1},
	} {
		if got := strings.Join(names(h.fleet.Devices(q, h.now)), " "); got != want {
			t.Errorf("%+v lists %q, want %q", q, got, want)
		}
	}
	if d := h.device("tap-1"); d.Firmware != "1.4" || d.Seen != noon || d.Tenant != "bar" {
		t.Errorf("tap-1 is %+v", d)
	}
	if n := h.fleet.Counts(); n.Devices != 3 || n.Revoked != 1 || n.Online != 0 {
		t.Errorf("counts %+v", n)
	}
	if _, ok := h.fleet.ByKey(secret("2").Public()); ok {
		t.Error("a revoked device's key is still known at the door")
	}
	if name, _ := h.fleet.ByKey(secret("1").Public()); name != "tap-1" {
		t.Errorf("tap-1's key is %q's", name)
	}
}

// All rows of an import, or none.
func TestWhatIsNotAdded(t *testing.T) {
	h := newHouse(t)
	key := h.tap("tap", fleet.Limits{})
	for why, p := range map[string]fleet.Profile{
		"a name is 1 to 64":      {Name: "Tap 3"},
		"there already":          {Name: "tap"},
		"one of its own":         {Name: "twin", Key: key.Public()},
		"not on the curve":       {Name: "odd", Key: keys.Public{2, 1}},
		"tags; the limit is 8":   {Name: "tags", Tags: make([]string, 9)},
		`tenant "A B"`:           {Name: "tenant", Tenant: "A B"},
		"more than all":          {Name: "rich", Limits: fleet.Limits{Total: money.MaxAmount + 1}},
		"orders in a minute":     {Name: "fast", Limits: fleet.Limits{PerMinute: -1}},
		`tag "": a name is 1 to`: {Name: "tag", Tags: []string{""}},
	} {
		fx := h.tell(fleet.Add{Ask: "a", Devices: []fleet.Profile{{Name: "good"}, p}})
		if err := fx.Done[0].Err; err == nil || !strings.Contains(err.Error(), why) || len(fx.Put)+len(fx.Send) > 0 {
			t.Errorf("%s: %v, %d records", p.Name, err, len(fx.Put))
		}
	}
	if got := names(h.fleet.Devices(fleet.Filter{}, h.now)); len(got) != 1 {
		t.Errorf("the fleet has %q", got)
	}
}

func TestRevokedMeansNow(t *testing.T) {
	h := newHouse(t)
	key := h.tap("tap", fleet.Limits{})
	c := one[fleet.Command](t, h.tell(deliver(1, "tap", 0)))
	fx := h.tell(fleet.Revoke{Name: "tap"})
	if d := delivered(t, fx); d.Order != id(1) || money.KindOf(d.Err) != money.Pending {
		t.Errorf("the order under way: %+v", d)
	}
	if got := notes(fx); !slices.Equal(got, []string{"device.revoked"}) {
		t.Errorf("the journal hears %q", got)
	}
	h.reload()
	if fx := h.tell(step.Rang{ID: step.Start}); len(fx.Send) != 0 {
		t.Errorf("a revoked device is sent %+v", fx.Send)
	}
	if d := delivered(t, h.tell(deliver(2, "tap", 0))); money.KindOf(d.Err) != money.Invalid {
		t.Errorf("a new order: %+v", d)
	}
	if _, err := h.ask(spendOf("tap", 1, 10)); money.KindOf(err) != money.Refused || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("it spends: %v", err)
	}
	h.tell(fleet.Seen{Name: "tap", Online: true})
	if h.device("tap").Online {
		t.Error("it comes back")
	}
	// Its last word still counts as evidence.
	h.tell(fleet.Acked{Name: "tap", Ack: ack(c, 1).Seal(key, keys.Secret{})})
	if f := h.device("tap").Faults; len(f) != 1 || !strings.Contains(f[0].Text, "delivered after its refund") {
		t.Errorf("faults %+v", f)
	}
	h.must(fleet.Forget{Name: "tap"})
	if len(h.disk) != 1 { // the head
		t.Errorf("forgotten, and there is %q", h.disk)
	}
	h.tap("tap", fleet.Limits{})
}

// A name that is used again does not get the secret that it had.
func TestSecretsAreNotUsedTwice(t *testing.T) {
	h := newHouse(t)
	known := map[string]bool{}
	for range 3 {
		h.must(fleet.Add{Devices: []fleet.Profile{{Name: "tap"}}})
		s := fleet.Secret(h.config.Root, "tap", h.device("tap").Generation)
		if known[string(s.Reveal())] {
			t.Error("the same secret again")
		}
		known[string(s.Reveal())] = true
		h.must(fleet.Revoke{Name: "tap"})
		h.must(fleet.Forget{Name: "tap"})
		h.reload()
	}
}

func TestChangesGoToOtherGateways(t *testing.T) {
	a, b := newHouse(t), newHouse(t)
	a.tap("tap", fleet.Limits{Total: 100, Period: period(t, "monthly")})
	send := func() int {
		raw, err := json.Marshal(a.device("tap").Profile)
		if err != nil {
			t.Fatal(err)
		}
		var p fleet.Profile
		if err := json.Unmarshal(raw, &p); err != nil {
			t.Fatal(err)
		}
		return b.must(fleet.Sync{Devices: []fleet.Profile{p}}).(int)
	}
	if send() != 1 || send() != 0 {
		t.Error("a profile is taken once")
	}
	b.tell(deliver(1, "tap", 0))
	a.must(fleet.Change{Name: "tap", Tags: []string{"new"}, Limits: fleet.Limits{Total: 50}})
	send()
	if got, want := b.device("tap").Profile, a.device("tap").Profile; !reflect.DeepEqual(got, want) {
		t.Errorf("there %+v, here %+v", got, want)
	}
	a.must(fleet.Revoke{Name: "tap"})
	send()
	b.reload()
	a.must(fleet.Sync{Devices: []fleet.Profile{{Name: "tap", Version: 9}}})
	if !a.device("tap").Revoked || a.device("tap").Version != 10 {
		t.Error("who has not heard of it brings it back")
	}
	if d := b.device("tap"); !d.Revoked || d.Outstanding != 0 {
		t.Errorf("revoked here, there it is %+v", d)
	}
}

// What a device may pay is signed into it when it comes, when it changes, and when
// it is revoked.
func TestLimitsAreSignedIntoTheDevice(t *testing.T) {
	h := newHouse(t)
	key := h.tap("tap", fleet.Limits{Total: 100})
	end := newBench(t, fleet.EndConfig{Device: "tap", Key: key, Gateways: []keys.Public{node.Public()}})
	pays := func(n int, amount money.Amount) error {
		return end.tell(spendOf("tap", n, amount)).Done[0].Err
	}
	obey := func(fx step.Effects) { end.tell(step.Recv{Msg: one[fleet.Policy](t, fx)}) }
	if pays(1, 1) == nil {
		t.Error("it pays without a policy")
	}
	obey(h.tell(fleet.Seen{Name: "tap", Online: true}))
	if pays(2, 60) != nil || pays(3, 60) == nil {
		t.Error("it does not keep to 100 msat")
	}
	obey(h.tell(fleet.Change{Name: "tap", Limits: fleet.Limits{Total: 130}, Payees: []string{"x://shop"}}))
	if err := pays(4, 60); err != nil {
		t.Errorf("its limit is 130 msat: %v", err)
	}
	h.reload()
	obey(h.tell(fleet.Revoke{Name: "tap"}))
	end.reload()
	if err := pays(5, 1); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("revoked: %v", err)
	}
}

func TestFaultsAreBounded(t *testing.T) {
	h := newHouse(t)
	key := h.tap("tap", fleet.Limits{})
	from := key.Public().PeerName()
	for range 100 {
		h.tell(step.Recv{From: from, Msg: fleet.Trouble{Device: "tap", Text: "the cup is\njammed"}})
	}
	if f := h.device("tap").Faults; len(f) != 1 || f[0].Count != 100 || f[0].Text != "the cup is jammed" {
		t.Errorf("faults %+v", f)
	}
	told := 0
	for i := range 100 {
		told += len(notes(h.tell(fleet.Failed{Name: "tap", Text: fmt.Sprint("fault ", i)})))
	}
	if f := h.device("tap").Faults; len(f) != fleet.MaxFaults || told > fleet.MaxFaults {
		t.Errorf("%d faults are kept, %d were told", len(f), told)
	}
	h.tell(step.Recv{From: secret("stranger").Public().PeerName(), Msg: fleet.Trouble{Device: "tap", Text: "lies"}})
	if f := h.device("tap").Faults; f[len(f)-1].Text == "lies" {
		t.Error("a stranger speaks for it")
	}
	h.reload()
}

// What a big fleet takes, and that it is bounded.
func TestMemoryPerDevice(t *testing.T) {
	if testing.Short() {
		t.Skip("10,000 devices")
	}
	const n = 10_000
	h := newHouse(t)
	var profiles []fleet.Profile
	for i := range n {
		name := fmt.Sprintf("charger-%05d", i)
		profiles = append(profiles, fleet.Profile{Name: name, Tenant: "city", Tags: []string{"street"}, Key: secret(name).Public(), Limits: fleet.Limits{Total: 1000}})
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC() // what the first has found is swept
	runtime.ReadMemStats(&before)
	records := h.fleet.Step(step.Input{At: h.now, Events: []any{fleet.Add{Devices: profiles}}}).Put
	bytes := 0
	for i, p := range profiles {
		h.fleet.Step(step.Input{At: h.now, Events: []any{fleet.Seen{Name: p.Name, Firmware: "1.0", Online: true}, spendOf(p.Name, i, 10), fleet.Unspent{Device: p.Name, ID: id(i)}}})
		bytes += len(records[i].Key) + len(records[i].Value)
	}
	clear(records)
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n
	t.Logf("%d bytes of memory and %d of disk for each of %d devices", each, bytes/n, n)
	if each > 1024 {
		t.Errorf("a device takes %d bytes of memory; the aim is 1024", each)
	}
	runtime.KeepAlive(h)
	runtime.KeepAlive(profiles)
}

func TestWhoIsNotThere(t *testing.T) {
	h := newHouse(t)
	for _, event := range []any{fleet.Change{Name: "x"}, fleet.Revoke{Name: "x"}, fleet.Forget{Name: "x"}, spendOf("x", 1, 1)} {
		if _, err := h.ask(event); money.KindOf(err) != money.Invalid {
			t.Errorf("%T: %v", event, err)
		}
	}
	h.tap("tap", fleet.Limits{})
	if _, err := h.ask(fleet.Forget{Name: "tap"}); money.KindOf(err) != money.Refused {
		t.Errorf("one in service is forgotten: %v", err)
	}
	h.tell(fleet.Seen{Name: "x"}, fleet.Failed{Name: "x"}, fleet.Acked{Name: "x"}, fleet.Spent{Device: "x"}, fleet.Unspent{Device: "x"}, fleet.Leased{Device: "x"})
	if _, err := fleet.Load(disk{"fleet/d/x": {1}}, h.config); err == nil || errors.Is(err, money.Broken) {
		t.Errorf("a bad record: %v", err)
	}
}
