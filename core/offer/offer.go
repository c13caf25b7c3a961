// Package offer is what a machine sells and for how much: services, prices in
// bitcoin or at the rate of a currency, and quotes. It knows no clock and no
// source of rates: both are told.
package offer

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
)

// A Service is something that is sold by the unit. Exactly one of Price, Fiat
// and Dynamic says for how much, unless it is free.
type Service struct {
	Name  string       `json:"name"` // what trade calls an item
	Title string       `json:"title,omitempty"`
	Unit  string       `json:"unit"`          // Wh, reading, request, second
	Per   uint64       `json:"per,omitempty"` // the price is for so many units; 0 is 1
	Price money.Amount `json:"price_msat,omitempty"`
	Fiat  Fiat         `json:"fiat,omitzero"`
	// Dynamic is a URL that is asked for each quote's price; empty for none.
	Dynamic string `json:"dynamic,omitempty"`

	Free   uint64 `json:"free,omitempty"`   // units that each buyer has free in a day
	Shadow bool   `json:"shadow,omitempty"` // count what would be charged, and charge nothing
	Min    uint64 `json:"min,omitempty"`    // units of an order; 0 is 1
	Max    uint64 `json:"max,omitempty"`    // 0 is no limit

	// Within is how long the device has to acknowledge a delivery; then the money
	// goes back. 0 is no deadline: it is owed until it is delivered.
	Within step.Time `json:"within_ms,omitempty"`
	// Hold takes the money only when it is delivered, on rails that can.
	Hold bool `json:"hold,omitempty"`
	// From says who delivers: "device:NAME" of the fleet, "http://…" for a service
	// behind the paywall, "data:…" for readings that are sold sealed, or the name of
	// a device that is built in.
	From string `json:"from,omitempty"`
}

// Fiat is an amount of a currency, in millionths of its unit.
type Fiat struct {
	Currency string `json:"currency"` // ISO 4217: EUR
	Micro    uint64 `json:"micro"`
}

// String is "0.30 EUR".
func (f Fiat) String() string {
	frac := strings.TrimRight(fmt.Sprintf("%06d", f.Micro%1e6), "0")
	return fmt.Sprintf("%d.%s %s", f.Micro/1e6, frac+strings.Repeat("0", max(0, 2-len(frac))), f.Currency)
}

// A Rate is the price of one bitcoin, in millionths of a currency's unit, and
// who said so when: the stamp that goes into a quote and stays in the books.
type Rate struct {
	Currency string    `json:"currency"`
	Micro    uint64    `json:"btc_micro"`
	Source   string    `json:"source"`
	At       step.Time `json:"at_ms"`
}

// maxSource bounds the name of a source of rates, in bytes.
const maxSource = 64

// Msat is what f costs at rate r, rounded up.
func (r Rate) Msat(f Fiat) (money.Amount, error) {
	if r.Currency != f.Currency || r.Micro == 0 {
		return 0, fmt.Errorf("there is no rate for %s", f.Currency)
	}
	return share(f.Micro, uint64(money.BTC), r.Micro)
}

// Worth is what an amount is worth at rate r, rounded to the nearest millionth.
func (r Rate) Worth(a money.Amount) Fiat {
	hi, lo := bits.Mul64(uint64(a), r.Micro)
	lo, carry := bits.Add64(lo, uint64(money.BTC)/2, 0)
	if hi += carry; hi >= uint64(money.BTC) {
		return Fiat{r.Currency, ^uint64(0)}
	}
	q, _ := bits.Div64(hi, lo, uint64(money.BTC))
	return Fiat{r.Currency, q}
}

// share is a*b/c rounded up, as an amount.
func share(a, b, c uint64) (money.Amount, error) {
	hi, lo := bits.Mul64(a, b)
	lo, carry := bits.Add64(lo, c-1, 0)
	if hi += carry; hi >= c {
		return 0, errTooMuch
	}
	q, _ := bits.Div64(hi, lo, c)
	if money.Amount(q) > money.MaxAmount {
		return 0, errTooMuch
	}
	return money.Amount(q), nil
}

var errTooMuch = errors.New("that costs more than all the bitcoin there can be")

