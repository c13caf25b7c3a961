// Package payuri reads and writes bitcoin: URIs, the text behind a payment's
// link or QR code (BIP 21 and its successor BIP 321).
//
// A URI offers one payment in one or several ways: an address, and in query
// parameters Lightning invoices, offers, further addresses. Ways that are
// unknown are kept; what is marked as required and is unknown (req-) makes the
// URI invalid, as the BIPs want it. The package knows the form, not the
// content: the address is checked by descriptor.ParseAddress, an invoice by
// who pays invoices.
package payuri

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"coinop.dev/core/money"
)

const (
	// MaxText is how long a URI may be in bytes: more than a QR code holds.
	MaxText = 8192
	// MaxParams is how many parameters a URI may have.
	MaxParams = 32
	// MaxAddress is how long an address may be in bytes (BIP 173).
	MaxAddress = 90

	scheme = "bitcoin:"
)

// A URI is a request for one payment.
type URI struct {
	Address   string        // in lower case if it is bech32; empty if there is none
	Amount    money.Amount  // whole satoshi; 0 lets the payer choose
	Label     string        // who is paid, in the payee's words
	Message   string        // what is paid, in the payee's words
	Order     money.OrderID // coinop's own parameter, order; zero if there is none
	Addresses []string      // further segwit addresses: bc, and tb, bcrt, sb on test networks
	Lightning []string      // BOLT 11 invoices
	Offers    []string      // BOLT 12 offers: lno
	Silent    []string      // BIP 352 silent payment addresses: sp
	Private   []string      // BIP 351 private payment addresses: pay
	Pop       string        // where a wallet may show proof of payment; never opened here
	Others    []Param       // unknown and not required, in their order
}

// A Param is a parameter that nobody here knows.
type Param struct{ Key, Value string } // key in lower case

// hrps are the human-readable parts of segwit addresses, each of them also the
// key of a parameter.
var hrps = []string{"bc", "tb", "bcrt", "sb"}

// Parse reads a URI; scheme and keys in any case, bech32 also in upper case.
func Parse(text string) (URI, error) {
	if len(text) > MaxText {
		return URI{}, fmt.Errorf("uri is %d bytes; the limit is %d", len(text), MaxText)
	}
	if len(text) < len(scheme) || !strings.EqualFold(text[:len(scheme)], scheme) {
		return URI{}, fmt.Errorf("uri %.20q does not begin with the scheme bitcoin", text)
	}
	address, query, _ := strings.Cut(text[len(scheme):], "?")
	u := URI{Address: foldAddress(address)}
	seen := map[string]bool{}
	params := strings.Split(query, "&")
	if len(params) > MaxParams {
		return URI{}, fmt.Errorf("uri has %d parameters; the limit is %d", len(params), MaxParams)
	}
	for _, param := range params {
		if param == "" {
			continue
		}
		key, value, _ := strings.Cut(param, "=")
		key, err := unescape(key)
		if err != nil {
			return URI{}, err
		}
		if value, err = unescape(value); err != nil {
			return URI{}, err
		}
		key = strings.ToLower(key)
		if once(key) {
			name := strings.TrimPrefix(key, "req-")
			if seen[name] {
				return URI{}, fmt.Errorf("uri has %s twice; nobody can tell which one is meant", name)
			}
			seen[name] = true
		}
		if err := u.set(key, value); err != nil {
			return URI{}, err
		}
	}
	if err := u.check(); err != nil {
		return URI{}, err
	}
	return u, nil
}

// once reports whether a parameter may stand only once.
func once(key string) bool {
	switch key {
	case "amount", "label", "message", "order", "pop", "req-pop":
		return true
	}
	return false
}

