package fleet

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/money"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
)

const (
	// MaxPayees bounds the payees of one device in one period, if a limit on each
	// has them counted.
	MaxPayees = 16
	// maxTo bounds a payment URI, in bytes.
	maxTo = 512
)

// tally is what was reserved or paid in the period that runs: at the gateway for
// each device, and on the device for itself.
type tally struct {
	start  step.Time // of the period
	spent  money.Amount
	minute step.Time
	count  int // payments in that minute
	payees []payee
}

// payee is one of this period. Names are long and only compared, so they are
// hashed.
type payee struct {
	who   [8]byte
	spent money.Amount
}

// whois hashes whom a payment URI names: the part before "?".
func whois(to string) (who [8]byte) {
	to, _, _ = strings.Cut(to, "?")
	sum := sha256.Sum256([]byte(to))
	copy(who[:], sum[:])
	return who
}

// at is the tally as of now. A clock that goes back renews nothing.
func (t tally) at(l Limits, now step.Time) tally {
	if start, _ := l.Period.Window(now); start > t.start {
		t.start, t.spent, t.payees = start, 0, nil
	}
	if minute := now - now%step.Minute; minute > t.minute {
		t.minute, t.count = minute, 0
	}
	return t
}

func (t *tally) to(who [8]byte) int {
	return slices.IndexFunc(t.payees, func(p payee) bool { return p.who == who })
}

// allow checks one payment against every limit but the total.
func (t *tally) allow(l Limits, amount money.Amount, units uint64, to string, now step.Time) error {
	_, end := l.Period.Window(now)
	if amount == 0 || amount > money.MaxAmount || len(to) > maxTo {
		return refusal(money.Invalid, fmt.Errorf("the amount is %v and the payee has %d bytes; they must be 1 msat to %v and at most %d", amount, len(to), money.MaxAmount, maxTo))
	}
	if l.Order > 0 && amount > l.Order {
		return refusal(money.Refused, &spend.Refusal{Limit: "order", Asked: amount, Left: l.Order, Max: l.Order})
	}
	if l.UnitPrice > 0 && units > 0 {
		if unit := (amount + money.Amount(units) - 1) / money.Amount(units); unit > l.UnitPrice {
			return refusal(money.Refused, &spend.Refusal{Limit: "unit price", Asked: unit, Left: l.UnitPrice, Max: l.UnitPrice})
		}
	}
	if l.PerMinute > 0 && t.count >= l.PerMinute {
		return refusal(money.Refused, &spend.Refusal{Limit: "per minute", Asked: amount, Count: l.PerMinute, Renews: t.minute + step.Minute})
	}
	if _, ok := t.spent.Add(amount); !ok {
		return refusal(money.Refused, fmt.Errorf("%v and what is spent already are more than there can be", amount))
	}
	if l.Payee == 0 {
		return nil
	}
	spent, at := money.Amount(0), t.to(whois(to))
	if at < 0 && len(t.payees) >= MaxPayees {
		return refusal(money.Refused, fmt.Errorf("%d payees in one period are the limit", MaxPayees))
	}
	if at >= 0 {
		spent = t.payees[at].spent
	}
	if left := l.Payee - min(spent, l.Payee); amount > left {
		return refusal(money.Refused, &spend.Refusal{Limit: "payee", Asked: amount, Left: left, Max: l.Payee, Renews: end, Period: l.Period.String()})
	}
	return nil
}

// short is the refusal of the total: most may be spent in this period.
func (t *tally) short(l Limits, amount, most money.Amount, now step.Time) error {
	if left := most - min(t.spent, most); amount > left {
		_, end := l.Period.Window(now)
		return refusal(money.Refused, &spend.Refusal{Limit: "total", Asked: amount, Left: left, Max: l.Total, Renews: end, Period: l.Period.String()})
	}
	return nil
}

func refusal(kind money.Kind, why error) error {
	return &money.Error{Kind: kind, Op: "spend", Err: why}
}

// add counts a payment that is allowed.
func (t *tally) add(l Limits, amount money.Amount, who [8]byte) {
	t.spent += amount
	t.count++
	if l.Payee == 0 {
		return
	}
	at := t.to(who)
	t.payees = slices.Clone(t.payees) // the one before this step may still be looked at
	if at < 0 {
		at = len(t.payees)
		t.payees = append(t.payees, payee{who: who})
	}
	t.payees[at].spent += amount
}

// back gives a payment of the period that runs back.
func (t *tally) back(start step.Time, amount money.Amount, who [8]byte) {
	if start != t.start {
		return
	}
	t.spent -= min(t.spent, amount)
	if at := t.to(who); at >= 0 {
		t.payees = slices.Clone(t.payees)
		t.payees[at].spent -= min(t.payees[at].spent, amount)
	}
}

func (t *tally) append(b []byte) []byte {
	b = codec.AppendUint(b, zigzag(t.start))
	b = codec.AppendUint(b, t.spent)
	b = codec.AppendUint(b, int64(t.minute))
	b = codec.AppendUint(b, t.count)
	b = codec.AppendUint(b, len(t.payees))
	for _, p := range t.payees {
		b = append(b, p.who[:]...)
		b = codec.AppendUint(b, p.spent)
	}
	return b
}

func readTally(r *codec.Reader) (t tally) {
	t.start, t.spent, t.minute, t.count = unzigzag(r.Uvarint()), r.Amount(), readTime(r), r.Int(maxPerMinute+1, "payments in a minute")
	for n := r.Int(MaxPayees, "number of payees"); n > 0 && r.Err() == nil; n-- {
		var p payee
		r.Fill(p.who[:])
		p.spent = r.Amount()
		t.payees = append(t.payees, p)
	}
	return t
}

// zigzag writes a time that may lie before 1970: a period's start can.
func zigzag(t step.Time) uint64 { return uint64(t)<<1 ^ uint64(t>>63) }

func unzigzag(v uint64) step.Time { return step.Time(v>>1) ^ -step.Time(v&1) }
