package lndrail

import (
	"fmt"
	"slices"
	"strings"

	"coinop.dev/core/billing"
	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

const (
	// MaxOpen bounds the orders that lnd may be paying.
	MaxOpen = 4096
	// Keep is how many paid orders are remembered, and so answered again with
	// the same proof.
	Keep = 4096

	maxTo = 4096 // bytes of a payment URI or an invoice
)

// ordersName is the name of orders among the machine's cores, whichever lnd
// pays them.
const ordersName = "lnd/orders"

// An owed is an order and the payment hash that pays it. It is on disk before
// lnd hears of the hash.
type owed struct {
	order    money.OrderID
	amount   money.Amount
	to       string // payment URI without its parameters
	hash     [32]byte
	invoice  string         // empty once paid, and if it is in to
	word     keys.Signature // the payee's; zero for a plain invoice
	paid     bool
	preimage [32]byte
	n        uint64
}

func (o *owed) proof() []byte {
	return billing.Proof{Preimage: o.preimage, Word: o.word}.Append(nil)
}

// orders is the book of them as a core. Invariants: an order has one hash and a
// hash one order; at most MaxOpen are open, at most Keep paid ones are kept.
type orders struct {
	next   uint64
	open   int
	byID   map[money.OrderID]*owed
	byHash map[[32]byte]*owed
	queue  []*owed // paid ones, oldest first
}

// Events of orders. Each is answered with an Outcome whose ID is ask.
type (
	// find looks an order up; the value is an owed, or nil.
	find struct {
		ask   string
		order money.OrderID
	}
	// take files an order that is new; the value is the owed that is filed.
	take struct {
		ask string
		owed
	}
	// settle files a preimage.
	settle struct {
		ask      string
		order    money.OrderID
		preimage [32]byte
	}
	// drop forgets an order that is certainly not paid.
	drop struct {
		ask   string
		order money.OrderID
	}
)

func newOrders() *orders {
	return &orders{byID: map[money.OrderID]*owed{}, byHash: map[[32]byte]*owed{}}
}

// Step files what the payer finds out.
func (b *orders) Step(in step.Input) (fx step.Effects) {
	step.Assert(b.open <= MaxOpen && len(b.queue) <= Keep && len(b.byID) == b.open+len(b.queue) && len(b.byHash) == len(b.byID),
		"lnd: %d orders, %d hashes, %d open, %d paid", len(b.byID), len(b.byHash), b.open, len(b.queue))
	for _, event := range in.Events {
		switch ev := event.(type) {
		case find:
			fx.Done = append(fx.Done, step.Outcome{ID: ev.ask, Value: b.copy(ev.order)})
		case take:
			err := b.take(ev.owed, &fx)
			fx.Done = append(fx.Done, step.Outcome{ID: ev.ask, Value: b.copy(ev.order), Err: err})
		case settle:
			b.settle(ev, &fx)
			fx.Done = append(fx.Done, step.Outcome{ID: ev.ask, Value: b.copy(ev.order)})
		case drop:
			if o := b.byID[ev.order]; o != nil && !o.paid {
				b.open--
				b.remove(o, &fx)
			}
			fx.Done = append(fx.Done, step.Outcome{ID: ev.ask})
		}
	}
	return fx
}

// copy is for the payer's goroutines, so that nobody shares the core's own.
func (b *orders) copy(id money.OrderID) *owed {
	o := b.byID[id]
	if o == nil {
		return nil
	}
	c := *o
	return &c
}

func (b *orders) take(o owed, fx *step.Effects) error {
	switch was := b.byHash[o.hash]; {
	case b.byID[o.order] != nil:
		return nil // the one that is filed stays
	case was != nil:
		return fmt.Errorf("the invoice is that of order %v", was.order)
	case b.open >= MaxOpen:
		return fmt.Errorf("%d orders are open already; try again when one is paid", MaxOpen)
	}
	o.n = b.next
	b.next++
	b.open++
	b.byID[o.order], b.byHash[o.hash] = &o, &o
	fx.Put = append(fx.Put, o.record())
	return nil
}

func (b *orders) settle(ev settle, fx *step.Effects) {
	o := b.byID[ev.order]
	if o == nil || o.paid {
		return
	}
	o.paid, o.preimage, o.invoice = true, ev.preimage, ""
	b.open--
	b.queue = append(b.queue, o)
	fx.Put = append(fx.Put, o.record())
	if len(b.queue) > Keep {
		old := b.queue[0]
		b.queue = b.queue[1:]
		b.remove(old, fx)
	}
}

func (b *orders) remove(o *owed, fx *step.Effects) {
	delete(b.byID, o.order)
	delete(b.byHash, o.hash)
	fx.Put = append(fx.Put, step.Record{Key: ordersKey + o.order.Key()})
}

// Records.

const ordersKey = ordersName + "/"

func (o *owed) record() step.Record {
	b := codec.AppendUint(nil, o.n)
	b = codec.AppendUint(b, o.amount)
	b = codec.AppendBytes(b, o.to)
	b = append(b, o.hash[:]...)
	b = codec.AppendBytes(b, o.invoice)
	b = append(b, o.word[:]...)
	if o.paid {
		b = append(b, o.preimage[:]...)
	}
	return step.Record{Key: ordersKey + o.order.Key(), Value: b}
}

func readOwed(id money.OrderID, r *codec.Reader) *owed {
	o := &owed{order: id, n: r.Uvarint(), amount: r.Amount(), to: r.String(maxTo, "payment URI")}
	r.Fill(o.hash[:])
	o.invoice = r.String(maxTo, "invoice")
	r.Fill(o.word[:])
	if o.paid = r.Len() > 0; o.paid {
		r.Fill(o.preimage[:])
	}
	return o
}

// Durable is everything the book has on disk, for whoever wants to check it.
func (b *orders) Durable() (all []step.Record) {
	for _, o := range b.byID {
		all = append(all, o.record())
	}
	slices.SortFunc(all, func(a, b step.Record) int { return strings.Compare(a.Key, b.Key) })
	return all
}

func loadOrders(db step.Reader) (*orders, error) {
	b := newOrders()
	err := codec.Scan(db, ordersKey, func(name string, r *codec.Reader) {
		id, ok := money.OrderIDFromKey(name)
		if !ok {
			r.Fail(fmt.Errorf("%q is not an order", name))
			return
		}
		o := readOwed(id, r)
		b.next = max(b.next, o.n+1)
		b.byID[id], b.byHash[o.hash] = o, o
		if o.paid {
			b.queue = append(b.queue, o)
		} else {
			b.open++
		}
	})
	// By age of the order, which is about the age of its payment.
	slices.SortFunc(b.queue, func(x, y *owed) int {
		if x.n < y.n {
			return -1
		}
		return 1
	})
	return b, err
}
