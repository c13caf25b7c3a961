// Package money holds the nouns of machine payments: amounts, orders, bills,
// receipts, and the kinds of error that tell a caller what may be done next.
//
// Everything else in the module speaks in these words. The package imports
// nothing of coinop.dev, so a driver author needs to learn only this page.
package money

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// An Amount is money in millisatoshi (msat), the one unit of account above the
// rails: 1 sat = 1,000 msat, 1 BTC = 10^11 msat. A rail with a native coin
// converts at its own edge.
type Amount uint64

const (
	Msat Amount = 1
	Sat  Amount = 1000
	BTC  Amount = 100_000_000 * Sat

	// MaxAmount is all the bitcoin there can ever be. Larger amounts are
	// refused on sight, so sums of a few of them cannot overflow.
	MaxAmount = 21_000_000 * BTC
)

// Add returns a+b, or false if that is more than MaxAmount.
func (a Amount) Add(b Amount) (Amount, bool) {
	if a > MaxAmount || b > MaxAmount-a {
		return 0, false
	}
	return a + b, true
}

// Times returns a*n, or false if that is more than MaxAmount.
func (a Amount) Times(n uint64) (Amount, bool) {
	if n != 0 && a > MaxAmount/Amount(n) {
		return 0, false
	}
	return a * Amount(n), true
}

// Share is what part of whole is of a, rounded up: a*part/whole. It is MaxAmount if
// it would be more, or if whole is 0.
func Share(a Amount, part, whole uint64) Amount {
	hi, lo := bits.Mul64(uint64(a), part)
	if hi >= whole {
		return MaxAmount
	}
	lo, carry := bits.Add64(lo, whole-1, 0)
	if hi += carry; hi >= whole {
		return MaxAmount
	}
	q, _ := bits.Div64(hi, lo, whole)
	return min(Amount(q), MaxAmount)
}

// Sats returns a in whole satoshi, rounded down.
func (a Amount) Sats() int64 { return int64(a / Sat) }

// FromSats returns sat satoshi as an Amount; a negative or impossible value
// gives false.
func FromSats(sat int64) (Amount, bool) {
	if sat < 0 || sat > MaxAmount.Sats() {
		return 0, false
	}
	return Amount(sat) * Sat, true
}

// String prints whole satoshi as "12 sat" and anything finer as "12345 msat".
func (a Amount) String() string {
	if a%Sat == 0 {
		return strconv.FormatUint(uint64(a/Sat), 10) + " sat"
	}
	return strconv.FormatUint(uint64(a), 10) + " msat"
}

// ParseAmount reads "12 sat", "12sat", "1500 msat" or "0.5 btc". A number
// without a unit is refused: nobody can tell sat from msat by looking.
func ParseAmount(text string) (Amount, error) {
	s := strings.ToLower(strings.TrimSpace(text))
	for _, u := range []struct {
		name string
		unit Amount
		// digits is how many decimals the unit can carry in whole msat.
		digits int
	}{{"msat", Msat, 0}, {"sats", Sat, 3}, {"sat", Sat, 3}, {"btc", BTC, 11}} {
		number, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		whole, frac, _ := strings.Cut(strings.TrimSpace(number), ".")
		if len(frac) > u.digits {
			return 0, fmt.Errorf("amount %q has more than %d decimals, finer than 1 msat", text, u.digits)
		}
		frac += strings.Repeat("0", u.digits-len(frac))
		w, err := strconv.ParseUint(whole, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("amount %q is not a number followed by msat, sat or btc", text)
		}
		f := uint64(0)
		if frac != "" {
			if f, err = strconv.ParseUint(frac, 10, 64); err != nil {
				return 0, fmt.Errorf("amount %q is not a number followed by msat, sat or btc", text)
			}
		}
		a, ok := u.unit.Times(w)
		if ok {
			a, ok = a.Add(Amount(f))
		}
		if !ok {
			return 0, fmt.Errorf("amount %q is more than the %d bitcoin there can be", text, uint64(MaxAmount/BTC))
		}
		return a, nil
	}
	return 0, fmt.Errorf("amount %q has no unit; write msat, sat or btc", text)
}

// MarshalJSON is the number of msat: JSON fields end in _msat.
func (a Amount) MarshalJSON() ([]byte, error) { return strconv.AppendUint(nil, uint64(a), 10), nil }

// UnmarshalJSON reads a number of msat.
func (a *Amount) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseUint(string(b), 10, 64)
	if err != nil || Amount(v) > MaxAmount {
		return fmt.Errorf("amount %.40q is not a number of msat", b)
	}
	*a = Amount(v)
	return nil
}

// MarshalText and UnmarshalText let an Amount stand in a config file.
func (a Amount) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what ParseAmount reads.
func (a *Amount) UnmarshalText(text []byte) (err error) {
	*a, err = ParseAmount(string(text))
	return err
}

// An OrderID names one order everywhere: in the purse, on the rail, in the
// till. Paying the same ID twice pays once.
type OrderID [16]byte

// String is the ID in hex.
func (id OrderID) String() string { return hex.EncodeToString(id[:]) }

// Key is the ID as a short string, for maps and outcomes.
func (id OrderID) Key() string { return string(id[:]) }

// MarshalText is String, for JSON.
func (id OrderID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads 32 hex digits.
func (id *OrderID) UnmarshalText(text []byte) error {
	if len(text) != 2*len(id) {
		return fmt.Errorf("order id %.40q is %d characters; it must be %d hex digits", text, len(text), 2*len(id))
	}
	_, err := hex.Decode(id[:], text)
	return err
}

// OrderIDFromKey undoes Key.
func OrderIDFromKey(key string) (id OrderID, ok bool) {
	if len(key) != len(id) {
		return id, false
	}
	copy(id[:], key)
	return id, true
}

// An Order asks a purse to pay.
type Order struct {
	ID     OrderID
	To     string // payment URI; its scheme picks the rail
	Amount Amount
	For    string // what is bought, in the seller's words; may be empty
	Units  uint64 // how many of it; 0 if it is not sold by the unit
}

// A Bill is a seller's request to be paid.
type Bill struct {
	ID     OrderID
	Amount Amount
	For    string
	Units  uint64
	// Hold leaves the money with the rail until the till has delivered
	// (core/receipt, Held). A rail that cannot refuses the bill.
	Hold bool
}

// A Receipt proves that an order was paid.
type Receipt struct {
	Order  OrderID `json:"order"`
	Amount Amount  `json:"amount_msat"`
	To     string  `json:"to"`
	At     int64   `json:"at_ms"` // Unix milliseconds at the payer
	Proof  []byte  `json:"proof"` // checked by the rail that To names
}

// An Inquiry asks a rail for the proof of an order it has settled. Unlike an
// Order it can never pay: a rail that does not know the order says so.
type Inquiry struct{ Order OrderID }

// ErrForgotten answers an Inquiry about an order the rail does not remember.
var ErrForgotten = errors.New("the rail no longer remembers this order")
