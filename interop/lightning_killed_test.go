package interop

import (
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coinop.dev"
	"coinop.dev/core/lightning/node"
)

// TestKilled: in the middle of many payments coinop dies and comes back, and then
// lnd does. Whoever pays asks again for the same orders; each ends with a proof,
// and none is paid twice.
func TestKilled(t *testing.T) {
	const orders, sat = 40, 1_000
	ctx, btcd, nodes := lnds(t, 1)
	lnd := nodes[0]
	b := newBox(t, ctx, btcd, "coinop", 10_000_000)
	point := b.open(lnd, node.Open{Capacity: 5_000_000, Push: 2_000_000_000, Public: true})
	local := func() coinop.Amount { return b.summary().Channels[0].Local }

	var alive sync.RWMutex // while coinop is
	// burst pays many invoices of lnd's, and disturbs when some are paid.
	burst := func(disturb func()) {
		t.Helper()
		var bills [orders]string
		for i := range bills {
			var err error
			bills[i], _, err = lnd.Bill(ctx, sat*1000)
			must(t, err)
		}
		var paying sync.WaitGroup
		var paid atomic.Int32
		for _, bill := range bills {
			paying.Go(func() {
				o := coinop.Order{To: "lightning:" + bill, Amount: sat * coinop.Sat}
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
					case coinop.KindOf(err) == coinop.Unpaid:
						t.Errorf("order %v: %v", o.ID, err)
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
		if paid.Load() != orders {
			t.Errorf("%d orders are paid of %d", paid.Load(), orders)
		}
		b.idle(lnd, point)
	}

	before := local()
	burst(func() {
		alive.Lock()
		defer alive.Unlock()
		b.stop()
		b.start()
	})
	if got, want := before-local(), coinop.Amount(orders*sat)*coinop.Sat; got != want {
		t.Errorf("coinop died, and paid %v for orders of %v", got, want)
	}

	before = local()
	burst(func() {
		lnd.Kill()
		must(t, lnd.Start(ctx))
	})
	// An lnd that dies between showing a preimage and noting that it did takes the
	// HTLC for an attack when it is back, and returns the money.
	if got, most := before-local(), coinop.Amount(orders*sat)*coinop.Sat; got > most || got < most/2 {
		t.Errorf("lnd died, and coinop paid %v for orders of %v", got, most)
	} else {
		t.Logf("lnd died, and gave back %v of what it was paid", most-got)
	}
}
