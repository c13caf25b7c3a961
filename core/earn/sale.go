package earn

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"coinop.dev/core/journal"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
)

// A Sell is a door's order at a price that it has quoted: the same wish as a
// trade.Buy, of somebody who has no link to this machine, with what is to happen
// if it is not delivered. Told again, it changes nothing.
type Sell struct {
	Quote  offer.Quote
	Buyer  string // who buys, for the books: "http", "mqtt/NAME"
	To     string // the outlet or core that delivers: Device, Fleet, Tab
	Device string // which one of the fleet, if it is the fleet
	Within step.Time
	Hold   bool   // take held money only when it is delivered
	Test   bool   // nobody pays, and the books say so
	Refund string // payment URI that money goes back to; empty for credit
}

// The names of those who deliver.
const (
	Device = "device" // the outlet of what is built in
	Fleet  = "fleet"
	Tab    = "tab"
	// Refunds is the outlet that takes a Refund.
	Refunds = "refund"
)

// A Credit goes to the tab core: money that is owed back to who holds an order.
type Credit struct {
	Order  money.OrderID
	Amount money.Amount
}

// A Refund asks the outlet Refunds to pay money back, once. It is asked again
// after a crash and answers with Refunded.
type Refund struct {
	Order  money.OrderID
	Nth    uint64 // which one of the order: 0 its own, from 1 the tries of its session
	To     string
	Amount money.Amount
}

// Refunded answers a Refund. An error of kind Pending leaves it open; any other
// one means that this way is closed, and the money becomes credit.
type Refunded struct {
	Order money.OrderID
	Nth   uint64 // of the Refund; 0 is any
	Err   error
}

// GiveBack is the owner's wish: whatever has become of an order, its money goes
// back to To, or is credit.
type GiveBack struct {
	Order money.OrderID
	To    string
}

// A Withdraw tells the fleet that an order will not be wanted any more, before its
// time: what has not been begun is not begun.
type Withdraw struct{ Order money.OrderID }

// Got says that the buyer at a door has the goods: nobody asks for them again.
type Got struct{ Order money.OrderID }

// Reprice changes what the tariff says from now on.
type Reprice struct{ Items []trade.Item }

const (
	// askAgain is how often a refund is asked for again.
	askAgain = 30 * step.Second
	// newsAfter is how long the journal may not know of a payment that adds to one
	// it has been told of: a stream of coins is not a stream of events.
	newsAfter = 60 * step.Second
	// lateClaim is how long after its quote has ended an order may still be claimed
	// at the quoted price. It is paid by then: money that comes later goes back.
	lateClaim = step.Hour
	// MaxGoods bounds the goods, in bytes, that are kept for buyers at doors to ask
	// for again; the oldest go first.
	MaxGoods = 16 << 20
)

// sell takes a door's wish. It lives in memory until it is paid.
func (b *Book) sell(s Sell, fx *step.Effects) {
	id := s.Quote.Order
	w := wish{trade.Buy{Order: id, Item: s.Quote.Service, Units: s.Quote.Units}, s.Buyer, &s}
	o := b.orders[id]
	switch {
	case o == nil && s.Quote.Due == 0:
		b.begin(b.add(id), w, fx)
	case o == nil:
		b.remember(w)
		if s.Hold {
			fx.Wake = append(fx.Wake, step.Alarm{ID: "quotes", At: s.Quote.Until + lateClaim + 1})
		}
	case o.state == credit:
		b.remember(w)
		b.match(o, w, fx)
	}
	fx.Done = append(fx.Done, step.Outcome{ID: SellID(id), Value: b.Order(id)})
}

// SellID is the ID of the outcome that says how an order stands, which every Sell
// has.
func SellID(id money.OrderID) string { return "sell/" + id.Key() }

// begin tells whoever delivers, and is the one way there.
func (b *Book) begin(o *order, w wish, fx *step.Effects) {
	o.item, o.units, o.buyer, o.sale = w.Item, w.Units, w.buyer, w.sale
	if o.state != held {
		o.state = owed
	}
	b.unwish(o.id)
	if o.sale != nil {
		b.open[o] = true
		if o.sale.Within > 0 {
			o.until = b.now + o.sale.Within
			b.wakeBy(o.until, fx)
		}
		b.note(o, journal.OrderPaid, fx)
	}
	b.write(o, fx)
	b.deliver(o, fx)
	b.tell(o, fx)
}

