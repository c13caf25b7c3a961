package wallet

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/btcsuite/btcd/chaincfg/v2"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/codec"
	"coinop.dev/core/consent"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

const (
	// MaxErrands bounds the orders that a device waits for.
	MaxErrands = MaxAccountWaiting

	// KeepProven is how many settled orders a device can prove by itself.
	KeepProven = 64

	errandsKey = "end/order/"
	provenKey  = "end/proven/"
	claimedKey = "end/account"
)

// EndOptions are what a device knows of its account at a gateway.
type EndOptions struct {
	Params     *chaincfg.Params
	Gateway    string // its name as a peer
	Claim      string // the code that the account was promised for; "" if there is one already
	Descriptor string
	Since      int32 // no block below it matters
	Depth      int32 // confirmations that a receipt must show
}

// An End is a device's end of the wallet that a gateway keeps for it: a core that
// has its orders paid there, and believes no more than the proofs. The keys are
// its neighbour's, core/consent. On the device it is called Name.
type End struct {
	o       EndOptions
	account string // once it is claimed
	orders  map[money.OrderID]*errand
	proven  []proven // the oldest first
	linked  bool
	asked   []string // who waits for a Look
	refused string   // what the gateway said last
}

// An errand is an order that the gateway has been told. Once the device's own
// signer has consented to a transaction that pays it, the gateway can publish that
// at any time, and its word that the order has failed is worth nothing.
type errand struct {
	Pay
	consented bool
}

// proven is a settled order's receipt.
type proven struct {
	n uint64
	Paid
}

func (p *proven) record() step.Record {
	b := codec.AppendUint(codec.AppendUint(nil, p.n), p.Amount)
	return step.Record{Key: provenKey + p.Order.Key(), Value: append(b, p.proof...)}
}

// LoadEnd reads a device's end back, or makes a new one.
func LoadEnd(db step.Reader, o EndOptions) (*End, error) {
	e := &End{o: o, orders: map[money.OrderID]*errand{}}
	raw, err := db.Get(claimedKey)
	if err != nil {
		return nil, err
	}
	e.account = string(raw)
	scan := db.Scan(errandsKey, func(key string, value []byte) bool {
		p := &errand{Pay: Pay{Account: e.account}}
		id, ok := money.OrderIDFromKey(strings.TrimPrefix(key, errandsKey))
		r := codec.NewReader(value)
		p.Order, p.Script, p.Amount, p.consented = id, append([]byte(nil), r.Bytes(MaxScript, "script")...), r.Amount(), readBool(r)
		p.Rate = tx.FeeRate(r.Int(int(tx.MaxFeeRate), "fee rate"))
		if err = r.Close(); err == nil && !ok {
			err = fmt.Errorf("record %s is of no order", key)
		}
		e.orders[id] = p
		return err == nil
	})
	if err == nil {
		err = scan
	}
	if err == nil {
		err = e.loadProven(db)
	}
	return e, err
}

func (e *End) loadProven(db step.Reader) (err error) {
	scan := db.Scan(provenKey, func(key string, value []byte) bool {
		id, ok := money.OrderIDFromKey(strings.TrimPrefix(key, provenKey))
		r := codec.NewReader(value)
		p := proven{n: r.Uvarint(), Paid: Paid{Order: id, Amount: r.Amount()}}
		p.proof = append([]byte(nil), r.Take(r.Len())...)
		if err = r.Close(); err == nil && !ok {
			err = fmt.Errorf("record %s is of no order", key)
		}
		e.proven = append(e.proven, p)
		return err == nil
	})
	slices.SortFunc(e.proven, func(a, b proven) int { return compare(a.n, b.n) })
	if err == nil {
		err = scan
	}
	return err
}

func (p *errand) record() step.Record {
	b := codec.AppendBytes(nil, p.Script)
	b = codec.AppendUint(b, p.Amount)
	b = appendBool(b, p.consented)
	return step.Record{Key: errandsKey + p.Order.Key(), Value: codec.AppendUint(b, int64(p.Rate))}
}

func (e *End) claimed() step.Record {
	return step.Record{Key: claimedKey, Value: []byte(e.account)}
}

// Durable is everything the end has on disk, for whoever wants to check it.
func (e *End) Durable() (all []step.Record) {
	if e.account != "" {
		all = append(all, e.claimed())
	}
	for _, id := range sortedOrders(e.orders) {
		all = append(all, e.orders[id].record())
	}
	return all
}

