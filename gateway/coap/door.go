// Package coap is the door for devices that speak CoAP (RFC 7252): what is for
// sale is read with GET, and an answer that must be paid first is the offer.
//
//	GET  /coffee?units=2        4.03 with an offer (content format 65000), or 2.05
//	GET  /coffee + option 65000 2.05 with the goods, and a receipt in option 65004
//	GET  /meter?session=500     4.03 with the offer of a session of 500 units
//	GET  /meter + option 65000 + Observe   notifications, each drawn from the
//	                            session; 4.03 with a new offer when it is empty
//	POST /pay                   a proof too large for an option; the same answer
//	POST /m                     machine messages of a device that has proved its
//	GET  /m + Observe           name by its pre-shared key, and those for it
//	GET  /.well-known/core      what is for sale (RFC 6690)
//
// The numbers are core/coap's. 4.02 means Bad Option in CoAP and nothing else.
package coap

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	wire "coinop.dev/core/coap"
	"coinop.dev/core/earn"
	"coinop.dev/core/money"
	"coinop.dev/core/tab"
	"coinop.dev/gateway"
	"coinop.dev/world/link/coap"
)

// patience is how long an answer waits for a device to deliver. What takes longer
// is asked for again with the same proof.
const patience = 60 * time.Second

// A Source has what is sold by session: readings that a request draws.
type Source interface {
	// Read is units of a service, now.
	Read(ctx context.Context, service string, units uint64) ([]byte, error)
	// Follow calls each with every new reading, until that returns an error or ctx
	// ends.
	Follow(ctx context.Context, service string, each func([]byte) error) error
}

// Options are what a door is made of. Source and Devices may be nil: nothing is
// sold by session, and no device comes in here.
type Options struct {
	Shop    *gateway.Shop
	Source  Source
	Devices Devices
}

// A Door answers at this protocol: Handle is a coap.Handler.
type Door struct {
	o    Options
	desk desk
}

// New makes a door. It listens nowhere: give Handle to coap.Listen, and PSK too to
// coap.ListenDTLS.
func New(o Options) *Door {
	return &Door{o: o, desk: desk{shop: o.Shop, lines: map[string]*line{}}}
}

// PSK is the pre-shared key of a device, for coap.Options.
func (d *Door) PSK(name string) []byte {
	if d.o.Devices == nil {
		return nil
	}
	if v, ok := d.o.Devices.Device(name); ok {
		return v.PSK()
	}
	return nil
}

// Handle answers one request.
func (d *Door) Handle(ctx context.Context, r coap.Request) coap.Response {
	path := r.Path()
	switch {
	case path == "/.well-known/core" && r.Code == wire.GET:
		return d.list()
	case path == "/m":
		return d.messages(ctx, r)
	case path == "/pay" && r.Code == wire.POST:
		return d.pay(ctx, r)
	case r.Code != wire.GET:
		return coap.Text(wire.MethodNotAllowed, "things are bought with GET")
	}
	name := strings.TrimPrefix(path, "/")
	if _, ok := d.o.Shop.Service(name); !ok {
		return coap.Text(wire.NotFound, "that is not for sale: see /.well-known/core")
	}
	units, err := number(r, "units")
	if err != nil {
		return coap.Text(wire.BadRequest, err.Error())
	}
	raw, ok := r.Get(wire.OptionProof)
	if !ok {
		return d.offer(ctx, r, name, units)
	}
	proof, err := wire.Parse[wire.Proof](raw)
	if err != nil {
		return coap.Text(wire.BadRequest, err.Error())
	}
	if proof.Session {
		return d.draw(ctx, r, name, units, proof)
	}
	return d.claim(ctx, proofOf(proof, r), name)
}

// list is RFC 6690's, which every CoAP tool can show.
func (d *Door) list() coap.Response {
	var links []string
	for _, v := range d.o.Shop.Services() {
		links = append(links, fmt.Sprintf("</%s>;rt=coinop.sale;ct=%d;title=%q", v.Name, wire.FormatOffer, strings.ToValidUTF8(cmp.Or(v.Title, v.Name), "")))
	}
	return coap.Response{Code: wire.Content, Format: formatLinks, Payload: []byte(strings.Join(links, ","))}
}

const formatLinks = 40

