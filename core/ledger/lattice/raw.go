package lattice

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strings"
)

// A Raw is an amount in Nano's smallest unit, 128 bits.
type Raw struct{ Hi, Lo uint64 }

const (
	// RawSize is how many bytes a Raw takes.
	RawSize = 16
	// NanoDigits is how many decimals of one nano a raw is.
	NanoDigits = 30
	rawDigits  = 39 // of MaxRaw
	tenTo19    = 10_000_000_000_000_000_000
)

var (
	// MaxRaw is the largest amount, which is Nano's supply.
	MaxRaw = Raw{math.MaxUint64, math.MaxUint64}
	// OneNano is 10^30 raw.
	OneNano = Raw{0xc9f2c9cd0, 0x4674edea40000000}
)

// RawOf is n raw.
func RawOf(n uint64) Raw { return Raw{Lo: n} }

// Mul64 is a·b raw, which always fits.
func Mul64(a, b uint64) Raw {
	hi, lo := bits.Mul64(a, b)
	return Raw{hi, lo}
}

// IsZero reports whether r is nothing.
func (r Raw) IsZero() bool { return r == Raw{} }

// Cmp is -1, 0 or 1 as r is less than, equal to or more than o.
func (r Raw) Cmp(o Raw) int {
	if c := cmp.Compare(r.Hi, o.Hi); c != 0 {
		return c
	}
	return cmp.Compare(r.Lo, o.Lo)
}

// Add is r+o; ok is false if that is beyond 128 bits.
func (r Raw) Add(o Raw) (sum Raw, ok bool) {
	lo, carry := bits.Add64(r.Lo, o.Lo, 0)
	hi, carry := bits.Add64(r.Hi, o.Hi, carry)
	return Raw{hi, lo}, carry == 0
}

// Sub is r-o; ok is false if o is more.
func (r Raw) Sub(o Raw) (difference Raw, ok bool) {
	lo, borrow := bits.Sub64(r.Lo, o.Lo, 0)
	hi, borrow := bits.Sub64(r.Hi, o.Hi, borrow)
	return Raw{hi, lo}, borrow == 0
}

// Mul is r·n; ok is false if that is beyond 128 bits.
func (r Raw) Mul(n uint64) (product Raw, ok bool) {
	over, hi := bits.Mul64(r.Hi, n)
	carry, lo := bits.Mul64(r.Lo, n)
	hi, c := bits.Add64(hi, carry, 0)
	return Raw{hi, lo}, over == 0 && c == 0
}

// Div is r/n, rounded down, and what is left. n must not be 0.
func (r Raw) Div(n uint64) (quotient Raw, rest uint64) {
	hi, rest := r.Hi/n, r.Hi%n
	lo, rest := bits.Div64(rest, r.Lo, n)
	return Raw{hi, lo}, rest
}

// Percent is n hundredths of r, rounded up, for n up to 100.
func (r Raw) Percent(n uint64) Raw {
	whole, rest := r.Div(100)
	share, _ := whole.Mul(n)
	share, _ = share.Add(RawOf((rest*n + 99) / 100))
	return share
}

// Append writes 16 bytes, big-endian.
func (r Raw) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, r.Hi), r.Lo)
}

// String is decimal digits.
func (r Raw) String() string {
	if r.Hi == 0 {
		return fmt.Sprint(r.Lo)
	}
	high, low := r.Div(tenTo19)
	if high.Hi == 0 {
		return fmt.Sprintf("%d%019d", high.Lo, low)
	}
	top, middle := high.Div(tenTo19)
	return fmt.Sprintf("%d%019d%019d", top.Lo, middle, low)
}

// MarshalText is String.
func (r Raw) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is ParseRaw.
func (r *Raw) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRaw(string(b))
	return err
}

// ParseRaw reads decimal digits, without zeros in front.
func ParseRaw(text string) (Raw, error) {
	if len(text) > 1 && text[0] == '0' {
		return Raw{}, fmt.Errorf("amount %.50q has zeros in front", text)
	}
	return parseDigits(text)
}

func parseDigits(text string) (r Raw, err error) {
	if text == "" || len(text) > rawDigits {
		return r, fmt.Errorf("amount %.50q is not 1 to %d digits", text, rawDigits)
	}
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return Raw{}, fmt.Errorf("amount %.50q is not digits only", text)
		}
		tenfold, ok := r.Mul(10)
		more, ok2 := tenfold.Add(RawOf(uint64(c - '0')))
		if !ok || !ok2 {
			return Raw{}, fmt.Errorf("amount %s is more than %s raw", text, MaxRaw)
		}
		r = more
	}
	return r, nil
}

// Nano is r in nano: digits, and a point and decimals if there are any.
func (r Raw) Nano() string {
	text := r.String()
	if len(text) <= NanoDigits {
		text = strings.Repeat("0", NanoDigits+1-len(text)) + text
	}
	whole, decimals := text[:len(text)-NanoDigits], strings.TrimRight(text[len(text)-NanoDigits:], "0")
	if decimals == "" {
		return whole
	}
	return whole + "." + decimals
}

// ParseNano reads an amount in nano, with up to 30 decimals.
func ParseNano(text string) (Raw, error) {
	whole, decimals, point := strings.Cut(text, ".")
	if whole == "" || point && decimals == "" {
		return Raw{}, fmt.Errorf("amount %.50q is not nano in digits with one point, as in 20.3", text)
	}
	if len(decimals) > NanoDigits {
		return Raw{}, errors.New("amount is finer than a raw; 30 decimals are the limit")
	}
	digits := strings.TrimLeft(whole+decimals+strings.Repeat("0", NanoDigits-len(decimals)), "0")
	if digits == "" {
		return Raw{}, nil
	}
	return parseDigits(digits)
}
