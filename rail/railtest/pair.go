package railtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/trade"
	"coinop.dev/engine"
	"coinop.dev/rail"
	"coinop.dev/world/chain/regtest"
	"coinop.dev/world/drive"
	"coinop.dev/world/store/bbolt"
)

// patience is how long anything may take. Tests wait for conditions; only a
// failing one waits this long.
const patience = 20 * time.Second

// pair is a payer and a payee, and the chain they share.
type pair struct {
	t        *testing.T
	rig      Rig
	registry rail.Registry
	chain    *regtest.Node

	payer, payee *end
}

// end is one machine.
type end struct {
	*pair
	name  string
	dir   string
	key   keys.Secret
	addr  string
	open  func() []string // the URIs of its rails
	db    *bbolt.DB
	m     *engine.Machine
	leave func() // the ledger
	rails []*rail.Rail
}

func newPair(t *testing.T, rig Rig) *pair {
	p := &pair{t: t, rig: rig}
	for scheme, driver := range rig.Drivers {
		p.registry.Register(scheme, driver)
	}
	var err error
	if p.chain, err = regtest.Open(regtest.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.chain.Close() })
	p.mineAlways()
	p.payee = p.newEnd("payee", func() []string { return rig.Earn(p.payee.addr) })
	p.payer = p.payee
	if rig.Alone {
		p.payee.open = func() []string {
			return append(rig.Earn(p.payee.addr), rig.Pay(p.payee.key.Public(), p.payee.addr)...)
		}
	} else {
		p.payer = p.newEnd("payer", func() []string { return rig.Pay(p.payee.key.Public(), p.payee.addr) })
	}
	script := tx.P2WPKH(tx.WalletKey(p.payer.key).Public())
	if rig.Fund != nil {
		if script, err = rig.Fund(p.payer.key); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.chain.Faucet(script, 10_000_000); err != nil {
		t.Fatal(err)
	}
	p.payee.start()
	if !rig.Alone {
		p.payer.start()
	}
	return p
}

// mineAlways mines whatever waits.
func (p *pair) mineAlways() {
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			if len(p.chain.MempoolTxs()) > 0 {
				p.chain.Mine(1)
			}
			select {
			case <-ctx.Done():
			case <-time.After(2 * time.Millisecond):
			}
		}
	})
	p.t.Cleanup(func() { stop(); running.Wait() })
}

// Key is a machine's: "payer" or "payee".
func Key(name string) keys.Secret {
	key, err := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte(name), 32)))
	if err != nil {
		panic(err)
	}
	return key
}

func (p *pair) newEnd(name string, open func() []string) *end {
	e := &end{pair: p, name: name, dir: p.t.TempDir(), key: Key(name), addr: FreeAddr(), open: open}
	p.t.Cleanup(e.stop)
	return e
}

// FreeAddr is an address that nobody listens at. Its port is below those that the
// system hands out, or another process might have it while the machine is down.
func FreeAddr() string {
	for {
		addr := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(10_000))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
}

// start runs the machine from what its store has.
func (e *end) start() {
	e.t.Helper()
	var err error
	if e.db, err = bbolt.Open(filepath.Join(e.dir, "store")); err != nil {
		e.t.Fatal(err)
	}
	e.m = engine.New(context.Background(), engine.Options{Key: e.key, DB: e.db, Chain: e.chain})
	book, err := earn.Load(e.db, nil, nil)
	if err == nil {
		err = e.m.Host.Add(e.ctx(), trade.Seller, book)
	}
	if err != nil {
		e.t.Fatal(err)
	}
	if e == e.payee {
		addr, err := e.m.Listen(e.addr)
		if err != nil {
			e.t.Fatal(err)
		}
		e.addr = addr.String()
	}
	if e.rig.Join != nil {
		if e.leave, err = e.rig.Join(e.m); err != nil {
			e.t.Fatalf("%s: %v", e.name, err)
		}
	}
	e.rails = nil
	for _, uri := range e.open() {
		r, err := e.registry.Open(e.ctx(), uri, e.env())
		if err != nil {
			e.t.Fatalf("%s: %v", e.name, err)
		}
		e.rails = append(e.rails, r)
	}
}

