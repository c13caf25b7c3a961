package interop

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/interop/peers"
	"coinop.dev/rail/lndrail/lnrpc"
)

// A held is a payment that has arrived and waits for the payee's word.
type held struct {
	preimage, hash [32]byte
	paid           chan error // how it ends, for the payer

	settle, cancel func(ctx context.Context) error
}

const (
	holdBlocks = 24              // final cltv of the invoices that wait
	holdTime   = 4 * time.Minute // a payer's patience
)

// holdAt has coinop pay an invoice that lnd keeps waiting.
func (b *box) holdAt(n *peers.Lnd, sat int64) *held {
	b.t.Helper()
	h := &held{paid: make(chan error, 1)}
	rand.Read(h.preimage[:])
	h.hash = sha256.Sum256(h.preimage[:])
	bill, err := n.Invoices.AddHoldInvoice(b.ctx, &lnrpc.AddHoldInvoiceRequest{Hash: h.hash[:], ValueMsat: sat * 1000, CltvExpiry: holdBlocks})
	must(b.t, err)
	h.settle = func(ctx context.Context) error {
		_, err := n.Invoices.SettleInvoice(ctx, &lnrpc.SettleInvoiceMsg{Preimage: h.preimage[:]})
		return err
	}
	h.cancel = func(ctx context.Context) error {
		_, err := n.Invoices.CancelInvoice(ctx, &lnrpc.CancelInvoiceMsg{PaymentHash: h.hash[:]})
		return err
	}
	go func() {
		_, err := b.try("lightning:"+bill.PaymentRequest, money.Amount(sat)*money.Sat, holdTime)
		h.paid <- err
	}()
	until(b.t, "lnd holds the payment", func() error {
		i, err := n.Lightning.LookupInvoice(b.ctx, &lnrpc.PaymentHash{RHash: h.hash[:]})
		if err == nil && i.State != lnrpc.Invoice_ACCEPTED {
			err = fmt.Errorf("the invoice is %v", i.State)
		}
		return err
	})
	return h
}

// hold has lnd pay an invoice that coinop keeps waiting.
func (b *box) hold(n *peers.Lnd, sat int64) *held {
	b.t.Helper()
	h := &held{paid: make(chan error, 1)}
	arrived := b.awaitHeld()
	bill := b.bill(money.Amount(sat)*money.Sat, true)
	go func() {
		ctx, stop := context.WithTimeout(b.ctx, holdTime)
		defer stop()
		h.paid <- pay(ctx, n, &lnrpc.SendPaymentRequest{PaymentRequest: bill})
	}()
	select {
	case v := <-arrived:
		h.hash = v.Hash
	case err := <-h.paid:
		b.t.Fatalf("lnd's payment ends before coinop holds it: %v", err)
	case <-b.ctx.Done():
		b.t.Fatal("the payment does not arrive")
	}
	h.settle = func(ctx context.Context) error { return b.m.Host.Tell(ctx, node.Name, node.Settle{Hash: h.hash}) }
	h.cancel = func(ctx context.Context) error { return b.m.Host.Tell(ctx, node.Name, node.Cancel{Hash: h.hash}) }
	return h
}

// awaitHeld hears of the payments that are held from now on.
func (b *box) awaitHeld() <-chan node.Held {
	heard := make(chan node.Held, 16)
	b.m.Host.Hear(func(o step.Outcome) {
		if v, ok := o.Value.(node.Held); ok {
			select {
			case heard <- v:
			default:
			}
		}
	})
	return heard
}

// TestHold: invoices that wait for their owner's word, of lnd's and of ours, are
// settled and cancelled; and ours outlive a restart.
func TestHold(t *testing.T) {
	ctx, btcd, nodes := lnds(t, 1)
	lnd := nodes[0]
	b := newBox(t, ctx, btcd, "coinop", 10_000_000)
	point := b.open(lnd, node.Open{Capacity: 5_000_000, Push: 2_000_000_000, Public: true})
	local := func() money.Amount { return b.summary().Channels[0].Local }
	before := local()

	h := b.holdAt(lnd, 10_000)
	must(t, h.settle(ctx))
	must(t, <-h.paid)
	h = b.holdAt(lnd, 20_000)
	must(t, h.cancel(ctx))
	if err := <-h.paid; money.KindOf(err) != money.Unpaid || !errors.Is(err, node.ErrPayee) {
		t.Errorf("what lnd cancels ends with %v", err)
	}

	h = b.hold(lnd, 40_000)
	must(t, h.settle(ctx))
	must(t, <-h.paid)
	h = b.hold(lnd, 80_000)
	must(t, h.cancel(ctx))
	if err := <-h.paid; err == nil {
		t.Error("lnd has paid what coinop cancelled")
	}

	h = b.hold(lnd, 160_000)
	b.stop()
	b.start()
	b.connect(lnd)
	b.active(lnd, point)
	until(t, "the payment is held again", func() error {
		must(t, h.settle(ctx))
		select {
		case err := <-h.paid:
			must(t, err)
			return nil
		default:
			return errors.New("lnd waits")
		}
	})
	until(t, "the sums are right", func() error {
		if got, want := local(), before+(40_000+160_000-10_000)*money.Sat; got != want {
			return fmt.Errorf("coinop has %v in the channel, and %v is right", got, want)
		}
		return nil
	})
}
