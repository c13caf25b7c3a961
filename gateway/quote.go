package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/macaroon"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/purse"
	"coinop.dev/rail"
)

const (
	// quoteLife is how long a quoted price is good for.
	quoteLife = 10 * step.Minute
	// sessionLife is how long the token of a session may be used.
	sessionLife = 365 * step.Day
)

// An Ask is what a door wants an offer of.
type Ask struct {
	Service string
	Units   uint64
	Buyer   string // who asks, as far as the door can tell: the free tier goes by it
	Door    string // "http", "mqtt"
	Tab     bool   // a prepaid session for so many units instead of one delivery
}

// An Offer is a price, and the ways to pay it.
type Offer struct {
	offer.Quote
	Title string `json:"title,omitempty"`
	Unit  string `json:"unit"`
	// Token has the quote in it: whoever comes back with it and a proof of payment
	// gets the service. It is a macaroon in base64url, and its holder may narrow it.
	Token string `json:"token"`
	Ways  []Way  `json:"ways"`
	// Free says that there is nothing to pay: the free tier, or a shadow price.
	Free bool `json:"free,omitempty"`
	// Tab says that it buys a prepaid session.
	Tab bool `json:"session,omitempty"`
}

// A Way is one rail to pay an offer over.
type Way struct {
	Rail string `json:"rail"`
	Pay  string `json:"pay"` // payment URI
	// Hash is the payment hash of an invoice, whose preimage proves that it is paid;
	// zero for rails with receipts.
	Hash [32]byte `json:"-"`
	// Hold says that the money moves only when the order is delivered.
	Hold bool `json:"hold,omitempty"`
}

// Quote offers units of a service at the price of this moment.
func (s *Shop) Quote(ctx context.Context, a Ask) (Offer, error) {
	v, err := s.find(a.Service)
	if err != nil {
		return Offer{}, err
	}
	if s.o.Ready != nil {
		if err := s.o.Ready(); err != nil {
			return Offer{}, refused("quote "+v.Name, err)
		}
	}
	due, err := s.due(ctx, v, a)
	if err != nil {
		return Offer{}, err
	}
	now := s.m.Host.Now()
	o := Offer{
		Quote: offer.Quote{Order: purse.NewOrderID(), Service: v.Name, Units: a.Units, Due: due, At: now, Until: now + quoteLife},
		Title: v.Title, Unit: v.Unit, Tab: a.Tab,
	}
	if v.Fiat != (offer.Fiat{}) {
		o.Rate = s.rate(v)
	}
	if s.isFree(v, a, due, now) {
		o.Free, o.Due = true, 0
	} else if o.Ways, err = s.ways(ctx, v, o, a.Tab); err != nil {
		return Offer{}, err
	}
	o.Token, err = s.bake(o)
	return o, err
}

// due is what an ask costs now.
func (s *Shop) due(ctx context.Context, v offer.Service, a Ask) (money.Amount, error) {
	p, err := s.price(ctx, v, a)
	if err != nil {
		return 0, err
	}
	if a.Tab {
		p.service.Max = 0 // that is of one delivery
	}
	return p.due(a.Units)
}

// A price is a service's at one moment, whatever number of units.
type price struct {
	service offer.Service
	rate    offer.Rate
	asked   money.Amount // the answer of a dynamic service's URL
}

func (s *Shop) price(ctx context.Context, v offer.Service, a Ask) (p price, err error) {
	p = price{service: v, rate: s.rate(v)}
	if v.Dynamic != "" {
		if p.asked, err = askPrice(ctx, v, a); err != nil {
			return p, refused("quote "+v.Name, err)
		}
	}
	return p, nil
}

func (p price) due(units uint64) (money.Amount, error) {
	due, err := p.service.Due(units, p.rate, p.asked)
	if err != nil {
		return 0, invalid("quote "+p.service.Name, err)
	}
	return due, nil
}

// ways asks every rail that earns for a bill.
func (s *Shop) ways(ctx context.Context, v offer.Service, o Offer, session bool) (ways []Way, err error) {
	var errs []error
	bill := money.Bill{ID: o.Order, Amount: o.Due, For: v.Name, Units: o.Units}
	for _, r := range s.o.Rails() {
		w := Way{Rail: r.Scheme()}
		if sealer, ok := rail.As[rail.Sealer](r); ok {
			holding := bill
			holding.Hold = v.Hold && !session
			sale, err := sealer.Seal(ctx, holding)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			w.Pay, w.Hash, w.Hold = sale.Pay, sale.Hash, holding.Hold
		} else if biller, ok := rail.As[rail.Biller](r); ok {
			if w.Pay, err = biller.Bill(bill); err != nil {
				errs = append(errs, err)
				continue
			}
		} else {
			continue
		}
		ways = append(ways, w)
	}
	if len(ways) == 0 {
		errs = append(errs, errors.New("no rail of this machine can be paid now"))
		return nil, refused("quote "+v.Name, errors.Join(errs...))
	}
	return ways, nil
}

// The identifier of a token is L402's: a version, the payment hash, and 32 bytes
// that tell tokens apart, of which the first half is the order.
const tokenVersion = 0

