package payuri

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"coinop.dev/core/money"
)

// parseAmount reads BTC in decimal: digits, and after a point up to 8 that are
// not zeros at the end.
func parseAmount(text string) (money.Amount, error) {
	whole, frac, _ := strings.Cut(text, ".")
	if whole+frac == "" || strings.ContainsFunc(whole+frac, func(r rune) bool { return r < '0' || r > '9' }) {
		return 0, fmt.Errorf("amount %.30q is not BTC in digits with one point, as in 20.3", text)
	}
	frac = strings.TrimRight(frac, "0")
	if len(frac) > 8 {
		return 0, fmt.Errorf("amount %.30q is finer than a satoshi; 8 decimals are the limit", text)
	}
	frac += strings.Repeat("0", 8-len(frac))
	sats, err := strconv.ParseInt(whole+frac, 10, 64)
	amount, ok := money.FromSats(sats)
	switch {
	case err != nil || !ok:
		return 0, fmt.Errorf("amount %.30q is more than the %d bitcoin there can be", text, uint64(money.MaxAmount/money.BTC))
	case amount == 0:
		return 0, errors.New("amount is 0; leave it out and the payer chooses")
	}
	return amount, nil
}

func formatAmount(a money.Amount) string {
	text := fmt.Sprintf("%d.%08d", uint64(a/money.BTC), uint64(a%money.BTC/money.Sat))
	return strings.TrimRight(strings.TrimRight(text, "0"), ".")
}

// Build writes u. Parse of the result is u again, with bech32 in lower case.
func (u URI) Build() (string, error) {
	if u.Amount%money.Sat != 0 || u.Amount > money.MaxAmount {
		return "", fmt.Errorf("amount is %s; on the chain it must be whole satoshi, at most %s", u.Amount, money.MaxAmount)
	}
	if err := u.check(); err != nil {
		return "", err
	}
	params, err := u.params()
	if err != nil {
		return "", err
	}
	if len(params) > MaxParams {
		return "", fmt.Errorf("uri has %d parameters; the limit is %d", len(params), MaxParams)
	}
	text := scheme + u.Address
	if len(params) > 0 {
		text += "?" + strings.Join(params, "&")
	}
	if len(text) > MaxText {
		return "", fmt.Errorf("uri is %d bytes; the limit is %d", len(text), MaxText)
	}
	return text, nil
}

// params are u's parameters, written.
func (u URI) params() (params []string, err error) {
	add := func(key, value string) { params = append(params, escape(key)+"="+escape(value)) }
	if u.Amount != 0 {
		add("amount", formatAmount(u.Amount))
	}
	for _, p := range []Param{{"label", u.Label}, {"message", u.Message}, {"pop", u.Pop}} {
		if p.Value != "" {
			add(p.Key, p.Value)
		}
	}
	if u.Order != (money.OrderID{}) {
		add("order", u.Order.String())
	}
	for _, address := range u.Addresses {
		hrp, _, _ := strings.Cut(address, "1")
		if !slices.Contains(hrps, hrp) {
			return nil, fmt.Errorf("address %.12q is not segwit; only one of base58 fits, as the Address", address)
		}
		add(hrp, address)
	}
	for _, key := range []string{"lightning", "lno", "sp", "pay"} {
		for _, value := range *u.list(key) {
			add(key, value)
		}
	}
	for _, p := range u.Others {
		if p.Key != strings.ToLower(p.Key) || strings.HasPrefix(p.Key, "req-") || once(p.Key) || u.list(p.Key) != nil {
			return nil, fmt.Errorf("parameter %.40q is in upper case, known or required; Others is for the rest", p.Key)
		}
		add(p.Key, p.Value)
	}
	return params, nil
}

// QR is Build in upper case, which makes a smaller code, if nothing in u would
// change its meaning by that: bech32, numbers and keys do not.
func (u URI) QR() (string, error) {
	text, err := u.Build()
	if err != nil {
		return "", err
	}
	isBase58 := u.Address != "" && foldAddress(strings.ToUpper(u.Address)) != u.Address
	if isBase58 || u.Label+u.Message+u.Pop != "" || len(u.Others) > 0 || slices.ContainsFunc(u.ways(), isMixed) {
		return text, nil
	}
	return strings.ToUpper(text), nil
}

func isMixed(way string) bool { return way != strings.ToLower(way) }

// escape is percent-encoding (RFC 3986, section 2.1) of all that is not
// unreserved.
func escape(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; !notAlphanumeric(rune(c)) || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
