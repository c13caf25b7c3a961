package interop

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"

	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/interop/peers"
)

// holdAt has coinop pay an invoice that LDK keeps waiting.
func (e edge) holdAt(sat int64) *held {
	e.t.Helper()
	h := &held{paid: make(chan error, 1)}
	rand.Read(h.preimage[:])
	h.hash = sha256.Sum256(h.preimage[:])
	bill, err := e.n.Bill(e.ctx, sat*1000, h.hash[:])
	must(e.t, err)
	args := peers.LdkArgs{Hash: hex.EncodeToString(h.hash[:]), Preimage: hex.EncodeToString(h.preimage[:]), Msat: sat * 1000}
	h.settle = func(ctx context.Context) error { return e.n.Ask(ctx, "settle", args, nil) }
	h.cancel = func(ctx context.Context) error { return e.n.Ask(ctx, "cancel", args, nil) }
	go func() {
		_, err := e.try("lightning:"+bill, money.Amount(sat)*money.Sat, holdTime)
		h.paid <- err
	}()
	until(e.t, "LDK holds the payment", func() error {
		var is bool
		err := e.n.Ask(e.ctx, "held", args, &is)
		if err == nil && !is {
			err = errors.New("it has not come")
		}
		return err
	})
	return h
}

// hold has LDK pay an invoice that coinop keeps waiting.
func (e edge) hold(sat int64) *held {
	e.t.Helper()
	h := &held{paid: make(chan error, 1)}
	arrived := e.awaitHeld()
	bill := e.bill(money.Amount(sat)*money.Sat, true)
	go func() {
		_, _, err := e.n.Pay(e.ctx, bill)
		h.paid <- err
	}()
	select {
	case v := <-arrived:
		h.hash = v.Hash
	case err := <-h.paid:
		e.t.Fatalf("LDK's payment ends before coinop holds it: %v", err)
	case <-e.ctx.Done():
		e.t.Fatal("the payment does not arrive")
	}
	h.settle = func(ctx context.Context) error { return e.m.Host.Tell(ctx, node.Name, node.Settle{Hash: h.hash}) }
	h.cancel = func(ctx context.Context) error { return e.m.Host.Tell(ctx, node.Name, node.Cancel{Hash: h.hash}) }
	return h
}

// TestLdkForcedClose: a channel is closed by the side that opened it, alone, while four payments
// hang in it, two each way; of each pair one is taken on the chain with its
// preimage, and one goes back to its payer. Each side ends with what is its own,
// less fees, and every satoshi can be found.
func TestLdkForcedClose(t *testing.T) {
	ctx, btcd, nodes := ldks(t, 1)
	e := edge{newBox(t, ctx, btcd, "coinop", 60_000_000), nodes[0]}
	for _, c := range []struct {
		opener string
		push   int64 // sat
		given  int64 // sat that coinop gave to LDK by it
	}{
		{"coinop", 2_000_000, 2_000_000},
		{"ldk", 3_000_000, -3_000_000},
	} {
		t.Logf("%s opens and closes", c.opener)
		must(t, e.follow())
		theirs, _, err := e.n.Balance(ctx)
		must(t, err)
		mine, from := e.coins(), height(t, btcd)
		point := e.open(c.opener, 5_000_000, c.push, false)
		taken, returned := e.holdAt(100_000), e.holdAt(150_000)
		earned, refused := e.hold(200_000), e.hold(250_000)
		if c := e.summary().Channels[0]; c.HTLCs != 4 {
			t.Fatalf("the channel is %+v", c)
		}

		e.m.Cut(e.peer(), true)
		must(t, taken.settle(ctx))
		must(t, earned.settle(ctx))
		e.close(c.opener, point, true)
		must(t, btcd.MineMempool(ctx, 1, 1))
		t.Logf("over after %d blocks", e.over(4))
		e.m.Cut(e.peer(), false)

		if err := <-taken.paid; err != nil {
			t.Errorf("LDK showed the preimage on the chain, and coinop's payment ends with %v", err)
		}
		if err := <-returned.paid; money.KindOf(err) != money.Unpaid {
			t.Errorf("what went back to coinop ends with %v", err)
		}
		if err := <-earned.paid; err != nil {
			t.Errorf("coinop showed the preimage on the chain, and LDK's payment ends with %v", err)
		}
		if err := <-refused.paid; err == nil {
			t.Error("LDK takes for paid what went back to it")
		}

		const mostFees = 10_000 // sat, of either side
		given := c.given + 100_000 - 200_000
		fees := fees(t, btcd, from)
		now, _, err := e.n.Balance(ctx)
		must(t, err)
		mine, theirs = mine-e.coins(), now-theirs
		t.Logf("coinop has %d sat less, LDK %d more, miners %d", mine, theirs, fees)
		if loss := mine - given; loss < 0 || loss > mostFees {
			t.Errorf("coinop's fees are %d sat", loss)
		}
		if loss := given - theirs; loss < 0 || loss > mostFees {
			t.Errorf("LDK's fees are %d sat", loss)
		}
		// An anchor that nobody needs may stay where it is.
		if lost := mine - theirs - fees; lost < 0 || lost > 2*330 {
			t.Errorf("%d sat are lost", lost)
		}
	}
}
