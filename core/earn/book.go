// Package earn decides what a machine delivers for what it has been paid, and
// remembers it: prices, orders, goods, exactly once.
//
// Money and wishes arrive by different ways and in either sequence. A Buy, from
// another machine, or a Sell, from a door of the gateway, says what an order is
// for; a rail's outcome says that it was paid, or that the money is held. When
// both are there and the money is enough, and not before, the device is told to
// deliver; what it delivered is on disk before it is sent, and sent until the
// buyer has it. What is not delivered in time is given back (sale.go).
//
// Invariants, asserted at every step: nothing is delivered that is not paid; an
// order is delivered by the device once, and every repeat carries the same
// goods; what is given back was paid, and is given back once.
package earn

import (
	"fmt"
	"slices"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
)

const (
	// MaxQuotes bounds wishes that are not paid. They live in memory only, so a
	// stranger cannot fill the disk; the oldest one gives way.
	MaxQuotes = 4096
	// Keep is how many paid orders the book remembers. Those that somebody waits
	// for go last.
	Keep = 32_768

	retryAfter = 5 * step.Second
)

// Name is the book's name among a machine's cores.
const Name = trade.Seller

// Book is the earning core.
type Book struct {
	items []trade.Item
	payTo []string

	next      uint64
	earned    money.Amount // ever
	count     uint64       // orders paid, ever
	units     uint64       // units delivered, ever
	delivered uint64       // orders delivered, ever

	orders map[money.OrderID]*order
	queue  []*order
	wishes map[money.OrderID]wish
	asked  []money.OrderID // wishes by age

	claims    map[money.OrderID]string // whose a payment is
	creditors map[string]bool          // who has ever claimed one

	// Journal makes the book tell the journal (core/journal) of every change.
	Journal bool

	back  money.Amount    // given back, ever
	open  map[*order]bool // sales that wait for a device, a rail or a refund
	goods int             // bytes of goods that are kept for doors
	news  map[*order]bool // payments that the journal has not been told of

	deadline step.Time // that the book is woken by; 0 for none

	now     step.Time // of this step
	changed bool
}

// A wish is what an unpaid order is for.
type wish struct {
	trade.Buy
	buyer string
	sale  *Sell // of a door; nil for another machine
}

// NewBook returns an empty book that sells items. payTo is what its tariff
// says about how to pay.
func NewBook(items []trade.Item, payTo []string) *Book {
	return &Book{
		items: items, payTo: payTo, orders: map[money.OrderID]*order{}, wishes: map[money.OrderID]wish{},
		claims: map[money.OrderID]string{}, creditors: map[string]bool{},
		open: map[*order]bool{}, news: map[*order]bool{},
	}
}

// Step is the whole till.
func (b *Book) Step(in step.Input) step.Effects {
	b.check()
	var fx step.Effects
	b.changed, b.now = false, in.At
	for _, event := range in.Events {
		switch ev := event.(type) {
		case step.Recv:
			b.recv(ev, &fx)
		case Delivered:
			b.filled(ev, &fx)
		case Sell:
			b.sell(ev, &fx)
		case GiveBack:
			b.ownerGivesBack(ev, &fx)
		case Refunded:
			b.refunded(ev, &fx)
		case Got:
			b.doorGot(ev.Order, &fx)
		case Reprice:
			b.items = ev.Items
		case step.Linked:
			b.sendAgain(ev.Peer, &fx)
		case step.Unlinked:
		case step.Rang:
			b.rang(ev.ID, &fx)
		default:
			panic(fmt.Sprintf("earn: the book cannot handle %T", event))
		}
	}
	b.forget(&fx)
	if b.changed {
		fx.Put = append(fx.Put, b.head())
	}
	return fx
}

func (b *Book) recv(ev step.Recv, fx *step.Effects) {
	switch msg := ev.Msg.(type) {
	case step.Outcome:
		switch v := msg.Value.(type) {
		case receipt.Held:
			if msg.Err == nil {
				b.hold(ev.From, v, fx)
			}
		case receipt.Returned:
			b.returned(v.Entry.Order, msg.Err, fx)
		case receipt.Income:
			if msg.Err == nil {
				b.paid(ev.From, msg, v.Income(), fx)
			}
		}
	case Delivered: // by a core of this machine
		b.filled(msg, fx)
	case trade.Claim:
		b.claim(ev.From, msg.Order, fx)
	case trade.Browse:
		fx.Send = append(fx.Send, step.Packet{To: ev.From, Msg: trade.Tariff{Items: b.items, PayTo: b.payTo}})
	case trade.Buy:
		b.buy(ev.From, msg, fx)
	case trade.Got:
		b.got(ev.From, msg, fx)
	}
}

