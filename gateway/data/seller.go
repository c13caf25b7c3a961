package data

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"

	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/receipt"
	"coinop.dev/core/sealed"
	"coinop.dev/core/step"
	"coinop.dev/gateway"
	"coinop.dev/rail"
)

// MaxOffered bounds the offers of single readings that are remembered until they are
// paid, for the books alone: what is paid of a forgotten one, or of one from before a
// restart, is opened by its buyer all the same, and stands in the books as money
// without a name.
const MaxOffered = 4096

// From is how the From of a service begins that this package delivers.
const From = "data:"

// Options are what a seller is made of.
type Options struct {
	Shop *gateway.Shop
	// Rails are the open rails: one that is a rail.Sealer sells single readings, and
	// all that earn sell streams.
	Rails func() []*rail.Rail
	// Sources are those of services, by what follows "data:".
	Sources map[string]Source
}

// A Seller sells a shop's data.
type Seller struct {
	o    Options
	key  keys.Secret
	open shelf
	paid chan earn.Sell

	mu      sync.Mutex
	offered map[money.OrderID]earn.Sell
	queue   []money.OrderID // oldest first

	// halt is called at the two moments that a test kills the seller at.
	halt func(moment)
}

// A moment is a place in the sale of a chunk.
type moment string

const (
	settled moment = "settled" // the till has the money, and nobody has claimed the chunk
	booked  moment = "booked"  // the chunk is sold, and its key has not left
)

// Open begins to sell. The till's book must be on the machine already.
func Open(ctx context.Context, o Options) (*Seller, error) {
	m := o.Shop.Machine()
	core, err := loadSales(m.DB)
	if err != nil {
		return nil, err
	}
	s := &Seller{
		o: o, key: m.Key, paid: make(chan earn.Sell, MaxOffered), offered: map[money.OrderID]earn.Sell{},
		halt: func(moment) {},
	}
	if err := s.open.load(m.DB, m.Key); err != nil {
		return nil, err
	}
	if err := m.Host.Add(ctx, Name, core); err != nil {
		return nil, err
	}
	m.Host.Hear(s.hear)
	go s.name()
	return s, nil
}

// service finds a service of data and its source.
func (s *Seller) service(name string) (v offer.Service, from Source, err error) {
	v, ok := s.o.Shop.Service(name)
	source, data := strings.CutPrefix(v.From, From)
	if !ok || !data {
		return v, nil, invalid(fmt.Errorf("%.80q is no data that is for sale", name))
	}
	if from = s.o.Sources[source]; from == nil {
		return v, nil, refused(fmt.Errorf("service %s: this machine has no readings called %q", name, source))
	}
	return v, from, nil
}

var errEmpty = errors.New("there is no reading yet")

func readings(ctx context.Context, from Source, most int) ([]Reading, error) {
	all, err := from.Readings(ctx, most)
	switch {
	case err != nil:
		return nil, refused(err)
	case len(all) == 0:
		return nil, refused(errEmpty)
	}
	return all, nil
}

// An Offer is one reading, sealed, and the invoice that buys its key. Its JSON is
// what every door gives.
type Offer struct {
	Service string       `json:"service"`
	Due     money.Amount `json:"due_msat"`
	Until   step.Time    `json:"until_ms"`
	Pay     string       `json:"pay,omitempty"`    // lightning:<BOLT 11 invoice>
	Sealed  []byte       `json:"sealed,omitempty"` // a message of core/sealed
	Data    []byte       `json:"data,omitempty"`   // in the clear, if it is free
}