// number is what the query says of key, or 1.
func number(r coap.Request, key string) (uint64, error) {
	text, ok := r.Query(key)
	if !ok {
		return 1, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%s %.40q is no number of units", key, text)
	}
	return n, nil
}

// buyer is who asks: a device by its name, anybody else by the address, so that
// another port is not another free tier.
func buyer(r coap.Request) string {
	if r.Name != "" {
		return r.Name
	}
	if host, _, err := net.SplitHostPort(strings.TrimPrefix(r.Peer, "dtls/")); err == nil {
		return host
	}
	return r.Peer
}

// offer says what it costs. What costs nothing is given at once.
func (d *Door) offer(ctx context.Context, r coap.Request, service string, units uint64) coap.Response {
	if !r.Proved {
		// An offer is larger than its request, and costs an invoice; the free tier is
		// of an address.
		return coap.Response{Prove: true}
	}
	_, session := r.Query("session")
	if session {
		var err error
		if units, err = number(r, "session"); err != nil {
			return coap.Text(wire.BadRequest, err.Error())
		}
	}
	o, err := d.o.Shop.Quote(ctx, gateway.Ask{Service: service, Units: units, Buyer: buyer(r), Door: "coap", Tab: session})
	switch {
	case err != nil:
		return refusal(err)
	case !o.Free || session:
		return offered(o, nil)
	}
	return d.claim(ctx, gateway.Proof{Token: o.Token, Buyer: buyer(r)}, service)
}

func offered(o gateway.Offer, left *money.Amount) coap.Response {
	token, err := base64.RawURLEncoding.DecodeString(o.Token)
	if err != nil {
		return refusal(err)
	}
	w := wire.Offer{Order: o.Order, Service: o.Service, Units: o.Units, Due: o.Due, Until: int64(o.Until), Token: token, Unit: o.Unit, Left: left}
	for _, way := range o.Ways {
		if len(w.Ways) == wire.MaxWays {
			break
		}
		v := wire.Way{Rail: way.Rail, Pay: way.Pay}
		if way.Hash != ([32]byte{}) {
			v.Hash = way.Hash[:]
		}
		w.Ways = append(w.Ways, v)
	}
	return coap.Response{Code: wire.Forbidden, Format: wire.FormatOffer, Payload: wire.Encode(w)}
}

func proofOf(p wire.Proof, r coap.Request) gateway.Proof {
	g := gateway.Proof{Token: base64.RawURLEncoding.EncodeToString(p.Token), Preimage: p.Preimage, Buyer: buyer(r)}
	if p.Receipt != nil {
		g.Receipt = &money.Receipt{Order: p.Receipt.Order, Amount: p.Receipt.Amount, To: p.Receipt.To, At: p.Receipt.At, Proof: p.Receipt.Proof}
	}
	return g
}

// pay takes a proof that is too large for an option.
func (d *Door) pay(ctx context.Context, r coap.Request) coap.Response {
	if format, ok := r.Uint(wire.ContentFormat); ok && format != wire.FormatProof {
		return coap.Text(wire.UnsupportedFormat, fmt.Sprintf("a proof has content format %d", wire.FormatProof))
	}
	proof, err := wire.Parse[wire.Proof](r.Payload)
	if err != nil {
		return coap.Text(wire.BadRequest, err.Error())
	}
	if !proof.Session {
		return d.claim(ctx, proofOf(proof, r), "")
	}
	s, err := d.o.Shop.Session(ctx, proofOf(proof, r))
	if err != nil {
		return refusal(err)
	}
	return coap.Response{Code: wire.Changed, Options: receipt(wire.Receipt{Order: s.Tab, To: "open"})}
}

