package transfer

import (
	"fmt"
	"slices"

	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

// bill is what somebody else's order is paid by.
type bill struct {
	order  money.OrderID
	n      uint64
	amount money.Amount
	at     step.Time
	text   string
	key    string
	got    money.Amount // in coins
	told   money.Amount // to the till
	coins  []coin       // that count
}

type coin struct {
	id    string
	spent bool // it cannot be said again
}

func (b *bill) paid() bool { return b.told > 0 }

// done reports whether the bill can be forgotten without any of its coins counting
// again.
func (b *bill) done() bool {
	return !slices.ContainsFunc(b.coins, func(c coin) bool { return !c.spent })
}

func (w *Wallet) invoice(ev Invoice, fx *step.Effects) {
	b, err := w.bill(ev, fx)
	out := step.Outcome{ID: BillID(ev.Order)}
	if err != nil {
		out.Err = refuse(money.Refused, "bill "+ev.Order.String(), err)
	} else {
		out.Value = b.text
	}
	fx.Done = append(fx.Done, out)
}

func (w *Wallet) bill(ev Invoice, fx *step.Effects) (*bill, error) {
	if err := validAmount(ev.Amount); err != nil {
		return nil, &money.Error{Kind: money.Invalid, Err: err}
	}
	old := w.bills[ev.Order]
	switch {
	case old != nil && old.amount == ev.Amount:
		return old, nil
	case old != nil && old.got > 0:
		return nil, fmt.Errorf("%v were paid for it already; it stays at %v", old.got, old.amount)
	}
	w.forgetBills(fx)
	if old == nil && w.unpaid >= MaxBills {
		return nil, fmt.Errorf("%d bills wait to be paid, which is the limit; try again later", MaxBills)
	}
	text, key, err := w.ledger.Bill(ev.Order, ev.Amount, w.nextBill)
	if err != nil {
		return nil, err
	}
	step.Assert(len(text) <= MaxBill && len(key) <= maxKey, "transfer: a bill of %d bytes, and a key of %d", len(text), len(key))
	b := &bill{order: ev.Order, n: w.nextBill, amount: ev.Amount, at: w.now, text: text, key: key}
	w.nextBill++
	if old != nil {
		w.dropBill(old)
		w.billList = slices.DeleteFunc(w.billList, func(x *bill) bool { return x == old })
	}
	w.fileBill(b)
	fx.Put = append(fx.Put, w.billRecord(b))
	return b, nil
}

// fileBill keeps a bill, new or from disk.
func (w *Wallet) fileBill(b *bill) {
	w.bills[b.order], w.byKey[b.key] = b, b
	w.billList = append(w.billList, b)
	if !b.paid() {
		w.unpaid++
	}
	for _, c := range b.coins {
		if !c.spent {
			w.byCoin[c.id] = b
		}
	}
}

func (w *Wallet) dropBill(b *bill) {
	delete(w.bills, b.order)
	if w.byKey[b.key] == b {
		delete(w.byKey, b.key)
	}
	if !b.paid() {
		w.unpaid--
	}
}

// coin counts one for its bill, once, and tells the till when the bill is paid: of
// all that came, so who pays too much has it credited, and what comes later is told
// as it comes.
func (w *Wallet) coin(c Coin, fx *step.Effects) {
	b := w.byKey[c.Key]
	if b == nil || w.byCoin[c.ID] != nil || len(b.coins) >= MaxBillCoins || b.has(c.ID) {
		return
	}
	sum, ok := b.got.Add(c.Amount)
	if !ok || c.Amount == 0 {
		return
	}
	b.got, b.coins = sum, append(b.coins, coin{id: c.ID})
	w.byCoin[c.ID] = b
	if b.got >= b.amount {
		if !b.paid() {
			w.unpaid--
		}
		e := receipt.Entry{Order: b.order, Amount: b.got - b.told}
		b.told = b.got
		fx.Done = append(fx.Done, step.Outcome{ID: IncomeID, Value: Received{e}})
	}
	fx.Put = append(fx.Put, w.billRecord(b))
}

func (b *bill) has(id string) bool {
	return slices.ContainsFunc(b.coins, func(c coin) bool { return c.id == id })
}

// spent notes that a coin cannot be said again.
func (w *Wallet) spent(id string, fx *step.Effects) {
	b := w.byCoin[id]
	if b == nil {
		return
	}
	delete(w.byCoin, id)
	for i := range b.coins {
		b.coins[i].spent = b.coins[i].spent || b.coins[i].id == id
	}
	fx.Put = append(fx.Put, w.billRecord(b))
}

// forgetBills drops the oldest bills: paid ones beyond KeepBills, and if there is
// need of room those that were not paid for MinBillLife. What still comes for them
// is in the balance, and nobody's payment.
func (w *Wallet) forgetBills(fx *step.Effects) {
	paid := len(w.bills) - w.unpaid
	if w.unpaid < MaxBills && paid <= KeepBills {
		return
	}
	kept := w.billList[:0:0]
	for _, b := range w.billList {
		switch {
		case b.paid() && paid > KeepBills && b.done():
			paid--
		case !b.paid() && b.done() && w.unpaid >= MaxBills && w.now-b.at >= MinBillLife:
		default:
			kept = append(kept, b)
			continue
		}
		w.dropBill(b)
		fx.Put = append(fx.Put, step.Record{Key: w.billKey(b.order)})
	}
	w.billList = kept
}
