// Package spend decides what a machine may buy and remembers that it did: the
// policy, the book of orders, exactly once.
//
// The book never pays. It hands an order to a rail (a core of the same machine,
// or an outlet) and files the outcome. A handed-over order stays reserved until
// the rail says how it ended; after a restart it is handed over again, and the
// rail pays an ID once.
//
// Invariants, asserted at every step:
//
//   - at most MaxOpen orders are open, and at most Keep settled ones are kept;
//   - what is reserved and spent in a period is the sum of its orders;
//   - an order that was refused or is known unpaid has left no trace.
package spend

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"coinop.dev/core/journal"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
)

const (
	// MaxOpen bounds orders that are handed over and not yet answered.
	MaxOpen = 4096
	// Keep is how many answered orders the book remembers. Paying one of them
	// again returns its receipt; an older one would be a new order.
	Keep = 4096
	// MaxPayees bounds the payees whose spending is tracked. A payee is
	// forgotten when its period is over and no order to it is kept.
	MaxPayees = 1024
	// maxText bounds a payment URI or the name of what is bought, in bytes.
	maxText = 512

	resendAfter = 2 * step.Second
)

// Name is the book's name among a machine's cores.
const Name = trade.Buyer

// Ask asks the book to pay an order through Via, the name of a rail's core or
// outlet. If Seller is set, it is also told what the order buys, and its goods
// are waited for.
type Ask struct {
	Order  money.Order
	Via    string
	Seller string
}

// Outcomes of an Ask: the payment under the order's key, the goods under
// GoodsID.

// GoodsID is the ID of the outcome whose value is the order's trade.Goods.
func GoodsID(id money.OrderID) string { return "goods/" + id.Key() }

type orderState uint8

const (
	pending   orderState = iota // with the rail
	paid                        // goods, if any, are awaited
	delivered                   // and all is done
	unknown                     // the rail cannot say; the money stays reserved
)

type order struct {
	money.Order
	n      uint64 // place in the book
	via    string
	seller string
	state  orderState
	at     step.Time
	goods  []byte
	payee  *payee
}

// payee is what has been spent on one payee in its current window.
type payee struct {
	key    string
	to     string
	start  step.Time
	spent  money.Amount
	orders int // kept in the book
}

// Book is the spending core.
type Book struct {
	limits Limits

	next    uint64
	start   step.Time // of the current period
	spent   money.Amount
	minute  step.Time
	count   int          // orders asked in that minute
	paid    money.Amount // ever
	settled uint64       // orders paid, ever

	orders map[money.OrderID]*order
	payees map[string]*payee
	open   int
	queue  []*order // by place; answered ones leave from the front

	// Journal makes the book tell the journal (core/journal) of every payment that
	// ends.
	Journal bool

	// What lives for one step.
	changed bool // the head must be on disk with this step
	later   bool // the head changed, and may be lazy
	touched []*payee
}

// NewBook returns an empty book.
func NewBook(l Limits) *Book {
	return &Book{limits: l, orders: map[money.OrderID]*order{}, payees: map[string]*payee{}}
}

// Step is the whole policy.
func (b *Book) Step(in step.Input) step.Effects {
	b.check()
	var fx step.Effects
	b.changed, b.later, b.touched = false, false, b.touched[:0]
	for _, event := range in.Events {
		switch ev := event.(type) {
		case Ask:
			b.ask(ev, in.At, &fx)
		case step.Recv:
			b.recv(ev, &fx)
		case step.Linked:
			b.buyAgain(ev.Peer, &fx)
		case step.Unlinked:
		case step.Rang:
			b.rang(ev, in.At, &fx)
		default:
			panic(fmt.Sprintf("spend: the book cannot handle %T", event))
		}
	}
	b.forget(&fx)
	if b.changed || b.later {
		fx.Put = append(fx.Put, b.lazily(b.head()))
	}
	for _, p := range b.touched {
		fx.Put = append(fx.Put, b.lazily(p.record()))
	}
	return fx
}

// lazily lets a record wait for the next step that must be on disk.
func (b *Book) lazily(r step.Record) step.Record {
	r.Lazy = !b.changed
	return r
}

func (b *Book) recv(ev step.Recv, fx *step.Effects) {
	switch msg := ev.Msg.(type) {
	case step.Outcome:
		b.answered(msg, fx)
	case trade.Goods:
		b.goods(ev.From, msg, fx)
	case trade.Decline:
		b.declined(ev.From, msg, fx)
	}
}

