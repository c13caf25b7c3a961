package c_test

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
)

// policy is one for the pair's device, signed as its gateway does.
func (p *pair) policy(version uint64, l fleet.Limits, payees ...string) fleet.Policy {
	v := fleet.Policy{Device: p.g.d.name, Version: version, Limits: l, Payees: payees}
	return p.seal(v)
}

func (p *pair) seal(v fleet.Policy) fleet.Policy {
	if p.g.d.shared.IsZero() {
		return v.Seal(p.g.d.gateway, p.g.d.key.Public(), p.g.d.shared)
	}
	return v.Seal(keys.Secret{}, keys.Public{}, p.g.d.shared)
}

func (p *pair) obeys(v fleet.Policy) { p.tell('M', v.Append(nil)) }

// wants pays n coins for an order of its own, and compares the device's answer.
func (p *pair) wants(want byte, id, n uint64, why string) {
	p.t.Helper()
	for {
		switch answer, _ := p.pay('P', orderID(id), n); {
		case answer == wait:
			time.Sleep(time.Millisecond)
			continue
		case answer != want && !(want == promised && answer == done):
			p.t.Errorf("%s: the device answers %d, not %d", why, answer, want)
		}
		return
	}
}

// at sets the device's clock.
func (p *pair) at(text string) {
	p.t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		p.t.Fatal(err)
	}
	p.tell('C', binary.BigEndian.AppendUint64(nil, uint64(at.UnixMilli())))
}

func period(t testing.TB, text string) spend.Period {
	t.Helper()
	v, err := spend.ParsePeriod(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTheOwnersPolicyBoundsWhatTheDevicePays(t *testing.T) {
	for name, shared := range map[string]bool{"by keys": false, "by a shared secret": true} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 41, 64, 100, 25)
			if shared {
				p.g.d.shared = newChaos(42).secret(t)
				p.commission(p.g.d)
			}
			p.on(-1)
			p.wants(promised, 1, 6, "before any policy")
			p.obeys(p.policy(2, fleet.Limits{Order: 5 * coin, Total: 20 * coin, Period: period(t, "daily")}))
			p.wants(forbidden, 2, 6, "more than one payment may be")
			p.wants(promised, 3, 5, "as much as one payment may be")
			if answer, _ := p.pay('T', orderID(4), uint64(5*coin)+1); answer != forbidden {
				t.Errorf("more by ticket: %d", answer)
			}
			if answer, _ := p.pay('T', orderID(5), uint64(5*coin)); answer != promised {
				t.Errorf("by ticket: %d", answer)
			}
			p.wants(promised, 6, 4, "the rest of the budget") // 6, 5, 5 and 4
			p.wants(forbidden, 7, 1, "beyond the budget")
			p.wants(promised, 3, 5, "what was paid, asked again")
			p.kill()
			p.on(-1)
			p.wants(forbidden, 7, 1, "beyond the budget, after a power cut")
			p.at("2026-11-21T23:59:00Z")
			p.wants(promised, 8, 5, "once it knows what day it is, a budget of that day")
			p.wants(promised, 9, 5, "and more")
			p.at("2026-11-21T00:00:00Z")
			p.wants(promised, 10, 5, "the same day")
			p.wants(promised, 11, 5, "and its last")
			p.at("2026-11-20T12:00:00Z")
			p.wants(forbidden, 12, 1, "yesterday does not come again")
			p.at("2026-11-22T00:00:00Z")
			p.wants(promised, 13, 5, "the next day")
		})
	}
}

// What stands in no policy of the owner's changes nothing.
func TestOnlyTheOwnersPolicyCounts(t *testing.T) {
	p := newPair(t, 43, 64, 100, 25)
	p.on(-1)
	c := newChaos(44)
	none := fleet.Limits{Order: 1}
	good := p.policy(5, fleet.Limits{Order: 3 * coin})
	p.obeys(good)
	stolen := p.policy(6, none)
	stolen.Device = "pump-4"
	changed := p.policy(6, fleet.Limits{})
	changed.Limits.Order = 1
	for what, v := range map[string]fleet.Policy{
		"somebody's":          stolen.Seal(c.secret(t), p.g.d.key.Public(), keys.Secret{}),
		"another device's":    p.seal(stolen),
		"one that is changed": changed,
		"for another key":     p.policy(6, none).Seal(p.g.d.gateway, c.secret(t).Public(), keys.Secret{}),
		"by a secret":         p.policy(6, none).Seal(keys.Secret{}, keys.Public{}, c.secret(t)),
		"an old one":          p.policy(4, none),
	} {
		p.obeys(v)
		p.wants(promised, uint64(len(what)), 3, what)
	}
	p.wants(forbidden, 99, 4, "the good one")
	p.obeys(p.policy(6, fleet.Limits{}))
	p.wants(promised, 100, 4, "a newer one")
	over := p.policy(7, fleet.Limits{})
	over.Expires = 1 // the device is revoked
	p.obeys(p.seal(over))
	p.wants(forbidden, 101, 1, "an expired one, without a clock")
	p.at("2026-11-21T23:59:00Z")
	p.wants(forbidden, 101, 1, "an expired one")
}

