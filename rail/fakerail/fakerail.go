// Package fakerail moves play money. It needs no peer and no chain, and works:
// balances and payments are durable, an order is paid once, and its receipt
// verifies offline.
//
//	fake:?balance=1000sat               pays out of a new account with that much
//	fake:?balance=1000sat&fail=pending  pays, and loses the answer
//	fake:?balance=1000sat&fail=unpaid   never pays
//	fake:                               is paid by the other end on its machine
//
// Both ends share one ledger in the machine's store.
package fakerail

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/trade"
	"coinop.dev/engine"
	"coinop.dev/rail"
	"coinop.dev/world/drive"
)

// Scheme is the rail's word.
const Scheme = "fake"

// Driver opens fake rails.
type Driver struct{}

// Open opens the paying end if u has a balance, and the earning end if not.
func (Driver) Open(ctx context.Context, u *url.URL, env rail.Env) (rail.Conn, error) {
	q := rail.Query(u)
	q.Text("host", "") // where others reach the machine; nobody needs to
	balance := q.Amount("balance", 0)
	fail := failure(q.Text("fail", string(never)))
	switch {
	case u.Host != "" || u.User != nil || u.Opaque != "" || u.Path != "":
		return nil, errors.New("play money stays on its machine; write fake:?balance=1000sat to pay, or fake: to be paid")
	case fail != never && fail != unpaid && fail != pending:
		return nil, fmt.Errorf("parameter fail=%.40q is not %s or %s", fail, unpaid, pending)
	case fail != never && balance == 0:
		return nil, fmt.Errorf("parameter fail=%s is for the end that pays; give it a balance", fail)
	}
	if err := q.Close(); err != nil {
		return nil, err
	}
	e := end{m: env.Machine}
	if err := e.open(ctx, balance); err != nil {
		return nil, err
	}
	if balance > 0 {
		return &payer{e, fail}, nil
	}
	return &payee{e, rail.NewEarner(e.m, e.to(), ledgerName)}, nil
}

// Verify makes it a rail.Verifier: a payee of play money has no address.
func (Driver) Verify(r money.Receipt) error { return end{}.Verify(r) }

// failure is what a payer is told to do wrong.
type failure string

const (
	never   failure = ""
	unpaid  failure = "unpaid"
	pending failure = "pending"
)

// end is what both ends are made of.
type end struct{ m *engine.Machine }

// open adds the ledger to the machine, unless the other end has.
func (e end) open(ctx context.Context, balance money.Amount) error {
	l, err := loadLedger(e.m.DB, e.m.Key, balance)
	if err != nil {
		return err
	}
	return e.m.Host.Do(ctx, func(m *drive.Machine) {
		switch there, _ := m.Core(ledgerName).(*ledger); {
		case there == nil:
			m.Add(ledgerName, l, trade.Seller)
		case there.seq == 0 && balance > 0: // opened by an end that had none to give
			there.balance = balance
		}
	})
}

func (e end) to() string { return to(e.m.Key.Public()) }

func to(node keys.Public) string { return Scheme + "://" + node.String() }

// Verify checks offline that the machine that To names has paid the order.
func (end) Verify(r money.Receipt) error {
	text, _, _ := strings.Cut(strings.TrimPrefix(r.To, Scheme+"://"), "?")
	node, err := keys.ParsePublicHex(text)
	if err == nil {
		_, err = receipt.Verify(receipt.Entry{Order: r.Order, Amount: r.Amount}, node, r.Proof)
	}
	return err
}

// Close leaves the ledger for the other end.
func (end) Close() error { return nil }

// payer is the paying end.
type payer struct {
	end
	fail failure
}

// Pay moves the money once for each order.
func (p *payer) Pay(ctx context.Context, o money.Order) (money.Receipt, error) {
	fail := func(kind money.Kind, err error) (money.Receipt, error) {
		return money.Receipt{}, &money.Error{Kind: kind, Op: "pay " + o.To, Err: err}
	}
	if name, _, _ := strings.Cut(o.To, "?"); name != p.to() {
		return fail(money.Unpaid, fmt.Errorf("this play money is worth something only to %s", p.to()))
	}
	if p.fail == unpaid {
		return fail(money.Unpaid, errors.New("told to fail"))
	}
	v, err := p.m.Host.Ask(ctx, ledgerName, o.ID.Key(), o)
	if err != nil {
		return money.Receipt{}, err
	}
	if p.fail == pending {
		return fail(money.Pending, errors.New("told to lose the answer"))
	}
	return rail.Receipt(v.(answer), p.to(), p.m.Host.Now()), nil
}

// Prove returns the receipt of an order that was paid.
func (p *payer) Prove(ctx context.Context, id money.OrderID) (money.Receipt, error) {
	v, err := p.m.Host.Ask(ctx, ledgerName, id.Key(), money.Inquiry{Order: id})
	if err != nil {
		return money.Receipt{}, err
	}
	return rail.Receipt(v.(answer), p.to(), p.m.Host.Now()), nil
}

// payee is the earning end.
type payee struct {
	end
	*rail.Earner
}

// Verify checks a receipt of this rail offline.
func (p *payee) Verify(r money.Receipt) error { return p.end.Verify(r) }

// Close leaves the ledger to the other end.
func (p *payee) Close() error { return p.end.Close() }