// paid files money. A second payment of one order adds to it. Money that is
// claimed goes to its owner instead, unless it is itself a promise: two channels
// of promises that settle each other would never be paid.
func (b *Book) paid(from string, out step.Outcome, e receipt.Entry, fx *step.Effects) {
	if owner, claimed := b.claims[e.Order]; claimed && !b.creditors[from] {
		delete(b.claims, e.Order)
		b.handOver(owner, out, fx)
		return
	}
	b.earned += e.Amount
	b.changed = true
	o := b.orders[e.Order]
	if o == nil {
		o = b.add(e.Order)
	}
	switch w, wished := b.wishes[o.id]; {
	case o.state == delivered && o.rail == from:
		o.paid, o.rail = e.Amount, "" // what was held is taken
		b.settle(o, fx)
		return
	case o.state == failed && o.rail == from:
		o.paid, o.rail = e.Amount, "" // and was to go back
		b.giveBack(o, fx)
	case o.state == held && o.rail != from && e.Amount >= o.sale.Quote.Due:
		b.paidAfterAll(o, e.Amount, fx)
	case o.rail != "" || o.state == failed || o.state == refunded:
		b.paidBeside(o, e.Amount, fx)
	default:
		o.paid += e.Amount
		o.soft = o.soft || b.creditors[from]
		switch {
		case wished && o.state == credit:
			b.match(o, w, fx)
		case o.tab() && o.state != owed:
			fx.Send = append(fx.Send, step.Packet{To: Tab, Msg: Credit{o.id, e.Amount}})
			b.isNews(o, fx)
		case o.state == settled:
			b.isNews(o, fx)
		}
	}
	b.write(o, fx)
}

// add opens an order's page.
func (b *Book) add(id money.OrderID) *order {
	o := &order{id: id, n: b.next}
	b.next++
	b.count++
	b.changed = true
	b.orders[id] = o
	b.queue = append(b.queue, o)
	return o
}

// write puts an order on disk.
func (b *Book) write(o *order, fx *step.Effects) {
	if o.sale != nil {
		o.at, o.why = b.now, o.why[:min(len(o.why), maxWhy)]
	}
	fx.Put = append(fx.Put, o.record())
}

// claim takes note that an order's money is not the till's to earn, and hands
// it over if it is there already: a claim lives in memory, and after a restart
// the money may be quicker.
func (b *Book) claim(from string, id money.OrderID, fx *step.Effects) {
	b.creditors[from] = true
	o := b.orders[id]
	if o == nil || o.state != credit || o.soft {
		b.claims[id] = from
		return
	}
	b.earned -= o.paid
	b.count--
	b.changed = true
	b.queue = slices.DeleteFunc(b.queue, func(x *order) bool { return x == o })
	b.remove(o, fx)
	batch := &receipt.Batch{Entries: []receipt.Entry{{Order: id, Amount: o.paid}}}
	b.handOver(from, step.Outcome{ID: id.Key(), Value: receipt.Paid{Batch: batch}}, fx)
}

func (b *Book) handOver(to string, paid step.Outcome, fx *step.Effects) {
	fx.Send = append(fx.Send, step.Packet{To: to, Msg: paid})
}

// buy takes a wish of another machine, or answers a repeated one.
func (b *Book) buy(from string, m trade.Buy, fx *step.Effects) {
	o := b.orders[m.Order]
	switch {
	case o == nil || o.state == credit:
		w := wish{m, from, nil}
		b.remember(w)
		if o != nil {
			b.match(o, w, fx)
			b.write(o, fx)
		} else if _, err := b.due(w); err != nil {
			b.decline(w, 0, err.Error(), fx)
		}
	case o.buyer == from && o.state == delivered:
		fx.Send = append(fx.Send, step.Packet{To: from, Msg: trade.Goods{Order: o.id, Payload: o.goods}})
	}
}

func (b *Book) remember(w wish) {
	if _, known := b.wishes[w.Order]; !known {
		if len(b.asked) >= MaxQuotes {
			delete(b.wishes, b.asked[0])
			b.asked = b.asked[1:]
		}
		b.asked = append(b.asked, w.Order)
	}
	b.wishes[w.Order] = w
}

