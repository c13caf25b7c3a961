// Package ledgerrail is what rails have in common that pay by transfers of a ledger
// (core/ledger/transfer): nanorail and iotarail.
//
// Two kinds of payment URI can be paid:
//
//	nano:<account>?amount=<raw>                  as other wallets write it
//	nano://<machine key>@<host>:<port>           asks that machine for a bill
//
// The second is what the earning end gives out: the payee signs what this order is
// paid by (core/billing), and in it whom to believe that it was. So a receipt proves
// the order, the amount and the payee to anybody, offline. The receipt of a plain
// address proves that the address was paid, not for what, and only to who knows the
// network: nobody has signed whom to believe.
package ledgerrail

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"coinop.dev/core/billing"
	"coinop.dev/core/keys"
	"coinop.dev/core/ledger/transfer"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/trade"
	"coinop.dev/engine"
	"coinop.dev/rail"
	"coinop.dev/world/drive"
)

// Self is the host in the URI of a rail that only pays.
const Self = "self"

// A Kind is what is particular to a rail.
type Kind struct {
	Scheme string
	Core   string // the wallet's name among the machine's cores
	Node   string // the core or outlet that knows the ledger
	// Reach connects the machine to a node far away, until the machine stops. Nil
	// where the node is this machine's own.
	Reach func()
	// Plain makes a bill of a payment URI that names no machine. Nil where no
	// network is known.
	Plain func(o money.Order) (bill string, err error)
	// Read checks that a bill is of an order, which a machine knows by our ID if one is
	// named. It says the payment URI of the address that the bill pays, and whether
	// this network's own word is what it is proved by.
	Read func(bill string, e receipt.Entry, named bool) (address string, ours bool, err error)
	// Check checks a proof of a bill that was read.
	Check func(bill string, proof []byte) error
}

// Open adds the wallet to the machine unless it is there, and opens a rail that
// pays, and is paid if host says where payers find this machine.
func Open(ctx context.Context, m *engine.Machine, k Kind, host string, ledger transfer.Ledger, follow any) (rail.Conn, error) {
	w, err := transfer.Load(m.DB, transfer.Options{Name: k.Core, Node: k.Node, Follow: follow}, ledger)
	if err != nil {
		return nil, err
	}
	var there *transfer.Wallet
	if err := m.Host.Do(ctx, func(machine *drive.Machine) { there, _ = machine.Core(k.Core).(*transfer.Wallet) }); err != nil {
		return nil, err
	}
	switch {
	case there == nil:
		if k.Reach != nil {
			k.Reach()
		}
		if err := m.Host.Add(ctx, k.Core, w, trade.Seller); err != nil {
			return nil, err
		}
	case there.Follows() != follow:
		return nil, fmt.Errorf("this machine has a %s wallet with another key; a machine has one: give its rails the same index= and seed=", k.Scheme)
	}
	c := &conn{m: m, Kind: k, payees: rail.NewCustomer(m)}
	if host == "" {
		return c, nil
	}
	return newEarner(c, host), nil
}

// conn pays from the machine's wallet.
type conn struct {
	m *engine.Machine
	Kind
	payees *rail.Customer
}

// Reaches makes the rail a Network: the ledger reaches everybody.
func (c *conn) Reaches(string) bool { return true }

// Close leaves what is on its way to the wallet.
func (c *conn) Close() error {
	c.payees.Close()
	return nil
}

// Pay pays an order once: the wallet knows it by its ID.
func (c *conn) Pay(ctx context.Context, o money.Order) (money.Receipt, error) {
	fail := func(kind money.Kind, err error) (money.Receipt, error) {
		return money.Receipt{}, &money.Error{Kind: kind, Op: "pay " + o.To, Err: err}
	}
	known, err := c.known(ctx, o.ID)
	if err != nil {
		return fail(money.Pending, err)
	}
	p, err := c.name(o)
	if err == nil && !known && p.Bill == "" {
		p, err = c.ask(ctx, o, p)
	}
	var mistake *money.Error
	switch {
	case errors.As(err, &mistake):
		return money.Receipt{}, err
	case err != nil && (ctx.Err() != nil || errors.Is(err, drive.ErrStopped)):
		return fail(money.Pending, err) // who stops waiting may ask again
	case err != nil:
		return fail(money.Unpaid, err)
	}
	p.Ask = "pay/" + rand.Text()
	v, err := c.m.Host.Ask(ctx, c.Core, p.Ask, p)
	if err != nil {
		return fail(money.KindOf(err), cause(err))
	}
	paid := v.(transfer.Paid)
	if paid.To != p.To || paid.Amount != p.Amount {
		return fail(money.Invalid, fmt.Errorf("order %v is known, of %v to %s; choose a new ID", o.ID, paid.Amount, paid.To))
	}
	return c.receipt(paid), nil
}

// cause is a wallet's error without its own name for what was tried.
func cause(err error) error {
	var known *money.Error
	if errors.As(err, &known) {
		return known.Err
	}
	return err
}

// known reports whether the wallet has the order.
func (c *conn) known(ctx context.Context, id money.OrderID) (known bool, err error) {
	err = c.m.Host.Do(ctx, func(m *drive.Machine) {
		if w, ok := m.Core(c.Core).(*transfer.Wallet); ok {
			known = w.Known(id)
		}
	})
	return known, err
}

// name says whom an order pays, and by which bill if the payment URI says that.
func (c *conn) name(o money.Order) (p transfer.Pay, err error) {
	p = transfer.Pay{Order: o.ID, Amount: o.Amount}
	if name, named := strings.CutPrefix(o.To, c.Scheme+"://"); named {
		name, _, _ = strings.Cut(name, "?")
		p.To = c.Scheme + "://" + name
		return p, nil
	}
	if p.Bill, err = c.Plain(o); err == nil {
		p.To, _, err = c.Read(p.Bill, receipt.Entry{Order: o.ID, Amount: o.Amount}, false)
	}
	if err != nil {
		err = &money.Error{Kind: money.Invalid, Op: "pay " + o.To, Err: err}
	}
	return p, err
}