// Check reports what is wrong with a service.
func (s Service) Check() error {
	priced := 0
	for _, yes := range []bool{s.Price > 0, s.Fiat != Fiat{}, s.Dynamic != ""} {
		if yes {
			priced++
		}
	}
	switch {
	case !ValidName(s.Name):
		return fmt.Errorf("service %.80q: a name is 1 to %d of a-z 0-9 . _ -", s.Name, trade.MaxName)
	case len(s.Unit) > trade.MaxName || len(s.Title) > 2*trade.MaxName:
		return fmt.Errorf("service %s: its unit may have %d bytes, its title %d", s.Name, trade.MaxName, 2*trade.MaxName)
	case priced != 1:
		return fmt.Errorf("service %s has %d prices; it must have one: an amount, a currency's, or a URL to ask", s.Name, priced)
	case s.Price > money.MaxAmount:
		return fmt.Errorf("service %s: %w", s.Name, errTooMuch)
	case s.Fiat != Fiat{} && (len(s.Fiat.Currency) != 3 || s.Fiat.Micro == 0):
		return fmt.Errorf("service %s: %q is no price; write it as 0.30 EUR", s.Name, s.Fiat)
	case s.Max != 0 && s.Max < s.Min:
		return fmt.Errorf("service %s: at most %d units is less than at least %d", s.Name, s.Max, s.Min)
	case s.Within < 0 || s.Within > step.Day:
		return fmt.Errorf("service %s: it must be delivered within %d ms; the limit is a day", s.Name, s.Within)
	}
	return nil
}

// ValidName reports whether s can name a service or a device: it stands in URLs,
// topics and caveats, so it needs no escaping anywhere.
func ValidName(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= trade.MaxName && s[0] != '.'
}

// Due is what units cost, rounded up to a msat once for all of them. rate is for
// a price in a currency; asked is the price per s.Per units that a dynamic
// service's URL has answered.
func (s Service) Due(units uint64, rate Rate, asked money.Amount) (money.Amount, error) {
	per := max(s.Per, 1)
	switch {
	case units < max(s.Min, 1) || s.Max != 0 && units > s.Max:
		return 0, fmt.Errorf("%d %s of %s cannot be sold at once: it is sold from %d to %s", units, s.Unit, s.Name, max(s.Min, 1), atMost(s.Max))
	case s.Price > 0:
		return share(uint64(s.Price), units, per)
	case s.Dynamic != "":
		return share(uint64(asked), units, per)
	case rate.Currency != s.Fiat.Currency || rate.Micro == 0:
		return 0, fmt.Errorf("service %s is priced in %s, and there is no rate for it now", s.Name, s.Fiat.Currency)
	}
	// Millionths of the currency first, rounded up, then msat, rounded up.
	micro, err := share(s.Fiat.Micro, units, per)
	if err != nil {
		return 0, err
	}
	return rate.Msat(Fiat{s.Fiat.Currency, uint64(micro)})
}

func atMost(n uint64) string {
	if n == 0 {
		return "any number"
	}
	return fmt.Sprint(n)
}

// A Quote is a price for a number of units, good until a time. Its order is what
// is paid.
type Quote struct {
	Order   money.OrderID `json:"order"`
	Service string        `json:"service"`
	Units   uint64        `json:"units"`
	Due     money.Amount  `json:"due_msat"`
	Rate    Rate          `json:"rate,omitzero"` // stamped, if the price is a currency's
	At      step.Time     `json:"at_ms"`
	Until   step.Time     `json:"until_ms"`
}

// Append writes what ReadQuote reads.
func (q Quote) Append(b []byte) []byte {
	b = append(b, q.Order[:]...)
	b = codec.AppendBytes(b, q.Service)
	b = codec.AppendUint(b, q.Units)
	b = codec.AppendUint(b, q.Due)
	b = codec.AppendUint(b, uint64(q.At))
	b = codec.AppendUint(b, uint64(q.Until))
	return q.Rate.append(b)
}

func (r Rate) append(b []byte) []byte {
	b = codec.AppendBytes(b, r.Currency)
	if r.Currency == "" {
		return b
	}
	b = codec.AppendUint(b, r.Micro)
	b = codec.AppendBytes(b, r.Source[:min(len(r.Source), maxSource)])
	return codec.AppendUint(b, uint64(r.At))
}

// ReadQuote reads a quote.
func ReadQuote(r *codec.Reader) (q Quote) {
	r.Fill(q.Order[:])
	q.Service, q.Units, q.Due = r.String(trade.MaxName, "service"), r.Uvarint(), r.Amount()
	q.At, q.Until = step.Time(r.Uvarint()), step.Time(r.Uvarint())
	if q.Rate.Currency = r.String(3, "currency"); q.Rate.Currency != "" {
		q.Rate.Micro, q.Rate.Source, q.Rate.At = r.Uvarint(), r.String(maxSource, "source of the rate"), step.Time(r.Uvarint())
	}
	return q
}
