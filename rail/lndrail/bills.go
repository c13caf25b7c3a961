package lndrail

import (
	"errors"
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

	// MaxHolds bounds the bills with Hold that are not at their end: lnd is listened
	// to about each.
	MaxHolds = 512

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
	invoice string // empty once it has ended
	expires step.Time
	hold    bool
	until   step.Time // of what lnd holds: when it gives it back
	state   billState
	n       uint64
}

// A billState is how far a bill is. Only one that is to be held can be in the last
// three.
type billState uint8

const (
	open     billState = iota
	paid               // at its end
	held               // lnd has the money, and the till is asked
	released           // the till has said yes, and lnd is told until it has settled
	returned           // at its end: cancelled by the till, or by lnd
)

func (x *bill) ended() bool { return x.state == paid || x.state == returned }

// bills is the book of them as a core. Invariants: an order has one hash and a
// hash one order; what lnd says is paid is an outcome once.
type bills struct {
	next    uint64
	settled uint64 // lnd's settle_index of the last payment that is filed
	open    int    // bills that have not ended
	holds   int    // those among them that are to be held
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
	// isAccepted files that lnd holds a payment, isCanceled that it has given it
	// back, or will never take it.
	isAccepted struct {
		hash  [32]byte
		until step.Time
	}
	isCanceled struct{ hash [32]byte }
	// answer carries what was asked; it is no payment that a till would count.
	answer struct{ *bill }
)

// A told is a packet to lnd: what the till has decided about a payment that lnd
// holds. It is repeated whenever lnd says that it still holds it.
type told struct {
	*bill
	settle bool
}

// toLnd is the outlet that takes told.
const toLnd = "lnd"

// waits is what the till hears of money that lnd holds.
type waits struct {
	entry receipt.Entry
	until step.Time
}

// Holding makes it a receipt.Held.
func (w waits) Holding() receipt.Entry { return w.entry }

// Until makes it a receipt.Held.
func (w waits) Until() step.Time { return w.until }

// heldID begins the ID of what is said about holding; the order follows.
const heldID = "held/"

var (
	errTill = errors.New("the till has cancelled it")
	errLnd  = errors.New("lnd has given it back")
)

func newBills() *bills {
	return &bills{byID: map[money.OrderID]*bill{}, byHash: map[[32]byte]*bill{}}
}