// ask asks a machine for the bill of an order.
func (c *conn) ask(ctx context.Context, o money.Order, p transfer.Pay) (transfer.Pay, error) {
	node, bill, err := c.payees.Ask(ctx, strings.TrimPrefix(p.To, c.Scheme+"://"), o)
	if err != nil {
		return p, err
	}
	p.Bill, p.Word = bill.Invoice, bill.Word
	_, ours, err := c.Read(p.Bill, receipt.Entry{Order: o.ID, Amount: o.Amount}, true)
	switch {
	case err != nil:
		return p, err
	case !ours:
		return p, errors.New("the payee goes by another network, or by another version of its file; get the newest one on both machines")
	case !billing.Verify(node, o.ID, o.Amount, sha256.Sum256([]byte(p.Bill)), p.Word):
		return p, errors.New("the payee's bill is not signed for this order")
	}
	return p, nil
}

func (c *conn) receipt(p transfer.Paid) money.Receipt {
	return money.Receipt{Order: p.Order, Amount: p.Amount, To: p.To, At: int64(c.m.Host.Now()), Proof: p.Proof()}
}

// Liquidity makes the rail a rail.Liquid: it takes any amount, and has what its node
// says.
func (c *conn) Liquidity(ctx context.Context) (l rail.Liquidity, err error) {
	known := false
	err = c.m.Host.Do(ctx, func(m *drive.Machine) {
		w, ok := m.Core(c.Core).(*transfer.Wallet)
		if !ok {
			return
		}
		if has, ok := w.Ledger().(interface {
			Spendable() (now, later money.Amount, known bool)
		}); ok {
			l.Spendable, l.InFlight, known = has.Spendable()
		}
	})
	if err == nil && !known {
		err = &money.Error{Kind: money.Pending, Op: "ask the " + c.Scheme + " wallet", Err: errors.New("the ledger's node has not said what is there yet")}
	}
	l.Channels, l.Receivable = 1, money.MaxAmount-l.Spendable
	return l, err
}

// Prove returns the receipt of an order that was settled, without paying.
func (c *conn) Prove(ctx context.Context, id money.OrderID) (money.Receipt, error) {
	v, err := c.m.Host.Ask(ctx, c.Core, id.Key(), money.Inquiry{Order: id})
	if err != nil {
		return money.Receipt{}, err
	}
	return c.receipt(v.(transfer.Paid)), nil
}

// Verify checks a receipt of this rail offline.
func (c *conn) Verify(r money.Receipt) error { return c.Kind.Verify(r) }

// Verify checks a receipt offline: that the payee has said what pays the order, if To
// names a machine, and that it was paid.
func (k Kind) Verify(r money.Receipt) error {
	wrong := func(err error) error { return fmt.Errorf("receipt of order %v: %w", r.Order, err) }
	p, err := transfer.ReadProof(r.Proof)
	if err != nil {
		return wrong(err)
	}
	name, named := strings.CutPrefix(r.To, k.Scheme+"://")
	address, ours, err := k.Read(p.Bill, receipt.Entry{Order: r.Order, Amount: r.Amount}, named)
	if err != nil {
		return wrong(err)
	}
	if err := k.Check(p.Bill, p.Ledger); err != nil {
		return wrong(err)
	}
	switch {
	case named:
		name, _, _ = strings.Cut(name, "?")
		node, _, err := engine.Address(name)
		if err != nil {
			return wrong(err)
		}
		if !billing.Verify(node, r.Order, r.Amount, sha256.Sum256([]byte(p.Bill)), p.Word) {
			return wrong(fmt.Errorf("the payee has not said that %.300q pays it", p.Bill))
		}
	case r.To != address:
		return wrong(fmt.Errorf("it names %.100q, and the bill %s", r.To, address))
	case p.Word != keys.Signature{}:
		return wrong(errors.New("it names no machine, and has a machine's word"))
	case !ours:
		return wrong(errors.New("it names no machine that says whom to believe; verify it on a machine of the same network"))
	}
	return nil
}

// earner is a rail that is paid, too. It pays as a conn does, so what it has of
// rail.Earner lies one level deeper.
type (
	earner struct {
		*conn
		paid
		cashier *rail.Cashier
	}
	paid struct{ *rail.Earner }
)

func newEarner(c *conn, host string) *earner {
	e := &earner{conn: c, paid: paid{rail.NewEarner(c.m, rail.PayToAt(c.Scheme, c.m, host), c.Core)}}
	e.cashier = rail.NewCashier(c.m, func(ctx context.Context, _ keys.Public, order money.OrderID, a money.Amount) (string, [32]byte, error) {
		bill, err := e.Invoice(ctx, money.Bill{ID: order, Amount: a})
		return bill, sha256.Sum256([]byte(bill)), err
	})
	return e
}

// Close leaves the bills: what is paid meanwhile is told next time.
func (e *earner) Close() error {
	e.cashier.Close()
	return e.conn.Close()
}

// Invoice returns a payment URI for a bill that payers pay who are no machines of
// coinop's, too.
func (e *earner) Invoice(ctx context.Context, b money.Bill) (string, error) {
	if err := rail.CheckBill(b); err != nil {
		return "", err
	}
	v, err := e.m.Host.Ask(ctx, e.Core, transfer.BillID(b.ID), transfer.Invoice{Order: b.ID, Amount: b.Amount})
	if err != nil {
		return "", err
	}
	return v.(string), nil
}
