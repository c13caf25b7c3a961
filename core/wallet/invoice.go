package wallet

import (
	"fmt"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

// Invoice asks for an address of its own for a bill. The outcome, under
// BillID, is an Address; asked again it is the same.
//
// The till is told (an outcome whose value is a receipt.Income) once coins of
// at least the bill's amount are there with Options.Depth confirmations: of all
// that came, so who pays too much has it credited. Less than the amount is told
// nobody until the rest comes. What comes later, after the bill was paid or has
// expired, is told as it comes: money is never refused.
type Invoice struct {
	Order   money.OrderID
	Account string
	Amount  money.Amount
	Expires step.Time // 0: never
}

// BillID is the ID of an Invoice's outcome.
func BillID(id money.OrderID) string { return "bill/" + id.Key() }

// incomeID is the ID of the outcomes that the till files.
const incomeID = "income"

// maxBillCoins bounds the coins that are counted for one bill; more are the
// account's and nobody's payment.
const maxBillCoins = 64

// Received is the value of an outcome that tells the till: a receipt.Income.
type Received struct{ receipt.Entry }

// Income is the order that was paid to us, and how much.
func (r Received) Income() receipt.Entry { return r.Entry }

type bill struct {
	order   money.OrderID
	n       uint64
	account string
	index   uint32
	amount  money.Amount
	expires step.Time
	told    money.Amount    // to the till
	late    bool            // the first coin came after expiry
	counted []wire.OutPoint // coins that are deep enough
	got     money.Amount    // in them

	script []byte
}

func (b *bill) paid() bool { return b.told > 0 }

func (w *Wallet) invoice(ev Invoice, fx *step.Effects) {
	if a, err := w.account(ev.Account); err == nil && w.bills[ev.Order] == nil && a.unsure() {
		w.hold(BillID(ev.Order), "bill "+ev.Order.String(), ev, fx)
		return
	}
	at, err := w.bill(ev, fx)
	if err != nil {
		w.fail(BillID(ev.Order), money.Refused, "bill "+ev.Order.String(), err, fx)
		return
	}
	fx.Done = append(fx.Done, step.Outcome{ID: BillID(ev.Order), Value: at})
}

func (w *Wallet) bill(ev Invoice, fx *step.Effects) (at Address, err error) {
	if ev.Amount == 0 || ev.Amount > money.MaxAmount {
		return at, fmt.Errorf("the amount is %v; it must be 1 msat to %v", ev.Amount, money.MaxAmount)
	}
	if b := w.bills[ev.Order]; b != nil {
		if b.amount != ev.Amount && b.got > 0 {
			return at, fmt.Errorf("%v were paid for it already; it stays at %v", b.got, b.amount)
		}
		if b.amount != ev.Amount || b.expires != ev.Expires {
			b.amount, b.expires = ev.Amount, ev.Expires
			fx.Put = append(fx.Put, b.record())
		}
		return w.addressOf(b)
	}
	a, err := w.account(ev.Account)
	if err != nil {
		return at, err
	}
	w.forgetBills(fx)
	if w.unpaid >= MaxBills {
		return at, fmt.Errorf("%d bills wait to be paid, which is the limit; let them expire", MaxBills)
	}
	if at, err = w.fresh(a, fx); err != nil {
		return at, err
	}
	b := &bill{order: ev.Order, n: w.nextBill, account: a.name, index: at.Index, amount: ev.Amount, expires: ev.Expires, script: at.Script}
	w.nextBill++
	w.head = true
	w.fileBill(b)
	fx.Put = append(fx.Put, b.record())
	return at, nil
}

func (w *Wallet) addressOf(b *bill) (Address, error) {
	return address(b.account, b.index, b.script, w.o.Params)
}

func (w *Wallet) fileBill(b *bill) {
	w.bills[b.order], w.billed[string(b.script)] = b, b
	w.billList = append(w.billList, b)
	if !b.paid() {
		w.unpaid++
	}
}

// collect counts the coins of a bill that are deep enough.
func (w *Wallet) collect(b *bill, coins []*coin, fx *step.Effects) {
	was, changed := b.paid(), false
	for _, c := range coins {
		if w.sure(c) < w.o.Depth || len(b.counted) >= maxBillCoins || b.has(c.point) {
			continue
		}
		if len(b.counted) == 0 {
			b.late = b.expires > 0 && w.now > b.expires
		}
		sum, ok := b.got.Add(satoshi(c.value))
		if !ok {
			continue
		}
		b.counted, b.got, changed = append(b.counted, c.point), sum, true
	}
	if !changed {
		return
	}
	if a := w.accounts[b.account]; len(a.waiting) > 0 {
		w.hungry[a.name] = true
	}
	if b.got >= b.amount || was {
		e := receipt.Entry{Order: b.order, Amount: b.got - b.told}
		b.told = b.got
		fx.Done = append(fx.Done, step.Outcome{ID: incomeID, Value: Received{e}})
		if !was {
			w.unpaid--
		}
	}
	fx.Put = append(fx.Put, b.record())
}

// uncounted tells that a coin pays a bill and is not deep enough yet. Until then it
// is not spent: a coin that is gone is nobody's payment.
func (w *Wallet) uncounted(c *coin) bool {
	b := w.billed[string(c.script.Script.Script)]
	return b != nil && len(b.counted) < maxBillCoins && !b.has(c.point)
}

// collectDeep looks at bills again when headers have made their coins deeper.
func (w *Wallet) collectDeep(fx *step.Effects) {
	if w.o.Depth < 2 {
		return // the coins themselves were the news
	}
	for _, b := range w.billList {
		if w.bills[b.order] != b {
			continue
		}
		if coins := w.accounts[b.account].coins[string(b.script)]; len(coins) > 0 {
			w.collect(b, coins, fx)
		}
	}
}

func (b *bill) has(p wire.OutPoint) bool {
	for _, q := range b.counted {
		if p == q {
			return true
		}
	}
	return false
}

// forgetBills drops expired bills that got nothing, if there is need of room,
// and the oldest paid ones beyond KeepBills. Their addresses stay watched: what
// still comes is the account's.
func (w *Wallet) forgetBills(fx *step.Effects) {
	paid := len(w.bills) - w.unpaid
	if w.unpaid < MaxBills && paid <= KeepBills {
		return
	}
	kept := w.billList[:0:0]
	for _, b := range w.billList {
		switch {
		case b.paid() && paid > KeepBills:
			paid--
		case !b.paid() && b.got == 0 && b.expires > 0 && b.expires < w.now && w.unpaid >= MaxBills:
			w.unpaid--
		default:
			kept = append(kept, b)
			continue
		}
		delete(w.bills, b.order)
		delete(w.billed, string(b.script))
		fx.Put = append(fx.Put, step.Record{Key: billKey(b.order)})
	}
	w.billList = kept
}
