package fleet_test

import (
	"errors"
	"strings"
	"testing"

	"coinop.dev/core/earn"
	"coinop.dev/core/fleet"
	"coinop.dev/core/journal"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

func delivered(t testing.TB, fx step.Effects) earn.Delivered {
	t.Helper()
	return one[earn.Delivered](t, fx)
}

func TestDeliveredByADevice(t *testing.T) {
	h := newHouse(t)
	key := h.tap("tap", fleet.Limits{})
	fx := h.tell(deliver(1, "tap", noon+step.Minute))
	c := one[fleet.Command](t, fx)
	if c.Seq != 1 || c.Order != id(1) || c.Units != 2 || c.Item != "beer" || c.Verb != fleet.Open || c.Until != noon+step.Minute {
		t.Errorf("the device is told %+v", c)
	}
	if fx.Send[0].To != "device/tap" || len(fx.Wake) != 1 || fx.Wake[0].At != noon+step.Second {
		t.Errorf("to %s, again at %+v", fx.Send[0].To, fx.Wake)
	}
	if !c.Verify(secret("node").Public(), key.Public(), keys.Secret{}) {
		t.Error("it is not signed by the gateway")
	}
	// Repeated, ever more seldom, the same to the bit; also after a restart.
	pause := step.Second
	for range 3 {
		h.now += pause
		again := h.tell(step.Rang{ID: "due"})
		if got := one[fleet.Command](t, again); string(got.Append(nil)) != string(c.Append(nil)) {
			t.Errorf("repeated as %+v", got)
		}
		if pause *= 2; again.Wake[0].At != h.now+pause {
			t.Errorf("at %d again at %d", h.now, again.Wake[0].At)
		}
	}
	h.reload()
	if got := one[fleet.Command](t, h.tell(step.Rang{ID: step.Start})); string(got.Append(nil)) != string(c.Append(nil)) {
		t.Errorf("after a restart %+v", got)
	}
	a := ack(c, 1)
	a.Reading = []byte("0.5 l")
	a = a.Seal(key, keys.Secret{})
	got := delivered(t, h.tell(step.Recv{From: "peer/x", Msg: a}))
	if got.Order != id(1) || string(got.Payload) != "0.5 l" || got.Err != nil {
		t.Errorf("the books hear %+v", got)
	}
	kept, err := fleet.ParseAck(got.Ack)
	if err != nil || !kept.Verify(key.Public(), keys.Secret{}) {
		t.Errorf("the word that is kept: %+v, %v", kept, err)
	}
	if fx := h.tell(step.Recv{From: "peer/x", Msg: a}); len(fx.Send)+len(fx.Put) != 0 {
		t.Errorf("the ack again: %+v", fx)
	}
	h.reload()
	if fx := h.tell(step.Rang{ID: step.Start}); len(fx.Send) != 0 {
		t.Errorf("it is told again: %+v", fx.Send)
	}
	if d := h.device("tap"); d.Acks != 1 || d.Outstanding != 0 || len(d.Faults) != 0 {
		t.Errorf("the device is %+v", d)
	}
}

func TestToldAgainIsOneCommand(t *testing.T) {
	h := newHouse(t)
	key := h.tap("tap", fleet.Limits{})
	c := one[fleet.Command](t, h.tell(deliver(1, "tap", 0)))
	if again := one[fleet.Command](t, h.tell(deliver(1, "tap", 0))); again.Seq != c.Seq {
		t.Errorf("the books ask again: command %d", again.Seq)
	}
	// A jam, and no deadline: not begun, so another command may try.
	a := ack(c, 1)
	a.OK, a.Why = false, "the cup is jammed"
	got := delivered(t, h.tell(fleet.Acked{Name: "tap", Ack: a.Seal(key, keys.Secret{})}))
	if money.KindOf(got.Err) != money.Unpaid || !strings.Contains(got.Err.Error(), "jammed") || len(got.Ack) == 0 {
		t.Errorf("a jam: %+v", got)
	}
	if again := one[fleet.Command](t, h.tell(deliver(1, "tap", 0))); again.Seq != 2 {
		t.Errorf("after the jam: command %d", again.Seq)
	}
}

func TestForgedAcksAreFaults(t *testing.T) {
	h := newHouse(t)
	key := h.tap("tap", fleet.Limits{})
	c := one[fleet.Command](t, h.tell(deliver(1, "tap", 0)))
	seal := func(change func(*fleet.Ack)) fleet.Ack {
		a := ack(c, 7)
		change(&a)
		return a.Seal(key, keys.Secret{})
	}
	lie := seal(func(*fleet.Ack) {})
	lie.OK = false
	for name, forged := range map[string]fleet.Ack{
		"another's key":   ack(c, 1).Seal(secret("thief"), keys.Secret{}),
		"a guessed MAC":   ack(c, 1).Seal(keys.Secret{}, secret("thief")),
		"changed":         lie,
		"other gateway":   seal(func(a *fleet.Ack) { a.Gateway = 3 }),
		"another device":  seal(func(a *fleet.Ack) { a.Device = "other" }),
		"number of later": seal(func(a *fleet.Ack) { a.Seq = 0 }),
	} {
		if fx := h.tell(fleet.Acked{Name: "tap", Ack: forged}); len(sent[earn.Delivered](fx)) != 0 {
			t.Errorf("%s: %+v", name, fx.Send)
		}
	}
	if f := h.device("tap").Faults; len(f) != 1 || f[0].Count != 3 || !strings.Contains(f[0].Text, "signature") {
		t.Errorf("faults %+v", f)
	}
	delivered(t, h.tell(fleet.Acked{Name: "tap", Ack: seal(func(*fleet.Ack) {})}))
	// A copy of the device starts to count where the copy was made.
	c = one[fleet.Command](t, h.tell(deliver(2, "tap", 0)))
	if fx := h.tell(fleet.Acked{Name: "tap", Ack: seal(func(*fleet.Ack) {})}); len(sent[earn.Delivered](fx)) != 0 {
		t.Error("a counter is used twice")
	}
	if f := h.device("tap").Faults; !strings.Contains(f[len(f)-1].Text, "acknowledgement 7 was used before") {
		t.Errorf("faults %+v", f)
	}
	// Overtaking is honest: 9 before 8.
	c9 := one[fleet.Command](t, h.tell(deliver(3, "tap", 0)))
	delivered(t, h.tell(fleet.Acked{Name: "tap", Ack: ack(c9, 9).Seal(key, keys.Secret{})}))
	delivered(t, h.tell(fleet.Acked{Name: "tap", Ack: ack(c, 8).Seal(key, keys.Secret{})}))
	h.reload()
}

func TestTooLateIsRefundedAndRecorded(t *testing.T) {
	h := newHouse(t)
	key := h.tap("tap", fleet.Limits{})
	c := one[fleet.Command](t, h.tell(deliver(1, "tap", noon+5*step.Second)))
	h.now = noon + 5*step.Second
	// The ack comes with the deadline's alarm, and before it in the batch.
	fx := h.tell(fleet.Acked{Name: "tap", Ack: ack(c, 1).Seal(key, keys.Secret{})}, step.Rang{ID: "due"})
	got := delivered(t, fx)
	if money.KindOf(got.Err) != money.Pending || !strings.Contains(got.Err.Error(), "may or may not") {
		t.Errorf("at the deadline: %+v", got)
	}
	if f := h.device("tap").Faults; len(f) != 1 || !strings.Contains(f[0].Text, "delivered after its refund") {
		t.Errorf("faults %+v", f)
	}
	if n := notes(fx); len(n) != 1 || n[0] != "device.fault" {
		t.Errorf("the journal hears %q", n)
	}
	h.reload()
	// Told after its deadline, the device hears nothing.
	if got := delivered(t, h.tell(deliver(2, "tap", h.now))); money.KindOf(got.Err) != money.Refused {
		t.Errorf("too late to begin: %+v", got)
	}
	// And while nobody knows, it is not begun again.
	h.tell(deliver(3, "tap", h.now+step.Second))
	h.now += step.Second
	h.tell(step.Rang{ID: "due"})
	if got := delivered(t, h.tell(deliver(3, "tap", h.now+step.Minute))); money.KindOf(got.Err) != money.Pending {
		t.Errorf("again: %+v", got)
	}
}

func TestUnknownIsNotDoneAgain(t *testing.T) {
	h := newHouse(t)
	key := h.tap("tap", fleet.Limits{})
	c := one[fleet.Command](t, h.tell(deliver(1, "tap", 0)))
	a := ack(c, 1)
	a.OK, a.Unknown, a.Why = false, true, "unknown: power lost while acting"
	a = a.Seal(key, keys.Secret{})
	if got := delivered(t, h.tell(fleet.Acked{Name: "tap", Ack: a})); money.KindOf(got.Err) != money.Pending || len(got.Ack) == 0 {
		t.Errorf("unknown: %+v", got)
	}
	h.reload()
	if fx := h.tell(fleet.Acked{Name: "tap", Ack: a}, step.Rang{ID: step.Start}); len(fx.Send) != 0 {
		t.Errorf("said again: %+v", fx.Send)
	}
	if got := delivered(t, h.tell(deliver(1, "tap", 0))); money.KindOf(got.Err) != money.Pending {
		t.Errorf("asked again: %+v", got)
	}
}

// A device that does not answer holds up itself alone, and not for ever.
func TestOutstandingIsBounded(t *testing.T) {
	h := newHouse(t)
	key := h.tap("tap", fleet.Limits{})
	var first fleet.Command
	for i := range fleet.MaxOutstanding {
		c := one[fleet.Command](t, h.tell(deliver(i, "tap", 0)))
		if i == 0 {
			first = c
		}
	}
	if got := delivered(t, h.tell(deliver(99, "tap", 0))); money.KindOf(got.Err) != money.Unpaid {
		t.Errorf("one more: %+v", got)
	}
	// The first one is stuck and all others go on: up to the device's memory.
	n := uint64(1)
	for i := 100; i < 200; i++ {
		fx := h.tell(fleet.Seen{Name: "tap"}, fleet.Seen{Name: "tap", Online: true})
		for _, c := range sent[fleet.Command](fx) {
			if c.Seq != first.Seq {
				n++
				delivered(t, h.tell(fleet.Acked{Name: "tap", Ack: ack(c, n).Seal(key, keys.Secret{})}))
			}
		}
		if d := sent[earn.Delivered](h.tell(deliver(i, "tap", 0))); len(d) == 1 {
			break
		}
	}
	if n > fleet.Window || n < fleet.Window/2 {
		t.Errorf("%d commands are told beside one that is stuck", n)
	}
	delivered(t, h.tell(fleet.Acked{Name: "tap", Ack: ack(first, n+1).Seal(key, keys.Secret{})}))
	one[fleet.Command](t, h.tell(deliver(1000, "tap", 0)))
}

func TestTheLinkIsUsedWhileItIsUp(t *testing.T) {
	h := newHouse(t)
	key := h.tap("tap", fleet.Limits{})
	h.tell(deliver(1, "tap", 0))
	peer := key.Public().PeerName()
	fx := h.tell(step.Linked{Peer: peer, Link: 1})
	for _, p := range fx.Send {
		if p.To != peer && p.To != journal.Name {
			t.Errorf("linked: %+v", p)
		}
	}
	one[fleet.Command](t, fx)
	one[fleet.Policy](t, fx)
	one[fleet.Time](t, fx)
	asked := h.tell(step.Recv{From: peer, Msg: fleet.Status{Device: "tap", Firmware: "2.0"}})
	if now := one[fleet.Time](t, asked).At; now == 0 {
		t.Error("a device that says its status is not told the time")
	}
	if d := h.device("tap"); !d.Online || d.Firmware != "2.0" {
		t.Errorf("%+v", d)
	}
	h.tell(step.Unlinked{Peer: peer, Link: 1})
	if fx := h.tell(deliver(2, "tap", 0)); fx.Send[0].To != fleet.Outlet("tap") || h.device("tap").Online {
		t.Errorf("unlinked: %+v", fx.Send)
	}
}

// A gateway whose store is an old copy gives numbers a second time. Its devices
// tell it, nothing is done twice, and nothing is lost.
func TestAnOldStoreIsFoundOut(t *testing.T) {
	h := newHouse(t)
	key := h.tap("tap", fleet.Limits{})
	end := newBench(t, fleet.EndConfig{Device: "tap", Key: key, Gateways: []keys.Public{secret("node").Public()}})
	old := disk{}
	for k, v := range h.disk {
		old[k] = v
	}
	for i := range 40 {
		c := one[fleet.Command](t, h.tell(deliver(i, "tap", 0)))
		delivered(t, h.tell(fleet.Acked{Name: "tap", Ack: end.does(c, nil)}))
	}
	h.disk = old
	h.reload()
	order := func(n int) (got []earn.Delivered) {
		fx := h.tell(deliver(n, "tap", 0))
		for range 10 {
			for _, c := range sent[fleet.Command](fx) {
				fx := end.command(c)
				for _, act := range sent[fleet.Act](fx) {
					fx = end.tell(fleet.Acted{Gateway: act.Gateway, Seq: act.Seq})
				}
				for _, a := range sent[fleet.Ack](fx) {
					got = append(got, sent[earn.Delivered](h.tell(fleet.Acked{Name: "tap", Ack: a}))...)
				}
			}
			h.now += step.Minute
			fx = h.tell(step.Rang{ID: "due"})
		}
		return got
	}
	// The place of its number was used since: nobody can know, and the owner is told.
	if got := order(100); len(got) != 1 || !errors.Is(got[0].Err, money.Pending) || end.fired[id(100)] != 0 {
		t.Errorf("the first: %+v, fired %d times", got, end.fired[id(100)])
	}
	if f := h.device("tap").Faults; len(f) == 0 || !strings.Contains(f[0].Text, "old copy") {
		t.Errorf("faults %+v", f)
	}
	for n := 101; n < 105; n++ {
		if got := order(n); len(got) != 1 || got[0].Err != nil || got[0].Order != id(n) || end.fired[id(n)] != 1 {
			t.Errorf("order %d: %+v, fired %d times", n, got, end.fired[id(n)])
		}
	}
}

// However many orders are in doubt, none of them is begun again while the books
// ask for it; and once they do not, the device is told again.
func TestDoubtIsNotForgotten(t *testing.T) {
	h := newHouse(t)
	key := h.tap("tap", fleet.Limits{})
	told := map[money.OrderID]int{}
	counter := uint64(0)
	ask := func(n int) (begun bool) {
		for _, c := range sent[fleet.Command](h.tell(deliver(n, "tap", 0))) {
			begun = true
			told[c.Order]++
			counter++
			a := ack(c, counter)
			a.OK, a.Unknown = false, true
			h.tell(fleet.Acked{Name: "tap", Ack: a.Seal(key, keys.Secret{})})
		}
		return begun
	}
	for range 30 {
		for n := range 3 * fleet.MaxLate {
			ask(n)
		}
		h.now += 5 * step.Second
		h.reload()
		h.tell(step.Rang{ID: step.Start})
	}
	if len(told) != fleet.MaxLate {
		t.Errorf("%d orders were begun; after %d in doubt it should be told nothing", len(told), fleet.MaxLate)
	}
	for order, n := range told {
		if n != 1 {
			t.Errorf("order %v was begun %d times", order, n)
		}
	}
	h.now += 2 * step.Minute // the owner has given the money back
	if !ask(1000) {
		t.Error("it is never told anything again")
	}
}

// The fleet has given up, and the books still ask: there is no deadline, or the
// clock went back. What the device then says it did is not begun again.
func TestALateSuccessIsStillOne(t *testing.T) {
	for name, until := range map[string]step.Time{"no deadline": 0, "the clock went back": noon + step.Minute} {
		h := newHouse(t)
		key := h.tap("tap", fleet.Limits{})
		c := one[fleet.Command](t, h.tell(deliver(1, "tap", until)))
		if until == 0 { // the store is an old copy, as an answer of the place's next user shows
			later := ack(c, 2)
			later.Seq, later.Order = c.Seq+fleet.Window, id(2)
			h.tell(fleet.Acked{Name: "tap", Ack: later.Seal(key, keys.Secret{})})
		} else {
			h.now = until
			h.tell(step.Rang{ID: "due"})
			h.now -= 2 * step.Second
		}
		got := delivered(t, h.tell(fleet.Acked{Name: "tap", Ack: ack(c, 1).Seal(key, keys.Secret{})}))
		if got.Order != id(1) || got.Err != nil || len(got.Ack) == 0 {
			t.Errorf("%s: the books hear %+v", name, got)
		}
	}
}
