package fleet_test

import (
	"strings"
	"testing"

	"coinop.dev/core/fleet"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

func spendOf(device string, n int, amount money.Amount) fleet.Spend {
	return fleet.Spend{Device: device, ID: id(n), Amount: amount, To: "x://shop"}
}

func TestEachLimitIsNamed(t *testing.T) {
	h := newHouse(t)
	h.tap("tap", fleet.Limits{Order: 100, UnitPrice: 10, Total: 250, Payee: 150, Period: period(t, "daily"), PerMinute: 4})
	to := func(s fleet.Spend, to string) fleet.Spend { s.To = to; return s }
	units := spendOf("tap", 1, 95)
	units.Units = 9
	for _, c := range []struct {
		spend fleet.Spend
		limit string
		says  string
	}{
		{spendOf("tap", 1, 0), "", "must be 1 msat"},
		{spendOf("tap", 1, 101), "order", "more than the limit of 100 msat per order"},
		{units, "unit price", "11 msat per unit is more than the limit of 10 msat"},
		{spendOf("tap", 2, 100), "", ""},
		{spendOf("tap", 2, 100), "", ""}, // again
		{spendOf("tap", 3, 51), "payee", "limit of 150 msat (daily); 50 msat is left; it renews at 2027-01-16T00:00:00Z"},
		{spendOf("tap", 4, 50), "", ""},
		{to(spendOf("tap", 5, 100), "x://b"), "", ""},
		{to(spendOf("tap", 6, 1), "x://c"), "total", "limit of 250 msat (daily); 0 sat is left; it renews at 2027-01-16T00:00:00Z"},
	} {
		v, err := h.ask(c.spend)
		switch r := refused(err); {
		case c.says == "" && (err != nil || v != c.spend.Amount):
			t.Errorf("%v: %v, %v", c.spend.Amount, v, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%v: %v", c.spend.Amount, err)
		case c.limit != "" && (r == nil || r.Limit != c.limit || money.KindOf(err) != money.Refused):
			t.Errorf("%v: %+v", c.spend.Amount, r)
		}
		h.reload()
	}
	if d := h.device("tap"); d.Spent != 250 || d.Left != 0 || d.Renews == 0 {
		t.Errorf("spent %v, left %v", d.Spent, d.Left)
	}
	h.now += 24 * step.Hour
	h.must(spendOf("tap", 7, 100))
	for i := range 3 {
		h.must(to(spendOf("tap", 10+i, 1), "x://d"))
	}
	if _, err := h.ask(spendOf("tap", 20, 1)); refused(err) == nil || refused(err).Limit != "per minute" {
		t.Errorf("the fifth in a minute: %v", err)
	}
}

func TestAClockThatGoesBackRenewsNothing(t *testing.T) {
	h := newHouse(t)
	h.tap("tap", fleet.Limits{Total: 100, Period: period(t, "daily"), PerMinute: 2})
	h.must(spendOf("tap", 1, 100))
	h.now -= 48 * step.Hour
	if _, err := h.ask(spendOf("tap", 2, 1)); refused(err) == nil || refused(err).Limit != "total" {
		t.Errorf("the day before yesterday: %v", err)
	}
	h.now += 72 * step.Hour
	h.must(spendOf("tap", 3, 100))
}

func TestSpentOnceGivenBackOnce(t *testing.T) {
	h := newHouse(t)
	h.tap("tap", fleet.Limits{Total: 100, Period: period(t, "daily")})
	spent := func(want money.Amount) {
		t.Helper()
		h.reload()
		if got := h.device("tap").Spent; got != want {
			t.Errorf("spent %v, want %v", got, want)
		}
	}
	h.must(spendOf("tap", 1, 60))
	h.tell(fleet.Unspent{Device: "tap", ID: id(1)})
	h.tell(fleet.Unspent{Device: "tap", ID: id(1)})
	spent(0)
	h.must(spendOf("tap", 1, 60))
	h.tell(fleet.Spent{Device: "tap", ID: id(1)})
	h.tell(fleet.Spent{Device: "tap", ID: id(1)}, fleet.Unspent{Device: "tap", ID: id(1)})
	spent(60)
	h.must(spendOf("tap", 1, 60))
	spent(60)
	// What comes back after midnight was yesterday's.
	h.must(spendOf("tap", 2, 40))
	h.now += 24 * step.Hour
	h.must(spendOf("tap", 3, 10))
	h.tell(fleet.Unspent{Device: "tap", ID: id(2)})
	spent(10)
	// Another period does not begin with an empty slate.
	h.must(fleet.Change{Name: "tap", Limits: fleet.Limits{Total: 100, Period: period(t, "monthly")}})
	spent(10)
}

func TestOpenPaymentsAreBounded(t *testing.T) {
	h := newHouse(t)
	h.tap("tap", fleet.Limits{})
	for i := range fleet.MaxOpenSpendsDevice {
		h.fleet.Step(step.Input{At: h.now, Events: []any{spendOf("tap", i, 1)}})
	}
	fx := h.fleet.Step(step.Input{At: h.now, Events: []any{spendOf("tap", 9999, 1)}})
	if err := fx.Done[0].Err; err == nil || !strings.Contains(err.Error(), "256") {
		t.Errorf("one more: %v", err)
	}
}

func TestRememberedPaymentsAreBounded(t *testing.T) {
	h := newHouse(t)
	h.tap("tap", fleet.Limits{})
	for i := range fleet.KeepSpends + 10 {
		fx := h.fleet.Step(step.Input{At: h.now, Events: []any{spendOf("tap", i, 1), fleet.Spent{Device: "tap", ID: id(i)}}})
		h.disk.Commit(fx.Put)
	}
	same(t, h.disk, h.fleet.Durable())
	h.reload()
	h.must(spendOf("tap", fleet.KeepSpends, 1))
	if got := h.device("tap").Spent; got != fleet.KeepSpends+10 {
		t.Errorf("spent %v", got)
	}
}

// A gateway that shares its fleet spends what it holds, and asks for more.
func TestASharedBudgetIsLeased(t *testing.T) {
	h := newHouse(t)
	h.config.Shared = true
	h.reload()
	h.tap("tap", fleet.Limits{Total: 1000, Period: period(t, "daily")})
	fx := h.tell(spendOf("tap", 1, 20), spendOf("tap", 2, 30))
	l := one[fleet.Lease](t, fx)
	if fx.Send[0].To != fleet.Quota || l.Limit != 1000 || l.Hold != 100 || l.N != 1 || len(fx.Done) != 0 {
		t.Errorf("it asks for %+v", l)
	}
	// Answers to others' and older questions are nothing.
	h.tell(fleet.Leased{Device: "tap", Window: l.Window, Hold: 1000, N: 9}, fleet.Leased{Device: "tap", Hold: 1000, N: 1})
	answer := fleet.Leased{Device: "tap", Window: l.Window, Hold: 100, N: 1}
	if fx := h.tell(answer); len(fx.Done) != 2 || fx.Done[0].Err != nil || fx.Done[1].Err != nil {
		t.Errorf("leased: %+v", fx.Done)
	}
	h.tell(answer)
	h.reload()
	h.must(spendOf("tap", 3, 50)) // of what is held, without asking
	// The keeper is cut off.
	l = one[fleet.Lease](t, h.tell(spendOf("tap", 4, 200)))
	if l.Hold != 300 || l.N != 2 {
		t.Errorf("it asks for %+v", l)
	}
	h.now += 3 * step.Second
	fx = h.tell(step.Rang{ID: "due"})
	if err := fx.Done[0].Err; refused(err) == nil || refused(err).Left != 0 || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("cut off: %v", err)
	}
	// The other gateways have the rest.
	l = one[fleet.Lease](t, h.tell(spendOf("tap", 5, 200)))
	fx = h.tell(fleet.Leased{Device: "tap", Window: l.Window, Hold: 130, N: l.N})
	if err := fx.Done[0].Err; refused(err) == nil || refused(err).Left != 30 || refused(err).Max != 1000 {
		t.Errorf("short: %v", err)
	}
	h.must(spendOf("tap", 6, 30))
	h.tell(fleet.Unspent{Device: "tap", ID: id(6)})
	if l := one[fleet.Lease](t, h.tell(fleet.Release{})); l.Hold != 100 || l.N != 4 {
		t.Errorf("it gives back %+v", l)
	}
	// What nobody may spend is refused without asking.
	if fx := h.tell(spendOf("tap", 7, 1001)); len(fx.Send) != 0 || refused(fx.Done[0].Err) == nil {
		t.Errorf("too much: %+v", fx)
	}
}