// ask checks an order against every limit and hands it over, or answers at once
// if it is known.
func (b *Book) ask(a Ask, now step.Time, fx *step.Effects) {
	if was := b.orders[a.Order.ID]; was != nil {
		b.repeat(was, fx)
		return
	}
	p, err := b.allow(a, now)
	if err != nil {
		fx.Done = append(fx.Done, step.Outcome{ID: a.Order.ID.Key(), Err: err})
		return
	}
	o := &order{Order: a.Order, n: b.next, via: a.Via, seller: a.Seller, at: now, payee: p}
	b.next++
	b.open++
	b.spent += o.Amount
	b.count++
	b.changed = true
	b.touch(p, +1, o.Amount)
	b.orders[o.ID] = o
	b.queue = append(b.queue, o)
	fx.Put = append(fx.Put, o.record())
	b.hand(o, fx)
	if o.seller != "" {
		fx.Wake = append(fx.Wake, step.Alarm{ID: "buy", At: now + resendAfter})
	}
}

// hand gives the order to its rail, and tells the seller what it buys.
func (b *Book) hand(o *order, fx *step.Effects) {
	if o.seller != "" {
		fx.Send = append(fx.Send, step.Packet{To: o.seller, Msg: trade.Buy{Order: o.ID, Item: o.For, Units: o.Units}})
	}
	fx.Send = append(fx.Send, step.Packet{To: o.via, Msg: o.Order})
}

// repeat answers an order that is asked a second time. The rail, which keeps
// the proofs, is asked for the receipt; it cannot pay again for an Inquiry.
func (b *Book) repeat(o *order, fx *step.Effects) {
	if o.state != pending {
		fx.Send = append(fx.Send, step.Packet{To: o.via, Msg: money.Inquiry{Order: o.ID}})
	}
	if o.state == delivered && o.seller != "" {
		fx.Done = append(fx.Done, o.goodsOutcome())
	}
}

func (b *Book) allow(a Ask, now step.Time) (*payee, error) {
	o := a.Order
	refuse := func(kind money.Kind, err error) (*payee, error) {
		return nil, &money.Error{Kind: kind, Op: "pay " + o.To, Err: err}
	}
	b.renew(now)
	switch {
	case o.Amount == 0 || o.Amount > money.MaxAmount:
		return refuse(money.Invalid, fmt.Errorf("the amount is %v; it must be 1 msat to %v", o.Amount, money.MaxAmount))
	case len(o.To) > maxText || len(o.For) > trade.MaxName:
		return refuse(money.Invalid, fmt.Errorf("payee is %d and purpose %d bytes; the limits are %d and %d", len(o.To), len(o.For), maxText, trade.MaxName))
	case b.open >= MaxOpen:
		return refuse(money.Refused, fmt.Errorf("%d orders are open already; try again when one is answered", b.open))
	}
	l := b.limits
	if l.Order > 0 && o.Amount > l.Order {
		return refuse(money.Refused, &Refusal{Limit: "order", Asked: o.Amount, Left: l.Order, Max: l.Order})
	}
	if unit := unitPrice(o); l.UnitPrice > 0 && unit > l.UnitPrice {
		return refuse(money.Refused, &Refusal{Limit: "unit price", Asked: unit, Left: l.UnitPrice, Max: l.UnitPrice})
	}
	if l.PerMinute > 0 && b.count >= l.PerMinute {
		return refuse(money.Refused, &Refusal{Limit: "per minute", Asked: o.Amount, Count: l.PerMinute, Renews: b.minute + step.Minute})
	}
	_, end := l.Period.Window(now)
	if l.Total > 0 && o.Amount > l.Total-min(b.spent, l.Total) {
		return refuse(money.Refused, &Refusal{Limit: "total", Asked: o.Amount, Left: l.Total - min(b.spent, l.Total), Max: l.Total, Renews: end, Period: l.Period.String()})
	}
	p, err := b.payee(o.To, now)
	if err != nil {
		return refuse(money.Refused, err)
	}
	if l.Payee > 0 && o.Amount > l.Payee-min(p.spent, l.Payee) {
		return refuse(money.Refused, &Refusal{Limit: "payee", Asked: o.Amount, Left: l.Payee - min(p.spent, l.Payee), Max: l.Payee, Renews: end, Period: l.Period.String()})
	}
	if _, ok := b.spent.Add(o.Amount); !ok {
		return refuse(money.Refused, errors.New("the sum of all orders would pass what can exist"))
	}
	return p, nil
}

// unitPrice is rounded up, so a fraction of a msat cannot slip under a limit.
func unitPrice(o money.Order) money.Amount {
	if o.Units == 0 {
		return 0
	}
	return (o.Amount + money.Amount(o.Units) - 1) / money.Amount(o.Units)
}

// renew starts a new period and a new minute when their time has come. A clock
// that goes back renews nothing.
func (b *Book) renew(now step.Time) {
	if start, _ := b.limits.Period.Window(now); start > b.start {
		b.start, b.spent, b.changed = start, 0, true
	}
	if minute := now - now%step.Minute; minute > b.minute {
		b.minute, b.count, b.changed = minute, 0, true
	}
}