// claim delivers what is paid. service, if it is not empty, is what the path says.
func (d *Door) claim(ctx context.Context, p gateway.Proof, service string) coap.Response {
	o, err := d.o.Shop.Claim(ctx, p)
	if err != nil {
		return refusal(err)
	}
	if service != "" && o.Item != service {
		return coap.Text(wire.Forbidden, "that proof is of "+o.Item)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if o, err = d.o.Shop.Wait(ctx, o.ID, ended); err != nil {
		return retry("it is paid, and not delivered yet: ask again with the same proof", 5)
	}
	word := receipt(wire.Receipt{Order: o.ID, Amount: o.Paid, To: o.State, At: int64(o.At)})
	if o.State != "delivered" && o.State != "settled" {
		why := coap.Text(wire.Forbidden, fmt.Sprintf("order %v: %s %s", o.ID, o.State, o.Why))
		why.Options = word
		return why
	}
	return coap.Response{Code: wire.Content, Format: wire.FormatOctets, Payload: o.Payload, Options: word}
}

func ended(o earn.Order) bool {
	switch o.State {
	case "delivered", "settled", "refunded", "failed", "expired":
		return true
	}
	return false
}

func receipt(r wire.Receipt) []wire.Option {
	return []wire.Option{{Number: wire.OptionReceipt, Value: wire.Encode(r)}}
}

func retry(why string, seconds byte) coap.Response {
	r := coap.Text(wire.ServiceUnavailable, why)
	r.Options = []wire.Option{{Number: wire.MaxAge, Value: []byte{seconds}}}
	return r
}

// refusal puts an error of the shop's into CoAP's codes.
func refusal(err error) coap.Response {
	switch money.KindOf(err) {
	case money.Unpaid:
		return retry(err.Error(), 2)
	case money.Invalid:
		return coap.Text(wire.BadRequest, err.Error())
	case money.Refused:
		return coap.Text(wire.Forbidden, err.Error())
	}
	return coap.Text(wire.InternalError, "the gateway has a fault: ask again with the same proof")
}

// draw serves a request from a session, and what follows if it is observed.
func (d *Door) draw(ctx context.Context, r coap.Request, service string, units uint64, p wire.Proof) coap.Response {
	if d.o.Source == nil {
		return coap.Text(wire.MethodNotAllowed, "nothing is sold by session here")
	}
	s, err := d.o.Shop.Session(ctx, proofOf(p, r))
	if err != nil {
		return refusal(err)
	}
	if s.Service != service {
		return coap.Text(wire.Forbidden, "that session is of "+s.Service)
	}
	drawn, err := d.o.Shop.Draw(ctx, s.Tab, service, units)
	if err != nil {
		return d.short(ctx, r, s, err)
	}
	reading, err := d.o.Source.Read(ctx, service, units)
	if err != nil {
		drawn.Settle(0)
		return retry(err.Error(), 5)
	}
	paid := drawn.Settle(units)
	answer := coap.Response{Code: wire.Content, Format: wire.FormatOctets, Payload: reading, Options: left(s.Tab, paid, drawn.Left)}
	if r.Observe {
		answer.Stream = func(ctx context.Context, notify func(coap.Response) error) coap.Response {
			return d.follow(ctx, r, s, units, notify)
		}
	}
	return answer
}

// follow draws for each notification and gives back what was not acknowledged.
func (d *Door) follow(ctx context.Context, r coap.Request, s gateway.Session, units uint64, notify func(coap.Response) error) (last coap.Response) {
	err := d.o.Source.Follow(ctx, s.Service, func(reading []byte) error {
		drawn, err := d.o.Shop.Draw(ctx, s.Tab, s.Service, units)
		if err != nil {
			last = d.short(ctx, r, s, err)
			return err
		}
		n := coap.Response{Code: wire.Content, Format: wire.FormatOctets, Payload: reading, Options: left(s.Tab, drawn.Reserved, drawn.Left)}
		if err := notify(n); err != nil {
			drawn.Settle(0)
			return err
		}
		drawn.Settle(units)
		return nil
	})
	if last.Code == wire.Empty && err != nil && ctx.Err() == nil {
		last = retry(err.Error(), 5)
	}
	return last
}

// left is the receipt of a draw: what it cost, and in To what the session has left.
func left(id money.OrderID, paid, left money.Amount) []wire.Option {
	return receipt(wire.Receipt{Order: id, Amount: paid, To: fmt.Sprintf("%d msat left", uint64(left))})
}

// short offers another session for as many units as the one that has too little.
func (d *Door) short(ctx context.Context, r coap.Request, s gateway.Session, err error) coap.Response {
	var little *tab.Short
	if !errors.As(err, &little) {
		return refusal(err)
	}
	o, err := d.o.Shop.Quote(ctx, gateway.Ask{Service: s.Service, Units: s.Units, Buyer: buyer(r), Door: "coap", Tab: true})
	if err != nil {
		return refusal(err)
	}
	return offered(o, &little.Left)
}
