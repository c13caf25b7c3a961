package paywall

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"time"

	"coinop.dev/core/lightning/invoice"
	"coinop.dev/core/money"
	"coinop.dev/core/paywall"
	"coinop.dev/core/step"
	"coinop.dev/rail"
)

var errNoPreimage = &money.Error{Kind: money.Broken, Op: "pay", Err: errors.New("the receipt has no preimage of the invoice")}

// bolt11 is how an invoice is paid: what it says itself counts, and not what the
// challenge says of it.
func bolt11(text string, now time.Time) (o money.Order, hash [32]byte, ok bool) {
	inv, err := invoice.Parse(text)
	if err != nil || inv.Amount == 0 || inv.Expired(step.Time(now.UnixMilli())) {
		return o, hash, false
	}
	// The same invoice is the same order, whoever asks for it.
	sum := sha256.Sum256(append([]byte("coinop/paywall/"), inv.Hash[:]...))
	copy(o.ID[:], sum[:])
	o.To, o.Amount, o.For = paywall.Lightning+":"+text, inv.Amount, inv.Description
	return o, inv.Hash, true
}

// preimage takes the preimage out of a Lightning receipt.
func preimage(r money.Receipt, hash [32]byte) (p [32]byte, err error) {
	if len(r.Proof) < len(p) || sha256.Sum256(r.Proof[:len(p)]) != hash {
		return p, errNoPreimage
	}
	return [32]byte(r.Proof), nil
}

func payL402(c paywall.L402, now time.Time) (p choice, ok bool) {
	order, hash, ok := bolt11(c.Invoice, now)
	return choice{order, func(r money.Receipt) (string, error) {
		proof, err := preimage(r, hash)
		return c.Credential(proof), err
	}}, ok
}

func payPayment(c paywall.Challenge, now time.Time) (p choice, ok bool) {
	req, err := c.ReadRequest()
	if err != nil || c.Intent != paywall.Charge && c.Intent != paywall.Session {
		return p, false
	}
	if until, err := time.Parse(time.RFC3339, c.Expires); c.Expires != "" && (err != nil || !until.After(now)) {
		return p, false
	}
	cost, err := strconv.ParseUint(req.Amount, 10, 64)
	if c.Intent == paywall.Session && req.DepositAmount != "" {
		cost, err = strconv.ParseUint(req.DepositAmount, 10, 64)
	}
	if err != nil {
		return p, false
	}
	if c.Method == paywall.Lightning {
		return payInvoice(c, req, cost, now)
	}
	if req.Currency != "msat" || req.Details == nil || p.order.ID.UnmarshalText([]byte(req.ExternalID)) != nil {
		return p, false
	}
	p.order.To, p.order.Amount, p.order.For = rail.Payee(req.Details.Pay), money.Amount(cost), req.Description
	p.credential = func(r money.Receipt) (string, error) {
		return answerTo(c, paywall.Payload{Receipt: &r}), nil
	}
	return p, p.order.To != ""
}

func payInvoice(c paywall.Challenge, req paywall.Request, sats uint64, now time.Time) (p choice, ok bool) {
	text, claimed := req.DepositInvoice, req.PaymentHash
	if _, err := c.Token(); err != nil && c.Intent == paywall.Session {
		return p, false // others' sessions need an invoice of ours to be opened
	}
	if c.Intent == paywall.Charge {
		if req.Details == nil {
			return p, false
		}
		text, claimed = req.Details.Invoice, req.Details.PaymentHash
	}
	order, hash, ok := bolt11(text, now)
	want, whole := money.Sat.Times(sats)
	if !ok || req.Currency != "sat" || !whole || order.Amount != want || claimed != "" && claimed != hex.EncodeToString(hash[:]) {
		return p, false // the draft: a challenge that belies its invoice is not paid
	}
	return choice{order, func(r money.Receipt) (string, error) {
		proof, err := preimage(r, hash)
		return answerTo(c, paywall.Payload{Preimage: hex.EncodeToString(proof[:])}), err
	}}, true
}

// answerTo is the credential that answers a challenge. Of a session it opens it,
// and uses it every time after that.
func answerTo(c paywall.Challenge, p paywall.Payload) string {
	if c.Intent == paywall.Session {
		p.Action = "open"
	}
	return paywall.Credential{Challenge: c, Payload: p}.Header()
}