// Known reports whether an order was told to the gateway and is not answered.
func (e *End) Known(id money.OrderID) bool { return e.orders[id] != nil }

// Step is the whole end. It takes Pay, Peek, and what the gateway says.
func (e *End) Step(in step.Input) (fx step.Effects) {
	for _, event := range in.Events {
		switch ev := event.(type) {
		case Pay:
			e.pay(ev, &fx)
		case money.Inquiry:
			e.prove(ev, &fx)
		case Peek:
			e.asked = append(e.asked, ev.Ask)
			fx.Send = append(fx.Send, step.Packet{To: e.o.Gateway, Msg: Look{Account: e.account, Fresh: ev.Fresh}})
		case step.Linked:
			if ev.Peer == e.o.Gateway {
				e.linked = true
				e.resend(&fx)
			}
		case step.Unlinked:
			if ev.Peer == e.o.Gateway {
				e.linked = false
			}
		case step.Rang:
			e.resend(&fx)
		case step.Recv:
			switch ev.From {
			case e.o.Gateway:
				e.heard(ev.Msg, &fx)
			case consent.Core:
				e.consented(ev.Msg, &fx)
			}
		}
	}
	if e.linked && (len(e.orders) > 0 || e.account == "" && e.o.Claim != "") {
		fx.Wake = append(fx.Wake, step.Alarm{ID: "again", At: in.At + resendAfter})
	}
	return fx
}

// Peek asks the gateway for the account's state, and with Fresh for a new
// address. The outcome, under Ask, is a Shown.
type Peek struct {
	Ask   string
	Fresh bool
}

func (e *End) pay(p Pay, fx *step.Effects) {
	if e.orders[p.Order] == nil {
		if len(e.orders) == MaxErrands {
			err := fmt.Errorf("%d orders wait at the gateway, which is the limit", MaxErrands)
			fx.Done = append(fx.Done, step.Outcome{ID: p.Order.Key(), Err: &money.Error{Kind: money.Unpaid, Op: "pay " + p.Order.String(), Err: err}})
			return
		}
		p.Account = e.account
		e.orders[p.Order] = &errand{Pay: p}
		fx.Put = append(fx.Put, e.orders[p.Order].record())
	}
	e.tell(e.orders[p.Order], fx)
}

// prove answers for an order that is settled, and never pays. One that is not
// is answered when it is.
func (e *End) prove(q money.Inquiry, fx *step.Effects) {
	if e.orders[q.Order] != nil {
		return
	}
	out := step.Outcome{ID: q.Order.Key(), Err: &money.Error{Kind: money.Refused, Op: "prove " + q.Order.String(), Err: money.ErrForgotten}}
	for _, p := range e.proven {
		if p.Order == q.Order {
			out = step.Outcome{ID: out.ID, Value: p.Paid}
		}
	}
	fx.Done = append(fx.Done, out)
}

// keep remembers a receipt in the place of the oldest.
func (e *End) keep(paid Paid, fx *step.Effects) {
	p := proven{Paid: paid}
	if n := len(e.proven); n > 0 {
		p.n = e.proven[n-1].n + 1
	}
	if len(e.proven) == KeepProven {
		fx.Put = append(fx.Put, step.Record{Key: provenKey + e.proven[0].Order.Key()})
		e.proven = e.proven[1:]
	}
	e.proven = append(e.proven, p)
	fx.Put = append(fx.Put, p.record())
}

func (e *End) tell(p *errand, fx *step.Effects) {
	if e.account != "" {
		fx.Send = append(fx.Send, step.Packet{To: e.o.Gateway, Msg: Order{ID: p.Order, Account: e.account, Script: p.Script, Amount: p.Amount, Rate: p.Rate}})
	}
}

func (e *End) resend(fx *step.Effects) {
	if e.account == "" {
		if e.o.Claim != "" {
			fx.Send = append(fx.Send, step.Packet{To: e.o.Gateway, Msg: Claim{Code: e.o.Claim, Descriptor: e.o.Descriptor, Since: e.o.Since}})
		}
		return
	}
	for _, id := range sortedOrders(e.orders) {
		e.tell(e.orders[id], fx)
	}
}