func TestAPolicyNamesThePayees(t *testing.T) {
	p := newPair(t, 45, 64, 100, 25)
	p.on(-1)
	gateway, other := p.g.d.gateway.Public(), newChaos(46).secret(t).Public()
	for i, v := range []struct {
		payees         []string
		coins, tickets byte
	}{
		{[]string{"payword://" + other.String() + "@a:1"}, forbidden, forbidden},
		{[]string{"payword://" + other.String() + "@a:1", "payword://" + gateway.String() + "@gateway:9736"}, promised, forbidden},
		{[]string{"oneway://" + gateway.String()}, forbidden, promised},
		{[]string{"oneway://" + gateway.String() + "0@a:1", "lightning:" + gateway.String()}, forbidden, forbidden},
		{nil, promised, promised},
	} {
		n := uint64(i + 1)
		p.obeys(p.policy(n, fleet.Limits{}, v.payees...))
		p.wants(v.coins, n, 1, fmt.Sprintf("coins to one of %v", v.payees))
		if answer, _ := p.pay('T', orderID(100+n), 1000); answer != v.tickets {
			t.Errorf("a ticket to one of %v: %d, not %d", v.payees, answer, v.tickets)
		}
	}
	p.obeys(p.policy(9, fleet.Limits{PerMinute: 6}))
	for i := range uint64(2) { // four were counted
		p.wants(promised, 200+i, 1, "payments in a minute")
	}
	p.wants(forbidden, 210, 1, "one more")
}

// The days on which budgets renew, against Go's calendar: the device pays a day's
// budget where Go begins a period, and nothing more where not.
func TestPeriodsBeginAsGos(t *testing.T) {
	t.Parallel()
	c := newChaos(47)
	for i, text := range []string{"daily", "weekly", "Monthly", "yearly"} {
		p := newPair(t, 50+uint64(i), 4096, 2000, 500)
		p.on(-1)
		every := period(t, text)
		p.obeys(p.policy(1, fleet.Limits{Total: coin, Period: every}))
		at := step.Time(1_700_000_000_000)
		start, _ := every.Window(at)
		first := true
		for n := range uint64(often(40, 300)) {
			p.tell('C', binary.BigEndian.AppendUint64(nil, uint64(at)))
			want := byte(forbidden)
			if s, _ := every.Window(at); first || s > start {
				want, start, first = promised, s, false
			}
			p.wants(want, n, 1, fmt.Sprintf("%s, %s", text, spend.RFC3339(at)))
			switch _, end := every.Window(at); c.IntN(3) {
			case 0:
				at = end // exactly
			case 1:
				at = max(at, end-10*step.Second) // the device's clock runs
			default:
				at += step.Time(c.Int64N(int64(end - start)))
			}
		}
	}
}

// A device without a clock asks its gateway. What anybody says on the link later
// moves it no faster than a bad clock goes.
func TestTheGatewayTellsTheTime(t *testing.T) {
	b := newBoss(t, 48, false)
	b.start(-1)
	now := step.Time(time.Now().UnixMilli())
	dated := func(n uint64, at step.Time) fleet.Command {
		c := b.d.command(n, orderID(n), "water")
		c.Until = at
		return c.Seal(b.d.gateway, b.d.key.Public(), keys.Secret{})
	}
	say := func(at step.Time) { b.tell('M', fleet.Time{At: at}.Append(nil)) }
	say(now)
	b.give(dated(1, now+60_000))
	if a := b.answer(); !a.OK {
		t.Errorf("in time: %+v", a)
	}
	b.give(dated(2, now-1))
	if a := b.answer(); a.OK || a.Why != "it came too late" {
		t.Errorf("late: %+v", a)
	}
	say(now - 3_600_000) // a lie, or an old message
	b.give(dated(3, now-1))
	if a := b.answer(); a.OK {
		t.Errorf("the clock was put back: %+v", a)
	}
	b.kill()
	b.start(-1)
	b.tell('C', binary.BigEndian.AppendUint64(nil, uint64(now)))
	say(now - 3_600_000)
	b.give(dated(4, now-1))
	if a := b.answer(); a.OK {
		t.Errorf("a device with a clock of its own: %+v", a)
	}
}
