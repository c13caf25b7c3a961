package data

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"coinop.dev/core/earn"
	"coinop.dev/core/offer"
	"coinop.dev/core/sealed"
	"coinop.dev/core/step"
	"coinop.dev/gateway"
	"coinop.dev/rail"
	"coinop.dev/world/drive"
)

// A Ticket shows whose a stream is. It buys nothing by itself, and whoever else has
// it can read what its buyer pays for.
type Ticket [32]byte

// MarshalText is 64 hex digits.
func (t Ticket) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(t[:])), nil }

// UnmarshalText reads them.
func (t *Ticket) UnmarshalText(b []byte) error {
	if len(b) != 2*len(t) {
		return fmt.Errorf("a ticket has %d hex digits; this has %d", 2*len(t), len(b))
	}
	_, err := hex.Decode(t[:], b)
	return err
}

// A Stream is what a buyer is told who opens one: the signed offer, the ticket that
// it alone has, and the payment URIs under which the offer's orders are paid.
type Stream struct {
	Service string   `json:"service"`
	Offer   []byte   `json:"offer"` // a message of core/sealed
	Ticket  Ticket   `json:"ticket"`
	Pay     []string `json:"pay"`
}

// Stream seals the newest readings of a service for one buyer, so many or as many
// as there are.
func (s *Seller) Stream(ctx context.Context, service, buyer string, chunks int) (st Stream, err error) {
	_, from, err := s.service(service)
	if err != nil {
		return st, err
	}
	if chunks < 1 || chunks > sealed.MaxChunks {
		return st, invalid(fmt.Errorf("a stream has 1 to %d chunks", sealed.MaxChunks))
	}
	all, err := readings(ctx, from, chunks)
	if err != nil {
		return st, err
	}
	quote, err := s.o.Shop.Quote(ctx, gateway.Ask{Service: service, Units: 1, Buyer: buyer, Door: Name})
	switch {
	case err != nil:
		return st, err
	case quote.Free:
		return st, refused(fmt.Errorf("%s is free now: ask for single readings", service))
	}
	meta, err := Meta{Service: service, At: all[len(all)-1].At, Chunks: len(all)}.encode()
	if err != nil {
		return st, err
	}
	plain := make([][]byte, len(all))
	for i := range all {
		plain[i] = all[i].Data
	}
	var id sealed.ID
	rand.Read(id[:])
	stream, err := sealed.NewStream(s.key, id, quote.Due, meta, plain)
	if err != nil {
		return st, refused(err)
	}
	s.open.put(stream)
	return Stream{Service: service, Offer: stream.Append(nil), Ticket: stream.Ticket(), Pay: s.payTo()}, nil
}

// payTo is where orders of streams are paid.
func (s *Seller) payTo() (to []string) {
	for _, r := range s.o.Rails() {
		if b, ok := rail.As[rail.Biller](r); ok && b.PayTo() != "" {
			to = append(to, b.PayTo())
		}
	}
	return to
}

// Chunk is chunk i of a stream, sealed.
func (s *Seller) Chunk(id sealed.ID, i int) (c sealed.Chunk, err error) {
	stream, err := s.open.get(id)
	if err != nil {
		return c, err
	}
	if i < 1 || i > len(stream.Digests) {
		return c, invalid(fmt.Errorf("there is no chunk %d: the stream has %d", i, len(stream.Digests)))
	}
	return stream.Answer(sealed.Want{ID: id, I: i})[0].(sealed.Chunk), nil
}

// Key is the key of chunk i, for the stream's buyer, if the orders up to i are paid.
// A seller that has forgotten the stream answers ErrGone: show it the offer. Claimed
// again it is the same.
func (s *Seller) Key(ctx context.Context, service string, id sealed.ID, i int, t Ticket, shown *sealed.Offer) (v sealed.Reveal, err error) {
	o := shown
	if stream, err := s.open.get(id); err == nil {
		o = &stream.Offer
	}
	if o == nil {
		return v, ErrGone
	}
	meta, err := readMeta(o.Meta)
	if err == nil && (o.ID != id || meta.Service != service) {
		err = errors.New("the offer is of another stream")
	}
	if err != nil {
		return v, invalid(err)
	}
	// It costs hashes and a signature, and is nothing yet but made.
	if v, err = sealed.RevealOf(s.key, o, t, i); err != nil {
		return sealed.Reveal{}, invalid(err)
	}
	if err := s.sold(ctx, service, o, i); err != nil {
		return sealed.Reveal{}, err
	}
	s.halt(booked)
	return v, nil
}

// sold returns nil once chunk i is sold, durably.
func (s *Seller) sold(ctx context.Context, service string, o *sealed.Offer, i int) error {
	have, err := s.count(ctx, o.ID)
	switch {
	case err != nil:
		return err
	case i <= have:
		return nil
	case i > have+1:
		return unpaid(fmt.Errorf("chunk %d comes before chunk %d", have+1, i))
	}
	id := o.Order(i)
	order, err := s.o.Shop.Order(ctx, id)
	switch {
	case err != nil:
		return err
	case order.Paid < o.Price:
		return unpaid(fmt.Errorf("chunk %d costs %v: %v of order %v has come", i, o.Price, order.Paid, id))
	}
	s.halt(settled)
	if err := s.open.keep(o.ID); err != nil {
		return err
	}
	now := s.o.Shop.Machine().Host.Now()
	sell := earn.Sell{
		Quote: offer.Quote{Order: id, Service: service, Units: 1, Due: o.Price, At: now, Until: now + step.Hour},
		Buyer: Name, To: Name, Device: place(o.ID, i),
	}
	// The till, the core of this package and the disk, in one round.
	answer, err := s.o.Shop.Machine().Host.Ask(ctx, earn.Name, earn.SellID(id), sell)
	if err != nil {
		return err
	}
	if have, err = s.count(ctx, o.ID); err == nil && have < i {
		err = refused(fmt.Errorf("order %v is %s: its money is not for chunk %d any more", id, answer.(earn.Order).State, i))
	}
	return err
}

// count is how many chunks of a stream are sold.
func (s *Seller) count(ctx context.Context, id sealed.ID) (n int, err error) {
	err = s.o.Shop.Machine().Host.Do(ctx, func(m *drive.Machine) { n = m.Core(Name).(*sales).of(id) })
	return n, err
}
