package interop

import (
	"fmt"
	"testing"

	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/rail/lndrail/lnrpc"
)

// TestParts: what no channel can carry alone goes over two, from coinop to lnd
// and back.
func TestParts(t *testing.T) {
	const each, amount = 2_000_000, 3_000_000 // sat
	ctx, btcd, nodes := lnds(t, 1)
	lnd := nodes[0]
	b := newBox(t, ctx, btcd, "coinop", 10_000_000)
	for range 2 {
		b.open(lnd, node.Open{Capacity: each, Public: true})
	}
	must(t, lnd.Routes(ctx, 2))
	bill, _, err := lnd.Bill(ctx, amount*1000)
	must(t, err)
	b.pay("lightning:"+bill, amount*money.Sat)
	sums := func(want money.Amount) {
		t.Helper()
		until(t, "the sums are right", func() error {
			have := money.Amount(0)
			for _, c := range b.summary().Channels {
				have += c.Remote
			}
			if have != want {
				return fmt.Errorf("lnd has %v", have)
			}
			return nil
		})
	}
	sums(amount * money.Sat)
	const back = amount - 200_000 // less the reserves
	must(t, pay(ctx, lnd, &lnrpc.SendPaymentRequest{PaymentRequest: b.bill(back*money.Sat, false), MaxParts: 8}))
	sums((amount - back) * money.Sat)
}
