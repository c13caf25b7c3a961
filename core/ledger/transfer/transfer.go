// Package transfer is a wallet on a ledger where money moves by a signed transfer
// that becomes final later: a block of a lattice, a transaction of a Tangle. It is
// one core for all of them; what is particular to one is behind Ledger.
//
// An order is paid once. The transfer that pays it is signed and on disk before the
// node hears of it, and what is said again is that transfer: a second one is never
// made while the first can become final. The same order later gets the same proof.
//
// A bill says what an order of somebody else is paid by. What the node says is
// there is matched with bills, and the till is told once of every coin.
//
// Invariants:
//
//   - an order that has a transfer is on disk, and one that waits for a transfer is
//     not, because nothing is signed for it;
//   - every transfer that is not final and not dead is on disk as it was signed;
//   - a coin counts for at most one bill, and a bill remembers its coins until they
//     are spent by a transfer that is final.
package transfer

import (
	"errors"
	"fmt"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

const (
	// MaxOrders bounds orders that are not answered: as many as a purse has open.
	MaxOrders = 4096
	// KeepOrders is how many settled orders are remembered with their proofs, so
	// that an order handed over again is not paid again. It must be at least what a
	// purse can have open.
	KeepOrders = 4096
	// MaxBills bounds bills that nobody has paid, KeepBills those that are paid.
	MaxBills  = 4096
	KeepBills = 4096
	// MinBillLife is how long an unpaid bill stands at least, however many are
	// asked for.
	MinBillLife = step.Hour
	// MaxBillCoins bounds the coins that count for one bill; more are nobody's
	// payment.
	MaxBillCoins = 64

	// MaxAsks bounds those who wait for one order.
	MaxAsks = 64
	// MaxTogether bounds the orders that a ledger is shown at a time.
	MaxTogether = 256
	// MaxResubmit bounds the transfers that are said again at a time, oldest first.
	MaxResubmit = 256
	// maxTurns bounds how often new transfers are made within one instant: cores of
	// a machine that answer each other for ever would never come to the disk
	// (drive.MaxWaves).
	maxTurns = 2
)

// Limits in bytes.
const (
	MaxBill     = 512 // a bill's text
	MaxPayee    = 512 // what a receipt calls its payee
	MaxTransfer = 40 << 10
	MaxProof    = 1 << 20
	maxKey      = 64
	maxHead     = 4 << 10
	maxWhy      = 400
)

// Options are what a wallet is made of.
type Options struct {
	Name   string // of the core; its records begin so too
	Node   string // the core or outlet that knows the ledger
	Follow any    // asks the node for what Ledger.Hear wants to know
	// Again is when the node is asked again for what it has not answered; 0: 10 s.
	Again step.Time
}

// idle is how many times rarer the node is asked when nothing is outstanding, and
// soon when it is asked that has put something off, or never said anything: it may
// start after us.
const (
	idle = 6
	soon = step.Second
)

// Pay asks for an order to be paid. The outcome has the order's key, and another one
// has the ID Ask: Paid, or an error whose kind is Unpaid if it is certain that no
// transfer of it becomes final. Asked again, it is paid once, as it was asked for
// first: an ID that comes with another payee or amount is answered with what was
// paid, which the caller compares.
type Pay struct {
	Order  money.OrderID
	Amount money.Amount
	To     string         // whom the receipt will name
	Bill   string         // what to pay, as the ledger writes it; empty: only if the order is known
	Word   keys.Signature // the payee's on the bill, for the receipt; zero if there is none
	// Ask is no other's. By the order's key one hears what others were told, and a
	// refusal of theirs may come before one's own asking is heard.
	Ask string
}

// Paid answers Pay: a receipt.Evidence but for the till.
type Paid struct {
	Pay
	Ledger []byte // the ledger's proof
}

// Invoice asks for what an order is to be paid by. The outcome, under BillID, is the
// bill's text; asked again it is the same. With another amount the first bill is
// taken back, unless something was paid.
type Invoice struct {
	Order  money.OrderID
	Amount money.Amount
}

// BillID is the ID of an Invoice's outcome.
func BillID(id money.OrderID) string { return "bill/" + id.Key() }

// IncomeID is the ID of the outcomes that the till files: Received.
const IncomeID = "income"

// Received tells the till.
type Received struct{ receipt.Entry }

// Income is the order that was paid to us, and how much.
func (r Received) Income() receipt.Entry { return r.Entry }

// A Wallet is the core.
type Wallet struct {
	o      Options
	ledger Ledger
	db     step.Reader
	now    step.Time

	orders  map[money.OrderID]*order
	waiting []*order // without a transfer, in the order of asking
	open    []*sent  // oldest first
	byID    map[ID]*sent
	settled []*sent // oldest first
	kept    int     // orders in settled
	busy    int     // orders in open

	bills    map[money.OrderID]*bill
	byKey    map[string]*bill // that may be paid
	byCoin   map[string]*bill // whose coin is not spent
	billList []*bill          // oldest first
	unpaid   int

	nextTransfer, nextBill uint64
	head                   []byte // as it is on disk

	heard  bool              // the node has said something
	putOff bool              // it wants to be asked again
	fresh  map[uint64][]byte // proofs that this round puts
	turns  int               // of making transfers in this instant
	alarm  step.Time
}

// Step takes what was asked, what the node says, and alarms.
func (w *Wallet) Step(in step.Input) (fx step.Effects) {
	if w.now != in.At {
		w.now, w.turns = in.At, 0
		clear(w.fresh)
	}
	w.check()
	for _, event := range in.Events {
		switch ev := event.(type) {
		case Pay:
			w.pay(ev, &fx)
		case money.Inquiry:
			w.prove(ev, &fx)
		case Invoice:
			w.invoice(ev, &fx)
		case step.Recv:
			if ev.From == w.o.Node {
				w.hear(ev.Msg, &fx)
			}
		case step.Rang:
			if ev.ID != laterAlarm {
				w.again(&fx)
			}
		}
	}
	w.build(&fx)
	w.forgetOrders(&fx)
	w.putHead(&fx)
	w.wake(&fx)
	return fx
}

// check is the cheap part of the package comment.
func (w *Wallet) check() {
	step.Assert(len(w.orders) == len(w.waiting)+w.busy+w.kept, "transfer: %d orders are known; %d wait, %d are sent, %d settled", len(w.orders), len(w.waiting), w.busy, w.kept)
	step.Assert(len(w.byID) == len(w.open), "transfer: %d transfers are open, and %d found by ID", len(w.open), len(w.byID))
	step.Assert(w.unpaid >= 0 && w.unpaid <= len(w.bills), "transfer: %d of %d bills are unpaid", w.unpaid, len(w.bills))
}

// again says to the node what it may have missed.
func (w *Wallet) again(fx *step.Effects) {
	w.alarm, w.putOff = 0, false
	w.send(w.o.Follow, fx)
	for _, s := range w.open[:min(len(w.open), MaxResubmit)] {
		w.send(s.Submit, fx)
	}
}

func (w *Wallet) send(msg any, fx *step.Effects) {
	fx.Send = append(fx.Send, step.Packet{To: w.o.Node, Msg: msg})
}

// wake sets the alarm for again, sooner if something is outstanding.
func (w *Wallet) wake(fx *step.Effects) {
	next := w.now + w.o.Again*idle
	if len(w.open) > 0 || len(w.waiting) > 0 {
		next = w.now + w.o.Again
	}
	if !w.heard || w.putOff {
		next = min(next, w.now+soon)
	}
	if w.alarm == 0 || w.alarm > next {
		w.alarm = next
		fx.Wake = append(fx.Wake, step.Alarm{ID: againAlarm, At: next})
	}
	if w.turns >= maxTurns {
		fx.Wake = append(fx.Wake, step.Alarm{ID: laterAlarm, At: w.now + 1})
	}
}

// laterAlarm goes on making transfers in the next instant.
const (
	againAlarm = "again"
	laterAlarm = "later"
)

// hear folds in what the node says.
func (w *Wallet) hear(msg any, fx *step.Effects) {
	w.heard = true
	news := w.ledger.Hear(msg)
	for _, f := range news.Final {
		w.final(f, fx)
	}
	for _, d := range news.Dead {
		w.dead(d, fx)
	}
	for _, c := range news.Coins {
		w.coin(c, fx)
	}
	if news.Ask {
		w.send(w.o.Follow, fx)
	}
	for _, id := range news.Again {
		if s := w.byID[id]; s != nil {
			w.send(s.Submit, fx)
		}
	}
	w.putOff = w.putOff || news.Soon
}

// build makes the transfers that can be made: first those that make room, then those
// that pay.
func (w *Wallet) build(fx *step.Effects) {
	if w.turns >= maxTurns {
		return
	}
	made := len(w.open)
	for {
		t, _, err := w.ledger.Build(nil)
		if err != nil || t.Raw == nil {
			break
		}
		w.submit(t, nil, fx)
	}
	w.payWaiting(fx)
	if len(w.open) > made {
		w.turns++
	}
}

func (w *Wallet) payWaiting(fx *step.Effects) {
	for len(w.waiting) > 0 {
		together := make([]Payment, min(len(w.waiting), MaxTogether))
		for i := range together {
			p := &w.waiting[i].Pay
			together[i] = Payment{p.Order, p.Amount, p.Bill}
		}
		for len(together) > 0 {
			t, n, err := w.ledger.Build(together)
			if errors.Is(err, ErrLater) {
				return
			}
			if err != nil {
				n = 1
				w.fail(w.waiting[0], err, fx)
			} else {
				step.Assert(n >= 1 && n <= len(together), "transfer: one pays %d of %d orders", n, len(together))
				w.submit(t, w.waiting[:n:n], fx)
			}
			w.waiting, together = w.waiting[n:], together[n:]
		}
	}
	w.waiting = nil
}

// Known reports whether an order is being paid or was.
func (w *Wallet) Known(id money.OrderID) bool { return w.orders[id] != nil }

// Ledger is what it was loaded with: for whoever asks for balances, on the host's
// goroutine.
func (w *Wallet) Ledger() Ledger { return w.ledger }

// Follows is what the node is asked for: whose wallet this is.
func (w *Wallet) Follows() any { return w.o.Follow }

// Summary is what people ask.
type Summary struct {
	Waiting int // orders without a transfer
	Sending int // orders whose transfer is not final
	Settled int // orders whose proof is kept
	Open    int // transfers that are not final, with those that pay nobody
	Bills   int // that nobody has paid
}

// Summary counts.
func (w *Wallet) Summary() Summary {
	return Summary{len(w.waiting), w.busy, w.kept, len(w.open), w.unpaid}
}

// Proof is what the receipt of the order has: the bill, the payee's word and the
// ledger's proof (ReadProof).
func (p Paid) Proof() []byte {
	return Proof{p.Bill, p.Word, p.Ledger}.Append(nil)
}

// Entry is the order that was paid.
func (p Paid) Entry() receipt.Entry { return receipt.Entry{Order: p.Order, Amount: p.Amount} }

func refuse(kind money.Kind, op string, err error) error {
	var known *money.Error
	if errors.As(err, &known) {
		kind, err = known.Kind, known.Err
	}
	return &money.Error{Kind: kind, Op: op, Err: err}
}

func validAmount(a money.Amount) error {
	if a == 0 || a > money.MaxAmount {
		return fmt.Errorf("the amount is %d msat; it must be 1 to %d", uint64(a), uint64(money.MaxAmount))
	}
	return nil
}