func (b *Book) unwish(id money.OrderID) { delete(b.wishes, id) }

// due is what a wish costs.
func (b *Book) due(m wish) (money.Amount, error) {
	if m.sale != nil {
		return m.sale.Quote.Due, nil
	}
	for _, it := range b.items {
		if it.Name != m.Item {
			continue
		}
		due, ok := it.Price.Times(m.Units)
		if !ok || m.Units == 0 {
			return 0, fmt.Errorf("%d units cannot be sold at once", m.Units)
		}
		return due, nil
	}
	return 0, fmt.Errorf("%q is not for sale", m.Item)
}

// match lets the device deliver if what was paid is enough for what is wished.
func (b *Book) match(o *order, w wish, fx *step.Effects) {
	due, err := b.due(w)
	switch {
	case err != nil:
		b.decline(w, 0, err.Error(), fx)
	case o.paid < due:
		b.decline(w, due, "paid too little", fx)
	case w.sale != nil && b.now > w.sale.Quote.Until+lateClaim:
		o.item, o.units, o.buyer, o.sale = w.Item, w.Units, w.buyer, w.sale
		b.unwish(o.id)
		b.open[o] = true
		b.fail(o, "claimed too long after its quote had ended", fx)
	default:
		b.begin(o, w, fx)
	}
}

func (b *Book) decline(w wish, due money.Amount, why string, fx *step.Effects) {
	if w.sale == nil {
		fx.Send = append(fx.Send, step.Packet{To: w.buyer, Msg: trade.Decline{Order: w.Order, Due: due, Why: why}})
	}
}

// filled puts the goods on disk and on their way. Only the first answer counts.
func (b *Book) filled(d Delivered, fx *step.Effects) {
	o := b.orders[d.Order]
	switch {
	case o == nil || o.state != owed && o.state != held:
	case o.sale != nil:
		b.sold(o, d, fx)
	case d.Err != nil:
		fx.Wake = append(fx.Wake, step.Alarm{ID: "deliver", At: b.now + retryAfter})
	default:
		o.state, o.goods = delivered, append([]byte{}, d.Payload...)
		b.deliveredOne(o)
		b.write(o, fx)
		fx.Send = append(fx.Send, step.Packet{To: o.buyer, Msg: trade.Goods{Order: o.id, Payload: o.goods}})
		fx.Done = append(fx.Done, step.Outcome{ID: o.id.Key(), Value: d})
	}
}

func (b *Book) deliveredOne(o *order) {
	b.delivered++
	b.units += o.units
	b.changed = true
}

func (b *Book) got(from string, m trade.Got, fx *step.Effects) {
	if o := b.orders[m.Order]; o != nil && o.state == delivered && o.buyer == from {
		o.state, o.goods = settled, nil
		b.write(o, fx)
	}
}

// doorGot drops the goods of a door's order: its buyer has them.
func (b *Book) doorGot(id money.OrderID, fx *step.Effects) {
	if o := b.orders[id]; o != nil && o.sale != nil && o.state == settled && len(o.goods) > 0 {
		b.goods -= len(o.goods)
		o.goods = nil
		b.write(o, fx)
	}
}

func (b *Book) rang(id string, fx *step.Effects) {
	switch id {
	case "deadline":
		b.overdue(fx)
	case "quotes":
		b.dropQuotes()
	case "news":
		b.tellNews(fx)
	case "refunds":
		b.again(true, fx)
	case step.Start:
		b.tellNews(fx)
		b.again(false, fx)
		b.overdue(fx)
		b.deliverAgain(fx)
	default:
		b.deliverAgain(fx)
	}
}

// deliverAgain tells the device of everything owed: after a start, because the
// first telling may be lost, and after a fault.
func (b *Book) deliverAgain(fx *step.Effects) {
	for _, o := range b.queue {
		if o.state == owed || o.state == held {
			b.deliver(o, fx)
		}
	}
}

func (b *Book) sendAgain(buyer string, fx *step.Effects) {
	for _, o := range b.queue {
		if o.state == delivered && o.buyer == buyer {
			fx.Send = append(fx.Send, step.Packet{To: buyer, Msg: trade.Goods{Order: o.id, Payload: o.goods}})
		}
	}
}

