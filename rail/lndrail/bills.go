package lndrail

import (
	"fmt"
	"slices"
	"strings"

	"coinop.dev/core/billing"
	"coinop.dev/core/codec"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

const (
	// MaxBills bounds the invoices that can be paid and are not.
	MaxBills = 4096
	// KeepBills is how many paid ones are remembered, so that a payment that lnd
	// tells of again counts once.
	KeepBills = 8192
	// grace is how long after its expiry an invoice is kept, for a payment that
	// lnd has taken in time.
	grace = 10 * step.Minute

	maxAsker = 80 // bytes of a machine's name
)

// billsName is the name of bills among the machine's cores.
const billsName = "lnd/bills"

// A bill is an order and the invoice that its payer was given.
type bill struct {
	order   money.OrderID
	amount  money.Amount
	asker   string // the machine that asked; "" if we did
	hash    [32]byte
	invoice string // empty once paid
	expires step.Time
	paid    bool
	n       uint64
}

// bills is the book of them as a core. Invariants: an order has one hash and a
// hash one order; what lnd says is paid is an outcome once.
type bills struct {
	next    uint64
	settled uint64 // lnd's settle_index of the last payment that is filed
	open    int
	byID    map[money.OrderID]*bill
	byHash  map[[32]byte]*bill
	queue   []*bill // all, oldest first; one that gave way is still there, without an order
}

// Events of bills.
type (
	// findBill looks a bill up; the answer's value is a bill, or nil.
	findBill struct {
		ask   string
		order money.OrderID
	}
	// file keeps a new bill, in the place of the one with the hash old if that
	// is not zero. The answer's value is the one that is filed.
	file struct {
		ask string
		bill
		old [32]byte
	}
	// wasPaid files a payment that lnd has told of, of whomever it was.
	wasPaid struct {
		hash   [32]byte
		amount money.Amount
		index  uint64 // settle_index; 0 if lnd was asked and did not tell
	}
	// answer carries what was asked; it is no payment that a till would count.
	answer struct{ *bill }
)

func newBills() *bills {
	return &bills{byID: map[money.OrderID]*bill{}, byHash: map[[32]byte]*bill{}}
}

// Step files bills and payments.
func (b *bills) Step(in step.Input) (fx step.Effects) {
	step.Assert(b.open <= MaxBills && len(b.byID) == len(b.byHash), "lnd: %d bills, %d hashes, %d open", len(b.byID), len(b.byHash), b.open)
	for _, event := range in.Events {
		switch ev := event.(type) {
		case findBill:
			fx.Done = append(fx.Done, step.Outcome{ID: ev.ask, Value: b.copy(ev.order)})
		case file:
			err := b.file(ev, in.At, &fx)
			fx.Done = append(fx.Done, step.Outcome{ID: ev.ask, Value: b.copy(ev.order), Err: err})
		case wasPaid:
			b.wasPaid(ev, &fx)
		}
	}
	return fx
}

func (b *bills) copy(id money.OrderID) answer {
	x := b.byID[id]
	if x == nil {
		return answer{}
	}
	c := *x
	return answer{&c}
}

func (b *bills) file(ev file, now step.Time, fx *step.Effects) error {
	if was := b.byID[ev.order]; was != nil {
		if was.hash != ev.old || was.paid {
			return nil // the one that is filed stays
		}
		b.remove(was, fx)
	}
	b.forget(now, fx)
	if b.open >= MaxBills {
		return fmt.Errorf("%d invoices wait for their payment already; the first expires at %d", MaxBills, b.queue[0].expires)
	}
	x := ev.bill
	x.n = b.next
	b.next++
	b.open++
	b.byID[x.order], b.byHash[x.hash] = &x, &x
	b.queue = append(b.queue, &x)
	fx.Put = append(fx.Put, b.head(), x.record())
	return nil
}

func (b *bills) wasPaid(ev wasPaid, fx *step.Effects) {
	x := b.byHash[ev.hash]
	ours := x != nil && !x.paid
	if ev.index > b.settled {
		b.settled = ev.index
		head := b.head()
		head.Lazy = !ours // lnd tells again of what was not ours
		fx.Put = append(fx.Put, head)
	}
	if !ours {
		return
	}
	x.paid, x.invoice = true, ""
	b.open--
	fx.Put = append(fx.Put, x.record())
	entries := []receipt.Entry{{Order: x.order, Amount: ev.amount}}
	fx.Done = append(fx.Done, step.Outcome{ID: newPayment, Value: receipt.Paid{Batch: &receipt.Batch{Entries: entries}}})
}

// newPayment is the ID of the outcomes that the till files.
const newPayment = "new"

// forget drops what cannot be paid any more, and the oldest paid bills beyond
// KeepBills.
func (b *bills) forget(now step.Time, fx *step.Effects) {
	paid := len(b.byID) - b.open
	if len(b.queue) < MaxBills && paid <= KeepBills {
		return
	}
	kept := b.queue[:0:0]
	for _, x := range b.queue {
		switch {
		case b.byHash[x.hash] != x: // gave way
			continue
		case x.paid && paid > KeepBills:
			paid--
			b.remove(x, fx)
			continue
		case !x.paid && now > x.expires+grace:
			b.remove(x, fx)
			continue
		}
		kept = append(kept, x)
	}
	b.queue = kept
}

func (b *bills) remove(x *bill, fx *step.Effects) {
	if !x.paid {
		b.open--
	}
	delete(b.byID, x.order)
	delete(b.byHash, x.hash)
	fx.Put = append(fx.Put, step.Record{Key: x.key()})
}

// waiting is the hashes that may be paid.
func (b *bills) waiting() (all [][32]byte) {
	for _, x := range b.queue {
		if b.byHash[x.hash] == x && !x.paid {
			all = append(all, x.hash)
		}
	}
	return all
}

// Records.

const (
	billsHead = billsName
	billsKey  = billsName + "/"
)

func (b *bills) head() step.Record {
	v := codec.AppendUint(nil, b.next)
	return step.Record{Key: billsHead, Value: codec.AppendUint(v, b.settled)}
}

func (x *bill) key() string { return billsKey + x.order.Key() }

func (x *bill) record() step.Record {
	b := codec.AppendUint(nil, x.n)
	b = codec.AppendUint(b, x.amount)
	b = codec.AppendBytes(b, x.asker)
	b = append(b, x.hash[:]...)
	b = codec.AppendUint(b, int64(x.expires))
	b = codec.AppendBytes(b, x.invoice)
	paid := byte(0)
	if x.paid {
		paid = 1
	}
	return step.Record{Key: x.key(), Value: append(b, paid)}
}

func readBill(id money.OrderID, r *codec.Reader) *bill {
	x := &bill{order: id, n: r.Uvarint(), amount: r.Amount(), asker: r.String(maxAsker, "asker")}
	r.Fill(x.hash[:])
	x.expires = step.Time(r.Uvarint())
	x.invoice = r.String(billing.MaxInvoice, "invoice")
	x.paid = r.U8() == 1
	return x
}

// Durable is everything the book has on disk, for whoever wants to check it.
func (b *bills) Durable() (all []step.Record) {
	if b.next > 0 || b.settled > 0 {
		all = append(all, b.head())
	}
	for _, x := range b.byID {
		all = append(all, x.record())
	}
	slices.SortFunc(all, func(a, b step.Record) int { return strings.Compare(a.Key, b.Key) })
	return all
}

func loadBills(db step.Reader) (*bills, error) {
	b := newBills()
	raw, err := db.Get(billsHead)
	if err != nil || raw == nil {
		return b, err
	}
	r := codec.NewReader(raw)
	b.next, b.settled = r.Uvarint(), r.Uvarint()
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("record %s: %w", billsHead, err)
	}
	err = codec.Scan(db, billsKey, func(name string, r *codec.Reader) {
		id, ok := money.OrderIDFromKey(name)
		if !ok {
			r.Fail(fmt.Errorf("%q is not an order", name))
			return
		}
		x := readBill(id, r)
		b.byID[id], b.byHash[x.hash] = x, x
		b.queue = append(b.queue, x)
		if !x.paid {
			b.open++
		}
	})
	slices.SortFunc(b.queue, func(x, y *bill) int {
		if x.n < y.n {
			return -1
		}
		return 1
	})
	return b, err
}
