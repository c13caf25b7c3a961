package till_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/trade"
	"coinop.dev/engine"
	"coinop.dev/purse"
	"coinop.dev/rail"
	"coinop.dev/rail/onewayrail"
	"coinop.dev/till"
	"coinop.dev/world/chain/regtest"
	"coinop.dev/world/store/bbolt"
)

const price = 5 * money.Sat

// market is a buyer with a purse and a seller with a till, over TCP.
type market struct {
	t             *testing.T
	chain         *regtest.Node
	rails         rail.Registry
	device        till.Device
	addr          string
	buyer, seller *end
	purse         *purse.Purse
	till          *till.Till
}

// end is one machine, whose store outlives it.
type end struct {
	key  keys.Secret
	path string
	db   *bbolt.DB
	m    *engine.Machine
	stop func()
}

func newMarket(t *testing.T, device till.Device) *market {
	m := &market{t: t, addr: "127.0.0.1:0", device: device}
	m.rails.Register(onewayrail.Scheme, onewayrail.Driver{})
	var err error
	if m.chain, err = regtest.Open(regtest.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.chain.Close() })
	ctx, stop := context.WithCancel(context.Background())
	var mining sync.WaitGroup
	mining.Go(func() {
		for ; ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
			if len(m.chain.MempoolTxs()) > 0 {
				m.chain.Mine(1)
			}
		}
	})
	t.Cleanup(func() { stop(); mining.Wait() })
	m.buyer, m.seller = m.newEnd("buyer"), m.newEnd("seller")
	if _, err := m.chain.Faucet(tx.P2WPKH(tx.WalletKey(m.buyer.key).Public()), 1_000_000); err != nil {
		t.Fatal(err)
	}
	m.openSeller()
	m.openBuyer()
	return m
}

func (m *market) newEnd(name string) *end {
	key, err := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte(name), 32)))
	if err != nil {
		m.t.Fatal(err)
	}
	e := &end{key: key, path: filepath.Join(m.t.TempDir(), "store")}
	m.t.Cleanup(e.close)
	return e
}

func (e *end) open(t *testing.T, chain *regtest.Node) context.Context {
	ctx, stop := context.WithCancel(context.Background())
	var err error
	if e.db, err = bbolt.Open(e.path); err != nil {
		t.Fatal(err)
	}
	e.m, e.stop = engine.New(ctx, engine.Options{Key: e.key, DB: e.db, Chain: chain}), stop
	return ctx
}

func (e *end) close() {
	if e.m != nil {
		e.stop()
		e.m.Close()
		e.db.Close()
		e.m = nil
	}
}

func (m *market) openSeller() {
	m.t.Helper()
	ctx := m.seller.open(m.t, m.chain)
	var err error
	m.till, err = till.Open(ctx, m.seller.m, till.Options{Items: []trade.Item{{Name: "reading", Unit: "reading", Price: price}}, PayTo: []string{m.payTo()}, Device: m.device})
	if err == nil {
		_, err = m.rails.Open(ctx, "oneway:", rail.Env{Machine: m.seller.m})
	}
	if err != nil {
		m.t.Fatal(err)
	}
	addr, err := m.seller.m.Listen(m.addr)
	if err != nil {
		m.t.Fatal(err)
	}
	m.addr = addr.String()
}

