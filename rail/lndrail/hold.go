package lndrail

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coinop.dev/core/codec"
	"coinop.dev/core/money"
	"coinop.dev/core/sealed"
	"coinop.dev/core/step"
	"coinop.dev/rail"
	"coinop.dev/rail/lndrail/lnrpc"
)

const (
	// holdBlocks is how many blocks a payment that is to be held must have left,
	// and lndMargin how many before its expiry lnd gives it back
	// (invoices.holdexpirydelta); quickBlock is how soon blocks may follow.
	holdBlocks = 42
	lndMargin  = 12
	quickBlock = 5 * step.Minute
)

// Bill is a payment URI. Only an invoice can say that the payment is to be held.
func (c *payee) Bill(b money.Bill) (string, error) {
	if !b.Hold {
		return c.Earner.Bill(b)
	}
	text, err := c.Invoice(context.Background(), b)
	if err == nil {
		text = invoices + ":" + text
	}
	return text, err
}

// Seal makes the rail a rail.Sealer. lnd takes a preimage once, so an order whose
// invoice has expired cannot be paid any more.
func (c *payee) Seal(ctx context.Context, b money.Bill) (rail.Sale, error) {
	x, err := c.find(ctx, b.ID)
	if err == nil && (x == nil || !x.ended()) {
		x, err = c.bill(ctx, "", b, true)
	}
	if err == nil && (x.amount != b.Amount || x.hold != b.Hold || c.key(x, 0).Hash() != x.hash) {
		err = errors.New("the order has another invoice already")
	}
	if err != nil {
		return rail.Sale{}, &money.Error{Kind: money.KindOf(err), Op: "seal " + b.ID.String(), Err: err}
	}
	s := rail.Sale{Hash: x.hash, Key: c.key(x, 0)}
	if !x.ended() {
		s.Pay = invoices + ":" + x.invoice
	}
	return s, nil
}

// key is the preimage of a bill that we have made up: of a sale, which is the same
// for ever, without its expiry, or else with it, because lnd takes each but once.
func (c *payee) key(x *bill, expires step.Time) sealed.Key {
	hold := 0
	if x.hold {
		hold = 1
	}
	b := append([]byte(c.scheme+"/"), x.order[:]...)
	b = codec.AppendUint(codec.AppendUint(codec.AppendUint(b, x.amount), int64(expires)), hold)
	return sealed.NewKey(c.m.Key.MAC("lnd/preimage", b))
}

// preimage is the one of a bill that is to be held.
func (c *payee) preimage(x *bill) [32]byte {
	if sale := c.key(x, 0); sale.Hash() == x.hash {
		return sale.Reveal()
	}
	return c.key(x, x.expires).Reveal()
}

// add has lnd make an invoice. The order in it lets whoever keeps lnd's books find
// it.
func (c *payee) add(ctx context.Context, x *bill, known bool) (text string, hash []byte, err error) {
	key := c.key(x, x.expires)
	if known {
		key = c.key(x, 0)
	}
	sum := key.Hash()
	if x.hold {
		i, err := c.invoices.AddHoldInvoice(ctx, &lnrpc.AddHoldInvoiceRequest{
			Memo: x.order.String(), Hash: sum[:], ValueMsat: int64(x.amount), Expiry: int64(c.expiry), CltvExpiry: holdBlocks, Private: true,
		})
		return i.GetPaymentRequest(), sum[:], err
	}
	ask := &lnrpc.Invoice{Memo: x.order.String(), ValueMsat: int64(x.amount), Expiry: int64(c.expiry), Private: true}
	if known {
		preimage := key.Reveal()
		ask.RPreimage = preimage[:]
	}
	i, err := c.node.AddInvoice(ctx, ask)
	return i.GetPaymentRequest(), i.GetRHash(), err
}

// run starts something that Close waits for.
func (c *payee) run(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() == nil {
		c.running.Go(f)
	}
}

// watch tells the book what becomes of a payment that is to be held.
func (c *payee) watch(hash [32]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watching[hash] || c.ctx.Err() != nil {
		return
	}
	c.watching[hash] = true
	c.running.Go(func() {
		for wait := time.Duration(0); !c.follow(hash) && pause(c.ctx, &wait); {
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watching, hash)
	})
}

// follow listens to lnd about one payment, and reports whether it has ended.
func (c *payee) follow(hash [32]byte) (ended bool) {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	news, err := c.invoices.SubscribeSingleInvoice(ctx, &lnrpc.SubscribeSingleInvoiceRequest{RHash: hash[:]})
	for err == nil {
		var i *lnrpc.Invoice
		if i, err = news.Recv(); err != nil {
			break
		}
		switch i.State {
		case lnrpc.Invoice_ACCEPTED:
			until := c.m.Host.Now() + (holdBlocks-lndMargin)*quickBlock
			err = c.m.Host.Tell(ctx, billsName, isAccepted{hash, until})
		case lnrpc.Invoice_SETTLED:
			return c.file(ctx, i, 0) == nil
		case lnrpc.Invoice_CANCELED:
			return c.m.Host.Tell(ctx, billsName, isCanceled{hash}) == nil
		}
	}
	if status.Code(err) == codes.NotFound {
		// lnd has forgotten what it has cancelled.
		return c.m.Host.Tell(ctx, billsName, isCanceled{hash}) == nil
	}
	return false
}

// tell has lnd do what the till has said, until it answers. Whether it was too late
// is what lnd says of the payment itself.
func (c *payee) tell(t told) {
	for wait := time.Duration(0); ; {
		var err error
		if t.settle {
			preimage := c.preimage(t.bill)
			_, err = c.invoices.SettleInvoice(c.ctx, &lnrpc.SettleInvoiceMsg{Preimage: preimage[:]})
		} else {
			_, err = c.invoices.CancelInvoice(c.ctx, &lnrpc.CancelInvoiceMsg{PaymentHash: t.hash[:]})
		}
		if code := status.Code(err); code != codes.Unavailable && code != codes.DeadlineExceeded {
			if err != nil && c.ctx.Err() == nil {
				c.m.Log.Warn("lnd does not do as the till says", "order", t.order, "settle", t.settle, "err", fmt.Sprint(err))
			}
			return
		}
		if !pause(c.ctx, &wait) {
			return
		}
	}
}
