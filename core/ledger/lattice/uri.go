package lattice

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

const (
	scheme = "nano:"
	// MaxURI is how long a URI may be, in bytes.
	MaxURI = 2048
)

// A URI asks for a payment: nano:nano_...?amount=<raw>&label=...&message=...
type URI struct {
	Account Key
	Amount  Raw    // zero: the payer chooses
	Label   string // who is paid
	Message string // what for
}

// String writes u.
func (u URI) String() string {
	var params []string
	if !u.Amount.IsZero() {
		params = append(params, "amount="+u.Amount.String())
	}
	if u.Label != "" {
		params = append(params, "label="+escape(u.Label))
	}
	if u.Message != "" {
		params = append(params, "message="+escape(u.Message))
	}
	text := scheme + u.Account.String()
	if len(params) > 0 {
		text += "?" + strings.Join(params, "&")
	}
	return text
}

// escape writes a space as %20 and a plus as %2B, which every reader knows: a plus
// alone is a space to some, though not here.
func escape(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "+", "%20") }

// ParseURI reads a URI. Parameters that it does not know it passes over.
func ParseURI(text string) (u URI, err error) {
	if len(text) > MaxURI {
		return u, fmt.Errorf("uri is %d bytes; the limit is %d", len(text), MaxURI)
	}
	if len(text) < len(scheme) || !strings.EqualFold(text[:len(scheme)], scheme) {
		return u, fmt.Errorf("uri %.30q does not begin with %s", text, scheme)
	}
	address, query, _ := strings.Cut(text[len(scheme):], "?")
	if u.Account, err = ParseAccount(address); err != nil {
		return URI{}, err
	}
	seen := map[string]bool{}
	for param := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(param, "=")
		if key, err = url.PathUnescape(key); err == nil {
			value, err = url.PathUnescape(value)
		}
		if err != nil {
			return URI{}, fmt.Errorf("uri parameter %.30q has a %% that is no %%XX", param)
		}
		switch {
		case key != "amount" && key != "label" && key != "message":
			continue
		case seen[key]:
			return URI{}, fmt.Errorf("uri has two parameters %s", key)
		}
		seen[key] = true
		switch key {
		case "amount":
			u.Amount, err = ParseRaw(value)
			if err == nil && u.Amount.IsZero() {
				err = errors.New("amount is 0; leave it out and the payer chooses")
			}
		case "label":
			u.Label = value
		case "message":
			u.Message = value
		}
		if err != nil {
			return URI{}, err
		}
	}
	return u, nil
}
