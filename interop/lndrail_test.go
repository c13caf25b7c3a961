package interop

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coinop.dev"
	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/trade"
	"coinop.dev/engine"
	"coinop.dev/interop/peers"
	"coinop.dev/rail"
	"coinop.dev/rail/lndrail"
	"coinop.dev/rail/railtest"
	"coinop.dev/world/drive"
	"coinop.dev/world/store/mem"
)

// TestLndRail: a machine pays over one lnd another that is paid over its own,
// and keeps every promise of a rail.
func TestLndRail(t *testing.T) {
	const channel = 5_000_000 // sat
	ctx, _, nodes := lnds(t, 2)
	a, b := nodes[0], nodes[1]
	_, err := a.OpenChannel(ctx, b, channel)
	must(t, err)
	railtest.Test(t, func(*testing.T) railtest.Rig {
		return railtest.Rig{
			Drivers: map[string]rail.Driver{lndrail.Scheme: lndrail.Driver{}},
			Earn: func(addr string) []string {
				return []string{fmt.Sprintf("lnd:?rpc=%s&cert=%s&macaroon=%s&host=%s", b.RPC, b.CertFile, b.MacaroonFile, addr)}
			},
			Pay: func(keys.Public, string) []string {
				return []string{fmt.Sprintf("lnd://%s?cert=%s&macaroon=%s", a.RPC, a.CertFile, a.MacaroonFile)}
			},
			Late: true,
			Unit: 1000 * coinop.Sat, TooMuch: (channel + 1) * coinop.Sat,
		}
	})
}

// TestLndsDie: in the middle of many payments the payee's lnd is killed and
// starts again, and every order is paid once. Then the payer's is.
//
// lnd v0.21.3 may leave payments that it was about to send in flight for good
// when it starts again, with nothing of them in the channel (5 to 20 of 40 in
// half of the runs). The rail then says Pending, and rightly. So of the second
// death the test asks only that nothing is paid twice or called unpaid.
func TestLndsDie(t *testing.T) {
	ctx, _, nodes := lnds(t, 2)
	a, b := nodes[0], nodes[1]
	point, err := a.OpenChannel(ctx, b, 5_000_000)
	must(t, err)
	payee, till := machine(t, "payee")
	addr, err := payee.Listen("127.0.0.1:0")
	must(t, err)
	earns := openLnd(t, payee, fmt.Sprintf("lnd:?rpc=%s&cert=%s&macaroon=%s&host=%s", b.RPC, b.CertFile, b.MacaroonFile, addr))
	payer, _ := machine(t, "payer")
	pays := openLnd(t, payer, fmt.Sprintf("lnd://%s?cert=%s&macaroon=%s", a.RPC, a.CertFile, a.MacaroonFile))
	biller, _ := rail.As[rail.Biller](earns)

	const orders, amount = 40, 1000 * coinop.Sat
	// die pays many orders, and kills an lnd when some are paid.
	die := func(round byte, victim *peers.Lnd, before uint64, patience time.Duration) (paid, pending uint64) {
		t.Helper()
		soon, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		var paying sync.WaitGroup
		var ok, open atomic.Uint64
		for i := range byte(orders) {
			paying.Go(func() {
				_, err := pays.Pay(soon, coinop.Order{ID: coinop.OrderID{round, i}, To: biller.PayTo(), Amount: amount})
				switch {
				case err == nil:
					ok.Add(1)
				case coinop.KindOf(err) == coinop.Pending:
					open.Add(1)
				default:
					t.Errorf("order %d: %v", i, err)
				}
			})
		}
		until(t, "some are paid", func() error { return till(before + 5) })
		victim.Kill()
		must(t, victim.Start(ctx))
		must(t, a.Connect(ctx, b.Key, b.Peer))
		paying.Wait()
		until(t, "what is paid is in the till", func() error { return till(before + ok.Load()) })
		return ok.Load(), open.Load()
	}
	if paid, pending := die(0, b, 0, time.Minute); paid != orders {
		t.Errorf("the payee's lnd died: %d orders are paid, %d pending", paid, pending)
	}
	paid, pending := die(1, a, orders, 20*time.Second)
	t.Logf("the payer's lnd died: %d orders are paid, %d pending", paid, pending)
	c, err := b.Channel(ctx, peers.Outpoint(point))
	must(t, err)
	if got, want := c.LocalBalance, ((orders + coinop.Amount(paid)) * amount).Sats(); got != want {
		t.Errorf("the payee's lnd has %d sat, the payer proofs of %d", got, want)
	}
}

// machine runs one with a store in memory, and a till that says whether it has
// been paid for at least so many orders.
func machine(t *testing.T, name string) (*engine.Machine, func(orders uint64) error) {
	t.Helper()
	key, err := keys.NewSecret(strings.NewReader(strings.Repeat(name, 32)))
	must(t, err)
	db, err := mem.New(nil)
	must(t, err)
	m := engine.New(context.Background(), engine.Options{Key: key, DB: db})
	t.Cleanup(func() { m.Close() })
	must(t, m.Host.Add(t.Context(), trade.Seller, earn.NewBook(nil, nil)))
	return m, func(orders uint64) error {
		var s earn.Summary
		err := m.Host.Do(t.Context(), func(d *drive.Machine) { s = d.Core(trade.Seller).(*earn.Book).Summary() })
		if err == nil && s.Orders < orders {
			err = fmt.Errorf("%d orders are paid of %d", s.Orders, orders)
		}
		return err
	}
}

func openLnd(t *testing.T, m *engine.Machine, uri string) *rail.Rail {
	t.Helper()
	var registry rail.Registry
	registry.Register(lndrail.Scheme, lndrail.Driver{})
	r, err := registry.Open(t.Context(), uri, rail.Env{Machine: m})
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}