// Offer seals the newest reading of a service for whoever pays the invoice in it.
func (s *Seller) Offer(ctx context.Context, service, buyer string) (o Offer, err error) {
	v, from, err := s.service(service)
	if err != nil {
		return o, err
	}
	all, err := readings(ctx, from, 1)
	if err != nil {
		return o, err
	}
	r := all[len(all)-1]
	quote, err := s.o.Shop.Quote(ctx, gateway.Ask{Service: service, Units: max(v.Min, 1), Buyer: buyer, Door: Name})
	if err != nil {
		return o, err
	}
	o = Offer{Service: service, Due: quote.Due, Until: quote.Until}
	if quote.Free {
		o.Data = r.Data
		return o, nil
	}
	sale, err := s.seal(ctx, money.Bill{ID: quote.Order, Amount: quote.Due, For: service, Units: quote.Units})
	if err != nil {
		return o, err
	}
	grain := salt(s.key, service, r)
	commit := Commitment(grain, r.Data)
	meta, err := Meta{Service: service, At: r.At, Commit: hex.EncodeToString(commit[:])}.encode()
	if err != nil {
		return o, err
	}
	one, err := sealed.Seal(s.key, quote.Order, quote.Due, sale.Key, meta, append(grain[:], r.Data...))
	if err != nil {
		return o, refused(err)
	}
	o.Pay, o.Sealed = sale.Pay, one.Append(nil)
	s.remember(earn.Sell{Quote: quote.Quote, Buyer: buyer, To: Name})
	return o, nil
}

// seal asks the first rail whose payment reveals a key for one. Nothing is held:
// the goods are with the buyer before the money is.
func (s *Seller) seal(ctx context.Context, b money.Bill) (rail.Sale, error) {
	for _, r := range s.o.Rails() {
		if sealer, ok := rail.As[rail.Sealer](r); ok {
			sale, err := sealer.Seal(ctx, b)
			if err == nil && sale.Pay == "" {
				err = refused(fmt.Errorf("order %v is paid already", b.ID))
			}
			return sale, err
		}
	}
	return rail.Sale{}, refused(errors.New("no rail here reveals a key to its payer, as Lightning does; buy a stream"))
}

// remember keeps what an order is for until it is paid.
func (s *Seller) remember(sell earn.Sell) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == MaxOffered {
		delete(s.offered, s.queue[0])
		s.queue = s.queue[1:]
	}
	s.queue = append(s.queue, sell.Quote.Order)
	s.offered[sell.Quote.Order] = sell
}

// hear runs on the host's goroutine.
func (s *Seller) hear(out step.Outcome) {
	income, ok := out.Value.(receipt.Income)
	if !ok || out.Err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := income.Income().Order
	sell, ok := s.offered[id]
	if !ok {
		return
	}
	delete(s.offered, id) // what stays in the queue is dropped in its turn
	select {
	case s.paid <- sell:
	default:
	}
}

// name tells the till what it was paid for.
func (s *Seller) name() {
	m := s.o.Shop.Machine()
	for {
		select {
		case sell := <-s.paid:
			m.Host.Tell(m.Context(), earn.Name, sell)
		case <-m.Stopped():
			return
		}
	}
}

// A Listing is what a seller has.
type Listing struct {
	Seller   keys.Public `json:"seller"` // who signs
	Services []Listed    `json:"services"`
}

// A Listed is a service of it: the newest reading, by its commitment.
type Listed struct {
	Service string       `json:"service"`
	Title   string       `json:"title,omitempty"`
	Unit    string       `json:"unit"`
	Price   money.Amount `json:"price_msat,omitempty"`
	Fiat    offer.Fiat   `json:"fiat,omitzero"`
	At      step.Time    `json:"at_ms,omitempty"`
	Size    int          `json:"size,omitempty"` // bytes
	Commit  string       `json:"commit,omitempty"`
	// Stream is how many readings a stream of it can have now.
	Stream int `json:"stream"`
}

// List tells what there is, and of the readings nothing but size, time and
// commitment.
func (s *Seller) List(ctx context.Context) Listing {
	list := Listing{Seller: s.key.Public(), Services: []Listed{}}
	for _, v := range s.o.Shop.Services() {
		_, from, err := s.service(v.Name)
		if err != nil {
			continue
		}
		l := Listed{Service: v.Name, Title: v.Title, Unit: v.Unit, Price: v.Price, Fiat: v.Fiat}
		if all, err := readings(ctx, from, sealed.MaxChunks); err == nil {
			r := all[len(all)-1]
			commit := Commitment(salt(s.key, v.Name, r), r.Data)
			l.At, l.Size, l.Commit, l.Stream = r.At, len(r.Data), hex.EncodeToString(commit[:]), len(all)
		}
		list.Services = append(list.Services, l)
	}
	return list
}
