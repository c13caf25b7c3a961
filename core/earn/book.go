// Package earn decides what a machine delivers for what it has been paid, and
// remembers it: prices, orders, goods, exactly once.
//
// Money and wishes arrive by different ways and in either sequence. A Buy says
// what an order is for; a rail's outcome says that it was paid. When both are
// there and the money is enough, and not before, the device is told to deliver;
// what it delivered is on disk before it is sent, and sent until the buyer has
// it.
//
// Invariants, asserted at every step: nothing is delivered that is not paid; an
// order is delivered by the device once, and every repeat carries the same
// goods.
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
	// Keep is how many paid orders the book remembers. Those that are not
	// delivered go last.
	Keep = 8192

	retryAfter = 5 * step.Second
)

// Name is the book's name among a machine's cores.
const Name = trade.Seller

// Device is the outlet that Deliver goes to and Delivered comes from.
const Device = "device"

// Deliver tells the device to deliver an order. It is repeated after a crash,
// with the same order.
type Deliver struct {
	Order money.OrderID
	Item  string
	Units uint64
}

// Delivered is the device's answer. With an error the order stays owed and is
// tried again.
type Delivered struct {
	Order   money.OrderID
	Payload []byte
	Err     error
}

type orderState uint8

const (
	credit    orderState = iota // paid, and nobody has said for what
	owed                        // paid, and the device has been told
	delivered                   // the goods are on disk and on their way
	settled                     // the buyer has them
)

type order struct {
	id    money.OrderID
	n     uint64
	state orderState
	paid  money.Amount
	item  string
	units uint64
	buyer string
	goods []byte
	soft  bool // while credit: some of it is only promised
}

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
	quotes map[money.OrderID]quote
	asked  []money.OrderID // quotes by age

	claims    map[money.OrderID]string // whose a payment is
	creditors map[string]bool          // who has ever claimed one

	changed bool
}

type quote struct {
	trade.Buy
	buyer string
}

// NewBook returns an empty book that sells items. payTo is what its tariff
// says about how to pay.
func NewBook(items []trade.Item, payTo []string) *Book {
	return &Book{
		items: items, payTo: payTo, orders: map[money.OrderID]*order{}, quotes: map[money.OrderID]quote{},
		claims: map[money.OrderID]string{}, creditors: map[string]bool{},
	}
}

