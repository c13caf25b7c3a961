package interop

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/sealed"
	"coinop.dev/core/step"
	"coinop.dev/engine"
	"coinop.dev/interop/peers"
	"coinop.dev/rail"
	"coinop.dev/rail/lndrail"
	"coinop.dev/world/store/mem"
)

// lndMachine is a machine without a till whose only rail is an lnd's.
func lndMachine(t *testing.T, ctx context.Context, uri string) (*engine.Machine, *rail.Rail) {
	t.Helper()
	key, err := keys.NewSecret(rand.Reader)
	must(t, err)
	db, err := mem.New(nil)
	must(t, err)
	m := engine.New(ctx, engine.Options{Key: key, DB: db})
	var g rail.Registry
	g.Register(lndrail.Scheme, lndrail.Driver{})
	r, err := g.Open(ctx, uri, rail.Env{Machine: m})
	must(t, err)
	t.Cleanup(func() { r.Close(); m.Close() })
	return m, r
}

func access(n *peers.Lnd) string {
	return fmt.Sprintf("cert=%s&macaroon=%s", n.CertFile, n.MacaroonFile)
}

// TestLndRailHolds: lnd holds a payment until the till has delivered, gives it back
// if it has not, and sells a sealed reading.
func TestLndRailHolds(t *testing.T) {
	ctx, _, nodes := lnds(t, 2)
	a, b := nodes[0], nodes[1]
	_, err := a.OpenChannel(ctx, b, 5_000_000)
	must(t, err)
	_, payer := lndMachine(t, ctx, "lnd://"+a.RPC+"?"+access(a))
	payee, earner := lndMachine(t, ctx, "lnd:?rpc="+b.RPC+"&host=127.0.0.1:1&"+access(b))
	said := make(chan step.Outcome, 64)
	payee.Host.Hear(func(o step.Outcome) { said <- o })
	hears := func(what string, is func(step.Outcome) bool) {
		t.Helper()
		for {
			select {
			case o := <-said:
				if is(o) {
					return
				}
			case <-ctx.Done():
				t.Fatal("the till does not hear that it is " + what)
			}
		}
	}
	biller, _ := rail.As[rail.Biller](earner)
	for i, word := range []any{receipt.Release{Order: money.OrderID{0}}, receipt.Cancel{Order: money.OrderID{1}}} {
		bill := money.Bill{ID: money.OrderID{byte(i)}, Amount: 1000 * money.Sat, Hold: true}
		uri, err := biller.Bill(bill)
		must(t, err)
		paid := make(chan error, 1)
		go func() {
			_, err := payer.Pay(ctx, money.Order{ID: bill.ID, To: uri, Amount: bill.Amount})
			paid <- err
		}()
		hears("held", func(o step.Outcome) bool { _, ok := o.Value.(receipt.Held); return ok })
		must(t, payee.Host.Tell(ctx, "lnd/bills", step.Recv{Msg: word}))
		if _, yes := word.(receipt.Release); yes {
			hears("paid", func(o step.Outcome) bool { _, ok := o.Value.(receipt.Income); return ok })
			must(t, <-paid)
			continue
		}
		hears("returned", func(o step.Outcome) bool {
			_, ok := o.Value.(receipt.Returned)
			return ok && errors.Is(o.Err, money.Unpaid)
		})
		if err := <-paid; !errors.Is(err, money.Unpaid) {
			t.Errorf("what the till cancels ends with %v", err)
		}
	}

	sealer, _ := rail.As[rail.Sealer](earner)
	bill := money.Bill{ID: money.OrderID{9}, Amount: 21 * money.Sat}
	sale, err := sealer.Seal(ctx, bill)
	must(t, err)
	s, err := sealed.Seal(payee.Key, bill.ID, bill.Amount, sale.Key, nil, []byte("21.5 degrees"))
	must(t, err)
	r, err := payer.Pay(ctx, money.Order{ID: bill.ID, To: sale.Pay, Amount: bill.Amount})
	must(t, err)
	if plain, err := s.Open(sealed.NewKey([32]byte(r.Proof[:32]))); err != nil || string(plain) != "21.5 degrees" {
		t.Errorf("bought: %q, %v", plain, err)
	}
}