// set takes in one parameter.
func (u *URI) set(key, value string) (err error) {
	switch key {
	case "amount":
		u.Amount, err = parseAmount(value)
	case "label":
		u.Label = value
	case "message":
		u.Message = value
	case "pop":
		u.Pop = value
	case "order":
		err = u.Order.UnmarshalText([]byte(value))
		if err == nil && u.Order == (money.OrderID{}) {
			err = errors.New("order id is zero; leave it out")
		}
	default:
		switch list := u.list(key); {
		case list != nil:
			*list = append(*list, fold(value))
		case strings.HasPrefix(key, "req-"):
			err = fmt.Errorf("uri requires %.40q, which is unknown here; ask the payee for one without it", key)
		default:
			u.Others = append(u.Others, Param{key, value})
		}
		if slices.Contains(hrps, key) && !strings.HasPrefix(fold(value), key+"1") {
			err = fmt.Errorf("uri's %s is not an address that begins with %s1", key, key)
		}
	}
	return err
}

// list is where a parameter that says a way to pay is kept, or nil.
func (u *URI) list(key string) *[]string {
	switch key {
	case "lightning":
		return &u.Lightning
	case "lno":
		return &u.Offers
	case "sp":
		return &u.Silent
	case "pay":
		return &u.Private
	}
	if slices.Contains(hrps, key) {
		return &u.Addresses
	}
	return nil
}

// ways are all instructions but the address.
func (u *URI) ways() []string {
	return slices.Concat(u.Addresses, u.Lightning, u.Offers, u.Silent, u.Private)
}

// check is what Parse and Build both insist on.
func (u *URI) check() error {
	if len(u.Address) > MaxAddress || strings.ContainsFunc(u.Address, notAlphanumeric) {
		return fmt.Errorf("uri's address is not up to %d letters and digits, right after the scheme", MaxAddress)
	}
	ways := u.ways()
	if u.Address == "" && len(ways) == 0 {
		return errors.New("uri has no address and no other way to pay that is known here")
	}
	for _, way := range ways {
		if way == "" || strings.ContainsFunc(way, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return errors.New("uri has a way to pay that is empty or has characters beyond ASCII")
		}
	}
	for _, text := range []string{u.Label, u.Message, u.Pop} {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, control) {
			return errors.New("uri's label, message or pop has control characters or is not UTF-8")
		}
	}
	for _, p := range u.Others {
		if p.Key == "" || !utf8.ValidString(p.Key+p.Value) {
			return errors.New("uri has a parameter without a name, or one that is not UTF-8")
		}
	}
	return nil
}

func notAlphanumeric(r rune) bool {
	return !('0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
}

// control characters could rewrite what a terminal shows of the rest; lines and
// tabs are text.
func control(r rune) bool {
	return r < ' ' && r != '\n' && r != '\t' || 0x7f <= r && r < 0xa0
}

// fold puts bech32 in upper case, as QR codes have it, into lower case.
func fold(value string) string {
	if value == strings.ToUpper(value) {
		return strings.ToLower(value)
	}
	return value
}

// foldAddress is fold for bech32; in base58 case means something.
func foldAddress(address string) string {
	lower := fold(address)
	for _, hrp := range hrps {
		if strings.HasPrefix(lower, hrp+"1") {
			return lower
		}
	}
	return address
}

// unescape undoes percent-encoding; what should have been encoded and is not
// makes the URI invalid (RFC 3986, section 3.4).
func unescape(text string) (string, error) {
	for i := range len(text) {
		if c := text[i]; !isQuery(c) {
			return "", fmt.Errorf("uri has byte %#02x in a parameter; write it as %%%02X", c, c)
		}
	}
	plain, err := url.PathUnescape(text)
	if err != nil {
		return "", errors.New("uri has a % that two hex digits do not follow; write it as %25")
	}
	return plain, nil
}

// isQuery reports whether c may stand in a query: a pchar of RFC 3986, / or ?.
func isQuery(c byte) bool {
	return !notAlphanumeric(rune(c)) || strings.IndexByte("-._~!$&'()*+,;=:@/?%", c) >= 0
}