// payee finds the tally of whoever to names: the part before "?".
func (b *Book) payee(to string, now step.Time) (*payee, error) {
	to, _, _ = strings.Cut(to, "?")
	p := b.payees[to]
	if p == nil {
		if len(b.payees) >= MaxPayees && !b.dropPayee() {
			return nil, fmt.Errorf("%d payees are tracked in this period, which is the limit", MaxPayees)
		}
		sum := sha256.Sum256([]byte(to))
		p = &payee{to: to, start: b.start, key: fmt.Sprintf("spend/p/%x", sum[:8])}
		b.payees[to] = p
	}
	if p.start < b.start {
		p.start, p.spent = b.start, 0
	}
	return p, nil
}

// dropPayee forgets the payee of an earlier period that is first by name.
func (b *Book) dropPayee() bool {
	best := (*payee)(nil)
	for _, p := range b.payees {
		if p.orders == 0 && p.start < b.start && (best == nil || p.to < best.to) {
			best = p
		}
	}
	if best == nil {
		return false
	}
	delete(b.payees, best.to)
	b.touched = append(b.touched, &payee{key: best.key}) // a tally without a name is a deletion
	return true
}

func (b *Book) touch(p *payee, orders int, amount money.Amount) {
	p.orders += orders
	p.spent += amount
	if len(b.touched) == 0 || !slices.Contains(b.touched, p) {
		b.touched = append(b.touched, p)
	}
}

// answered files what the rail says. Only Unpaid, Refused and Invalid give the
// money back to the budget: nothing else is certain.
func (b *Book) answered(out step.Outcome, fx *step.Effects) {
	id, ok := money.OrderIDFromKey(out.ID)
	o := b.orders[id]
	if !ok || o == nil {
		return
	}
	if o.state == pending || o.state == unknown {
		b.file(o, out.Err, fx)
	}
	fx.Done = append(fx.Done, step.Outcome{ID: out.ID, Err: out.Err, Value: out.Value})
}

func (b *Book) file(o *order, err error, fx *step.Effects) {
	kind := money.KindOf(err)
	switch {
	case err == nil:
		b.close(o)
		o.state = paid
		if o.seller == "" {
			o.state = delivered
		} else if o.goods != nil {
			o.state = delivered
			fx.Send = append(fx.Send, step.Packet{To: o.seller, Msg: trade.Got{Order: o.ID}})
			fx.Done = append(fx.Done, o.goodsOutcome())
		}
		b.paid += o.Amount
		b.settled++
		// The rail has it on disk, and says it again after a crash. Only what
		// the seller is told, which then forgets the goods, cannot wait.
		record := o.record()
		record.Lazy = o.goods == nil
		fx.Put = append(fx.Put, record)
		b.later, b.changed = true, b.changed || !record.Lazy
		b.note(o, journal.PaymentSettled, nil, fx)
		return
	case kind == money.Unpaid || kind == money.Refused || kind == money.Invalid:
		b.close(o)
		if o.state == pending && o.at >= b.start {
			b.spent -= min(b.spent, o.Amount)
			b.touch(o.payee, 0, 0)
			o.payee.spent -= min(o.payee.spent, o.Amount)
		}
		b.remove(o, false, fx)
		b.note(o, journal.PaymentFailed, err, fx)
	case o.state == pending:
		b.close(o)
		o.state = unknown
		fx.Put = append(fx.Put, o.record())
	}
	b.changed = true
}

// note tells the journal, if somebody keeps books of this machine.
func (b *Book) note(o *order, typ string, err error, fx *step.Effects) {
	if !b.Journal {
		return
	}
	n := payment{Order: o.ID, To: o.payee.to, Amount: o.Amount, For: o.For, Units: o.Units, State: "settled"}
	if err != nil {
		n.State, n.Why = "failed", err.Error()
	}
	data, fault := json.Marshal(n)
	step.Assert(fault == nil, "spend: a payment cannot be written as JSON: %v", fault)
	fx.Send = append(fx.Send, step.Packet{To: journal.Name, Msg: journal.Note{Type: typ, Subject: o.ID.String(), Data: data}})
}

// payment is what the journal is told of an order.
type payment struct {
	Order  money.OrderID `json:"order"`
	State  string        `json:"state"`
	To     string        `json:"to"`
	Amount money.Amount  `json:"amount_msat"`
	For    string        `json:"for,omitempty"`
	Units  uint64        `json:"units,omitempty"`
	Why    string        `json:"why,omitempty"`
}

// close takes an order off the open ones.
func (b *Book) close(o *order) {
	if o.state == pending {
		b.open--
	}
}

func (b *Book) remove(o *order, lazy bool, fx *step.Effects) {
	delete(b.orders, o.ID)
	b.touch(o.payee, -1, 0)
	o.n = gone
	fx.Put = append(fx.Put, step.Record{Key: orderKey(o.ID), Lazy: lazy})
}

