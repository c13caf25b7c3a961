package macaroon

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"coinop.dev/core/step"
)

// A Kind is what a condition's value is, and with it what "narrower" means.
type Kind uint8

const (
	// Words is a list with commas; a later one must be a part of it.
	Words Kind = iota
	// AtMost is a decimal number; a later one must not be larger.
	AtMost
	// Exactly is text that a later caveat may only repeat.
	Exactly
	// Renewal is how often a budget begins anew; a later one must not be more
	// often.
	Renewal
)

// A Rule says what a condition's value is.
type Rule struct {
	Key  string
	Kind Kind
}

// renewals are the words of NIP-47, the most frequent first.
var renewals = []string{"daily", "weekly", "monthly", "yearly", "never"}

// rules are the conditions that every credential of ours may carry.
var rules = []Rule{
	{"service", Words},    // names of services
	{"services", Words},   // L402: name:tier
	{"device", Exactly},   // the fleet's name of the holder
	{"scope", Words},      // what may be called: read, pay, sell, admin
	{"method", Words},     // HTTP methods
	{"ip", Words},         // addresses of the holder
	{"payee", Words},      // who may be paid
	{"preimage", Exactly}, // L402: proof of payment inside the token
	{"expires", AtMost},   // Unix time in seconds
	{"budget_msat", AtMost},
	{"budget_renewal", Renewal},
	{"max_payment_msat", AtMost},
	{"max_fee_msat", AtMost},
	{"price_per_unit_max_msat", AtMost},
	{"per_minute", AtMost},
}

// Conditions is what all caveats of a credential together allow. Its zero value
// has no caveats, so it allows everything: fill it by Add, or by Read.
type Conditions struct {
	own    []Rule
	values map[string]string
}

// Read takes caveats of the form key=value. own are rules of the caller, beside
// those that every credential may carry.
func Read(caveats []string, own ...Rule) (Conditions, error) {
	c := Conditions{own: own}
	for _, caveat := range caveats {
		if err := c.Add(caveat); err != nil {
			return Conditions{}, err
		}
	}
	return c, nil
}

// Add takes one more caveat, as Verify's check does. A key that nobody knows, a
// value that is none, and one that would allow more than an earlier caveat are
// errors: who reads a credential must understand all of it.
func (c *Conditions) Add(caveat string) error {
	key, value, ok := strings.Cut(caveat, "=")
	if !ok {
		return fmt.Errorf("caveat %.80q is not key=value", caveat)
	}
	kind, ok := c.kind(key)
	if !ok {
		return fmt.Errorf("nobody here knows the caveat %.80q, so the credential cannot be taken", key)
	}
	if err := kind.check(value); err != nil {
		return fmt.Errorf("caveat %s: %w", key, err)
	}
	if before, ok := c.values[key]; ok && !kind.narrows(before, value) {
		return fmt.Errorf("caveat %.80q allows more than the earlier %.80q", caveat, key+"="+before)
	}
	if c.values == nil {
		c.values = make(map[string]string)
	}
	c.values[key] = value
	return nil
}

func (c *Conditions) kind(key string) (Kind, bool) {
	for _, all := range [2][]Rule{rules, c.own} {
		for _, r := range all {
			if r.Key == key {
				return r.Kind, true
			}
		}
	}
	return 0, false
}

func (k Kind) check(value string) error {
	switch k {
	case AtMost:
		if n, err := strconv.ParseUint(value, 10, 64); err != nil || strconv.FormatUint(n, 10) != value {
			return fmt.Errorf("%.40q is not a number", value)
		}
	case Renewal:
		if !slices.Contains(renewals, value) {
			return fmt.Errorf("%.40q is none of %s", value, strings.Join(renewals, ", "))
		}
	case Words, Exactly:
		if value == "" {
			return fmt.Errorf("the value is empty")
		}
	}
	return nil
}

// narrows reports whether value allows nothing that before does not; both have
// been checked.
func (k Kind) narrows(before, value string) bool {
	switch k {
	case Words:
		had := strings.Split(before, ",")
		for word := range strings.SplitSeq(value, ",") {
			if !slices.Contains(had, word) {
				return false
			}
		}
		return true
	case AtMost:
		return number(value) <= number(before)
	case Renewal:
		return slices.Index(renewals, value) >= slices.Index(renewals, before)
	}
	return value == before
}

func number(value string) uint64 {
	n, _ := strconv.ParseUint(value, 10, 64) // Kind.check has read it
	return n
}

// Value is what the last caveat of a key says, or "".
func (c Conditions) Value(key string) string { return c.values[key] }

// Limit is the number of an AtMost condition; false if there is none.
func (c Conditions) Limit(key string) (n uint64, ok bool) {
	value, ok := c.values[key]
	return number(value), ok
}

// Allows reports whether word is among those of a key, or there is no caveat of
// that key.
func (c Conditions) Allows(key, word string) bool {
	value, ok := c.values[key]
	return !ok || slices.Contains(strings.Split(value, ","), word)
}

// Expired reports whether the credential was good until now at most.
func (c Conditions) Expired(now step.Time) bool {
	until, ok := c.Limit("expires")
	return ok && uint64(max(now, 0))/1000 >= until
}
