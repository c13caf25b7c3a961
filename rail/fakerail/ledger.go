package fakerail

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

// ledgerName is the ledger's name among the machine's cores.
const ledgerName = "fake/ledger"

// Keep is how many payments the ledger remembers, and so answers again with the
// same proof.
const Keep = 4096

// ErrBroke means the balance does not cover the order.
var ErrBroke = errors.New("not enough play money")

// ledger is one account of play money and the payments out of it, as a core.
type ledger struct {
	payee   receipt.Payee
	stamp   keys.Stamp
	balance money.Amount
	paid    money.Amount // ever
	seq     uint64
	where   map[money.OrderID]*payment
	queue   []*payment // oldest first
}

// payment is an order that was paid, under a stamp of its own.
type payment struct {
	entry   receipt.Entry
	stamped receipt.Stamped
}

var channel = [16]byte{'f', 'a', 'k', 'e'}

func newLedger(node keys.Secret, balance money.Amount) *ledger {
	stamp := node.Stamp("fake")
	return &ledger{
		payee: receipt.Bind(node, channel, stamp.Public()), stamp: stamp, balance: balance,
		where: map[money.OrderID]*payment{},
	}
}

// Step pays each order once.
func (l *ledger) Step(in step.Input) (fx step.Effects) {
	for _, event := range in.Events {
		switch ev := event.(type) {
		case money.Order:
			l.pay(ev, &fx)
		case money.Inquiry:
			l.prove(ev, &fx)
		}
	}
	return fx
}

func (l *ledger) pay(o money.Order, fx *step.Effects) {
	p := l.where[o.ID]
	if p == nil {
		if o.Amount > l.balance {
			err := fmt.Errorf("%w: the balance is %v", ErrBroke, l.balance)
			fx.Done = append(fx.Done, step.Outcome{ID: o.ID.Key(), Err: &money.Error{Kind: money.Unpaid, Op: "pay " + o.To, Err: err}})
			return
		}
		p = l.enter(receipt.Entry{Order: o.ID, Amount: o.Amount}, fx)
		// Only a payment that is new is an outcome for the till.
		fx.Done = append(fx.Done, step.Outcome{ID: newPayment, Value: l.proof(p)})
	}
	fx.Done = append(fx.Done, step.Outcome{ID: o.ID.Key(), Value: answer{l.proof(p)}})
}

// prove answers for a payment that is remembered, and never pays.
func (l *ledger) prove(q money.Inquiry, fx *step.Effects) {
	out := step.Outcome{ID: q.Order.Key()}
	if p := l.where[q.Order]; p != nil {
		out.Value = answer{l.proof(p)}
	} else {
		out.Err = &money.Error{Kind: money.Refused, Op: "prove " + q.Order.String(), Err: money.ErrForgotten}
	}
	fx.Done = append(fx.Done, out)
}

// newPayment is the ID of the outcomes that the till files; an answer is for
// the payer, who may ask twice.
const newPayment = "new"

type answer struct{ receipt.Evidence } // and no Income

func (l *ledger) enter(e receipt.Entry, fx *step.Effects) *payment {
	l.balance -= e.Amount
	l.paid += e.Amount
	p := &payment{entry: e, stamped: receipt.Stamped{From: l.seq, To: l.seq + 1, Total: l.paid}}
	l.seq++
	p.stamped.Sign(l.stamp, channel, receipt.NewTree([]receipt.Entry{e}).Root())
	l.remember(p)
	fx.Put = append(fx.Put, l.head(), p.record())
	if len(l.queue) > Keep {
		old := l.queue[0]
		l.queue = l.queue[1:]
		delete(l.where, old.entry.Order)
		fx.Put = append(fx.Put, step.Record{Key: old.key()})
	}
	return p
}

func (l *ledger) remember(p *payment) {
	l.where[p.entry.Order] = p
	l.queue = append(l.queue, p)
}

func (l *ledger) proof(p *payment) receipt.Paid {
	entries := []receipt.Entry{p.entry}
	return receipt.Paid{Batch: &receipt.Batch{
		Channel: channel, Payee: l.payee, Stamped: p.stamped, Entries: entries, Tree: receipt.NewTree(entries),
	}}
}

// Records.

const (
	headKey    = "fake/head"
	paymentKey = "fake/o/"
)

func (l *ledger) head() step.Record {
	b := codec.AppendUint(nil, l.balance)
	b = codec.AppendUint(b, l.paid)
	return step.Record{Key: headKey, Value: codec.AppendUint(b, l.seq)}
}

func (p *payment) key() string { return paymentKey + p.entry.Order.String() }

func (p *payment) record() step.Record {
	b := codec.AppendUint(nil, p.entry.Amount)
	return step.Record{Key: p.key(), Value: p.stamped.Append(b)}
}

// Durable is everything the ledger has on disk, for whoever wants to check it.
func (l *ledger) Durable() []step.Record {
	if l.seq == 0 {
		return nil
	}
	all := []step.Record{l.head()}
	for _, p := range l.queue {
		all = append(all, p.record())
	}
	slices.SortFunc(all, func(a, b step.Record) int { return strings.Compare(a.Key, b.Key) })
	return all
}

// loadLedger reads a ledger back. A new one starts with balance.
func loadLedger(db step.Reader, node keys.Secret, balance money.Amount) (*ledger, error) {
	l := newLedger(node, balance)
	raw, err := db.Get(headKey)
	if err != nil || raw == nil {
		return l, err
	}
	r := codec.NewReader(raw)
	l.balance, l.paid, l.seq = r.Amount(), r.Amount(), r.Uvarint()
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("record %s: %w", headKey, err)
	}
	var fault error
	err = db.Scan(paymentKey, func(key string, value []byte) bool {
		p := &payment{}
		if fault = p.entry.Order.UnmarshalText([]byte(key[len(paymentKey):])); fault != nil {
			return false
		}
		r := codec.NewReader(value)
		p.entry.Amount, p.stamped = r.Amount(), receipt.ReadStamped(r)
		fault = r.Close()
		l.remember(p)
		return fault == nil
	})
	slices.SortFunc(l.queue, func(a, b *payment) int {
		if a.stamped.From < b.stamped.From {
			return -1
		}
		return 1
	})
	if fault != nil {
		fault = fmt.Errorf("records %s: %w", paymentKey, fault)
	}
	return l, errors.Join(err, fault)
}
