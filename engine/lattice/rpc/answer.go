package rpc

import (
	"encoding/json"
	"strconv"

	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/step"
)

// An object is an answer, or a part of one. Fields stand in the order in which they
// were put. As in Nano's RPC every value is text, and an object or a list without
// anything in it is the empty text.
type object struct{ fields []field }

type field struct {
	name  string
	value any // text, a list or an *object
}

type list []any

// put adds a field: text, bool, a number, an amount, a hash, an account, a list or
// an *object.
func (o *object) put(name string, value any) *object {
	o.fields = append(o.fields, field{name, value})
	return o
}

// MarshalJSON writes the object as Nano does.
func (o *object) MarshalJSON() ([]byte, error) { return appendValue(nil, o), nil }

func appendValue(b []byte, value any) []byte {
	switch v := value.(type) {
	case *object:
		if v == nil || len(v.fields) == 0 {
			return append(b, `""`...)
		}
		b = append(b, '{')
		for i, f := range v.fields {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendText(b, f.name), ':')
			b = appendValue(b, f.value)
		}
		return append(b, '}')
	case list:
		if len(v) == 0 {
			return append(b, `""`...)
		}
		b = append(b, '[')
		for i, item := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendValue(b, item)
		}
		return append(b, ']')
	}
	return appendText(b, text(value))
}

func appendText(b []byte, text string) []byte {
	quoted, err := json.Marshal(text)
	if err != nil {
		panic(err) // text always is
	}
	return append(b, quoted...)
}

// text is a value as Nano's RPC writes it.
func text(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case int:
		return strconv.Itoa(v)
	case uint8:
		return strconv.FormatUint(uint64(v), 10)
	case uint32:
		return strconv.FormatUint(uint64(v), 10)
	case uint64:
		return strconv.FormatUint(v, 10)
	case step.Time:
		return strconv.FormatInt(int64(v), 10)
	case lattice.Raw:
		return v.String()
	case lattice.Hash:
		return v.String()
	case lattice.Key:
		return v.String()
	}
	panic("rpc: a value of no known type")
}

// flag is "1" or "0", which some actions have instead of "true" and "false".
func flag(yes bool) string {
	if yes {
		return "1"
	}
	return "0"
}

// hex16 is a work or a difficulty: 16 digits.
func hex16(n uint64) string {
	const digits = "0123456789abcdef"
	var b [16]byte
	for i := range b {
		b[i] = digits[n>>(60-4*i)&15]
	}
	return string(b[:])
}
