package paywall

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"coinop.dev/core/money"
	"coinop.dev/core/paywall"
	"coinop.dev/core/step"
	"coinop.dev/gateway"
)

// EVM takes payments of x402: the rail that nobody has built yet.
type EVM interface {
	// Requirements says how an offer may be paid.
	Requirements(ctx context.Context, o gateway.Offer) ([]paywall.X402Requirement, error)
	// Settle makes a payment final and returns the receipt that proves its order
	// paid. Settled twice it is settled once.
	Settle(ctx context.Context, p paywall.X402Payment) (money.Receipt, paywall.X402Settlement, error)
}

// tokenExtra is where an x402 requirement has the shop's token.
const tokenExtra = "coinopToken"

// answer writes a problem and nothing that a cache may keep.
func answer(rw http.ResponseWriter, p *paywall.Problem) {
	h := rw.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/problem+json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	rw.WriteHeader(p.Status)
	json.NewEncoder(rw).Encode(p)
}

// refuse answers a request that is not served. If the answer is 402 it has fresh
// challenges, unless this client has had too many.
func (b *buyer) refuse(rw http.ResponseWriter, r *http.Request, p *paywall.Problem) {
	if p.Status == http.StatusPaymentRequired {
		if wait := b.limit.Take(b.net, time.Now()); wait > 0 {
			p = paywall.TooManyRequests.With("this address has asked for too many offers; pay one of them, or wait")
			p.RetryAfter = int(wait/time.Second) + 1
		} else if err := b.challenge(rw.Header(), r); errors.Is(err, errFree) {
			p.Status = http.StatusBadRequest // there is nothing to pay instead
		} else if err != nil {
			b.o.Shop.Machine().Log.Warn("paywall: no offer", "service", b.service.Name, "err", err)
			p = paywall.Unavailable.With("%s cannot be paid for now", b.service.Name)
			p.RetryAfter = 30
		}
	}
	answer(rw, p)
}

var errFree = errors.New("nothing is charged here now")

// wanted is how many units a client wants a session for, 0 for none.
func (b *buyer) wanted(r *http.Request) uint64 {
	n, err := strconv.ParseUint(r.Header.Get(HeaderUnits), 10, 64)
	if err != nil || n > MaxBundle {
		return b.route.Bundle
	}
	return n
}

// challenge writes one challenge for each dialect, cheapest first: a charge for
// this request, then a session of many. L402's tokens last, so they are for the
// session if there is one.
func (b *buyer) challenge(h http.Header, r *http.Request) error {
	charge, err := b.quote(r, b.route.Units)
	if err != nil {
		return err
	}
	if charge.Free {
		return errFree
	}
	offers := []gateway.Offer{charge}
	if n := b.wanted(r); n > b.route.Units {
		session, err := b.quote(r, n)
		if err != nil {
			return err
		}
		offers = append(offers, session)
	}
	slices.SortStableFunc(offers, func(x, y gateway.Offer) int { return cmp.Compare(x.Due, y.Due) })
	for _, o := range offers {
		intent := paywall.Charge
		if o.Order != charge.Order {
			intent = paywall.Session
		}
		for _, way := range o.Ways {
			c, ok, err := b.payment(o, way, intent)
			if err != nil {
				return err
			}
			if ok {
				h.Add("WWW-Authenticate", c.Header())
			}
		}
	}
	lasting := offers[len(offers)-1]
	for _, way := range lasting.Ways {
		if invoice, ok := invoiceOf(way); ok {
			for _, v := range (paywall.L402{Token: lasting.Token, Invoice: invoice}).Headers() {
				h.Add("WWW-Authenticate", v)
			}
			break
		}
	}
	if err := b.x402(h, r, charge); err != nil {
		return err
	}
	if len(h.Values("WWW-Authenticate")) == 0 && h.Get(paywall.X402Required) == "" {
		return &money.Error{Kind: money.Refused, Op: "challenge", Err: errors.New("no rail of this machine can be paid over HTTP")}
	}
	return nil
}