const gone = 1<<64 - 1

// forget drops the oldest answered orders beyond Keep. Open ones stay.
func (b *Book) forget(fx *step.Effects) {
	for len(b.queue) > 0 && b.queue[0].n == gone {
		b.queue = b.queue[1:]
	}
	if len(b.orders)-b.open <= Keep {
		return
	}
	kept := b.queue[:0:0]
	for i, o := range b.queue {
		excess := len(b.orders) - b.open - Keep
		if excess == 0 {
			kept = append(kept, b.queue[i:]...)
			break
		}
		switch {
		case o.n == gone:
		case o.state == pending:
			kept = append(kept, o)
		default:
			b.remove(o, true, fx)
			b.later = true
		}
	}
	b.queue = kept
}

// goods takes a delivery: on disk before it is acknowledged, and told to the
// caller once the order is also known to be paid.
func (b *Book) goods(from string, g trade.Goods, fx *step.Effects) {
	o := b.orders[g.Order]
	if o == nil || o.seller != from {
		return
	}
	if o.state == delivered {
		fx.Send = append(fx.Send, step.Packet{To: from, Msg: trade.Got{Order: o.ID}})
		return
	}
	if o.goods != nil {
		return
	}
	o.goods = append([]byte{}, g.Payload...)
	if o.state == paid {
		o.state = delivered
		fx.Send = append(fx.Send, step.Packet{To: from, Msg: trade.Got{Order: o.ID}})
		fx.Done = append(fx.Done, o.goodsOutcome())
	}
	fx.Put = append(fx.Put, o.record())
}

func (o *order) goodsOutcome() step.Outcome {
	return step.Outcome{ID: GoodsID(o.ID), Value: trade.Goods{Order: o.ID, Payload: o.goods}}
}

// declined tells the caller that no goods will come. The order stays paid: the
// seller owes, and the same order can be asked for again.
func (b *Book) declined(from string, d trade.Decline, fx *step.Effects) {
	if o := b.orders[d.Order]; o != nil && o.seller == from && o.state != delivered {
		err := &money.Error{Kind: money.Pending, Op: "buy " + o.For, Err: fmt.Errorf("the seller declines: %q (due %v, ordered for %v)", d.Why, d.Due, o.Amount)}
		fx.Done = append(fx.Done, step.Outcome{ID: GoodsID(o.ID), Err: err})
	}
}

// rang hands over again what a crash or a lost message may have taken.
func (b *Book) rang(ev step.Rang, now step.Time, fx *step.Effects) {
	waiting := false
	for _, o := range b.queue {
		switch {
		case o.n == gone:
		case ev.ID == step.Start && (o.state == pending || o.state == unknown):
			b.hand(o, fx)
			waiting = waiting || o.seller != ""
		case o.seller != "" && o.goods == nil && (o.state == pending || o.state == paid):
			waiting = true
			if now-o.at >= resendAfter {
				fx.Send = append(fx.Send, step.Packet{To: o.seller, Msg: trade.Buy{Order: o.ID, Item: o.For, Units: o.Units}})
			}
		}
	}
	if waiting {
		fx.Wake = append(fx.Wake, step.Alarm{ID: "buy", At: now + resendAfter})
	}
}

func (b *Book) buyAgain(seller string, fx *step.Effects) {
	for _, o := range b.queue {
		if o.n != gone && o.seller == seller && o.goods == nil && (o.state == pending || o.state == paid) {
			fx.Send = append(fx.Send, step.Packet{To: o.seller, Msg: trade.Buy{Order: o.ID, Item: o.For, Units: o.Units}})
		}
	}
}

func (b *Book) check() {
	step.Assert(b.open >= 0 && b.open <= MaxOpen, "spend: %d orders are open", b.open)
	step.Assert(len(b.orders)-b.open <= Keep, "spend: %d answered orders are kept", len(b.orders)-b.open)
}

// Summary is what people ask of a purse.
type Summary struct {
	Open    int          `json:"open"`
	Settled uint64       `json:"settled"`
	Paid    money.Amount `json:"paid_msat"`
	Spent   money.Amount `json:"spent_msat"` // reserved or paid in this period
	Left    money.Amount `json:"left_msat"`  // of the total; 0 if there is no limit
	Renews  step.Time    `json:"renews_ms,omitempty"`
}

// Summary reads the book as of now.
func (b *Book) Summary(now step.Time) Summary {
	s := Summary{Open: b.open, Settled: b.settled, Paid: b.paid, Spent: b.spent}
	start, end := b.limits.Period.Window(now)
	if start > b.start {
		s.Spent = 0
	}
	if b.limits.Total > 0 {
		s.Left, s.Renews = b.limits.Total-min(s.Spent, b.limits.Total), end
	}
	return s
}
