package lnrail_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/sealed"
	"coinop.dev/rail"
)

// held has Alice pay a bill of Bob's that is to be held, and waits until it is.
func (y *yard) held(a, b *machine, order byte, amount money.Amount) (id money.OrderID, paid chan error) {
	y.t.Helper()
	id = money.OrderID{order}
	biller, _ := rail.As[rail.Biller](b.rail)
	uri, err := biller.Bill(money.Bill{ID: id, Amount: amount, Hold: true})
	y.must(err)
	held, err := b.m.Host.Await(node.Name, node.HeldID+id.Key())
	y.must(err)
	paid = make(chan error, 1)
	go func() {
		_, err := a.rail.Pay(y.ctx, money.Order{ID: id, To: uri, Amount: amount})
		paid <- err
	}()
	v, err := held(y.ctx)
	y.must(err)
	if e := v.(receipt.Held).Holding(); e != (receipt.Entry{Order: id, Amount: amount}) {
		y.t.Errorf("held: %+v", e)
	}
	return id, paid
}

// A bill with Hold is paid when the till says so, or not at all.
func TestHoldThroughTheRail(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	y.mute = true
	a, b := y.machine("alice"), y.machine("bob")
	a.open(b.uri() + "?capacity=1000000sat")
	a.pay(1, b.uri(), 200_000*money.Sat)
	id, paid := y.held(a, b, 2, 1000*money.Sat)
	y.must(b.m.Host.Tell(y.ctx, node.Name, receipt.Release{Order: id}))
	y.must(<-paid)
	id, paid = y.held(a, b, 3, 1000*money.Sat)
	y.must(b.m.Host.Tell(y.ctx, node.Name, receipt.Cancel{Order: id}))
	if err := <-paid; !errors.Is(err, money.Unpaid) {
		t.Errorf("what is cancelled ends with %v", err)
	}
	biller, _ := rail.As[rail.Biller](b.rail)
	if _, err := biller.Bill(money.Bill{ID: id, Hold: true}); money.KindOf(err) != money.Invalid {
		t.Errorf("a bill of nothing: %v", err)
	}
}

// A reading is sold: sealed with the preimage of the invoice that sells it.
func TestSealedReading(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	a, b := y.machine("alice"), y.machine("bob")
	a.open(b.uri() + "?capacity=1000000sat")
	sealer, _ := rail.As[rail.Sealer](b.rail)
	bill := money.Bill{ID: money.OrderID{7}, Amount: 21 * money.Sat}
	sale, err := sealer.Seal(y.ctx, bill)
	y.must(err)
	reading := []byte("21.5 degrees")
	s, err := sealed.Seal(b.key, bill.ID, bill.Amount, sale.Key, []byte("temperature"), reading)
	y.must(err)

	y.must(s.Check(b.key.Public(), sale.Hash, bill.Amount))
	r, err := a.rail.Pay(y.ctx, money.Order{ID: bill.ID, To: sale.Pay, Amount: bill.Amount})
	y.must(err)
	if plain, err := s.Open(sealed.NewKey([32]byte(r.Proof))); err != nil || !bytes.Equal(plain, reading) {
		t.Errorf("bought: %q, %v", plain, err)
	}
	again, err := sealer.Seal(y.ctx, bill)
	if err != nil || again.Hash != sale.Hash {
		t.Errorf("the sale is another one once it is paid: %v", err)
	}
	if _, err := sealer.Seal(y.ctx, money.Bill{ID: money.OrderID{8}}); money.KindOf(err) != money.Invalid {
		t.Errorf("a sale for nothing: %v", err)
	}
}

// A channel ends on the chain while a payment is held that nobody releases: its
// payer has it back, large or below dust, and the till hears so.
func TestForcedCloseWithAHeldPayment(t *testing.T) {
	t.Parallel()
	for _, amount := range []money.Amount{100_000 * money.Sat, 100 * money.Sat} {
		y := newYard(t)
		y.mute = true
		a, b := y.machine("alice"), y.machine("bob")
		a.open(b.uri() + "?capacity=1000000sat")
		a.pay(1, b.uri(), 200_000*money.Sat)
		id, paid := y.held(a, b, 2, amount)
		back, err := b.m.Host.Await(node.Name, node.HeldID+id.Key())
		y.must(err)
		a.m.Cut(b.key.Public(), true)
		y.must(a.m.Host.Tell(y.ctx, node.Name, node.Close{ID: a.summary().Channels[0].ID, Force: true}))
		y.until("both are done", true, func() bool { return len(a.summary().Channels)+len(b.summary().Channels) == 0 })
		v, err := back(y.ctx)
		if _, returned := v.(receipt.Returned); !returned || !errors.Is(err, money.Unpaid) {
			t.Errorf("%v: the till hears %+v, %v", amount, v, err)
		}
		if err := <-paid; !errors.Is(err, money.Unpaid) || !strings.Contains(err.Error(), "the chain gave it back") {
			t.Errorf("%v: Alice's payment: %v", amount, err)
		}
		if got := b.coins(); got > 5_000_000+200_000 {
			t.Errorf("%v: Bob has %d", amount, got)
		}
	}
}
