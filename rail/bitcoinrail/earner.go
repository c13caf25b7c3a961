package bitcoinrail

import (
	"context"
	"crypto/sha256"
	"fmt"

	"coinop.dev/core/bitcoin/payuri"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/wallet"
	"coinop.dev/rail"
)

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
	e := &earner{conn: c, paid: paid{rail.NewEarner(c.m, rail.PayToAt(Scheme, c.m, host), wallet.Name)}}
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

// Invoice returns a BIP 21 URI for a bill, with an address of its own, for payers
// that are no machines of coinop's too.
func (e *earner) Invoice(ctx context.Context, b money.Bill) (string, error) {
	if _, err := sats(b.Amount); err != nil || b.Amount == 0 || b.Amount > money.MaxAmount {
		return "", &money.Error{Kind: money.Invalid, Op: "bill " + b.ID.String(), Err: fmt.Errorf("the amount is %v: %w", b.Amount, err)}
	}
	v, err := e.m.Host.Ask(ctx, wallet.Name, wallet.BillID(b.ID), wallet.Invoice{Order: b.ID, Account: e.account, Amount: b.Amount})
	if err != nil {
		return "", err
	}
	return payuri.URI{Address: v.(wallet.Address).Text, Amount: b.Amount}.Build()
}
