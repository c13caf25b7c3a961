package wallet

import (
	"errors"
	"fmt"
	"slices"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/payuri"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/consent"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// Pay asks the wallet to pay an order. Asked again it is answered again, and
// paid once; an order that was answered Unpaid may be asked again, by whoever is
// on this machine.
type Pay struct {
	Order   money.OrderID
	Account string // "": the default one
	Script  []byte
	Amount  money.Amount // a fraction of a satoshi is rounded up
	Rate    tx.FeeRate   // 0: Options.FeeRate
}

type orderState uint8

const (
	waiting orderState = iota // for company, coins, or a consent
	settled
	failed // told to a device, which may ask again because the answer was lost
)

type order struct {
	Pay
	n     uint64
	state orderState
	alone bool   // the signer refused it in company
	from  string // the peer that asked; "" on this machine
	at    step.Time
	batch *batch
	out   uint32 // of the settled transaction

	kind money.Kind // of a failure
	why  string
}

// sats is what the order's output holds.
func (o *order) sats() int64 { return (o.Amount + money.Sat - 1).Sats() }

func (w *Wallet) pay(p Pay, from string, fx *step.Effects) {
	if o := w.orders[p.Order]; o != nil {
		w.payAgain(o, from, fx)
		return
	}
	a, kind, err := w.payable(p, from)
	if err != nil {
		w.answer(&order{Pay: p, from: from, state: failed, kind: kind, why: err.Error()}, err, fx)
		return
	}
	p.Account = a.name
	o := &order{Pay: p, n: w.nextOrder, from: from, at: w.now}
	w.nextOrder++
	w.head = true
	w.keep(o)
	w.enqueue(o)
	fx.Put = append(fx.Put, o.record())
}

// payAgain answers a repeated order if it has an answer.
func (w *Wallet) payAgain(o *order, from string, fx *step.Effects) {
	switch {
	case o.from != from:
		err := fmt.Errorf("order %v is another account's; choose a new ID", o.Order)
		w.answer(&order{Pay: o.Pay, from: from, state: failed, kind: money.Invalid, why: err.Error()}, err, fx)
	case o.state == settled || o.batch != nil && o.batch.answered:
		w.answer(o, nil, fx)
	case o.state == failed:
		w.answer(o, errors.New(o.why), fx)
	}
}

func (w *Wallet) payable(p Pay, from string) (*account, money.Kind, error) {
	a, err := w.account(p.Account)
	if from != "" {
		a, err = w.mine(from, p.Account)
	}
	switch {
	case err != nil:
		return nil, money.Unpaid, err
	case a.next[change] >= MaxAddresses:
		return nil, money.Unpaid, fmt.Errorf("account %s has made %d transactions, which is the limit; move its money to a new one", a.name, MaxAddresses)
	case p.Amount == 0 || p.Amount > money.MaxAmount:
		return nil, money.Invalid, fmt.Errorf("the amount is %v; it must be 1 msat to %v", p.Amount, money.MaxAmount)
	case len(p.Script) == 0 || len(p.Script) > MaxScript:
		return nil, money.Invalid, fmt.Errorf("the script is %d bytes; it must be 1 to %d", len(p.Script), MaxScript)
	case (p.Amount + money.Sat - 1).Sats() < dust(p.Script):
		return nil, money.Unpaid, fmt.Errorf("%v is dust: nodes relay no output of that kind below %d sat; pay over a channel", p.Amount, dust(p.Script))
	case p.Rate != 0 && (p.Rate < tx.MinFeeRate || p.Rate > w.o.MaxFeeRate):
		return nil, money.Invalid, fmt.Errorf("the fee rate is %d sat/kvB; it must be %d to %d", p.Rate, tx.MinFeeRate, w.o.MaxFeeRate)
	case w.waiting >= MaxWaiting || a.pending >= MaxAccountWaiting:
		return nil, money.Unpaid, fmt.Errorf("%d orders wait, %d of them of account %s; the limits are %d and %d; try again when one is answered", w.waiting, a.pending, a.name, MaxWaiting, MaxAccountWaiting)
	}
	return a, 0, nil
}

// keep files an order, new or from disk.
func (w *Wallet) keep(o *order) {
	w.orders[o.Order] = o
	w.queue = append(w.queue, o)
	if o.state == waiting {
		w.waiting++
		if a := w.accounts[o.Account]; a != nil {
			a.pending++
		}
	}
}

// enqueue has an order wait for a transaction, in the order of asking.
func (w *Wallet) enqueue(o *order) {
	a := w.accounts[o.Account]
	at, _ := slices.BinarySearchFunc(a.waiting, o.n, func(o *order, n uint64) int { return compare(o.n, n) })
	a.waiting = slices.Insert(a.waiting, at, o)
	w.hungry[a.name] = true
}

func (w *Wallet) dequeue(o *order) {
	a := w.accounts[o.Account]
	a.waiting = slices.DeleteFunc(a.waiting, func(x *order) bool { return x == o })
	if len(a.waiting) == 0 {
		delete(w.hungry, a.name)
	}
}

func compare[T int64 | uint64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// unpaidOrder ends an order that is in no transaction that may be published. A
// device's is remembered, because a repetition of it may be on its way.
func (w *Wallet) unpaidOrder(o *order, err error, fx *step.Effects) {
	w.dequeue(o)
	w.done(o)
	o.state, o.kind, o.why, o.batch = failed, money.Unpaid, err.Error(), nil
	o.why = o.why[:min(len(o.why), maxText)]
	if o.from == "" {
		delete(w.orders, o.Order)
		fx.Put = append(fx.Put, step.Record{Key: orderKey(o.Order)})
	} else {
		fx.Put = append(fx.Put, o.record())
	}
	w.answer(o, err, fx)
}

// done takes an order off those that are not answered.
func (w *Wallet) done(o *order) {
	step.Assert(o.state == waiting, "wallet: order %v is answered twice", o.Order)
	w.waiting--
	w.accounts[o.Account].pending--
}

// answer tells whoever asked.
func (w *Wallet) answer(o *order, err error, fx *step.Effects) {
	switch {
	case err == nil && o.from == "":
		fx.Done = append(fx.Done, step.Outcome{ID: o.Order.Key(), Value: Paid{o.Order, o.Amount, o.proof()}})
	case err == nil:
		w.send(o.from, Settled{o.Order, o.proof()}, fx)
	case o.from == "":
		w.fail(o.Order.Key(), o.kind, "pay "+o.Order.String(), err, fx)
	default:
		w.send(o.from, Failed{o.Order, o.kind, o.why}, fx)
	}
}

// prove answers for an order that is known, and never pays.
func (w *Wallet) prove(q money.Inquiry, fx *step.Effects) {
	if o := w.orders[q.Order]; o != nil && o.from == "" {
		w.payAgain(o, "", fx)
		return
	}
	w.fail(q.Order.Key(), money.Refused, "prove "+q.Order.String(), money.ErrForgotten, fx)
}

// heard is what a device says.
func (w *Wallet) heard(from string, msg any, fx *step.Effects) {
	switch m := msg.(type) {
	case Order:
		w.pay(Pay{Order: m.ID, Account: m.Account, Script: m.Script, Amount: m.Amount, Rate: m.Rate}, from, fx)
	case Claim:
		w.claim(from, m, fx)
	case Look:
		w.look(from, m, fx)
	case consent.AskHeaders:
		w.relayHeaders(from, m, fx)
	}
}

func (w *Wallet) look(from string, m Look, fx *step.Effects) {
	a, err := w.mine(from, m.Account)
	var at Address
	if err == nil && m.Fresh {
		at, err = w.fresh(a, fx)
	}
	if err != nil {
		w.send(from, Refused{err.Error()}, fx)
		return
	}
	v := w.view(a)
	w.send(from, Shown{Account: a.name, Tip: w.tip, Confirmed: v.Confirmed, Waiting: v.Waiting, Reserved: v.Reserved, Index: at.Index, Address: at.Text}, fx)
}

// forget drops the oldest answered orders beyond KeepOrders, and with the last
// one of a transaction its proof.
func (w *Wallet) forget(fx *step.Effects) {
	if len(w.queue) > 2*len(w.orders)+64 { // many left no trace
		w.queue = slices.DeleteFunc(w.queue, func(o *order) bool { return w.orders[o.Order] != o })
	}
	answered := len(w.orders) - w.waiting
	if answered <= KeepOrders {
		return
	}
	kept := w.queue[:0:0]
	for i, o := range w.queue {
		if answered <= KeepOrders {
			kept = append(kept, w.queue[i:]...)
			break
		}
		switch {
		case w.orders[o.Order] != o: // it left no trace
		case o.state == waiting:
			kept = append(kept, o)
		default:
			answered--
			delete(w.orders, o.Order)
			fx.Put = append(fx.Put, step.Record{Key: orderKey(o.Order)})
			if b := o.batch; b != nil && b.release() {
				delete(w.archive, b.n)
				fx.Put = append(fx.Put, step.Record{Key: batchKey(b.n)})
			}
		}
	}
	w.queue = kept
}

// payURI pays what a purse hands over: a bitcoin: URI (BIP 21, BIP 321), from
// the default account.
func (w *Wallet) payURI(o money.Order, fx *step.Effects) {
	script, err := w.payee(o)
	if err != nil {
		w.fail(o.ID.Key(), money.Invalid, "pay "+o.To, err, fx)
		return
	}
	w.pay(Pay{Order: o.ID, Script: script, Amount: o.Amount}, "", fx)
}

func (w *Wallet) payee(o money.Order) ([]byte, error) {
	u, err := payuri.Parse(o.To)
	if err != nil {
		return nil, err
	}
	switch {
	case u.Address == "":
		return nil, errors.New("it names no address; ask the payee for one")
	case u.Amount > 0 && o.Amount < u.Amount:
		return nil, fmt.Errorf("it asks for %v, and the order is of %v", u.Amount, o.Amount)
	}
	return descriptor.ParseAddress(u.Address, w.o.Params)
}