func (e *End) heard(msg any, fx *step.Effects) {
	switch m := msg.(type) {
	case Claimed:
		if e.account == "" && m.Account != "" {
			e.account, e.refused = m.Account, ""
			fx.Put = append(fx.Put, e.claimed())
			e.resend(fx)
		}
	case Refused:
		e.refused = m.Why
		e.answerLooks(nil, &money.Error{Kind: money.Refused, Op: "ask the gateway", Err: fmt.Errorf("it says %.200q", m.Why)}, fx)
	case Shown:
		e.answerLooks(m, e.mine(m), fx)
	case Settled:
		p := e.orders[m.ID]
		if p == nil {
			return
		}
		if _, err := Verify(receipt.Entry{Order: p.Order, Amount: p.Amount}, p.Script, e.o.Depth, e.o.Params, m.Proof); err != nil {
			e.refused = "its receipt for order " + p.Order.String() + " is no proof: " + err.Error()
			return // it may come again, and better
		}
		paid := Paid{Order: p.Order, Amount: p.Amount, proof: m.Proof}
		e.keep(paid, fx)
		e.done(p, step.Outcome{ID: p.Order.Key(), Value: paid}, fx)
	case Failed:
		if p := e.orders[m.ID]; p != nil && p.consented {
			e.refused = "order " + m.ID.String() + " has the signer's consent and may still be paid: " + m.Why
		} else if p != nil {
			kind := m.Kind
			if kind != money.Invalid {
				kind = money.Unpaid
			}
			e.done(p, step.Outcome{ID: p.Order.Key(), Err: &money.Error{Kind: kind, Op: "pay " + p.Order.String(), Err: fmt.Errorf("the gateway says %.300q", m.Why)}}, fx)
		}
	}
}

// consented notes which orders the signer of this machine has consented to.
func (e *End) consented(msg any, fx *step.Effects) {
	o, ok := msg.(step.Outcome)
	if !ok {
		return
	}
	given, ok := o.Value.(consent.Given)
	if !ok {
		return
	}
	for _, paid := range given.Orders {
		if p := e.orders[paid.ID]; p != nil && !p.consented {
			p.consented = true
			fx.Put = append(fx.Put, p.record())
		}
	}
}

// mine tells why an address that the gateway shows is not one of the account's.
func (e *End) mine(m Shown) error {
	if m.Address == "" {
		return nil
	}
	d, err := descriptor.Parse(e.o.Descriptor, e.o.Params)
	if err != nil {
		return err
	}
	s, err := d.At(0, m.Index)
	if err != nil {
		return err
	}
	ours, err := descriptor.Address(s.Script, e.o.Params)
	if err == nil && ours != m.Address {
		err = fmt.Errorf("%w: it shows %s as address %d of the account, which is %s", ErrForged, m.Address, m.Index, ours)
	}
	return err
}

func (e *End) done(p *errand, o step.Outcome, fx *step.Effects) {
	if o.Err != nil { // in the same round, before the gateway can propose it after all
		fx.Send = append(fx.Send, step.Packet{To: consent.Core, Msg: consent.Forget{Order: p.Order}})
	}
	delete(e.orders, p.Order)
	fx.Put = append(fx.Put, step.Record{Key: errandsKey + p.Order.Key()})
	fx.Done = append(fx.Done, o)
}

func (e *End) answerLooks(value any, err error, fx *step.Effects) {
	for _, ask := range e.asked {
		fx.Done = append(fx.Done, step.Outcome{ID: ask, Value: value, Err: err})
	}
	e.asked = nil
}

// EndSummary is what people ask of a device's end.
type EndSummary struct {
	Account string `json:"account"` // "" until it is claimed
	Linked  bool   `json:"linked"`
	Waiting int    `json:"waiting"`           // orders
	Refused string `json:"refused,omitempty"` // what the gateway said last
}

// Summary reads the end.
func (e *End) Summary() EndSummary {
	return EndSummary{e.account, e.linked, len(e.orders), e.refused}
}

func sortedOrders(m map[money.OrderID]*errand) []money.OrderID {
	return slices.SortedFunc(maps.Keys(m), func(a, b money.OrderID) int { return bytes.Compare(a[:], b[:]) })
}

// Known reports whether the wallet has an order.
func (w *Wallet) Known(id money.OrderID) bool { return w.orders[id] != nil }