func (b *buyer) quote(r *http.Request, units uint64) (gateway.Offer, error) {
	return b.o.Shop.Quote(r.Context(), gateway.Ask{Service: b.service.Name, Units: units, Buyer: b.name(), Door: "http", Tab: true})
}

// invoiceOf is the BOLT 11 invoice of a way, if it has one.
func invoiceOf(w gateway.Way) (string, bool) {
	invoice, ok := strings.CutPrefix(w.Pay, paywall.Lightning+":")
	invoice, _, _ = strings.Cut(invoice, "?")
	return invoice, ok && w.Hash != [32]byte{}
}

// payment is the challenge of the Payment scheme for one way to pay an offer;
// false if the scheme has no words for it.
func (b *buyer) payment(o gateway.Offer, way gateway.Way, intent string) (c paywall.Challenge, ok bool, err error) {
	req := paywall.Request{Description: o.Title, ExternalID: o.Order.String()}
	invoice, lightning := invoiceOf(way)
	method, _, _ := strings.Cut(way.Pay, ":")
	switch {
	case lightning:
		method = paywall.Lightning
		if o.Due%money.Sat != 0 {
			return c, false, nil // the draft knows whole satoshi only; L402 takes any
		}
		req.Currency, req.Amount = "sat", fmt.Sprint(o.Due.Sats())
		hash := hex.EncodeToString(way.Hash[:])
		if intent == paywall.Session {
			req.DepositInvoice, req.PaymentHash, req.DepositAmount = invoice, hash, req.Amount
		} else {
			req.Details = &paywall.Details{Invoice: invoice, PaymentHash: hash, Network: chain(invoice)}
		}
	case strings.ContainsFunc(method, func(r rune) bool { return r < 'a' || r > 'z' }):
		return c, false, nil // no name of a method (section 6.1)
	default:
		req.Currency, req.Amount = "msat", fmt.Sprint(uint64(o.Due))
		req.Details = &paywall.Details{Pay: way.Pay}
		if intent == paywall.Session {
			req.DepositAmount = req.Amount
		}
	}
	if intent == paywall.Session {
		b.perUnit(&req, o)
	}
	c, err = paywall.Challenge{
		Realm: b.o.Realm, Method: method, Intent: intent, Request: req.Encode(),
		Expires: clock(o.Until), Description: o.Title,
	}.WithToken(o.Token).Seal(b.key)
	return c, err == nil, err
}

// perUnit makes the amount of a session's request the price of one unit, if that
// is a whole number; else the unit is the whole bundle.
func (b *buyer) perUnit(req *paywall.Request, o gateway.Offer) {
	req.UnitType = o.Unit
	total, err := strconv.ParseUint(req.Amount, 10, 64)
	if err != nil || total%o.Units != 0 {
		req.UnitType = fmt.Sprintf("%d %s", o.Units, o.Unit)
		return
	}
	req.Amount = fmt.Sprint(total / o.Units)
}

// chain is the draft's word for whose invoice it is.
func chain(invoice string) string {
	switch {
	case strings.HasPrefix(invoice, "lnbcrt"):
		return "regtest"
	case strings.HasPrefix(invoice, "lntbs"):
		return "signet"
	}
	return "mainnet"
}

func (b *buyer) x402(h http.Header, r *http.Request, o gateway.Offer) error {
	if b.o.EVM == nil {
		return nil
	}
	accepts, err := b.o.EVM.Requirements(r.Context(), o)
	if err != nil || len(accepts) == 0 {
		return err
	}
	for i := range accepts {
		if accepts[i].Extra == nil {
			accepts[i].Extra = map[string]string{}
		}
		accepts[i].Extra[tokenExtra] = o.Token
	}
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	h.Set(paywall.X402Required, paywall.X402Offer{
		Error: "payment required", Accepts: accepts,
		Resource: paywall.X402Resource{URL: scheme + r.Host + r.URL.EscapedPath(), Description: o.Title},
	}.Header())
	return nil
}

// clock is a time as the scheme writes it.
func clock(t step.Time) string { return time.UnixMilli(int64(t)).UTC().Format(time.RFC3339) }