// Step is the whole till.
func (b *Book) Step(in step.Input) step.Effects {
	b.check()
	var fx step.Effects
	b.changed = false
	for _, event := range in.Events {
		switch ev := event.(type) {
		case step.Recv:
			b.recv(ev, &fx)
		case Delivered:
			b.filled(ev, in.At, &fx)
		case step.Linked:
			b.sendAgain(ev.Peer, &fx)
		case step.Unlinked:
		case step.Rang:
			b.deliverAgain(&fx)
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
		if p, ok := msg.Value.(receipt.Income); ok && msg.Err == nil {
			b.paid(ev.From, msg, p.Income(), fx)
		}
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
		o = &order{id: e.Order, n: b.next}
		b.next++
		b.count++
		b.orders[o.id] = o
		b.queue = append(b.queue, o)
	}
	o.paid += e.Amount
	o.soft = o.soft || b.creditors[from]
	if q, ok := b.quotes[o.id]; ok && o.state == credit {
		b.match(o, q, fx)
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

// buy takes a wish, or answers a repeated one.
func (b *Book) buy(from string, m trade.Buy, fx *step.Effects) {
	o := b.orders[m.Order]
	switch {
	case o == nil || o.state == credit:
		q := quote{m, from}
		b.remember(q)
		if o != nil {
			b.match(o, q, fx)
			fx.Put = append(fx.Put, o.record())
		} else if _, err := b.due(m); err != nil {
			b.decline(q, 0, err.Error(), fx)
		}
	case o.buyer == from && o.state == delivered:
		fx.Send = append(fx.Send, step.Packet{To: from, Msg: trade.Goods{Order: o.id, Payload: o.goods}})
	}
}

func (b *Book) remember(q quote) {
	if _, known := b.quotes[q.Order]; !known {
		if len(b.asked) >= MaxQuotes {
			delete(b.quotes, b.asked[0])
			b.asked = b.asked[1:]
		}
		b.asked = append(b.asked, q.Order)
	}
	b.quotes[q.Order] = q
}

// due is what a wish costs.
func (b *Book) due(m trade.Buy) (money.Amount, error) {
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
func (b *Book) match(o *order, q quote, fx *step.Effects) {
	due, err := b.due(q.Buy)
	switch {
	case err != nil:
		b.decline(q, 0, err.Error(), fx)
		return
	case o.paid < due:
		b.decline(q, due, "paid too little", fx)
		return
	}
	o.state, o.item, o.units, o.buyer = owed, q.Item, q.Units, q.buyer
	delete(b.quotes, o.id)
	fx.Send = append(fx.Send, step.Packet{To: Device, Msg: Deliver{o.id, o.item, o.units}})
}

func (b *Book) decline(q quote, due money.Amount, why string, fx *step.Effects) {
	fx.Send = append(fx.Send, step.Packet{To: q.buyer, Msg: trade.Decline{Order: q.Order, Due: due, Why: why}})
}

// filled puts the goods on disk and on their way. Only the first answer counts.
func (b *Book) filled(d Delivered, now step.Time, fx *step.Effects) {
	o := b.orders[d.Order]
	if o == nil || o.state != owed {
		return
	}
	if d.Err != nil {
		fx.Wake = append(fx.Wake, step.Alarm{ID: "deliver", At: now + retryAfter})
		return
	}
	o.state, o.goods = delivered, append([]byte{}, d.Payload...)
	b.delivered++
	b.units += o.units
	b.changed = true
	fx.Put = append(fx.Put, o.record())
	fx.Send = append(fx.Send, step.Packet{To: o.buyer, Msg: trade.Goods{Order: o.id, Payload: o.goods}})
	fx.Done = append(fx.Done, step.Outcome{ID: o.id.Key(), Value: d})
}

func (b *Book) got(from string, m trade.Got, fx *step.Effects) {
	if o := b.orders[m.Order]; o != nil && o.state == delivered && o.buyer == from {
		o.state, o.goods = settled, nil
		fx.Put = append(fx.Put, o.record())
	}
}

// deliverAgain tells the device of everything owed: after a start, because the
// first telling may be lost, and after a fault.
func (b *Book) deliverAgain(fx *step.Effects) {
	for _, o := range b.queue {
		if o.state == owed {
			fx.Send = append(fx.Send, step.Packet{To: Device, Msg: Deliver{o.id, o.item, o.units}})
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
	for n < excess && b.queue[n].state != owed {
		b.remove(b.queue[n], fx)
		n++
	}
	b.queue = b.queue[n:]
	if excess -= n; excess == 0 {
		return
	}
	kept := make([]*order, 0, len(b.queue))
	for i, o := range b.queue {
		if excess > 0 && (o.state != owed || len(b.queue)-i == excess) {
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
	fx.Put = append(fx.Put, step.Record{Key: orderKey(o.id)})
}

func (b *Book) check() {
	step.Assert(len(b.orders) == len(b.queue) && len(b.queue) <= Keep, "earn: %d orders, %d in the queue", len(b.orders), len(b.queue))
	step.Assert(len(b.asked) <= MaxQuotes, "earn: %d quotes", len(b.asked))
}

// Summary is what people ask of a till.
type Summary struct {
	Orders    uint64       `json:"orders"`
	Earned    money.Amount `json:"earned_msat"`
	Delivered uint64       `json:"delivered"`
	Units     uint64       `json:"delivered_units"`
	Owed      int          `json:"owed"`
}

// Summary reads the book.
func (b *Book) Summary() Summary {
	s := Summary{Orders: b.count, Earned: b.earned, Delivered: b.delivered, Units: b.units}
	for _, o := range b.queue {
		if o.state == owed {
			s.Owed++
		}
	}
	return s
}

// An Order is what people ask about one order.
type Order struct {
	ID    money.OrderID `json:"order"`
	State string        `json:"state"`
	Paid  money.Amount  `json:"paid_msat"`
	Item  string        `json:"item,omitempty"`
	Units uint64        `json:"units,omitempty"`
}

var stateNames = [...]string{"paid", "owed", "delivered", "settled"}

// Order reads one order; one that is not known is quoted, and not paid.
func (b *Book) Order(id money.OrderID) Order {
	o := b.orders[id]
	if o == nil {
		return Order{ID: id, State: "quoted"}
	}
	return Order{ID: id, State: stateNames[o.state], Paid: o.paid, Item: o.item, Units: o.units}
}

// Records.

func orderKey(id money.OrderID) string { return "earn/o/" + id.Key() }

// maxBuyer bounds the name of a buyer's link, in bytes.
const maxBuyer = 80

func (o *order) record() step.Record {
	b := codec.AppendUint(nil, o.n)
	b = append(b, byte(o.state))
	b = codec.AppendUint(b, o.paid)
	switch {
	case o.state == credit && o.soft:
		b = append(b, 1)
	case o.state != credit:
		b = codec.AppendBytes(b, o.item)
		b = codec.AppendUint(b, o.units)
		b = codec.AppendBytes(b, o.buyer)
		b = codec.AppendBytes(b, o.goods)
	}
	return step.Record{Key: orderKey(o.id), Value: b}
}

func (b *Book) head() step.Record {
	v := codec.AppendUint(nil, b.next)
	v = codec.AppendUint(v, b.earned)
	v = codec.AppendUint(v, b.count)
	v = codec.AppendUint(v, b.delivered)
	return step.Record{Key: "earn/head", Value: codec.AppendUint(v, b.units)}
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
		o := &order{id: id, n: r.Uvarint(), state: orderState(r.Int(int(settled), "state")), paid: r.Amount()}
		switch {
		case o.state == credit:
			o.soft = r.Len() > 0 && r.U8() == 1
		default:
			o.item, o.units, o.buyer = r.String(trade.MaxName, "item"), r.Uvarint(), r.String(maxBuyer, "buyer")
			o.goods = r.Bytes(trade.MaxPayload, "goods")
		}
		fault = r.Close()
		b.orders[id] = o
		b.queue = append(b.queue, o)
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
