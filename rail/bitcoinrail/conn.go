package bitcoinrail

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/btcsuite/btcd/chaincfg/v2"

	"coinop.dev/core/billing"
	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/payuri"
	"coinop.dev/core/codec"
	"coinop.dev/core/consent"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/wallet"
	"coinop.dev/engine"
	"coinop.dev/rail"
	"coinop.dev/world/chain"
	"coinop.dev/world/drive"
)

// conn pays from the machine's wallet, here or at a gateway.
type conn struct {
	m *engine.Machine
	settings
	words  *words
	payees *rail.Customer
}

func newConn(m *engine.Machine, s settings) (*conn, error) {
	w, err := loadWords(m.DB)
	if err != nil {
		return nil, err
	}
	return &conn{m: m, settings: s, words: w, payees: rail.NewCustomer(m)}, nil
}

// Reaches makes the rail a Network: the chain reaches everybody.
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
	if _, err := sats(o.Amount); err != nil {
		return fail(money.Invalid, err)
	}
	known, err := c.known(ctx, o.ID)
	if err != nil {
		return fail(money.Pending, err)
	}
	to, err := c.resolve(ctx, o)
	var mistake *money.Error
	switch {
	case errors.As(err, &mistake):
		return money.Receipt{}, err
	case err != nil && (known || ctx.Err() != nil || errors.Is(err, drive.ErrStopped)):
		return fail(money.Pending, err) // who stops waiting may ask again
	case err != nil:
		return fail(money.Unpaid, err)
	}
	// The signer is told what it may consent to before anybody can propose it.
	if _, err := c.m.Host.Ask(ctx, consent.Core, o.ID.Key(), consent.Expect{Order: o.ID, Script: to.script, Amount: o.Amount}); err != nil {
		return fail(money.Pending, err)
	}
	v, err := c.m.Host.Ask(ctx, wallet.Name, o.ID.Key(), wallet.Pay{Order: o.ID, Account: c.account, Script: to.script, Amount: o.Amount})
	if kind := money.KindOf(err); err != nil && (kind == money.Unpaid || kind == money.Invalid) {
		err = errors.Join(err, c.forget(ctx, o.ID))
	}
	if err != nil {
		return money.Receipt{}, err
	}
	return c.receipt(o.ID, to, v.(wallet.Paid)), nil
}

// forget frees the ID of an order that is certainly not paid.
func (c *conn) forget(ctx context.Context, id money.OrderID) error {
	_, err := c.m.Host.Ask(ctx, consent.Core, id.Key(), consent.Forget{Order: id})
	if err == nil {
		err = c.words.drop(id)
	}
	return err
}

// known reports whether the wallet has the order.
func (c *conn) known(ctx context.Context, id money.OrderID) (known bool, err error) {
	err = c.m.Host.Do(ctx, func(m *drive.Machine) {
		if w, ok := m.Core(wallet.Name).(interface{ Known(money.OrderID) bool }); ok {
			known = w.Known(id)
		}
	})
	return known, err
}

func (c *conn) receipt(id money.OrderID, to target, p wallet.Paid) money.Receipt {
	b := codec.AppendBytes(nil, to.bill)
	b = append(b, to.word[:]...)
	return money.Receipt{Order: id, Amount: p.Amount, To: to.to, At: int64(c.m.Host.Now()), Proof: append(b, p.Proof()...)}
}

// Prove returns the receipt of an order that was settled, without paying.
func (c *conn) Prove(ctx context.Context, id money.OrderID) (money.Receipt, error) {
	to, ok, err := c.words.get(id)
	if err != nil || !ok {
		return money.Receipt{}, &money.Error{Kind: money.Refused, Op: "prove " + id.String(), Err: errors.Join(money.ErrForgotten, err)}
	}
	v, err := c.m.Host.Ask(ctx, wallet.Name, id.Key(), money.Inquiry{Order: id})
	if err != nil {
		return money.Receipt{}, err
	}
	return c.receipt(id, to, v.(wallet.Paid)), nil
}

// A target is what an order pays: a script, and how the payee is known by it.
type target struct {
	to     string // for the receipt
	script []byte
	bill   string // the payee's, a BIP 21 URI; "" if only an address is paid
	word   keys.Signature
}

// resolve finds the script that an order pays: it is in the payment URI, or its
// payee says it, which is kept.
func (c *conn) resolve(ctx context.Context, o money.Order) (to target, err error) {
	disk := func(err error) error { // it fails as the machine stops, too
		return &money.Error{Kind: money.Pending, Op: "pay " + o.To, Err: err}
	}
	to, known, err := c.words.get(o.ID)
	switch {
	case err != nil:
		return to, disk(err)
	case known && !strings.HasPrefix(o.To, to.to):
		return to, &money.Error{Kind: money.Invalid, Op: "pay " + o.To, Err: fmt.Errorf("order %v is known, to %s", o.ID, to.to)}
	case known:
		return to, nil
	}
	name, named := strings.CutPrefix(o.To, Scheme+"://")
	if !named {
		to, err = address(o, c.params)
	} else {
		name, _, _ = strings.Cut(name, "?")
		to, err = c.askPayee(ctx, o, name)
	}
	if err != nil {
		return to, err
	}
	if err := c.words.put(o.ID, to); err != nil {
		return to, disk(err)
	}
	return to, nil
}