// Step files bills and payments.
func (b *bills) Step(in step.Input) (fx step.Effects) {
	step.Assert(b.open <= MaxBills && b.holds <= MaxHolds && len(b.byID) == len(b.byHash), "lnd: %d bills, %d hashes, %d open", len(b.byID), len(b.byHash), b.open)
	for _, event := range in.Events {
		switch ev := event.(type) {
		case findBill:
			fx.Done = append(fx.Done, step.Outcome{ID: ev.ask, Value: b.copy(ev.order)})
		case file:
			err := b.file(ev, in.At, &fx)
			fx.Done = append(fx.Done, step.Outcome{ID: ev.ask, Value: b.copy(ev.order), Err: err})
		case wasPaid:
			b.wasPaid(ev, &fx)
		case isAccepted:
			b.isAccepted(ev, &fx)
		case isCanceled:
			b.isCanceled(ev, &fx)
		case step.Recv:
			b.told(ev.Msg, &fx)
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
		if was.hash != ev.old || was.state != open {
			return nil // the one that is filed stays
		}
		b.remove(was, fx)
	}
	b.forget(now, fx)
	if b.open >= MaxBills {
		return fmt.Errorf("%d invoices wait for their payment already; the first expires at %d", MaxBills, b.queue[0].expires)
	}
	if ev.hold && b.holds >= MaxHolds {
		return fmt.Errorf("%d orders that are to be held wait for their end already", MaxHolds)
	}
	x := ev.bill
	x.n = b.next
	b.next++
	b.count(&x, 1)
	b.byID[x.order], b.byHash[x.hash] = &x, &x
	b.queue = append(b.queue, &x)
	fx.Put = append(fx.Put, b.head(), x.record())
	return nil
}

// count keeps the numbers of bills that have not ended.
func (b *bills) count(x *bill, by int) {
	b.open += by
	if x.hold {
		b.holds += by
	}
}

// end is the last state of a bill.
func (b *bills) end(x *bill, s billState, fx *step.Effects) {
	x.state, x.invoice = s, ""
	b.count(x, -1)
	fx.Put = append(fx.Put, x.record())
}

// isAccepted asks the till, or tells lnd what the till has said.
func (b *bills) isAccepted(ev isAccepted, fx *step.Effects) {
	x := b.byHash[ev.hash]
	if x == nil || !x.hold {
		return
	}
	switch x.state {
	case open:
		x.state, x.until = held, ev.until
		fx.Put = append(fx.Put, x.record())
		fallthrough
	case held:
		w := waits{receipt.Entry{Order: x.order, Amount: x.amount}, x.until}
		fx.Done = append(fx.Done, step.Outcome{ID: heldID + x.order.Key(), Value: w})
	case released, returned:
		b.tell(x, fx)
	}
}

// isCanceled is the end of what lnd held, or would have.
func (b *bills) isCanceled(ev isCanceled, fx *step.Effects) {
	x := b.byHash[ev.hash]
	if x == nil || !x.hold || x.state == paid {
		return
	}
	x.until = 0
	if x.state == returned {
		fx.Put = append(fx.Put, x.record())
		return
	}
	b.giveBack(x, errLnd, fx)
}

// tell sends lnd the till's word.
func (b *bills) tell(x *bill, fx *step.Effects) {
	c := *x
	fx.Send = append(fx.Send, step.Packet{To: toLnd, Msg: told{&c, x.state == released}})
}

// told takes the till's word.
func (b *bills) told(word any, fx *step.Effects) {
	switch m := word.(type) {
	case receipt.Release:
		if x := b.byID[m.Order]; x != nil && x.state == held {
			x.state = released
			fx.Put = append(fx.Put, x.record())
			b.tell(x, fx)
		}
	case receipt.Cancel:
		if x := b.byID[m.Order]; x != nil && x.state == held {
			b.giveBack(x, errTill, fx)
			b.tell(x, fx)
		}
	}
}

// giveBack ends a bill whose money is not taken. If nobody has paid it, nobody is
// told.
func (b *bills) giveBack(x *bill, why error, fx *step.Effects) {
	was := x.state
	b.end(x, returned, fx)
	if was == open {
		return
	}
	e := receipt.Entry{Order: x.order, Amount: x.amount}
	err := &money.Error{Kind: money.Unpaid, Op: "hold " + x.order.String(), Err: why}
	fx.Done = append(fx.Done, step.Outcome{ID: heldID + x.order.Key(), Value: receipt.Returned{Entry: e}, Err: err})
}

func (b *bills) wasPaid(ev wasPaid, fx *step.Effects) {
	x := b.byHash[ev.hash]
	ours := x != nil && !x.ended()
	if ev.index > b.settled {
		b.settled = ev.index
		head := b.head()
		head.Lazy = !ours // lnd tells again of what was not ours
		fx.Put = append(fx.Put, head)
	}
	if !ours {
		return
	}
	b.end(x, paid, fx)
	entries := []receipt.Entry{{Order: x.order, Amount: ev.amount}}
	fx.Done = append(fx.Done, step.Outcome{ID: newPayment, Value: receipt.Paid{Batch: &receipt.Batch{Entries: entries}}})
}

// newPayment is the ID of the outcomes that the till files.
const newPayment = "new"

// forget drops what cannot be paid any more, and the oldest bills beyond KeepBills
// that have ended.
func (b *bills) forget(now step.Time, fx *step.Effects) {
	ended := len(b.byID) - b.open
	if len(b.queue) < MaxBills && ended <= KeepBills {
		return
	}
	kept := b.queue[:0:0]
	for _, x := range b.queue {
		switch {
		case b.byHash[x.hash] != x: // gave way
			continue
		case x.ended() && ended > KeepBills:
			ended--
			b.remove(x, fx)
			continue
		case x.state == open && now > x.expires+grace:
			b.remove(x, fx)
			continue
		}
		kept = append(kept, x)
	}
	b.queue = kept
}

func (b *bills) remove(x *bill, fx *step.Effects) {
	if !x.ended() {
		b.count(x, -1)
	}
	delete(b.byID, x.order)
	delete(b.byHash, x.hash)
	fx.Put = append(fx.Put, step.Record{Key: x.key()})
}

// waiting is the hashes about which lnd has not had its last word: of bills that
// are to be held, or of the others.
func (b *bills) waiting(hold bool) (all [][32]byte) {
	for _, x := range b.queue {
		if b.byHash[x.hash] == x && x.hold == hold && (!x.ended() || x.state == returned && x.until > 0) {
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
	b = append(b, byte(x.state))
	if x.hold {
		b = codec.AppendUint(b, int64(x.until))
	}
	return step.Record{Key: x.key(), Value: b}
}

func readBill(id money.OrderID, r *codec.Reader) *bill {
	x := &bill{order: id, n: r.Uvarint(), amount: r.Amount(), asker: r.String(maxAsker, "asker")}
	r.Fill(x.hash[:])
	x.expires = step.Time(r.Uvarint())
	x.invoice = r.String(billing.MaxInvoice, "invoice")
	x.state = billState(r.Int(int(returned), "state"))
	if x.hold = r.Len() > 0; x.hold {
		x.until = step.Time(r.Uvarint())
	}
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
		if !x.ended() {
			b.count(x, 1)
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
