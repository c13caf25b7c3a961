package paywall

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"coinop.dev/core/macaroon"
	"coinop.dev/core/money"
	"coinop.dev/core/paywall"
	"coinop.dev/core/tab"
	"coinop.dev/gateway"
)

// maxProven bounds the credentials that are remembered as good, so that only the
// first request of a session pays for checking signatures. They are all of paid
// sessions; one that is forgotten is checked again.
const maxProven = 8192

// proven is a credential that was checked, and what it gives access to.
type proven struct {
	session    gateway.Session
	conditions macaroon.Conditions
	receipt    *paywall.Receipt // of the Payment scheme
}

// provens remembers them by the hash of the bytes that were shown.
type provens struct {
	mu  sync.Mutex
	all map[[32]byte]proven
}

// fingerprint is the hash of the credentials in Authorization, and whether there
// are no others.
func fingerprint(h http.Header) (sum [32]byte, only bool) {
	values := h["Authorization"]
	if len(values) == 0 || len(h[paywall.X402Signature])+len(h[paywall.X402Legacy]) > 0 {
		return sum, false
	}
	return sha256.Sum256([]byte(strings.Join(values, "\n"))), true
}

func (p *provens) find(h http.Header) (proven, bool) {
	sum, only := fingerprint(h)
	if !only {
		return proven{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	have, ok := p.all[sum]
	return have, ok
}

func (p *provens) keep(h http.Header, have proven) {
	sum, only := fingerprint(h)
	if !only {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for old := range p.all { // any
		if len(p.all) < maxProven {
			break
		}
		delete(p.all, old)
	}
	p.all[sum] = have
}

// open finds the session that a credential has paid for, reserves the estimate of
// this request for m, and writes the receipt's header. If it reports done the
// request was about the session itself, and is answered.
func (b *buyer) open(rw http.ResponseWriter, r *http.Request, proof paywall.Proof, m *meter) (done bool, _ *paywall.Problem) {
	shown, problem := b.shown(r, proof, rw.Header())
	if problem != nil {
		return false, problem
	}
	var have proven
	if have.conditions, problem = conditions(shown.Token); problem != nil {
		return false, problem
	}
	var err error
	if have.session, err = b.o.Shop.Session(r.Context(), shown.Proof); err != nil {
		return false, problemOf(err)
	}
	if proof.Payment != nil {
		have.receipt = shown.receipt(have.session)
	}
	if shown.closes != "" {
		if problem := b.allowed(r, have); problem != nil {
			return false, problem
		}
		return true, b.close(rw, r, have.session, shown.closes)
	}
	b.provens.keep(r.Header, have)
	return false, b.reserve(rw, r, have, m)
}

// reserve reserves the estimate of this request from a session that is paid.
func (b *buyer) reserve(rw http.ResponseWriter, r *http.Request, have proven, m *meter) *paywall.Problem {
	if problem := b.allowed(r, have); problem != nil {
		return problem
	}
	m.session = have.session.Tab
	if err := m.draw(r.Context(), b.route.Units); err != nil {
		return drawProblem(err)
	}
	if have.receipt != nil {
		receipt := *have.receipt
		receipt.Timestamp = time.Now().UTC().Format(time.RFC3339)
		rw.Header().Set("Payment-Receipt", receipt.Header())
	}
	return nil
}

// shown is a credential of any dialect, as the shop takes it.
type shown struct {
	gateway.Proof
	challenge paywall.Challenge // of the Payment scheme
	reference string            // of its receipt
	closes    string            // the session is to be closed, and what is left paid to this URI
}

func (b *buyer) shown(r *http.Request, p paywall.Proof, h http.Header) (s shown, _ *paywall.Problem) {
	s.Buyer = b.name()
	switch {
	case p.L402 != nil:
		s.Token, s.Preimage = p.L402.Token, p.L402.Preimage[:]
		return s, nil
	case p.Payment != nil:
		return b.shownPayment(s, *p.Payment)
	}
	if b.o.EVM == nil {
		return s, paywall.MethodUnsupported.With("x402 needs an EVM rail, which this machine does not have; send the request without it, and pay one of the challenges")
	}
	if s.Token = p.X402.Accepted.Extra[tokenExtra]; s.Token == "" {
		return s, paywall.MalformedCredential.With("the x402 payment does not repeat extra.%s of the offer that it pays; version 1 cannot", tokenExtra)
	}
	receipt, settled, err := b.o.EVM.Settle(r.Context(), *p.X402)
	h.Set(paywall.X402Response, settled.Header())
	if err != nil {
		return s, problemOf(err)
	}
	s.Receipt = &receipt
	return s, nil
}

func (b *buyer) shownPayment(s shown, c paywall.Credential) (shown, *paywall.Problem) {
	s.challenge = c.Challenge
	if !c.Challenge.Sealed(b.key) || c.Challenge.Realm != b.o.Realm {
		return s, paywall.InvalidChallenge.With("this is no challenge of ours, or it was changed; echo it as it was")
	}
	var err error
	if s.Token, err = c.Challenge.Token(); err != nil {
		return s, paywall.InvalidChallenge.With("%v", err)
	}
	if c.Challenge.Method == paywall.Lightning {
		preimage, err := hex.DecodeString(c.Payload.Preimage)
		if err != nil || len(preimage) != 32 || strings.ToLower(c.Payload.Preimage) != c.Payload.Preimage {
			return s, paywall.MalformedCredential.With("payload.preimage must be 64 lower-case hex digits")
		}
		s.Preimage = preimage
	} else if s.Receipt = c.Payload.Receipt; s.Receipt == nil {
		return s, paywall.MalformedCredential.With("payload.receipt is missing: the receipt of the payment over %s", c.Challenge.Method)
	}
	req, err := c.Challenge.ReadRequest()
	if err != nil {
		return s, paywall.InvalidChallenge.With("%v", err)
	}
	if s.reference = req.PaymentHash; s.reference == "" && req.Details != nil {
		s.reference = req.Details.PaymentHash
	}
	if c.Challenge.Intent == paywall.Session {
		return s.act(c.Payload, req)
	}
	return s, nil
}

// act is what a credential wants of a session. The session is that of the
// challenge it echoes, so that has to be the one that was paid.
func (s shown) act(p paywall.Payload, req paywall.Request) (shown, *paywall.Problem) {
	if p.SessionID != "" && p.SessionID != req.PaymentHash {
		return s, paywall.InvalidChallenge.With("session %.80q is another: echo the challenge that opened it", p.SessionID)
	}
	if p.ReturnInvoice != "" {
		s.Refund = paywall.Lightning + ":" + p.ReturnInvoice
	}
	switch p.Action {
	case "", "open", "bearer":
		return s, nil
	case "close":
		if s.closes = s.Refund; s.closes == "" {
			return s, paywall.MalformedCredential.With("payload.returnInvoice is missing: closing a session pays what is left to it")
		}
		return s, nil
	}
	return s, paywall.MethodUnsupported.With("sessions are opened, used and closed, not %.40q; open another one instead", p.Action)
}

// receipt is what the Payment scheme says of a session, but for when.
func (s shown) receipt(session gateway.Session) *paywall.Receipt {
	if s.reference == "" {
		s.reference = session.Tab.String()
	}
	return &paywall.Receipt{Status: "success", Method: s.challenge.Method, Reference: s.reference, ChallengeID: s.challenge.ID}
}

// own are the caveats of a shop's tokens beside the common ones.
var own = []macaroon.Rule{{Key: "quote", Kind: macaroon.Exactly}, {Key: "session", Kind: macaroon.Exactly}}

// conditions reads what the holders of a token have added to it. The shop checks
// that nothing was taken away; what this door could not enforce is refused.
func conditions(token string) (c macaroon.Conditions, _ *paywall.Problem) {
	mac, err := macaroon.Parse(token)
	if err != nil {
		return c, paywall.MalformedCredential.With("%v", err)
	}
	if c, err = macaroon.Read(mac.Caveats, own...); err != nil {
		return c, paywall.VerificationFailed.With("%v", err)
	}
	for _, caveat := range mac.Caveats {
		switch key, _, _ := strings.Cut(caveat, "="); key {
		case "services", "service", "method", "ip", "expires", "quote", "session":
		default:
			return c, paywall.Forbidden.With("the credential is narrowed by %s, which the paywall cannot enforce", key)
		}
	}
	return c, nil
}

// allowed enforces the conditions of a credential for this request.
func (b *buyer) allowed(r *http.Request, have proven) *paywall.Problem {
	c, name := have.conditions, b.service.Name
	switch {
	case c.Expired(b.o.Shop.Machine().Host.Now()):
		return paywall.PaymentExpired.With("the credential was good until %s seconds of Unix time", c.Value("expires"))
	case have.session.Service != name || !c.Allows("service", name) || !c.Allows("services", name+":0"):
		return paywall.VerificationFailed.With("the credential is for other services than %s", name)
	case !c.Allows("method", r.Method):
		return paywall.Forbidden.With("the credential is narrowed to %s", c.Value("method"))
	case !c.Allows("ip", b.addr.String()):
		return paywall.Forbidden.With("the credential is narrowed to another address than %s", b.addr)
	}
	return nil
}

// drawProblem says why nothing could be reserved of a session.
func drawProblem(err error) *paywall.Problem {
	var short *tab.Short
	switch {
	case errors.As(err, &short):
		p := paywall.InsufficientBalance.With("%v", short)
		left, want := uint64(short.Left), uint64(short.Want)
		p.Left, p.Limit = &left, &want
		return p
	case errors.Is(err, money.Refused), errors.Is(err, money.Invalid):
		// It is paid, so there is nothing to pay.
		return paywall.Forbidden.With("%v", err)
	}
	return problemOf(err)
}

// close pays out what is left of a session (draft-lightning-session, close).
func (b *buyer) close(rw http.ResponseWriter, r *http.Request, s gateway.Session, to string) *paywall.Problem {
	before, _, err := b.o.Shop.Balance(r.Context(), s.Tab)
	if err != nil {
		return problemOf(err)
	}
	status := "skipped"
	if before.Left > 0 {
		status = "succeeded"
		if _, err := b.o.Shop.Refund(r.Context(), s.Tab, to); err != nil {
			status = "failed"
		}
	}
	rw.Header().Set("Cache-Control", "no-store")
	rw.Header().Set("Content-Type", "application/json")
	json.NewEncoder(rw).Encode(map[string]any{"status": "closed", "refundSats": before.Left.Sats(), "refundStatus": status})
	return nil
}