func (b *Book) deliver(o *order, fx *step.Effects) {
	d, to := Deliver{Order: o.id, Item: o.item, Units: o.units, Until: o.until}, Device
	if s := o.sale; s != nil {
		to, d.Device, d.Test = s.To, s.Device, s.Test
	}
	if to == Tab {
		d.Paid = o.paid
	}
	fx.Send = append(fx.Send, step.Packet{To: to, Msg: d})
}

// hold takes note of money that a rail keeps for the order until it is delivered.
// Only a door's order that asks for it is worth holding money for.
func (b *Book) hold(from string, h receipt.Held, fx *step.Effects) {
	e := h.Holding()
	o, w := b.orders[e.Order], b.wishes[e.Order]
	switch {
	case o != nil && o.state == held && o.rail == from:
		return // told again after a restart
	case o != nil || w.sale == nil || !w.sale.Hold || e.Amount < w.sale.Quote.Due || b.now > w.sale.Quote.Until+lateClaim ||
		w.sale.Within > 0 && b.now+w.sale.Within > h.Until():
		fx.Send = append(fx.Send, step.Packet{To: from, Msg: receipt.Cancel{Order: e.Order}})
		return
	}
	o = b.add(e.Order)
	o.state, o.paid, o.rail = held, e.Amount, from
	if until := h.Until(); w.sale.Within == 0 {
		w.sale.Within = max(until-b.now, 1)
	}
	b.begin(o, w, fx)
}

// returned says that held money has gone back to its payer, whoever wanted that.
func (b *Book) returned(id money.OrderID, why error, fx *step.Effects) {
	o := b.orders[id]
	if o == nil || o.rail == "" || o.state == settled || o.state == refunded {
		return
	}
	if o.state == delivered {
		// It has been delivered, and not paid: the owner's loss, and it must show.
		o.state, o.why = failed, fmt.Sprintf("delivered, and the held money went back: %v", why)
	} else {
		o.state, o.how = refunded, "never taken"
		if o.why == "" && why != nil {
			o.why = why.Error()
		}
	}
	b.end(o, fx)
}

// fail ends an order that is not delivered and gives its money back.
func (b *Book) fail(o *order, why string, fx *step.Effects) {
	o.state, o.why = failed, why
	b.note(o, journal.OrderFailed, fx)
	if strings.HasPrefix(o.buyer, "peer/") {
		b.decline(wish{Buy: trade.Buy{Order: o.id}, buyer: o.buyer}, 0, why, fx)
	}
	b.giveBack(o, fx)
	b.write(o, fx)
	b.tell(o, fx)
}

// giveBack gives the money of a failed order back. It is done again at a start.
func (b *Book) giveBack(o *order, fx *step.Effects) {
	switch {
	case o.rail != "":
		fx.Send = append(fx.Send, step.Packet{To: o.rail, Msg: receipt.Cancel{Order: o.id}})
	case o.sale != nil && o.sale.Refund != "" && o.paid > 0:
		fx.Send = append(fx.Send, step.Packet{To: Refunds, Msg: Refund{Order: o.id, To: o.sale.Refund, Amount: o.paid}})
		fx.Wake = append(fx.Wake, step.Alarm{ID: "refunds", At: b.now + askAgain})
	default:
		b.credit(o, fx)
	}
}

const howCredit = "credit"

// credit lets whoever proves the order spend its money on something else here.
func (b *Book) credit(o *order, fx *step.Effects) {
	o.state, o.how = refunded, howCredit
	if o.paid > 0 {
		fx.Send = append(fx.Send, step.Packet{To: Tab, Msg: Credit{o.id, o.paid}})
	}
	b.returnedMoney(o)
	b.end(o, fx)
}

func (b *Book) returnedMoney(o *order) {
	b.back += o.paid
	b.changed = true
}

// refunded takes the answer of the outlet Refunds.
func (b *Book) refunded(r Refunded, fx *step.Effects) {
	o := b.orders[r.Order]
	if o == nil || o.state != failed || o.sale == nil || o.rail != "" {
		return
	}
	switch {
	case r.Err == nil:
		o.state, o.how = refunded, o.sale.Refund
		b.returnedMoney(o)
		b.end(o, fx)
	case money.KindOf(r.Err) != money.Pending:
		o.why += "; it could not be paid back: " + r.Err.Error()
		b.credit(o, fx)
	}
}