func (m *market) openBuyer() {
	m.t.Helper()
	ctx := m.buyer.open(m.t, m.chain)
	var err error
	if m.purse, err = purse.Open(ctx, m.buyer.m, purse.Options{}); err != nil {
		m.t.Fatal(err)
	}
	r, err := m.rails.Open(ctx, m.payTo(), rail.Env{Machine: m.buyer.m})
	if err == nil {
		err = m.purse.Hold(ctx, r)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *market) payTo() string { return fmt.Sprintf("oneway://%v@%s", m.seller.key.Public(), m.addr) }

func (m *market) ctx() context.Context {
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	m.t.Cleanup(stop)
	return ctx
}

func (m *market) order(n byte, units uint64) money.Order {
	return money.Order{ID: money.OrderID{n}, To: m.payTo(), Amount: price * money.Amount(units), For: "reading", Units: units}
}

func (m *market) buy(o money.Order) string {
	m.t.Helper()
	r, goods, err := m.purse.Buy(m.ctx(), o, m.seller.key.Public())
	if err != nil {
		m.t.Errorf("buy %v: %v", o.ID, err)
	} else if err := m.purse.Verify(r); err != nil {
		m.t.Errorf("receipt of %v: %v", o.ID, err)
	}
	return string(goods.Payload)
}

func (m *market) summary() earn.Summary {
	s, err := m.till.Summary(m.ctx())
	if err != nil {
		m.t.Fatal(err)
	}
	return s
}

// count delivers "<order>/<units>", and counts how often it was asked to.
func count(asked *atomic.Int64) till.Device {
	return func(_ context.Context, d earn.Deliver) ([]byte, error) {
		asked.Add(1)
		return fmt.Appendf(nil, "%x/%d", d.Order[0], d.Units), nil
	}
}

func TestBuy(t *testing.T) {
	var asked atomic.Int64
	m := newMarket(t, count(&asked))
	tariff, err := purse.Browse(m.ctx(), m.buyer.m, m.seller.key.Public())
	if err != nil || len(tariff.Items) != 1 || tariff.Items[0].Price != price {
		t.Errorf("the tariff is %+v, %v", tariff, err)
	}
	if got := m.buy(m.order(1, 2)); got != "1/2" {
		t.Errorf("bought %q", got)
	}
	if got := m.buy(m.order(1, 2)); got != "1/2" || asked.Load() != 1 {
		t.Errorf("asked again: %q, delivered %d times", got, asked.Load())
	}
	var running sync.WaitGroup
	for n := range byte(40) {
		running.Go(func() {
			if got := m.buy(m.order(10+n, 1)); got != fmt.Sprintf("%x/1", 10+n) {
				t.Errorf("order %d brings %q", n, got)
			}
		})
	}
	running.Wait()
	if s := m.summary(); s.Orders != 41 || s.Earned != 42*price || s.Units != 42 || s.Owed != 0 {
		t.Errorf("%+v", s)
	}
}

func TestPaidTooLittle(t *testing.T) {
	var asked atomic.Int64
	m := newMarket(t, count(&asked))
	o := m.order(1, 2)
	o.Amount--
	_, _, err := m.purse.Buy(m.ctx(), o, m.seller.key.Public())
	if !errors.Is(err, money.Pending) || !strings.Contains(err.Error(), "paid too little") || asked.Load() != 0 {
		t.Errorf("delivered %d times: %v", asked.Load(), err)
	}
}

// Whoever restarts when, an order is delivered once and its goods arrive.
func TestRestarts(t *testing.T) {
	var asked atomic.Int64
	m := newMarket(t, count(&asked))
	if got := m.buy(m.order(1, 1)); got != "1/1" {
		t.Fatal(got)
	}
	m.seller.close()
	bought, o := make(chan string), m.order(2, 1)
	go func() { bought <- m.buy(o) }()
	m.openSeller()
	if got := <-bought; got != "2/1" {
		t.Errorf("bought over the seller's restart: %q", got)
	}
	m.buyer.close()
	m.openBuyer()
	for n := byte(1); n <= 2; n++ {
		if got := m.buy(m.order(n, 1)); got != fmt.Sprintf("%d/1", n) {
			t.Errorf("asked again after the buyer's restart: %q", got)
		}
	}
	if s := m.summary(); s.Orders != 2 || s.Delivered != 2 || asked.Load() != 2 {
		t.Errorf("%+v, delivered %d times", s, asked.Load())
	}
}

// A device that fails is asked again, and one that delivers too much has failed.
func TestADeviceThatFails(t *testing.T) {
	if testing.Short() {
		t.Skip("it is asked again after seconds")
	}
	var asked atomic.Int64
	m := newMarket(t, func(context.Context, earn.Deliver) ([]byte, error) {
		switch asked.Add(1) {
		case 1:
			return make([]byte, trade.MaxPayload+1), nil
		}
		return []byte("21 °C"), nil
	})
	if got := m.buy(m.order(1, 1)); got != "21 °C" || asked.Load() != 2 {
		t.Errorf("bought %q at try %d", got, asked.Load())
	}
}

// No more than MaxDelivering deliveries are under way.
func TestDeliveriesAreBounded(t *testing.T) {
	var under, most atomic.Int64
	m := newMarket(t, func(context.Context, earn.Deliver) ([]byte, error) {
		n := under.Add(1)
		for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
		}
		time.Sleep(time.Millisecond)
		under.Add(-1)
		return nil, nil
	})
	var running sync.WaitGroup
	for n := range byte(100) {
		running.Go(func() { m.buy(m.order(n, 1)) })
	}
	running.Wait()
	if most.Load() > till.MaxDelivering {
		t.Errorf("%d deliveries at a time", most.Load())
	}
}
