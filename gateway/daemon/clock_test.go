package daemon_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/money"
)

const day = 24 * time.Hour

// A gateway's clock is a day wrong, either way, and is set right again, in the
// middle of sales.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	p := newProcess(t, "shop", purse, "[mqtt]\nlisten = \""+addr+"\"\n"+shelf+
		"[[sell]]\nitem = \"toast\"\nunit = \"slice\"\nprice = \"4 sat\"\nfrom = \"machine\"\nwithin = \"1s\"\n"+
		"[[sell]]\nitem = \"water\"\nunit = \"cup\"\nprice = \"3 sat\"\nfrom = \"device:tap\"\nwithin = \"20s\"\n").start()
	tap := newTap(p, "tap", addr, false)
	delivered := func(id money.OrderID) bool {
		acts, _ := os.ReadFile(filepath.Join(p.dir, "acts"))
		return strings.Contains(string(acts), id.String())
	}
	quote := func(service string) (id money.OrderID, pay func() error, claim func() error) {
		t.Helper()
		o, err := p.quote(service)
		if err != nil {
			t.Fatal(err)
		}
		var r money.Receipt
		return o.Order, func() (err error) { r, err = p.pay(o); return err }, func() (err error) { _, err = p.claim(o, r); return err }
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	// Paid a day late: the price is not good any more, and the money is there.
	id, pay, claim := quote("tea")
	p.clock(day)
	must(pay())
	err := claim()
	o, _ := p.order(id, "1s")
	if delivered(id) || o.State != "refunded" || o.How != "credit" {
		t.Errorf("paid a day after its quote: %v, %+v", err, o)
	}
	// Paid in time, and claimed when the token has ended.
	p.clock(0)
	id, pay, claim = quote("tea")
	must(pay())
	p.clock(2 * day)
	if err := claim(); !is(err, "refused") || delivered(id) {
		t.Errorf("with a token that has ended: %v", err)
	}
	p.clock(0)
	must(claim()) // the clock was wrong, and not the token
	if o, err := p.order(id, "5s"); err != nil || o.State != "settled" {
		t.Errorf("when the clock is right again: %v, %+v", err, o)
	}
	// The clock goes back between quote and payment.
	id, pay, claim = quote("tea")
	p.clock(-day)
	must(pay())
	must(claim())
	if o, err := p.order(id, "5s"); err != nil || o.State != "settled" {
		t.Errorf("a day before its quote: %v, %+v", err, o)
	}

	// A device whose clock is right does not act on a command that has ended by it,
	// and acts at once on one that ends tomorrow; nobody is out of money.
	for _, skew := range []time.Duration{-day, day, 0} {
		p.clock(skew)
		id, _, _ := p.buy("water")
		o, err := p.order(id, "25s")
		if acts := tap.acts(id); err != nil || acts == 1 && o.State != "settled" || acts == 0 && o.State != "refunded" || acts > 1 {
			t.Errorf("clock %v off: %v, acted %d times, %+v", skew, err, acts, o)
		}
	}

	// What was given back because the clock said so is not delivered when it says
	// something else.
	jammed := filepath.Join(p.dir, "jammed")
	must(os.WriteFile(jammed, nil, 0o600))
	id, _, _ = p.buy("toast")
	p.clock(day)
	if o, err := p.order(id, "5s"); err != nil || o.State != "refunded" {
		t.Errorf("overdue: %v, %+v", err, o)
	}
	must(os.Remove(jammed))
	p.clock(0)
	p.kill()
	p.start()
	p.buy("tea") // it is awake
	time.Sleep(200 * time.Millisecond)
	if o, _ := p.order(id, "0s"); delivered(id) || o.State != "refunded" {
		t.Errorf("delivered after its money went back: %+v", o)
	}
}

// A deadline that the clock was set back before is noticed when the clock is right
// again.
func TestADeadlineOutlivesTheClock(t *testing.T) {
	t.Parallel()
	p := newProcess(t, "shop", purse, shelf+"[[sell]]\nitem = \"toast\"\nunit = \"slice\"\nprice = \"4 sat\"\nfrom = \"machine\"\nwithin = \"1s\"\n").start()
	if err := os.WriteFile(filepath.Join(p.dir, "jammed"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	id, _, _ := p.buy("toast")
	p.clock(-day)
	time.Sleep(1500 * time.Millisecond) // its alarm has rung, a day too early
	p.clock(0)
	if o, err := p.order(id, "5s"); err != nil || o.State != "refunded" {
		t.Errorf("%v, %+v", err, o)
	}
}

// Credentials and budgets go by the clock; a clock that goes to and fro does not
// renew a budget again.
func TestCredentialsAndTheClock(t *testing.T) {
	t.Parallel()
	p := newProcess(t, "shop", purse, shelf).start()
	var baked struct{ Token string }
	p.must("POST", "/v1/credentials", object{"name": "guest", "scopes": []string{"read"}, "expires_ms": time.Now().Add(time.Hour).UnixMilli()}, &baked)
	read := func() error { return p.as(baked.Token, "GET", "/v1/status", nil, nil) }
	if err := read(); err != nil {
		t.Error(err)
	}
	p.must("POST", "/v1/devices", object{"name": "meter", "limits": object{"budget_msat": 10_000, "budget_renewal": "daily"}}, nil)
	var card struct{ Credential string }
	p.must("POST", "/v1/devices/meter/credential", nil, &card)
	paid := 0
	for n, skew := range []time.Duration{0, day, 0, day, -day, 0, day} {
		p.clock(skew)
		if err := read(); (err == nil) != (skew <= 0) {
			t.Errorf("a credential for an hour, clock %v off: %v", skew, err)
		}
		for range 20 {
			if err := spend(p, card.Credential, money.Sat); err == nil {
				paid++
			} else if !is(err, "QUOTA_EXCEEDED") {
				t.Errorf("%d: %v", n, err)
			} else {
				break
			}
		}
	}
	if paid != 20 {
		t.Errorf("%d sat went out in two days of 10 sat each", paid)
	}
}
