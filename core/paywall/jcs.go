package paywall

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"unicode/utf16"
)

// Canonical writes a JSON text as RFC 8785 (JCS) does: no white space, members
// in the order of their UTF-16 code units, numbers and strings as ECMAScript
// prints them. Equal values give equal bytes, so they can be hashed.
func Canonical(text []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("not JSON: there is more behind the first value")
	}
	return appendCanonical(make([]byte, 0, len(text)), v)
}

// canonical is Canonical of a value of ours.
func canonical(v any) []byte {
	text, err := json.Marshal(v)
	if err == nil {
		text, err = Canonical(text)
	}
	if err != nil {
		panic(fmt.Sprintf("paywall: %T does not marshal: %v", v, err)) // our own types always do
	}
	return text
}

func appendCanonical(b []byte, v any) (_ []byte, err error) {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case string:
		return appendString(b, v), nil
	case json.Number:
		return appendNumber(b, v)
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendCanonical(b, e); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case map[string]any:
		b = append(b, '{')
		for i, name := range inOrder(v) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, name), ':')
			if b, err = appendCanonical(b, v[name]); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	}
	panic(fmt.Sprintf("paywall: encoding/json decoded a %T", v))
}

// inOrder is the names of members by their UTF-16 code units (section 3.2.3),
// which differs from the order of their bytes beyond U+D7FF.
func inOrder(members map[string]any) []string {
	type name struct {
		text  string
		units []uint16
	}
	names := make([]name, 0, len(members))
	for m := range members {
		names = append(names, name{m, utf16.Encode([]rune(m))})
	}
	slices.SortFunc(names, func(a, b name) int { return slices.Compare(a.units, b.units) })
	sorted := make([]string, len(names))
	for i, n := range names {
		sorted[i] = n.text
	}
	return sorted
}

// appendString escapes what section 3.2.2.2 says and nothing else.
func appendString(b []byte, s string) []byte {
	const short = "btn\x00fr" // of \b to \r
	b = append(b, '"')
	for _, c := range []byte(s) {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c >= '\b' && c <= '\r' && c != '\v':
			b = append(b, '\\', short[c-'\b'])
		case c < ' ':
			b = fmt.Appendf(b, `\u%04x`, c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// appendNumber writes a double in ECMAScript's shortest form (section 3.2.2.3).
func appendNumber(b []byte, n json.Number) ([]byte, error) {
	f, err := n.Float64()
	if err != nil {
		return nil, fmt.Errorf("number %.40q is none that JSON can carry", n)
	}
	switch abs := math.Abs(f); {
	case f == 0: // also -0
		return append(b, '0'), nil
	case abs >= 1e-6 && abs < 1e21:
		return strconv.AppendFloat(b, f, 'f', -1, 64), nil
	}
	b = strconv.AppendFloat(b, f, 'e', -1, 64)
	// Go writes two digits of exponent at least.
	if e := len(b) - 2; b[e] == '0' && (b[e-1] == '+' || b[e-1] == '-') {
		b = slices.Delete(b, e, e+1)
	}
	return b, nil
}
