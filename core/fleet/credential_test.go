package fleet_test

import (
	"strings"
	"testing"

	"coinop.dev/core/fleet"
	"coinop.dev/core/macaroon"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

func TestACredentialIsNarrowedAndNeverWidened(t *testing.T) {
	h := newHouse(t)
	h.tap("tap", fleet.Limits{Order: 100, Total: 1000, Period: period(t, "daily"), PerMinute: 60})
	root := h.config.Root
	m, err := fleet.Credential(root, h.device("tap").Profile, noon+step.Day, "beer", "wine")
	if err != nil {
		t.Fatal(err)
	}
	g, err := fleet.Verify(root, m, noon)
	if err != nil || g.Device != "tap" || g.Limits.Order != 100 || g.Limits.Total != 1000 || g.Limits.PerMinute != 60 || !g.Conditions.Allows("service", "beer") || g.Conditions.Allows("service", "gin") {
		t.Errorf("%+v, %v", g, err)
	}
	if err := h.fleet.Admit(g); err != nil {
		t.Error(err)
	}
	narrow := func(caveats ...string) (fleet.Grant, error) {
		n, err := m.Narrow(caveats...)
		if err != nil {
			t.Fatal(err)
		}
		return fleet.Verify(root, n, noon)
	}
	lent, err := narrow("service=beer", "max_payment_msat=10", "budget_msat=25")
	if err != nil || lent.Conditions.Allows("service", "wine") {
		t.Errorf("lent: %+v, %v", lent, err)
	}
	for caveat, why := range map[string]string{
		"max_payment_msat=101":   "allows more",
		"service=gin":            "allows more",
		"device=other":           "allows more",
		"expires=99999999999":    "allows more",
		"budget_renewal=monthly": "",
		"expires=1":              "has expired",
		"max_payment_msat=0":     "allows nothing",
		"colour=red":             "nobody here knows",
	} {
		if _, err := narrow(caveat); (err == nil) != (why == "") || err != nil && !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", caveat, err)
		}
	}
	if _, err := fleet.Verify(secret("thief"), m, noon); err != macaroon.ErrForged {
		t.Errorf("another root: %v", err)
	}

	spend := func(n int, amount money.Amount, g fleet.Grant) error {
		s := spendOf("tap", n, amount)
		s.Under = g.Limits
		_, err := h.ask(s)
		return err
	}
	if err := spend(1, 11, lent); refused(err) == nil || refused(err).Limit != "order" || refused(err).Max != 10 {
		t.Errorf("lent for 10 at a time: %v", err)
	}
	for i := range 3 {
		if err := spend(10+i, 10, lent); (err == nil) != (i < 2) {
			t.Errorf("lent for 25 in all, payment %d of 10: %v", i, err)
		}
	}
	if err := spend(20, 100, g); err != nil {
		t.Errorf("the device itself: %v", err)
	}
	monthly, err := narrow("budget_renewal=monthly", "budget_msat=10")
	if err != nil {
		t.Fatal(err)
	}
	if err := spend(21, 1, monthly); err == nil || !strings.Contains(err.Error(), "narrow the amount only") {
		t.Errorf("a period that nobody counts: %v", err)
	}

	h.must(fleet.Revoke{Name: "tap"})
	if err := h.fleet.Admit(g); err == nil {
		t.Error("a revoked device is admitted")
	}
	h.tell(fleet.Spent{Device: "tap", ID: id(10)}, fleet.Spent{Device: "tap", ID: id(11)}, fleet.Unspent{Device: "tap", ID: id(20)})
	h.must(fleet.Forget{Name: "tap"})
	h.tap("tap", fleet.Limits{})
	if err := h.fleet.Admit(g); err == nil {
		t.Error("its name is another's now, who is taken for it")
	}
}
