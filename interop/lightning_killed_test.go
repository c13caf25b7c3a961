package interop

import (
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
)

// TestKilled: in the middle of many payments coinop dies and comes back, and then
// lnd does. Whoever pays asks again for the same orders; each ends with a proof or
// certainly unpaid, and none is paid twice.
//
// lnd v0.21.3, if it dies between noting that it has seen an HTLC's onion and
// noting what it made of it, takes the same HTLC for a replay when it is back, and
// returns it, even if it has shown the preimage. So of its death the test asks only
// that no more is paid than there are proofs, and that the channel lives on.
func TestKilled(t *testing.T) {
	const orders, sat = 40, 1_000
	ctx, btcd, nodes := lnds(t, 1)
	lnd := nodes[0]
	b := newBox(t, ctx, btcd, "coinop", 10_000_000)
	point := b.open(lnd, node.Open{Capacity: 5_000_000, Push: 2_000_000_000, Public: true})
	local := func() money.Amount { return b.summary().Channels[0].Local }

	var alive sync.RWMutex // while coinop is
	// burst pays many invoices of lnd's, disturbs when some are paid, and says how
	// many orders end with a proof, and what the channel has less.
	burst := func(disturb func()) (proofs int32, less money.Amount) {
		t.Helper()
		before := local()
		var bills [orders]string
		for i := range bills {
			var err error
			bills[i], _, err = lnd.Bill(ctx, sat*1000)
			must(t, err)
		}
		var paying sync.WaitGroup
		var paid, unpaid atomic.Int32
		for _, bill := range bills {
			paying.Go(func() {
				o := money.Order{To: "lightning:" + bill, Amount: sat * money.Sat}
				rand.Read(o.ID[:])
				for ctx.Err() == nil {
					alive.RLock()
					rail := b.rail
					alive.RUnlock()
					r, err := rail.Pay(ctx, o)
					if err == nil {
						err = rail.Verify(r)
					}
					switch {
					case err == nil:
						paid.Add(1)
						return
					case money.KindOf(err) == money.Unpaid:
						unpaid.Add(1)
						return
					}
					time.Sleep(50 * time.Millisecond) // pending: ask again
				}
			})
		}
		until(t, "some are paid", func() error {
			if paid.Load() < 3 {
				return fmt.Errorf("%d", paid.Load())
			}
			return nil
		})
		disturb()
		b.connect(lnd)
		b.active(lnd, point)
		paying.Wait()
		if sum := paid.Load() + unpaid.Load(); sum != orders {
			t.Errorf("%d orders of %d have an end", sum, orders)
		}
		b.idle(lnd, point)
		return paid.Load(), before - local()
	}

	proofs, less := burst(func() {
		alive.Lock()
		defer alive.Unlock()
		b.stop()
		b.start()
	})
	if proofs != orders || less != orders*sat*money.Sat {
		t.Errorf("coinop died: %d orders of %d are paid, with %v", proofs, orders, less)
	}
	proofs, less = burst(func() {
		lnd.Kill()
		must(t, lnd.Start(ctx))
	})
	t.Logf("lnd died: %d orders of %d are paid, and lnd has kept %v", proofs, orders, less)
	if less > money.Amount(proofs)*sat*money.Sat {
		t.Errorf("lnd died: %v are paid for %d proofs", less, proofs)
	}
	bill, _, err := lnd.Bill(ctx, sat*1000)
	must(t, err)
	b.pay("lightning:"+bill, sat*money.Sat)
}
