package transfer

import (
	"errors"
	"fmt"
	"slices"

	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// order is one that is being paid, or was.
type order struct {
	Pay
	sent *sent // nil while it waits
	asks []string
}

// sent is a transfer that was signed. Once it is final only its orders' proof is
// left.
type sent struct {
	Transfer
	n      uint64
	orders []*order // none if it pays nobody
	final  bool
}

func (w *Wallet) pay(p Pay, fx *step.Effects) {
	if o := w.orders[p.Order]; o != nil {
		o.asked(p.Ask)
		w.answer(o, fx)
		return
	}
	err := validAmount(p.Amount)
	switch {
	case err != nil:
		err = &money.Error{Kind: money.Invalid, Err: err}
	case p.Bill == "":
		err = money.ErrForgotten
	case len(p.Bill) > MaxBill || len(p.To) > MaxPayee:
		err = &money.Error{Kind: money.Invalid, Err: fmt.Errorf("the bill is %d bytes, its payee %d; the limits are %d and %d", len(p.Bill), len(p.To), MaxBill, MaxPayee)}
	case len(w.waiting)+w.busy >= MaxOrders:
		err = fmt.Errorf("%d orders wait, which is the limit; try again when one is answered", MaxOrders)
	}
	if err != nil {
		w.refuse(&order{Pay: p, asks: []string{p.Ask}}, err, fx)
		return
	}
	o := &order{Pay: p}
	o.asked(p.Ask)
	w.orders[p.Order] = o
	w.waiting = append(w.waiting, o)
}

// asked notes who waits for the order. Too many of them are not answered, and ask
// again.
func (o *order) asked(ask string) {
	if ask != "" && len(o.asks) < MaxAsks && !slices.Contains(o.asks, ask) {
		o.asks = append(o.asks, ask)
	}
}

// refuse answers an order that leaves nothing behind.
func (w *Wallet) refuse(o *order, err error, fx *step.Effects) {
	w.tell(o, step.Outcome{Err: refuse(money.Unpaid, "pay "+o.To, err)}, fx)
}

// tell answers all who ask.
func (w *Wallet) tell(o *order, out step.Outcome, fx *step.Effects) {
	for _, ask := range append([]string{o.Order.Key()}, o.asks...) {
		if out.ID = ask; ask != "" {
			fx.Done = append(fx.Done, out)
		}
	}
	o.asks = nil
}

// prove answers for an order that is known, and never pays.
func (w *Wallet) prove(q money.Inquiry, fx *step.Effects) {
	if o := w.orders[q.Order]; o != nil {
		w.answer(o, fx)
		return
	}
	fx.Done = append(fx.Done, step.Outcome{ID: q.Order.Key(), Err: refuse(money.Refused, "prove "+q.Order.String(), money.ErrForgotten)})
}

// answer gives the order's proof if it is settled. Who asks before hears when it is.
func (w *Wallet) answer(o *order, fx *step.Effects) {
	if o.sent == nil || !o.sent.final {
		return
	}
	var out step.Outcome
	if proof, err := w.proof(o.sent.n); err != nil {
		out.Err = refuse(money.Pending, "prove "+o.Order.String(), err)
	} else {
		out.Value = Paid{o.Pay, proof}
	}
	w.tell(o, out, fx)
}

// proof is on disk, or on its way there.
func (w *Wallet) proof(n uint64) ([]byte, error) {
	if proof, ok := w.fresh[n]; ok {
		return proof, nil
	}
	proof, err := w.db.Get(w.proofKey(n))
	if err == nil && proof == nil {
		err = errors.New("the disk has lost the proof")
	}
	return slices.Clone(proof), err
}

// submit keeps a transfer with its orders, and tells the node.
func (w *Wallet) submit(t Transfer, orders []*order, fx *step.Effects) {
	step.Assert(w.byID[t.ID] == nil && len(t.Raw) <= MaxTransfer, "transfer: %x of %d bytes is made twice, or too large", t.ID, len(t.Raw))
	s := &sent{Transfer: t, n: w.nextTransfer, orders: orders}
	w.nextTransfer++
	w.open, w.byID[t.ID] = append(w.open, s), s
	w.busy += len(orders)
	fx.Put = append(fx.Put, step.Record{Key: w.transferKey(s.n), Value: t.Raw})
	for i, o := range orders {
		o.sent = s
		fx.Put = append(fx.Put, w.orderRecord(o, i))
	}
	w.send(t.Submit, fx)
}

// final settles the orders of a transfer.
func (w *Wallet) final(f Final, fx *step.Effects) {
	for _, coin := range f.Spent {
		w.spent(coin, fx)
	}
	s := w.byID[f.ID]
	if s == nil {
		return // it was heard before
	}
	w.close(s, fx)
	s.final, s.Transfer = true, Transfer{ID: s.ID}
	if len(s.orders) == 0 {
		return
	}
	w.settled = append(w.settled, s)
	w.kept += len(s.orders)
	w.fresh[s.n] = f.Proof
	fx.Put = append(fx.Put, step.Record{Key: w.proofKey(s.n), Value: f.Proof})
	for i, o := range s.orders {
		fx.Put = append(fx.Put, w.orderRecord(o, i))
		w.answer(o, fx)
	}
}

// dead gives the orders of a transfer up: whoever wants them paid asks again.
func (w *Wallet) dead(d Dead, fx *step.Effects) {
	s := w.byID[d.ID]
	if s == nil {
		return
	}
	w.close(s, fx)
	for _, o := range s.orders {
		fx.Put = append(fx.Put, step.Record{Key: w.orderKey(o.Order)})
		w.fail(o, errors.New(d.Why[:min(len(d.Why), maxWhy)]), fx)
	}
}

// close takes a transfer off those that may become final.
func (w *Wallet) close(s *sent, fx *step.Effects) {
	delete(w.byID, s.ID)
	w.open = slices.DeleteFunc(w.open, func(other *sent) bool { return other == s })
	w.busy -= len(s.orders)
	fx.Put = append(fx.Put, step.Record{Key: w.transferKey(s.n)})
}

// fail ends an order that no transfer pays. Its ID is free again.
func (w *Wallet) fail(o *order, err error, fx *step.Effects) {
	delete(w.orders, o.Order)
	w.refuse(o, err, fx)
}

// forgetOrders drops the oldest settled transfers whose orders are beyond
// KeepOrders.
func (w *Wallet) forgetOrders(fx *step.Effects) {
	for len(w.settled) > 0 && w.kept-len(w.settled[0].orders) >= KeepOrders {
		s := w.settled[0]
		w.settled = w.settled[1:]
		w.kept -= len(s.orders)
		delete(w.fresh, s.n)
		fx.Put = append(fx.Put, step.Record{Key: w.proofKey(s.n)})
		for _, o := range s.orders {
			delete(w.orders, o.Order)
			fx.Put = append(fx.Put, step.Record{Key: w.orderKey(o.Order)})
		}
	}
}