// forget drops the oldest orders beyond Keep, those that nobody waits for
// first.
func (b *Book) forget(fx *step.Effects) {
	excess := len(b.queue) - Keep
	if excess <= 0 {
		return
	}
	// A run of finished orders at the front, which is the rule, costs no copy.
	n := 0
	for n < excess && !b.queue[n].waited() {
		b.remove(b.queue[n], fx)
		n++
	}
	b.queue = b.queue[n:]
	if excess -= n; excess == 0 {
		return
	}
	kept := make([]*order, 0, len(b.queue))
	for i, o := range b.queue {
		if excess > 0 && (!o.waited() || len(b.queue)-i == excess) {
			b.remove(o, fx)
			excess--
			continue
		}
		kept = append(kept, o)
	}
	b.queue = kept
}

func (b *Book) remove(o *order, fx *step.Effects) {
	delete(b.orders, o.id)
	delete(b.open, o)
	delete(b.news, o)
	if o.sale != nil && o.state == settled {
		b.goods -= len(o.goods)
	}
	fx.Put = append(fx.Put, step.Record{Key: orderKey(o.id)})
}

func (b *Book) check() {
	step.Assert(len(b.orders) == len(b.queue) && len(b.queue) <= Keep, "earn: %d orders, %d in the queue", len(b.orders), len(b.queue))
	step.Assert(b.back <= b.earned, "earn: %v given back of %v", b.back, b.earned)
	step.Assert(len(b.asked) <= MaxQuotes, "earn: %d quotes", len(b.asked))
}

// Summary is what people ask of a till.
type Summary struct {
	Orders    uint64       `json:"orders"`
	Earned    money.Amount `json:"earned_msat"`
	Delivered uint64       `json:"delivered"`
	Units     uint64       `json:"delivered_units"`
	Owed      int          `json:"owed"`
	Back      money.Amount `json:"refunded_msat,omitempty"`
}

// Summary reads the book.
func (b *Book) Summary() Summary {
	s := Summary{Orders: b.count, Earned: b.earned, Delivered: b.delivered, Units: b.units, Back: b.back}
	for _, o := range b.queue {
		if o.state == owed || o.state == held {
			s.Owed++
		}
	}
	return s
}

func (b *Book) head() step.Record {
	v := codec.AppendUint(nil, b.next)
	v = codec.AppendUint(v, b.earned)
	v = codec.AppendUint(v, b.count)
	v = codec.AppendUint(v, b.delivered)
	v = codec.AppendUint(v, b.units)
	if b.back > 0 {
		v = codec.AppendUint(v, b.back)
	}
	return step.Record{Key: "earn/head", Value: v}
}

// Durable is everything the book has on disk, for whoever wants to check it.
func (b *Book) Durable() []step.Record {
	all := []step.Record{}
	if b.next > 0 {
		all = append(all, b.head())
	}
	for _, o := range b.queue {
		all = append(all, o.record())
	}
	slices.SortFunc(all, func(a, b step.Record) int { return strings.Compare(a.Key, b.Key) })
	return all
}

// Load reads a book back.
func Load(db step.Reader, items []trade.Item, payTo []string) (*Book, error) {
	b := NewBook(items, payTo)
	raw, err := db.Get("earn/head")
	if err != nil || raw == nil {
		return b, err
	}
	r := codec.NewReader(raw)
	b.next, b.earned, b.count, b.delivered, b.units = r.Uvarint(), r.Amount(), r.Uvarint(), r.Uvarint(), r.Uvarint()
	if r.Len() > 0 {
		b.back = r.Amount()
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("record earn/head: %w", err)
	}
	var fault error
	err = db.Scan("earn/o/", func(key string, value []byte) bool {
		id, ok := money.OrderIDFromKey(strings.TrimPrefix(key, "earn/o/"))
		if !ok {
			fault = fmt.Errorf("key %q is not an order's", key)
			return false
		}
		r := codec.NewReader(value)
		o := readOrder(id, r)
		fault = r.Close()
		b.orders[id] = o
		b.queue = append(b.queue, o)
		if o.sale != nil && o.waited() {
			b.open[o] = true
		}
		if o.sale != nil && o.state == settled {
			b.goods += len(o.goods)
		}
		if o.news {
			b.news[o] = true
		}
		return fault == nil
	})
	if fault != nil {
		return nil, fmt.Errorf("records earn/: %w", fault)
	}
	slices.SortFunc(b.queue, func(x, y *order) int {
		if x.n < y.n {
			return -1
		}
		return 1
	})
	return b, err
}
