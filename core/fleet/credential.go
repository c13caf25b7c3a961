package fleet

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"coinop.dev/core/keys"
	"coinop.dev/core/macaroon"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
)

// renewals are the periods that a credential can name. Another one is known to
// the gateway alone, which enforces it anyhow.
var renewals = []string{"daily", "weekly", "monthly", "yearly", "never"}

// Credential bakes what a device shows at doors: who it is, and its limits, which
// a holder can narrow and nobody can widen. It is for the services named, or for
// all. It is the same each time, so nothing of it need be kept.
func Credential(root keys.Secret, p Profile, expires step.Time, services ...string) (macaroon.Macaroon, error) {
	caveats := []string{"device=" + p.Name}
	for _, s := range services {
		if !offer.ValidName(s) {
			return macaroon.Macaroon{}, fmt.Errorf("a credential for service %.80q, which is no name", s)
		}
	}
	if len(services) > 0 {
		caveats = append(caveats, "service="+strings.Join(services, ","))
	}
	number := func(key string, v uint64) {
		if v > 0 {
			caveats = append(caveats, key+"="+strconv.FormatUint(v, 10))
		}
	}
	number("expires", uint64(max(expires, 0)/step.Second))
	l := p.Limits
	number("max_payment_msat", uint64(l.Order))
	number("price_per_unit_max_msat", uint64(l.UnitPrice))
	number("per_minute", uint64(l.PerMinute))
	if period := l.Period.String(); l.Total > 0 && slices.Contains(renewals, period) {
		number("budget_msat", uint64(l.Total))
		caveats = append(caveats, "budget_renewal="+period)
	}
	return macaroon.Bake(credentialRoot(root), credentialID(p), "", caveats...)
}

func credentialRoot(root keys.Secret) keys.Secret { return root.Derive("fleet/credentials") }

// credentialID names the hardware too: what replaces it gets one of its own.
func credentialID(p Profile) []byte { return fmt.Appendf(nil, "device/%d/%s", p.Generation, p.Name) }

// A Grant is what a credential that was verified allows.
type Grant struct {
	Device     string
	Generation uint32
	Conditions macaroon.Conditions
	Limits     Limits // of the credential; the gateway's own hold besides. For Spend.Under
}

// Verify checks a credential against the fleet's root and the clock alone. That
// the device is in service is for Admit.
func Verify(root keys.Secret, m macaroon.Macaroon, now step.Time) (g Grant, err error) {
	if err := m.Verify(credentialRoot(root), g.Conditions.Add); err != nil {
		return Grant{}, err
	}
	parts := strings.SplitN(string(m.ID), "/", 3)
	if len(parts) != 3 || parts[0] != "device" || parts[2] != g.Conditions.Value("device") {
		return Grant{}, errors.New("the credential is not a device's")
	}
	generation, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil {
		return Grant{}, errors.New("the credential is not a device's")
	}
	g.Device, g.Generation = parts[2], uint32(generation)
	if g.Conditions.Expired(now) {
		return Grant{}, fmt.Errorf("the credential of device %s has expired; ask for a new one", g.Device)
	}
	limit := func(key string) money.Amount {
		n, ok := g.Conditions.Limit(key)
		if ok && n == 0 {
			err = fmt.Errorf("the credential of device %s allows nothing: its %s is 0", g.Device, key)
		}
		return min(money.Amount(n), money.MaxAmount)
	}
	g.Limits = Limits{Order: limit("max_payment_msat"), UnitPrice: limit("price_per_unit_max_msat"), Total: limit("budget_msat")}
	g.Limits.PerMinute = int(min(uint64(limit("per_minute")), maxPerMinute))
	if err != nil {
		return Grant{}, err
	}
	g.Limits.Period, err = spend.ParsePeriod(g.Conditions.Value("budget_renewal"))
	return g, err
}

// Admit says whether the device of a grant is in service, as the hardware that
// the credential was baked for.
func (f *Fleet) Admit(g Grant) error {
	d := f.devices[g.Device]
	switch {
	case d == nil:
		return errUnknown
	case d.Revoked:
		return errRevoked
	case d.Generation != g.Generation:
		return errReplaced
	}
	return nil
}

// under is what both a device's own limits and those of a narrower credential
// allow.
func (l Limits) under(narrow Limits) (Limits, error) {
	if narrow.Total > 0 && narrow.Period.String() != l.Period.String() {
		return l, fmt.Errorf("the credential has a budget that renews %s, and the device's renews %s; narrow the amount only", narrow.Period, l.Period)
	}
	l.Order, l.UnitPrice, l.Total = least(l.Order, narrow.Order), least(l.UnitPrice, narrow.UnitPrice), least(l.Total, narrow.Total)
	l.PerMinute = int(least(money.Amount(l.PerMinute), money.Amount(narrow.PerMinute)))
	return l, nil
}

// least is the smaller of two limits, of which 0 is none.
func least(a, b money.Amount) money.Amount {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
