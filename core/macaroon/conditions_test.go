package macaroon_test

import (
	"strings"
	"testing"

	"coinop.dev/core/macaroon"
)

// A device lends its credential to a part of itself, for less, for a shorter
// time; the conditions are the narrowest of all.
func TestConditionsNarrow(t *testing.T) {
	m := bake(t, "device=charger-7", "service=energy,parking", "expires=2000", "budget_msat=100000", "budget_renewal=daily")
	m, err := m.Narrow("service=parking", "expires=1000", "budget_msat=5000", "budget_renewal=never", "max_payment_msat=10")
	if err != nil {
		t.Fatal(err)
	}
	var c macaroon.Conditions
	if err := m.Verify(root(t, 1), c.Add); err != nil {
		t.Fatal(err)
	}
	if c.Allows("service", "energy") || !c.Allows("service", "parking") || !c.Allows("payee", "anybody") {
		t.Error("the services are not the narrower ones")
	}
	if n, ok := c.Limit("budget_msat"); !ok || n != 5000 {
		t.Errorf("the budget is %d, %v", n, ok)
	}
	if _, ok := c.Limit("per_minute"); ok {
		t.Error("a limit that nobody set")
	}
	if c.Value("device") != "charger-7" || c.Value("budget_renewal") != "never" {
		t.Errorf("device %q, renewal %q", c.Value("device"), c.Value("budget_renewal"))
	}
	if c.Expired(999_999) || !c.Expired(1_000_000) || c.Expired(-5) {
		t.Error("it is not good until second 1000")
	}
	if (macaroon.Conditions{}).Expired(1 << 60) {
		t.Error("what has no end has expired")
	}
}

// No order of caveats allows more than the first of a key did, and a caveat that
// is not understood refuses the credential.
func TestConditionsCannotWiden(t *testing.T) {
	own := macaroon.Rule{Key: "quote", Kind: macaroon.Exactly}
	if _, err := macaroon.Read([]string{"quote=x", "quote=x", "service=a,b", "service=b"}, own); err != nil {
		t.Fatal(err)
	}
	for text, why := range map[string]string{
		"service=a;service=a,b":                     "more than",
		"service=a;service=b":                       "more than",
		"device=a;device=b":                         "more than",
		"expires=1;expires=2":                       "more than",
		"budget_msat=5;budget_msat=6":               "more than",
		"budget_renewal=never;budget_renewal=daily": "more than",
		"quote=x;quote=y":                           "more than",
		"colour=red":                                "nobody here knows",
		"expires=01":                                "not a number",
		"expires=-1":                                "not a number",
		"expires=99999999999999999999":              "not a number",
		"budget_renewal=hourly":                     "none of",
		"device=":                                   "empty",
		"expires":                                   "not key=value",
	} {
		if _, err := macaroon.Read(strings.Split(text, ";"), own); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Whatever is added, nothing is allowed afterwards that was not before.
func FuzzConditions(f *testing.F) {
	f.Add("service=a,b\nexpires=10\ndevice=x", "service=b")
	f.Add("services=a:0", "services=a:0,b:1")
	f.Fuzz(func(t *testing.T, before, more string) {
		wide, err := macaroon.Read(strings.Split(before, "\n"))
		if err != nil {
			return
		}
		narrow, err := macaroon.Read(append(strings.Split(before, "\n"), more))
		if err != nil {
			return
		}
		for _, word := range append(strings.Split(before+","+more, ","), "a", "b") {
			for _, key := range []string{"service", "device"} {
				if narrow.Allows(key, word) && !wide.Allows(key, word) {
					t.Errorf("%q after %q allows %s %q", more, before, key, word)
				}
			}
		}
		if w, ok := wide.Limit("expires"); ok {
			if n, still := narrow.Limit("expires"); !still || n > w {
				t.Errorf("%q after %q lasts longer", more, before)
			}
		}
	})
}