// ownerGivesBack obeys a GiveBack.
func (b *Book) ownerGivesBack(g GiveBack, fx *step.Effects) {
	o := b.orders[g.Order]
	var err error
	switch {
	case o == nil:
		err = fmt.Errorf("order %v is not in the book: it is not paid, or long settled", g.Order)
	case o.state == refunded:
		err = fmt.Errorf("order %v has been given back already: %s", g.Order, o.how)
	case o.state == failed:
		err = fmt.Errorf("order %v is being given back already", g.Order)
	case o.tab():
		err = fmt.Errorf("order %v is a prepaid balance: pay out what is left of it", g.Order)
	case o.state == delivered && o.rail != "":
		err = fmt.Errorf("order %v is being settled by %s: ask again when it is", g.Order, o.rail)
	case o.state == held:
		b.fail(o, "the owner gave it back", fx)
		return
	default:
		if o.sale == nil {
			o.sale = &Sell{Buyer: o.buyer, To: Device}
		}
		o.sale.Refund, o.rail = g.To, ""
		b.open[o] = true
		b.fail(o, "the owner gave it back", fx)
		return
	}
	fx.Done = append(fx.Done, step.Outcome{ID: g.Order.Key(), Err: &money.Error{Kind: money.Refused, Op: "refund", Err: err}})
}

// end files an order of which nothing is expected any more.
func (b *Book) end(o *order, fx *step.Effects) {
	delete(b.open, o)
	if o.sale != nil && o.sale.To == Fleet && o.state != settled {
		fx.Send = append(fx.Send, step.Packet{To: Fleet, Msg: Withdraw{o.id}})
	}
	switch o.state {
	case settled:
		b.note(o, journal.OrderSettled, fx)
	case refunded:
		b.note(o, journal.OrderRefunded, fx)
	case failed:
		b.note(o, journal.OrderFailed, fx)
	}
	b.write(o, fx)
	b.tell(o, fx)
}

// sold is filled for a door's order.
func (b *Book) sold(o *order, d Delivered, fx *step.Effects) {
	if d.Err != nil {
		if kind := money.KindOf(d.Err); kind == money.Refused || kind == money.Invalid {
			b.fail(o, d.Err.Error(), fx) // it says that it never will
			return
		}
		o.why = d.Err.Error()
		b.write(o, fx)
		fx.Wake = append(fx.Wake, step.Alarm{ID: "deliver", At: b.now + retryAfter})
		return
	}
	o.goods, o.ack, o.why = append([]byte{}, d.Payload...), slices.Clone(d.Ack), ""
	o.state = delivered
	b.deliveredOne(o)
	b.note(o, journal.OrderDelivered, fx)
	if o.rail != "" {
		fx.Send = append(fx.Send, step.Packet{To: o.rail, Msg: receipt.Release{Order: o.id}})
		b.write(o, fx)
		b.tell(o, fx)
		return
	}
	b.settle(o, fx)
}

// settle ends a delivered order. Its goods stay for who asks again.
func (b *Book) settle(o *order, fx *step.Effects) {
	o.state = settled
	b.keepGoods(o, fx)
	b.end(o, fx)
}

// keepGoods makes room for an order's goods by dropping the oldest settled ones.
func (b *Book) keepGoods(o *order, fx *step.Effects) {
	b.goods += len(o.goods)
	for _, old := range b.queue {
		if b.goods <= MaxGoods {
			return
		}
		if old != o {
			b.doorGot(old.id, fx)
		}
	}
}

// overdue gives back what was not delivered in time.
func (b *Book) overdue(fx *step.Effects) {
	for _, o := range b.opened() {
		if (o.state == owed || o.state == held) && o.until != 0 && o.until <= b.now {
			why := fmt.Sprintf("not acknowledged within %d s", o.sale.Within/step.Second)
			if o.why != "" {
				why += ": " + o.why
			}
			b.fail(o, why, fx)
		}
	}
	var first step.Time // the map has no order, so that only the earliest may be seen
	for o := range b.open {
		if (o.state == owed || o.state == held) && o.until != 0 && (first == 0 || o.until < first) {
			first = o.until
		}
	}
	if b.deadline = 0; first != 0 {
		b.wakeBy(first, fx)
	}
}

