package paywordrail_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/channel/payword"
	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/trade"
	"coinop.dev/engine"
	"coinop.dev/rail"
	"coinop.dev/rail/paywordrail"
	"coinop.dev/world/chain/regtest"
	"coinop.dev/world/drive"
	"coinop.dev/world/store"
	"coinop.dev/world/store/pebble"
)

// metered is a payer and a payee with a meter between them.
type metered struct {
	payer, payee *engine.Machine
	rails        []*rail.Rail
	meter        paywordrail.Meterer
}

// newMetered opens a channel with the parameters of params.
func newMetered(t testing.TB, params string) *metered {
	var registry rail.Registry
	for scheme, d := range drivers {
		registry.Register(scheme, d)
	}
	chain, err := regtest.Open(regtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chain.Close() })
	ctx, stop := context.WithTimeout(context.Background(), 100*time.Second)
	t.Cleanup(stop)
	var mining sync.WaitGroup
	mining.Go(func() {
		for ; ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
			if len(chain.MempoolTxs()) > 0 {
				chain.Mine(1)
			}
		}
	})
	t.Cleanup(func() { stop(); mining.Wait() })

	h := &metered{}
	machine := func(name string) *engine.Machine {
		key, err := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte(name), 32)))
		if err != nil {
			t.Fatal(err)
		}
		var db store.DB
		if db, err = pebble.Open(filepath.Join(t.TempDir(), "store")); err != nil {
			t.Fatal(err)
		}
		m := engine.New(context.Background(), engine.Options{Key: key, DB: db, Chain: chain})
		t.Cleanup(func() { m.Close(); db.Close() })
		return m
	}
	h.payer, h.payee = machine("payer"), machine("payee")
	if _, err := chain.Faucet(tx.P2WPKH(tx.WalletKey(h.payer.Key).Public()), 100_000_000); err != nil {
		t.Fatal(err)
	}
	if err := h.payee.Host.Add(ctx, trade.Seller, earn.NewBook(nil, nil)); err != nil {
		t.Fatal(err)
	}
	addr, err := h.payee.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	env := rail.Env{Machine: h.payer, Rail: func(string) *rail.Rail { return h.rails[0] }}
	open := func(uri string, env rail.Env) *rail.Rail {
		r, err := registry.Open(ctx, uri, env)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		return r
	}
	open("oneway:", rail.Env{Machine: h.payee})
	open("payword:", rail.Env{Machine: h.payee})
	at := fmt.Sprintf("://%v@%v", h.payee.Key.Public(), addr)
	h.rails = append(h.rails, open("oneway"+at+"?capacity=50000000sat", env))
	h.rails = append(h.rails, open("payword"+at+params, env))
	h.meter, _ = rail.As[paywordrail.Meterer](h.rails[1])
	return h
}

func (h *metered) earned(t testing.TB) (a money.Amount) {
	if err := h.payee.Host.Do(t.Context(), func(m *drive.Machine) { a = m.Core(trade.Seller).(*earn.Book).Summary().Earned }); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestManyCallersShareTicks(t *testing.T) {
	h := newMetered(t, "?every=20sat&credit=40sat&chain=65536")
	const callers, calls = 200, 50
	var running sync.WaitGroup
	for i := range callers {
		running.Go(func() {
			for range calls {
				if err := h.meter.Meter(t.Context(), money.OrderID{byte(i % 3)}, uint64(1+i%7)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
	want := money.Amount(0)
	for i := range callers {
		want += calls * money.Amount(1+i%7)
	}
	if got := h.earned(t); got != want {
		t.Errorf("the till has %v, want %v", got, want)
	}
	closer, _ := rail.As[rail.Closer](h.rails[1])
	if err := closer.Shut(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if got := h.earned(t); got != want {
		t.Errorf("after the last settlement the till has %v, want %v", got, want)
	}
	s, err := summary(h.rails[0])
	if err != nil || s.Paid != want {
		t.Errorf("settled with %v, want %v: %v", s.Paid, want, err)
	}
	if err := h.meter.Meter(t.Context(), money.OrderID{1}, 1); !errors.Is(err, money.Unpaid) || !errors.Is(err, payword.ErrNotOpen) {
		t.Errorf("the channel is closed: %v", err)
	}
}

func summary(r *rail.Rail) (oneway.Summary, error) {
	s, _ := rail.As[interface {
		Summaries(context.Context) ([]oneway.Summary, error)
	}](r)
	all, err := s.Summaries(context.Background())
	return all[0], err
}

func TestMeterRefuses(t *testing.T) {
	h := newMetered(t, "?coin=10msat&every=1sat&credit=2sat&chain=64")
	id := money.OrderID{1}
	for _, coins := range []uint64{0, 201, 1 << 63} {
		if err := h.meter.Meter(t.Context(), id, coins); !errors.Is(err, money.Invalid) {
			t.Errorf("%d coins: %v", coins, err)
		}
	}
	if err := h.meter.Meter(t.Context(), id, 200); err != nil {
		t.Errorf("all the credit: %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	h.payer.Cut(h.payee.Key.Public(), true)
	if err := h.meter.Meter(ended, id, 1); !errors.Is(err, money.Pending) || !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
	failed := make(chan error)
	go func() { failed <- h.meter.Meter(t.Context(), id, 1) }()
	if err := h.rails[1].Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err == nil {
		t.Error("paid without a link")
	}
	for { // closing takes a moment
		if err := h.meter.Meter(ended, id, 1); errors.Is(err, money.Unpaid) {
			break
		}
	}
}

func TestMeterAllocatesNothing(t *testing.T) {
	h := newMetered(t, "")
	const callers = 1000
	paid := meterFor(t, h, callers, 200*time.Millisecond) // grow what grows once
	before := testing.AllocsPerRun(1, func() { paid = meterFor(t, h, callers, 500*time.Millisecond) })
	if each := before / float64(paid); each > 1 {
		t.Errorf("%.2f allocations a call, of %d calls", each, paid)
	}
}

// meterFor lets callers meter one coin after the other, and counts them.
func meterFor(t testing.TB, h *metered, callers int, d time.Duration) uint64 {
	var paid atomic.Uint64
	var running sync.WaitGroup
	stop := time.Now().Add(d)
	for range callers {
		running.Go(func() {
			n := uint64(0)
			for ; time.Now().Before(stop); n++ {
				if err := h.meter.Meter(context.Background(), money.OrderID{1}, 1); err != nil {
					t.Error(err)
					break
				}
			}
			paid.Add(n)
		})
	}
	running.Wait()
	return paid.Load()
}

// BenchmarkMeter is 1,000 callers, both ends in this process, over TCP, on
// pebble.
func BenchmarkMeter(b *testing.B) {
	h := newMetered(b, "")
	const callers = 1000
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var running sync.WaitGroup
	for range callers {
		running.Go(func() {
			for left.Add(-1) >= 0 {
				if err := h.meter.Meter(context.Background(), money.OrderID{1}, 1); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}
