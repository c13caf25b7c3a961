package bitcoinrail

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"

	"coinop.dev"
	"coinop.dev/core/billing"
	"coinop.dev/core/bitcoin/payuri"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/wallet"
	"coinop.dev/rail"
)

// MaxAsking bounds the questions for an address that are being answered; one too
// many is dropped, and asked again.
const MaxAsking = 512

// earner is a rail that is paid, too. It pays as a conn does, so what it has of
// rail.Earner lies one level deeper.
type (
	earner struct {
		*conn
		paid
		ctx     context.Context
		cancel  context.CancelFunc
		running sync.WaitGroup
		shut    func()
		slots   chan struct{}
	}
	paid struct{ *rail.Earner }
)

func newEarner(c *conn, host string) *earner {
	e := &earner{conn: c, paid: paid{rail.NewEarner(c.m, rail.PayToAt(Scheme, c.m, host), wallet.Name)}, slots: make(chan struct{}, MaxAsking)}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.shut = c.m.AddDoor(e.door)
	return e
}

// Close leaves the bills: what is paid meanwhile is told next time.
func (e *earner) Close() error {
	e.shut()
	e.cancel()
	e.running.Wait()
	return e.conn.Close()
}

// door answers those who ask for an address.
func (e *earner) door(from keys.Public, msg message.Message) bool {
	ask, ok := msg.(billing.Ask)
	if !ok {
		return false
	}
	select {
	case e.slots <- struct{}{}:
	default:
		return true // it is asked again
	}
	e.running.Go(func() {
		defer func() { <-e.slots }()
		e.answer(from, ask)
	})
	return true
}

func (e *earner) answer(from keys.Public, ask billing.Ask) {
	bill, err := e.Invoice(e.ctx, coinop.Bill{ID: ask.Order, Amount: ask.Amount})
	if e.ctx.Err() != nil {
		return // not a refusal: asked again, the machine that comes back answers
	}
	if err != nil {
		e.m.Log.Warn("no address for an order", "peer", from, "order", ask.Order, "err", err)
		e.m.Send(from, billing.Refuse{Order: ask.Order, Why: err.Error()})
		return
	}
	word := billing.Sign(e.m.Key, ask.Order, ask.Amount, sha256.Sum256([]byte(bill)))
	e.m.Send(from, billing.Bill{Order: ask.Order, Invoice: bill, Word: word})
}

// Invoice returns a BIP 21 URI for a bill, with an address of its own, for payers
// that are no machines of coinop's too.
func (e *earner) Invoice(ctx context.Context, b coinop.Bill) (string, error) {
	if _, err := sats(b.Amount); err != nil || b.Amount == 0 || b.Amount > coinop.MaxAmount {
		return "", &coinop.Error{Kind: coinop.Invalid, Op: "bill " + b.ID.String(), Err: fmt.Errorf("the amount is %v: %w", b.Amount, err)}
	}
	v, err := e.m.Host.Ask(ctx, wallet.Name, wallet.BillID(b.ID), wallet.Invoice{Order: b.ID, Account: e.account, Amount: b.Amount})
	if err != nil {
		return "", err
	}
	return payuri.URI{Address: v.(wallet.Address).Text, Amount: b.Amount}.Build()
}