func (e *end) env() rail.Env {
	return rail.Env{Machine: e.m, Rail: func(scheme string) *rail.Rail {
		for _, r := range e.rails {
			if r.Scheme() == scheme {
				return r
			}
		}
		return nil
	}}
}

// stop closes everything, as often as it is asked.
func (e *end) stop() {
	if e.m == nil {
		return
	}
	for _, r := range e.rails {
		if err := r.Close(); err != nil {
			e.t.Errorf("%s: close %v: %v", e.name, r, err)
		}
	}
	if e.leave != nil {
		e.leave()
		e.leave = nil
	}
	if err := errors.Join(e.m.Close(), e.db.Close()); err != nil {
		e.t.Errorf("%s: %v", e.name, err)
	}
	e.m = nil
}

func (p *pair) restart(e *end) {
	p.t.Helper()
	e.stop()
	e.start()
}

// rail is the one under test.
func (e *end) rail() *rail.Rail { return e.rails[len(e.rails)-1] }

// earner is the payee's end, which on one machine is not the last rail.
func (p *pair) earner() *rail.Rail {
	return p.payee.rails[len(p.rig.Earn(""))-1]
}

// ctx ends with the test, or when something hangs.
func (p *pair) ctx() context.Context {
	ctx, end := context.WithTimeout(context.Background(), patience)
	p.t.Cleanup(end)
	return ctx
}

// order is the i-th order.
func (p *pair) order(i int) money.Order {
	biller, _ := rail.As[rail.Biller](p.earner())
	return money.Order{ID: money.OrderID{7, byte(i >> 8), byte(i)}, To: biller.PayTo(), Amount: p.rig.Unit}
}

func (p *pair) pay(o money.Order) money.Receipt {
	p.t.Helper()
	r, err := p.payer.rail().Pay(p.ctx(), o)
	if err != nil {
		p.t.Errorf("pay %v: %v", o.ID, err)
		return money.Receipt{}
	}
	if err := p.earner().Verify(r); err != nil {
		p.t.Errorf("receipt of %v: %v", o.ID, err)
	}
	return r
}

func (p *pair) all(n int, do func(i int)) {
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() { do(i) })
	}
	running.Wait()
}

func (p *pair) sameProof(a, b money.Receipt) {
	p.t.Helper()
	if len(a.Proof) == 0 || !bytes.Equal(a.Proof, b.Proof) || a.Order != b.Order || a.Amount != b.Amount {
		p.t.Errorf("order %v has two receipts: %x and %x", a.Order, a.Proof, b.Proof)
	}
}

// earned checks what the payee's till has.
func (p *pair) earned(want money.Amount) {
	p.t.Helper()
	var s earn.Summary
	for late := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		err := p.payee.m.Host.Do(p.ctx(), func(m *drive.Machine) { s = m.Core(trade.Seller).(*earn.Book).Summary() })
		if err == nil && s.Earned == want {
			return
		}
		if err != nil || !p.rig.Late || time.Now().After(late) {
			p.t.Errorf("the till has %v, want %v: %v", s.Earned, want, err)
			return
		}
	}
}

// cut takes the link away until it is mended.
func (p *pair) cut(down bool) { p.payer.m.Cut(p.payee.key.Public(), down) }

// noLeaks checks, when everything else is closed, that no goroutine is left.
func noLeaks(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for end := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				stacks := make([]byte, 1<<20)
				stacks = stacks[:runtime.Stack(stacks, true)]
				t.Fatalf("%d goroutines were there and %d are left:\n%s", before, runtime.NumGoroutine(), strings.TrimSpace(string(stacks)))
			}
		}
	})
}
