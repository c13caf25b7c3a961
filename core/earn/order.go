package earn

import (
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
)

// Deliver tells who delivers to deliver an order. It is repeated after a crash,
// with the same order.
type Deliver struct {
	Order  money.OrderID
	Item   string
	Units  uint64
	Paid   money.Amount // of a session
	Device string       // which one of the fleet
	Until  step.Time    // not to be begun any more after this; 0 for ever
	Test   bool         // nobody has paid: it is tried out
}

// Delivered is the answer. With an error the order stays owed and is tried again
// until its deadline, unless the error is Refused or Invalid: then it never will
// be. Ack is the device's own word for the books.
type Delivered struct {
	Order   money.OrderID
	Payload []byte
	Err     error
	Ack     []byte
}

type orderState uint8

const (
	credit    orderState = iota // paid, and nobody has said for what
	owed                        // paid, and the device has been told
	delivered                   // the goods are on disk and on their way
	settled                     // the buyer has them
	held                        // as owed, but the money is only held by its rail
	failed                      // not delivered; its money is on the way back
	refunded                    // its money is back, or never moved
)

// stateNames are those of every rail and door (docs/glossary.md): what is owed is
// paid, for whoever looks from outside.
var stateNames = [...]string{"paid", "paid", "delivered", "settled", "held", "failed", "refunded"}

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

	// Of a door's order.
	sale  *Sell
	rail  string    // the core that holds the money
	until step.Time // when it is overdue; 0 never
	at    step.Time // of the last change
	ack   []byte
	why   string // it failed, or is late
	how   string // it was given back
	// beside is what was paid while the order's own money was held or on its way
	// back: it is credit, whatever becomes of that.
	beside money.Amount
	news   bool // of some payment the journal has not been told
}

// waited reports whether somebody waits for something of the order.
func (o *order) waited() bool {
	return o.state == owed || o.state == held || o.state == failed && o.how == "" || o.rail != "" && o.state == delivered || o.tab()
}

// tab reports whether the order is a prepaid balance, to which money may come at
// any time.
func (o *order) tab() bool { return o.sale != nil && o.sale.To == Tab && o.state != refunded }

// An Order is what people ask about one order.
type Order struct {
	ID     money.OrderID `json:"order"`
	State  string        `json:"state"`
	Due    money.Amount  `json:"due_msat,omitempty"`
	Paid   money.Amount  `json:"paid_msat"`
	Back   money.Amount  `json:"refunded_msat,omitempty"`
	How    string        `json:"refund,omitempty"`      // credit, "never taken", or where to
	Credit money.Amount  `json:"credit_msat,omitempty"` // of Back: in a session of the order's ID
	Item   string        `json:"item,omitempty"`
	Units  uint64        `json:"units,omitempty"`
	Rate   offer.Rate    `json:"rate,omitzero"`
	Buyer  string        `json:"buyer,omitempty"`
	Device string        `json:"device,omitempty"`
	Tab    bool          `json:"tab,omitempty"`  // a prepaid balance
	Test   bool          `json:"test,omitempty"` // nobody paid
	Why    string        `json:"why,omitempty"`
	Until  step.Time     `json:"until_ms,omitempty"`
	At     step.Time     `json:"at_ms,omitempty"` // of the last change
	// Ack is the device's signed acknowledgement, Payload what was delivered.
	Ack     []byte `json:"ack,omitempty"`
	Payload []byte `json:"payload,omitempty"`
}

// Order reads one order; one that is not known is quoted, and not paid.
func (b *Book) Order(id money.OrderID) Order {
	o := b.orders[id]
	if o == nil {
		return Order{ID: id, State: "quoted"}
	}
	return o.public()
}

// maxNotedAck bounds the acknowledgement, in bytes, that is shown of an order.
const maxNotedAck = 1024

func (o *order) public() Order {
	p := Order{
		ID: o.id, State: stateNames[o.state], Paid: o.paid + o.beside, Back: o.beside, Credit: o.beside, Item: o.item, Units: o.units, Buyer: o.buyer,
		Why: o.why, How: o.how, Until: o.until, At: o.at, Payload: o.goods,
	}
	if len(o.ack) <= maxNotedAck {
		p.Ack = o.ack
	}
	if o.state == refunded && o.rail == "" {
		p.Back += o.paid
		if o.how == howCredit {
			p.Credit += o.paid
		}
	}
	if s := o.sale; s != nil {
		p.Due, p.Rate, p.Device, p.Tab, p.Test = s.Quote.Due, s.Quote.Rate, s.Device, s.To == Tab, s.Test
	}
	return p
}

// Records.

func orderKey(id money.OrderID) string { return "earn/o/" + id.Key() }

const (
	// maxBuyer bounds the name of a buyer, in bytes, maxRefund a payment URI.
	maxBuyer  = 80
	maxRefund = 4200
	maxWhy    = 400
	maxAck    = 16 << 10
	maxHow    = maxRefund
)

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
		if o.sale != nil {
			b = o.appendSale(b)
		}
	}
	return step.Record{Key: orderKey(o.id), Value: b}
}

func (o *order) appendSale(b []byte) []byte {
	s := o.sale
	b = s.Quote.Append(b)
	b = codec.AppendBytes(b, s.To)
	b = codec.AppendBytes(b, s.Device)
	b = codec.AppendUint(b, uint64(s.Within))
	b = append(b, flag(s.Hold)|flag(s.Test)<<1|flag(o.news)<<2)
	b = codec.AppendBytes(b, s.Refund)
	b = codec.AppendBytes(b, o.rail)
	b = codec.AppendUint(b, uint64(o.until))
	b = codec.AppendUint(b, uint64(o.at))
	b = codec.AppendBytes(b, o.ack)
	b = codec.AppendBytes(b, o.why[:min(len(o.why), maxWhy)])
	b = codec.AppendBytes(b, o.how)
	if o.beside > 0 {
		b = codec.AppendUint(b, o.beside)
	}
	return b
}

func flag(yes bool) byte {
	if yes {
		return 1
	}
	return 0
}

func readOrder(id money.OrderID, r *codec.Reader) *order {
	o := &order{id: id, n: r.Uvarint(), state: orderState(r.Int(int(refunded), "state")), paid: r.Amount()}
	if o.state == credit {
		o.soft = r.Len() > 0 && r.U8() == 1
		return o
	}
	o.item, o.units, o.buyer = r.String(trade.MaxName, "item"), r.Uvarint(), r.String(maxBuyer, "buyer")
	o.goods = r.Bytes(trade.MaxPayload, "goods")
	if r.Len() == 0 {
		if o.state > settled { // money is held, and goes back, for a sale
			r.Fail(fmt.Errorf("order is %s, and its sale is missing", stateNames[o.state]))
		}
		return o
	}
	s := &Sell{Buyer: o.buyer, Quote: offer.ReadQuote(r)}
	s.To, s.Device, s.Within = r.String(maxBuyer, "who delivers"), r.String(trade.MaxName, "device"), step.Time(r.Uvarint())
	flags := r.U8()
	s.Hold, s.Test, o.news = flags&1 != 0, flags&2 != 0, flags&4 != 0
	s.Refund, o.rail = r.String(maxRefund, "refund URI"), r.String(maxBuyer, "rail")
	o.until, o.at = step.Time(r.Uvarint()), step.Time(r.Uvarint())
	o.ack, o.why, o.how = r.Bytes(maxAck, "acknowledgement"), r.String(maxWhy, "reason"), r.String(maxHow, "refund")
	if r.Len() > 0 {
		o.beside = r.Amount()
	}
	o.sale = s
	return o
}
