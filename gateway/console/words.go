package console

import (
	"encoding/base64"
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
)

// words are amounts and times as people read them.
type words struct {
	Rate offer.Rate // of the first currency that the machine has a rate of; or none
	Now  step.Time
}

// sats is "1,234.5 sat".
func sats(a money.Amount) string {
	if boundless(a) {
		return "any amount"
	}
	text := grouped(uint64(a / money.Sat))
	if rest := a % money.Sat; rest != 0 {
		text += "." + strings.TrimRight(fmt.Sprintf("%03d", uint64(rest)), "0")
	}
	return text + " sat"
}

// about is a sum in whole satoshi, if it is large.
func about(a money.Amount) string {
	if a >= 100*money.Sat {
		a = (a + money.Sat/2) / money.Sat * money.Sat
	}
	return sats(a)
}

// grouped is "1,234,567".
func grouped(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// fiat is "0.42 EUR", or "0.0045 EUR" of small change.
func fiat(f offer.Fiat) string {
	switch {
	case f.Micro == 0:
		return "0 " + f.Currency
	case f.Micro < 100:
		return "less than 0.0001 " + f.Currency
	case f.Micro < 100_000:
		return fmt.Sprintf("%.4f %s", float64(f.Micro)/1e6, f.Currency)
	}
	cents := uint64(math.Round(float64(f.Micro) / 1e4))
	return fmt.Sprintf("%s.%02d %s", grouped(cents/100), cents%100, f.Currency)
}

// Plain is an amount in the owner's currency, or in sat without one.
func (w words) Plain(a money.Amount) string {
	if w.Rate == noRate || boundless(a) {
		return sats(a)
	}
	return fiat(w.Rate.Worth(a))
}

// Worth is the amount in the owner's currency, or nothing.
func (w words) Worth(a money.Amount) string {
	if w.Rate == noRate || boundless(a) {
		return ""
	}
	return fiat(w.Rate.Worth(a))
}

// Bitcoin is what one costs at a rate.
func (words) Bitcoin(r offer.Rate) string {
	return fiat(offer.Fiat{Currency: r.Currency, Micro: r.Micro})
}

// Ago is "3 min ago" for what was today, or a date.
func (w words) Ago(t step.Time) string {
	d := w.Now - t
	switch {
	case t == 0:
		return "never"
	case d < 0:
		return at(t)
	case d < 10*step.Second:
		return "just now"
	case d < step.Minute:
		return fmt.Sprintf("%d s ago", d/step.Second)
	case d < step.Hour:
		return fmt.Sprintf("%d min ago", d/step.Minute)
	case d < step.Day:
		return fmt.Sprintf("%d h ago", d/step.Hour)
	case d < 300*step.Day:
		return time.UnixMilli(int64(t)).UTC().Format("2 Jan 15:04")
	}
	return at(t)
}

// In is "in 3 h", or a date.
func (w words) In(t step.Time) string {
	switch d := t - w.Now; {
	case d <= 0:
		return "now"
	case d < step.Minute:
		return fmt.Sprintf("in %d s", d/step.Second)
	case d < step.Hour:
		return fmt.Sprintf("in %d min", d/step.Minute)
	case d < 2*step.Day:
		return fmt.Sprintf("in %d h", d/step.Hour)
	}
	return "on " + time.UnixMilli(int64(t)).UTC().Format("2 Jan 2006")
}

func at(t step.Time) string      { return time.UnixMilli(int64(t)).UTC().Format("2 Jan 2006 15:04") }
func exactly(t step.Time) string { return time.UnixMilli(int64(t)).UTC().Format("2 Jan 2006 15:04:05") }
func machineTime(t step.Time) string {
	return time.UnixMilli(int64(t)).UTC().Format(time.RFC3339)
}

// number is n with commas.
func number(n any) string {
	switch n := n.(type) {
	case int:
		return grouped(uint64(max(n, 0)))
	case int64:
		return grouped(uint64(max(n, 0)))
	case uint64:
		return grouped(n)
	}
	return fmt.Sprint(n)
}

// capital makes a sentence of an error.
func capital(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	text = string(unicode.ToUpper(first)) + text[size:]
	if text != "" && !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}

// readable shows bytes that are text as such, and others in base64.
func readable(b []byte) string {
	if utf8.Valid(b) && strings.IndexFunc(string(b), func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) < 0 {
		return string(b)
	}
	return base64.StdEncoding.EncodeToString(b)
}

// price is "5 sat for each cup" or "0.30 EUR for 1,000 Wh".
func price(v offer.Service) string {
	var text string
	switch {
	case v.Dynamic != "":
		text = "asked from a URL"
	case v.Fiat != offer.Fiat{}:
		text = fiat(v.Fiat)
	default:
		text = sats(v.Price)
	}
	if v.Per > 1 {
		return text + " for " + grouped(v.Per) + " " + v.Unit
	}
	if v.Unit == "" {
		return text
	}
	return text + " for each " + v.Unit
}

// title is what people call a service.
func title(v offer.Service) string {
	if v.Title != "" {
		return v.Title
	}
	return v.Name
}

// railNames are what people call rails.
var railNames = map[string]string{
	"lightning": "Lightning", "ln": "Lightning", "lnd": "Lightning (lnd)", "oneway": "one-way channels",
	"payword": "hash-chain coins", "bitcoin": "the Bitcoin chain", "nano": "the block lattice (Nano)", "iota": "the Tangle (IOTA)",
	"fake": "play money",
}

func railName(scheme string) string {
	if name := railNames[scheme]; name != "" {
		return name
	}
	return scheme
}

// railTitle is a rail's name at the head of something.
func railTitle(scheme string) string { return strings.TrimSuffix(capital(railName(scheme)), ".") }

// stateMarks are the colour and the sign of each state of an order.
var stateMarks = map[string]struct{ colour, sign, means string }{
	"quoted":    {"quiet", "clock", "Offered, not paid"},
	"pending":   {"quiet", "clock", "A payment is on its way"},
	"held":      {"busy", "lock", "Money is held until delivery"},
	"paid":      {"busy", "coin", "Paid, to be delivered"},
	"delivered": {"good", "box", "Delivered, the money is being settled"},
	"settled":   {"good", "check", "Paid and delivered"},
	"refunded":  {"warn", "back", "The money went back"},
	"expired":   {"quiet", "clock", "Not paid in time"},
	"failed":    {"bad", "cross", "It failed"},
	"unknown":   {"bad", "question", "Nobody knows yet"},
}

type mark struct{ Word, Colour, Sign, Means string }

func stateMark(state string) mark {
	m, ok := stateMarks[state]
	if !ok {
		m = stateMarks["unknown"]
	}
	return mark{state, m.colour, m.sign, m.means}
}

// signed is a mark that is no order's state.
func signed(word, colour, sign string) mark { return mark{word, colour, sign, ""} }

var funcs = template.FuncMap{
	"sats": sats, "about": about, "fiat": fiat, "at": at, "exactly": exactly, "machinetime": machineTime, "number": number, "readable": readable,
	"price": price, "title": title, "railname": railName, "state": stateMark, "signed": signed, "capital": capital,
	"short":  func(id money.OrderID) string { return id.String()[:8] },
	"counts": func(n any, noun string) string { return strings.TrimSuffix(number(n)+" "+plural(n, noun), " ") },
	"device": deviceMark, "delivery": deliveryMark, "budgetshare": budgetShare,
	"list": func(all ...string) []string { return all },
	"join": strings.Join,
}

func plural(n any, noun string) string {
	if fmt.Sprint(n) == "1" {
		return noun
	}
	return noun + "s"
}