// wakeBy has the book woken at the latest then. An alarm that rings early finds
// nothing overdue and sets the next one.
func (b *Book) wakeBy(at step.Time, fx *step.Effects) {
	if b.deadline == 0 || at < b.deadline {
		b.deadline = at
		fx.Wake = append(fx.Wake, step.Alarm{ID: "deadline", At: at})
	}
}

// opened lists the open sales in the order they were paid.
func (b *Book) opened() []*order {
	list := make([]*order, 0, len(b.open))
	for o := range b.open {
		list = append(list, o)
	}
	slices.SortFunc(list, func(x, y *order) int { return int(int64(x.n) - int64(y.n)) })
	return list
}

// again does what may have been lost with a crash: deliveries, refunds, words to
// rails.
func (b *Book) again(refunds bool, fx *step.Effects) {
	for _, o := range b.opened() {
		switch {
		case o.state == failed:
			b.giveBack(o, fx)
		case refunds:
		case o.state == delivered && o.rail != "":
			fx.Send = append(fx.Send, step.Packet{To: o.rail, Msg: receipt.Release{Order: o.id}})
		}
	}
}

// dropQuotes forgets held-for quotes that have ended, so that money which comes
// for them goes back.
func (b *Book) dropQuotes() {
	b.asked = slices.DeleteFunc(b.asked, func(id money.OrderID) bool {
		w := b.wishes[id]
		gone := w.sale != nil && w.sale.Hold && b.now > w.sale.Quote.Until+lateClaim
		if gone {
			delete(b.wishes, id)
		}
		return gone
	})
}

// paidAfterAll takes money for an order whose money another rail holds: that goes
// back.
func (b *Book) paidAfterAll(o *order, amount money.Amount, fx *step.Effects) {
	fx.Send = append(fx.Send, step.Packet{To: o.rail, Msg: receipt.Cancel{Order: o.id}})
	o.state, o.paid, o.rail = owed, amount, ""
	b.note(o, journal.OrderPaid, fx)
	b.tell(o, fx)
}

// paidBeside takes money for an order whose own is on its way back, or is held: it
// is credit, because the way that is taken already is of another amount.
func (b *Book) paidBeside(o *order, amount money.Amount, fx *step.Effects) {
	o.beside += amount
	b.back += amount
	fx.Send = append(fx.Send, step.Packet{To: Tab, Msg: Credit{o.id, amount}})
	b.isNews(o, fx)
	b.tell(o, fx)
}

// isNews has the journal told soon of money that came for an order which it thinks
// it knows. The order is written in this step.
func (b *Book) isNews(o *order, fx *step.Effects) {
	if o.sale == nil {
		return
	}
	if len(b.news) == 0 {
		fx.Wake = append(fx.Wake, step.Alarm{ID: "news", At: b.now + newsAfter})
	}
	b.news[o], o.news = true, true
}

func (b *Book) tellNews(fx *step.Effects) {
	for _, o := range b.queue {
		if o.news {
			o.news = false
			b.note(o, journal.OrderPaid, fx)
			fx.Put = append(fx.Put, o.record())
		}
	}
	clear(b.news)
}

// note tells the journal, if somebody keeps books of this machine.
func (b *Book) note(o *order, typ string, fx *step.Effects) {
	if !b.Journal {
		return
	}
	if o.sale != nil && o.sale.Test && typ == journal.OrderPaid {
		typ = journal.TestFired
	}
	public := o.public()
	public.Payload = nil
	data, err := json.Marshal(public)
	step.Assert(err == nil, "earn: an order cannot be written as JSON: %v", err)
	fx.Send = append(fx.Send, step.Packet{To: journal.Name, Msg: journal.Note{Type: typ, Subject: o.id.String(), Data: data}})
}

// tell says what has become of a door's order.
func (b *Book) tell(o *order, fx *step.Effects) {
	if o.sale != nil {
		fx.Done = append(fx.Done, step.Outcome{ID: o.id.Key(), Value: o.public()})
	}
}