// address reads a plain payment URI.
func address(o money.Order, p *chaincfg.Params) (to target, err error) {
	invalid := func(err error) error {
		return &money.Error{Kind: money.Invalid, Op: "pay " + o.To, Err: err}
	}
	u, err := payuri.Parse(o.To)
	if err != nil {
		return to, invalid(err)
	}
	if u.Amount != 0 && u.Amount != o.Amount {
		return to, invalid(fmt.Errorf("the URI asks for %v, the order is of %v", u.Amount, o.Amount))
	}
	to.to = Scheme + ":" + u.Address
	if to.script, err = descriptor.ParseAddress(u.Address, p); err != nil {
		return to, invalid(err)
	}
	return to, nil
}

// askPayee asks a machine for the address of an order.
func (c *conn) askPayee(ctx context.Context, o money.Order, name string) (to target, err error) {
	node, bill, err := c.payees.Ask(ctx, name, o)
	if err != nil {
		return to, err
	}
	to = target{to: Scheme + "://" + name, bill: bill.Invoice, word: bill.Word}
	if to.script, err = billed(bill.Invoice, o.Amount, c.params); err != nil {
		return to, err
	}
	if !billing.Verify(node, o.ID, o.Amount, sha256.Sum256([]byte(bill.Invoice)), bill.Word) {
		return to, errors.New("the payee's address is not signed for this order")
	}
	return to, nil
}

// billed is the script of a bill of exactly an amount.
func billed(bill string, a money.Amount, p *chaincfg.Params) ([]byte, error) {
	u, err := payuri.Parse(bill)
	if err != nil {
		return nil, err
	}
	if u.Amount != a {
		return nil, fmt.Errorf("the bill is of %v, the order of %v", u.Amount, a)
	}
	return descriptor.ParseAddress(u.Address, p)
}

// Verify checks a receipt of this rail offline, and then that its headers are
// those of the best chain, where this machine sees them.
func (c *conn) Verify(r money.Receipt) error {
	got, err := prove(r, c.params, c.wallet.Depth)
	if err != nil || c.m.Chain == nil {
		return err
	}
	for i, hash := range got.Headers {
		h, err := chain.HeaderAt(context.Background(), c.m.Chain, got.Height+int32(i))
		if err != nil {
			return nil // it is older than what the machine keeps, or the chain is still being fetched
		}
		if h.BlockHash() != hash {
			return fmt.Errorf("receipt of order %v: block %v is not in the best chain at height %d", r.Order, hash, got.Height+int32(i))
		}
	}
	return nil
}

// Verify checks a receipt offline.
func Verify(r money.Receipt, p *chaincfg.Params, depth int32) error {
	_, err := prove(r, p, depth)
	return err
}

// prove checks that an output pays the order's amount to its payee, and that its
// transaction is in a block under so many headers with their work. Whether their
// chain is the best one is for who follows it to say.
func prove(r money.Receipt, p *chaincfg.Params, depth int32) (got wallet.Proven, err error) {
	d := codec.NewReader(r.Proof)
	bill := d.String(maxBill, "bill")
	var word keys.Signature
	d.Fill(word[:])
	if d.Err() != nil {
		return got, fmt.Errorf("receipt of order %v: %w", r.Order, d.Err())
	}
	var script []byte
	if name, named := strings.CutPrefix(r.To, Scheme+"://"); named {
		name, _, _ = strings.Cut(name, "?")
		node, _, err := engine.Address(name)
		if err != nil {
			return got, err
		}
		if !billing.Verify(node, r.Order, r.Amount, sha256.Sum256([]byte(bill)), word) {
			return got, fmt.Errorf("receipt of order %v: the payee has not said that %.80q pays it", r.Order, bill)
		}
		script, err = billed(bill, r.Amount, p)
		if err != nil {
			return got, err
		}
	} else if script, err = descriptor.ParseAddress(strings.TrimPrefix(r.To, Scheme+":"), p); err != nil {
		return got, err
	}
	return wallet.Verify(receipt.Entry{Order: r.Order, Amount: r.Amount}, script, depth, p, r.Proof[len(r.Proof)-d.Len():])
}

// paidAddress is the address that a receipt says was paid.
func paidAddress(r money.Receipt) (string, error) {
	if !strings.HasPrefix(r.To, Scheme+"://") {
		return strings.TrimPrefix(r.To, Scheme+":"), nil
	}
	d := codec.NewReader(r.Proof)
	bill := d.String(maxBill, "bill")
	if d.Err() != nil {
		return "", fmt.Errorf("receipt of order %v: %w", r.Order, d.Err())
	}
	u, err := payuri.Parse(bill)
	return u.Address, err
}
