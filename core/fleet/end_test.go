package fleet_test

import (
	"errors"
	"strings"
	"testing"

	"coinop.dev/core/earn"
	"coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// bench is a device with its disk and what it did.
type bench struct {
	t      testing.TB
	config fleet.EndConfig
	end    *fleet.End
	disk   disk
	now    step.Time
	fired  map[money.OrderID]int
}

func newBench(t testing.TB, c fleet.EndConfig) *bench {
	return &bench{t: t, config: c, end: fleet.NewEnd(c), disk: disk{}, now: noon, fired: map[money.OrderID]int{}}
}

func (b *bench) tell(events ...any) step.Effects {
	b.t.Helper()
	fx := b.end.Step(step.Input{At: b.now, Events: events})
	b.disk.Commit(fx.Put)
	same(b.t, b.disk, b.end.Durable())
	for _, a := range sent[fleet.Act](fx) {
		b.fired[a.Order]++
	}
	return fx
}

func (b *bench) reload() step.Effects {
	b.t.Helper()
	again, err := fleet.LoadEnd(b.disk, b.config)
	if err != nil {
		b.t.Fatal(err)
	}
	same(b.t, b.disk, again.Durable())
	b.end = again
	return b.tell(step.Rang{ID: step.Start})
}

func (b *bench) command(m fleet.Command) step.Effects {
	return b.tell(step.Recv{From: "gateway", Msg: m})
}

// does has the device do a command and returns its word.
func (b *bench) does(m fleet.Command, err error) fleet.Ack {
	b.t.Helper()
	act := one[fleet.Act](b.t, b.command(m))
	return one[fleet.Ack](b.t, b.tell(fleet.Acted{Gateway: act.Gateway, Seq: act.Seq, Err: err, Reading: []byte("ok")}))
}

var node = secret("node")

func tapEnd(t testing.TB) *bench {
	return newBench(t, fleet.EndConfig{Device: "tap", Key: secret("tap"), Gateways: []keys.Public{node.Public(), secret("second").Public()}})
}

func told(seq uint64, n int, until step.Time) fleet.Command {
	m := fleet.Command{Device: "tap", Seq: seq, Order: id(n), Verb: fleet.Open, Item: "beer", Units: 1, Until: until}
	return m.Seal(node, secret("tap").Public(), keys.Secret{})
}

func TestADeviceActsOncePerCommand(t *testing.T) {
	b := tapEnd(t)
	a := b.does(told(1, 1, noon+1), nil)
	if !a.OK || a.Counter != 1 || string(a.Reading) != "ok" || !a.Verify(secret("tap").Public(), keys.Secret{}) {
		t.Errorf("its word: %+v", a)
	}
	for range 2 {
		b.reload()
		b.now += step.Minute
		if again := one[fleet.Ack](t, b.command(told(1, 1, noon+1))); string(again.Append(nil)) != string(a.Append(nil)) {
			t.Errorf("told again it says %+v", again)
		}
	}
	if b.fired[id(1)] != 1 {
		t.Errorf("it acted %d times", b.fired[id(1)])
	}
	// Whatever number is replayed, however old.
	for seq := uint64(2); seq < 100; seq++ {
		b.does(told(seq, int(seq), 0), nil)
	}
	b.reload()
	for seq := uint64(1); seq < 100; seq++ {
		b.command(told(seq, int(seq), 0))
	}
	for order, n := range b.fired {
		if n != 1 {
			t.Errorf("order %v: %d times", order, n)
		}
	}
	if len(b.disk) > 3*fleet.Window {
		t.Errorf("%d records for 100 commands", len(b.disk))
	}
}

func TestWhoMayCommand(t *testing.T) {
	b := tapEnd(t)
	good := told(1, 1, 0)
	change := func(f func(*fleet.Command)) fleet.Command { m := good; f(&m); return m }
	for name, m := range map[string]fleet.Command{
		"a broker":            told(1, 1, 0).Seal(secret("broker"), secret("tap").Public(), keys.Secret{}),
		"for the one before":  told(1, 1, 0).Seal(node, secret("old tap").Public(), keys.Secret{}),
		"more of it":          change(func(m *fleet.Command) { m.Units = 9 }),
		"later":               change(func(m *fleet.Command) { m.Until = noon + step.Day }),
		"other device":        change(func(m *fleet.Command) { m.Device = "tap-2" }),
		"other gateway":       change(func(m *fleet.Command) { m.Gateway = 1 }),
		"gateway that is not": change(func(m *fleet.Command) { m.Gateway = 2 }),
		"not signed":          change(func(m *fleet.Command) { m.Sig = nil }),
	} {
		if fx := b.command(m); len(fx.Send)+len(fx.Put) != 0 {
			t.Errorf("%s: %+v", name, fx)
		}
	}
	if b.end.Forged != 8 {
		t.Errorf("%d forged commands are counted", b.end.Forged)
	}
	// Two gateways count for themselves.
	b.does(good, nil)
	second := fleet.Command{Gateway: 1, Device: "tap", Seq: 1, Order: id(2), Verb: fleet.Open, Item: "beer"}
	b.does(second.Seal(secret("second"), secret("tap").Public(), keys.Secret{}), nil)
}

func TestTooLateIsNotDone(t *testing.T) {
	b := tapEnd(t)
	a := one[fleet.Ack](t, b.command(told(1, 1, noon)))
	if a.OK || a.Unknown || !strings.Contains(a.Why, "too late") {
		t.Errorf("held back until its deadline: %+v", a)
	}
	// And not when the clock goes back either.
	b.now -= step.Hour
	if again := one[fleet.Ack](t, b.command(told(1, 1, noon))); again.OK || b.fired[id(1)] != 0 {
		t.Errorf("an hour before: %+v", again)
	}
	b.now = 5 * step.Second // after a power cut, before the network has told the time
	if a := one[fleet.Ack](t, b.command(told(2, 2, noon))); a.OK || !strings.Contains(a.Why, "clock is not set") {
		t.Errorf("without a clock: %+v", a)
	}
	if a := b.does(told(3, 3, 0), nil); !a.OK {
		t.Errorf("what has no deadline: %+v", a)
	}
}

// The three places where the power can go, and what each of them costs.
func TestPowerIsLost(t *testing.T) {
	before := tapEnd(t)
	before.reload()
	if before.does(told(1, 1, 0), nil); before.fired[id(1)] != 1 {
		t.Error("cut off before it began, it acts when it is told again")
	}

	during := tapEnd(t)
	one[fleet.Act](t, during.command(told(1, 1, 0)))
	during.reload()
	a := one[fleet.Ack](t, during.command(told(1, 1, 0)))
	if a.OK || !a.Unknown || a.Why != "unknown: power lost while acting" || during.fired[id(1)] != 1 {
		t.Errorf("cut off while it acted: %+v, fired %d times", a, during.fired[id(1)])
	}
	if fx := during.tell(fleet.Acted{Seq: 1}); len(fx.Put)+len(fx.Send) != 0 {
		t.Error("it changes its word afterwards")
	}

	resume := tapEnd(t)
	resume.config.Resume = true
	one[fleet.Act](t, resume.command(told(1, 1, 0)))
	act := one[fleet.Act](t, resume.reload())
	if !act.Again || act.Order != id(1) || act.Units != 1 {
		t.Errorf("the actuator is asked %+v", act)
	}
	resume.command(told(1, 1, 0))
	if a := one[fleet.Ack](t, resume.tell(fleet.Acted{Seq: 1})); !a.OK {
		t.Errorf("the drop sensor knows: %+v", a)
	}

	after := tapEnd(t)
	a = after.does(told(1, 1, 0), errors.New("jammed\n"))
	after.reload()
	if again := one[fleet.Ack](t, after.command(told(1, 1, 0))); string(again.Append(nil)) != string(a.Append(nil)) || again.Why != "jammed " {
		t.Errorf("cut off after it: %+v", again)
	}
}

func TestAMicrocontroller(t *testing.T) {
	h := newHouse(t)
	h.must(fleet.Add{Devices: []fleet.Profile{{Name: "tap"}}})
	shared := fleet.Secret(h.config.Root, "tap", h.device("tap").Generation)
	b := newBench(t, fleet.EndConfig{Device: "tap", Shared: shared, Gateways: make([]keys.Public, 1)})
	c := one[fleet.Command](t, h.tell(deliver(1, "tap", 0)))
	if len(c.Sig) != 32 {
		t.Errorf("its command is signed in %d bytes", len(c.Sig))
	}
	a := b.does(c, nil)
	if got := delivered(t, h.tell(fleet.Acked{Name: "tap", Ack: a})); got.Err != nil {
		t.Errorf("the books hear %+v", got)
	}
	// A test fire is marked from end to end.
	fire := deliver(2, "tap", 0)
	m := fire.Msg.(earn.Deliver)
	m.Test = true
	fire.Msg = m
	c = one[fleet.Command](t, h.tell(fire))
	if act := one[fleet.Act](t, b.command(c)); !act.Test {
		t.Errorf("the actuator is not told that it is a test: %+v", act)
	}
	h.reload()
	if again := one[fleet.Command](t, h.tell(step.Rang{ID: step.Start})); !again.Test {
		t.Error("after a restart it is no test")
	}
	c.Test = false
	if c.Verify(keys.Public{}, keys.Public{}, shared) {
		t.Error("a broker makes a sale of it")
	}
}

func TestWhatADeviceSays(t *testing.T) {
	b := tapEnd(t)
	b.config.Firmware = "1.2"
	b.reload()
	if s := one[fleet.Status](t, b.tell(step.Linked{Peer: node.Public().PeerName()})); s.Firmware != "1.2" || s.Device != "tap" {
		t.Errorf("%+v", s)
	}
	if fx := b.tell(step.Linked{Peer: secret("stranger").Public().PeerName()}); len(fx.Send) != 0 {
		t.Errorf("to a stranger it says %+v", fx.Send)
	}
	if fx := b.tell(fleet.Failed{Text: "empty"}); len(sent[fleet.Trouble](fx)) != 2 {
		t.Errorf("%+v", fx.Send)
	}
}

func TestAPolicyIsObeyed(t *testing.T) {
	b := tapEnd(t)
	spend := func(n int, amount money.Amount, to string) error {
		s := spendOf("tap", n, amount)
		s.To = to
		fx := b.tell(s)
		return fx.Done[0].Err
	}
	if err := spend(1, 1, "x://a"); err == nil || !strings.Contains(err.Error(), "no policy") {
		t.Errorf("without a policy: %v", err)
	}
	p := fleet.Policy{Device: "tap", Version: 2, Payees: []string{"x://a", "x://b"}, Expires: noon + step.Hour,
		Limits: fleet.Limits{Order: 60, Total: 100, Payee: 80, Period: period(t, "daily")}}
	seal := func(p fleet.Policy) fleet.Policy { return p.Seal(node, secret("tap").Public(), keys.Secret{}) }
	b.tell(step.Recv{Msg: p.Seal(secret("thief"), secret("tap").Public(), keys.Secret{})})
	b.tell(step.Recv{Msg: seal(p)})
	old := p
	old.Version, old.Limits = 1, fleet.Limits{}
	b.tell(step.Recv{Msg: seal(old)})
	b.reload()
	for _, c := range []struct {
		n      int
		amount money.Amount
		to     string
		says   string
	}{
		{1, 61, "x://a", "60 msat per order"},
		{1, 60, "x://a?order=1", ""},
		{1, 60, "x://a?order=1", ""}, // again
		{2, 30, "x://a", "its limit of 80 msat (daily); 20 msat is left; it renews"},
		{2, 40, "x://b", ""},
		{3, 1, "x://b", "the limit of 100 msat (daily); 0 sat is left"},
		{4, 1, "x://c", `does not name the payee "x://c"`},
	} {
		err := spend(c.n, c.amount, c.to)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%v to %s: %v", c.amount, c.to, err)
		}
		b.reload()
	}
	b.tell(fleet.Unspent{Device: "tap", ID: id(2)}, fleet.Spent{Device: "tap", ID: id(1)}, fleet.Unspent{Device: "tap", ID: id(1)})
	b.reload()
	if err := spend(5, 40, "x://b"); err != nil {
		t.Errorf("what came back is spent: %v", err)
	}
	b.now += 2 * step.Hour
	if err := spend(6, 1, "x://b"); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("after its end: %v", err)
	}
	p.Version, p.Expires, p.Limits = 3, 0, fleet.Limits{}
	b.tell(step.Recv{Msg: seal(p)})
	for i := range 3 * fleet.MaxEndSpends {
		if err := spend(100+i, 1, "x://a"); err != nil && i < fleet.MaxEndSpends-2 {
			t.Fatalf("payment %d: %v", i, err)
		} else if err == nil && i >= fleet.MaxEndSpends {
			t.Fatalf("payment %d is one too many", i)
		}
	}
	for i := range 3 * fleet.MaxEndSpends {
		b.tell(fleet.Spent{Device: "tap", ID: id(100 + i)})
		if err := spend(1000+i, 1, "x://a"); err != nil && i < fleet.MaxEndSpends {
			t.Fatalf("room is made, and payment %d: %v", i, err)
		}
		b.tell(fleet.Spent{Device: "tap", ID: id(1000 + i)})
	}
	b.reload()
}