// quoteRules are the caveats that a shop's tokens carry beside the common ones.
var quoteRules = []macaroon.Rule{
	{Key: "quote", Kind: macaroon.Exactly},   // the whole quote
	{Key: "session", Kind: macaroon.Exactly}, // it buys a session
}

// bake makes the token of an offer.
func (s *Shop) bake(o Offer) (string, error) {
	id := binary.BigEndian.AppendUint16(nil, tokenVersion)
	hash := o.hash()
	id = append(id, hash[:]...)
	id = append(id, o.Order[:]...)
	id = append(id, make([]byte, 16)...)
	life := quoteLife + lateToken
	caveats := []string{
		"services=" + o.Service + ":0",
		"quote=" + base64.RawURLEncoding.EncodeToString(o.Quote.Append(nil)),
	}
	if o.Tab {
		life = sessionLife
		caveats = append(caveats, "session=yes")
	}
	caveats = append(caveats, fmt.Sprintf("expires=%d", (o.At+life)/step.Second))
	m, err := macaroon.Bake(s.root, id, "coinop", caveats...)
	if err != nil {
		return "", err
	}
	return m.Text(), nil
}

// lateToken is how long after its quote has ended a token can be shown: what was
// paid in time may be claimed late.
const lateToken = step.Day

// hash is the payment hash that proves this offer paid, or zero.
func (o Offer) hash() (h [32]byte) {
	for _, w := range o.Ways {
		if w.Hash != h {
			return w.Hash
		}
	}
	return h
}

// A token is what bake has put into one, checked.
type token struct {
	quote      offer.Quote
	hash       [32]byte
	tab        bool
	conditions macaroon.Conditions
}

// read checks a token and what its holders have added to it.
func (s *Shop) read(text string, now step.Time) (t token, err error) {
	fail := func(err error) (token, error) { return t, invalid("token", err) }
	m, err := macaroon.Parse(text)
	if err != nil {
		return fail(err)
	}
	if t.conditions, err = macaroon.Read(nil, quoteRules...); err != nil {
		return fail(err)
	}
	if err := m.Verify(s.root, t.conditions.Add); err != nil {
		return fail(err)
	}
	r := codec.NewReader(m.ID)
	version := r.U16()
	r.Fill(t.hash[:])
	var order money.OrderID
	r.Fill(order[:])
	r.Take(16)
	if err := r.Close(); err != nil || version != tokenVersion {
		return fail(errors.New("it is not one of an offer"))
	}
	raw, err := base64.RawURLEncoding.DecodeString(t.conditions.Value("quote"))
	if err != nil {
		return fail(err)
	}
	q := codec.NewReader(raw)
	t.quote = offer.ReadQuote(q)
	if err := q.Close(); err != nil || t.quote.Order != order {
		return fail(errors.New("its quote is not of its order"))
	}
	t.tab = t.conditions.Value("session") != ""
	if t.conditions.Expired(now) {
		return t, refused("token", fmt.Errorf("it was good until %s seconds of Unix time; ask for a new offer", t.conditions.Value("expires")))
	}
	return t, nil
}

// A Proof is what a buyer shows: the token of an offer, and that it is paid.
type Proof struct {
	Token    string
	Preimage []byte         // of an invoice
	Receipt  *money.Receipt // of a rail with receipts
	Refund   string         // payment URI that money goes back to, if it comes to that
	Buyer    string         // for the books
}

// errNoProof means that a proof lacks what shows who has paid.
var errNoProof = errors.New("the token alone does not prove a payment: show the preimage of the invoice, or the receipt")

// proves checks that p proves t paid. The money is in the book all the same, or it
// is not: this is about who has paid.
func (s *Shop) proves(t token, p Proof) error {
	switch {
	case t.quote.Due == 0:
		return nil
	case len(p.Preimage) > 0:
		if t.hash == ([32]byte{}) || sha256.Sum256(p.Preimage) != t.hash {
			return invalid("proof", errors.New("the preimage is of another invoice"))
		}
		return nil
	case p.Receipt != nil:
		return s.receiptProves(t, *p.Receipt)
	}
	return invalid("proof", errNoProof)
}

func (s *Shop) receiptProves(t token, r money.Receipt) error {
	if r.Order != t.quote.Order || r.Amount < t.quote.Due {
		return invalid("proof", fmt.Errorf("the receipt is for %v of order %v, and %v of order %v is due", r.Amount, r.Order, t.quote.Due, t.quote.Order))
	}
	for _, held := range s.o.Rails() {
		b, earns := rail.As[rail.Biller](held)
		scheme, _, _ := strings.Cut(r.To, ":")
		if !earns || scheme != held.Scheme() || !samePayee(r.To, b.PayTo()) {
			continue
		}
		if err := held.Verify(r); err != nil {
			return invalid("proof", err)
		}
		return nil
	}
	return invalid("proof", fmt.Errorf("the receipt is of %.80q, where this machine is not paid", r.To))
}

// samePayee compares the nodes that two payment URIs name.
func samePayee(a, b string) bool {
	node := func(uri string) string {
		_, rest, _ := strings.Cut(uri, "://")
		name, _, _ := strings.Cut(rest, "@")
		return name
	}
	return node(a) == node(b)
}
