package purse_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/spend"
	"coinop.dev/engine"
	"coinop.dev/purse"
	"coinop.dev/rail"
	"coinop.dev/rail/fakerail"
	"coinop.dev/world/store/bbolt"
)

// wallet is a machine with a purse, whose store outlives it.
type wallet struct {
	t     *testing.T
	path  string
	key   keys.Secret
	l     spend.Limits
	rails rail.Registry
	stub  *stub

	db *bbolt.DB
	m  *engine.Machine
	*purse.Purse
}

func secret(name string) keys.Secret {
	k, err := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte(name), 32)))
	if err != nil {
		panic(err)
	}
	return k
}

func newWallet(t *testing.T, l spend.Limits, uris ...string) *wallet {
	w := &wallet{t: t, path: filepath.Join(t.TempDir(), "store"), key: secret("purse"), l: l, stub: &stub{}}
	w.rails.Register(fakerail.Scheme, fakerail.Driver{})
	w.rails.Register("stub", w.stub)
	w.open(uris...)
	t.Cleanup(w.close)
	return w
}

func (w *wallet) open(uris ...string) {
	w.t.Helper()
	var err error
	if w.db, err = bbolt.Open(w.path); err != nil {
		w.t.Fatal(err)
	}
	w.m = engine.New(context.Background(), engine.Options{Key: w.key, DB: w.db})
	if w.Purse, err = purse.Open(w.ctx(), w.m, purse.Options{Limits: w.l}); err != nil {
		w.t.Fatal(err)
	}
	for _, uri := range uris {
		r, err := w.rails.Open(w.ctx(), uri, rail.Env{Machine: w.m})
		if err == nil {
			// What is held stays held when who held it is done.
			ctx, done := context.WithCancel(w.ctx())
			err = w.Hold(ctx, r)
			done()
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *wallet) close() {
	if w.m != nil {
		w.m.Close()
		w.db.Close()
		w.m = nil
	}
}

func (w *wallet) restart(uris ...string) {
	w.close()
	w.open(uris...)
}

func (w *wallet) ctx() context.Context {
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	w.t.Cleanup(stop)
	return ctx
}

func (w *wallet) order(n byte, amount money.Amount) money.Order {
	return money.Order{ID: money.OrderID{n}, To: "fake://" + w.key.Public().String(), Amount: amount}
}

func (w *wallet) summary() spend.Summary {
	s, err := w.Summary(w.ctx())
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func TestPaidOnce(t *testing.T) {
	w := newWallet(t, spend.Limits{}, "fake:?balance=100sat")
	o := w.order(1, 30*money.Sat)
	first, err := w.Pay(w.ctx(), o)
	if err != nil || w.Verify(first) != nil {
		t.Fatalf("%+v, %v, %v", first, err, w.Verify(first))
	}
	again, err := w.Pay(w.ctx(), o)
	if err != nil || !bytes.Equal(again.Proof, first.Proof) {
		t.Errorf("paid twice: %v", err)
	}
	w.restart("fake:?balance=100sat")
	again, err = w.Pay(w.ctx(), o)
	if err != nil || !bytes.Equal(again.Proof, first.Proof) {
		t.Errorf("paid again after a restart: %v", err)
	}
	if s := w.summary(); s.Paid != o.Amount || s.Settled != 1 || s.Open != 0 {
		t.Errorf("%+v", s)
	}
	// 70 sat are left, not 40.
	if _, err := w.Pay(w.ctx(), w.order(2, 70*money.Sat)); err != nil {
		t.Error(err)
	}
	if _, err := w.Pay(w.ctx(), w.order(3, 1)); !errors.Is(err, money.Unpaid) || !errors.Is(err, fakerail.ErrBroke) {
		t.Errorf("out of money: %v", err)
	}
}

func TestManyAtOnce(t *testing.T) {
	w := newWallet(t, spend.Limits{Total: 60}, "fake:?balance=100sat")
	var running sync.WaitGroup
	for n := range byte(100) {
		running.Go(func() {
			if _, err := w.Pay(w.ctx(), w.order(n, 1)); err != nil && !errors.Is(err, money.Refused) {
				t.Error(err)
			}
		})
	}
	running.Wait()
	if s := w.summary(); s.Paid != 60 || s.Left != 0 {
		t.Errorf("%+v", s)
	}
}

func TestRefusals(t *testing.T) {
	w := newWallet(t, spend.Limits{Order: 10}, "fake:?balance=100sat")
	_, err := w.Pay(w.ctx(), w.order(1, 11))
	var r *spend.Refusal
	if !errors.Is(err, money.Refused) || !errors.As(err, &r) || r.Limit != "order" || r.Left != 10 {
		t.Errorf("too much: %v", err)
	}
	cash := w.order(1, 5)
	cash.To = "cash://x"
	if _, err := w.Pay(w.ctx(), cash); !errors.Is(err, money.Refused) || !errors.Is(err, purse.ErrNoRail) {
		t.Errorf("no rail: %v", err)
	}
	if err := w.Verify(money.Receipt{To: "cash://x"}); !errors.Is(err, purse.ErrNoRail) {
		t.Errorf("a receipt of no rail: %v", err)
	}
	if _, err := w.Pay(w.ctx(), w.order(1, 0)); !errors.Is(err, money.Invalid) {
		t.Errorf("nothing: %v", err)
	}
}

// What is certainly unpaid may be spent again; what may be paid stays reserved
// until the rail knows.
func TestFailures(t *testing.T) {
	w := newWallet(t, spend.Limits{Total: 100}, "fake:?balance=100sat&fail=unpaid")
	if _, err := w.Pay(w.ctx(), w.order(1, 60)); !errors.Is(err, money.Unpaid) {
		t.Fatal(err)
	}
	if s := w.summary(); s.Spent != 0 || s.Left != 100 {
		t.Errorf("unpaid: %+v", s)
	}
	w.restart("fake:?balance=100sat&fail=pending")
	if _, err := w.Pay(w.ctx(), w.order(1, 60)); !errors.Is(err, money.Pending) {
		t.Fatal(err)
	}
	if s := w.summary(); s.Spent != 60 || s.Left != 40 {
		t.Errorf("pending: %+v", s)
	}
	if _, err := w.Pay(w.ctx(), w.order(2, 60)); !errors.Is(err, money.Refused) {
		t.Errorf("the reserve is spent: %v", err)
	}
	w.restart("fake:?balance=100sat")
	for end := time.Now().Add(10 * time.Second); w.summary().Paid == 0; {
		if time.Now().After(end) {
			t.Fatalf("the order is not taken up again: %+v", w.summary())
		}
	}
	if s := w.summary(); s.Paid != 60 || s.Spent != 60 || s.Open != 0 {
		t.Errorf("in the end: %+v", s)
	}
	if r, err := w.Pay(w.ctx(), w.order(1, 60)); err != nil || w.Verify(r) != nil {
		t.Errorf("its receipt: %v", err)
	}
}

func TestAContextThatEnds(t *testing.T) {
	w := newWallet(t, spend.Limits{}, "stub://a@h:1")
	w.stub.wait = make(chan struct{})
	soon, stop := context.WithTimeout(w.ctx(), 10*time.Millisecond)
	defer stop()
	o := money.Order{ID: money.OrderID{1}, To: "stub://a@h:1", Amount: 5}
	if _, err := w.Pay(soon, o); !errors.Is(err, money.Pending) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	close(w.stub.wait)
	if _, err := w.Pay(w.ctx(), o); err != nil && !errors.Is(err, money.ErrForgotten) { // it keeps no receipts
		t.Error(err)
	}
	if s := w.summary(); s.Paid != 5 || w.stub.orders() != "a:01" {
		t.Errorf("%+v, paid %s", s, w.stub.orders())
	}
}

// An order goes to the rail that leads to its payee, and to no other.
func TestTheRightPayee(t *testing.T) {
	w := newWallet(t, spend.Limits{}, "stub://a@h:1?x=1", "stub://b@h:2")
	for n, to := range []string{"stub://b@h:2", "stub://a@h:1?order=5", "stub://b@elsewhere:3"} {
		if _, err := w.Pay(w.ctx(), money.Order{ID: money.OrderID{byte(n + 1)}, To: to, Amount: 5}); err != nil {
			t.Errorf("%s: %v", to, err)
		}
	}
	if _, err := w.Pay(w.ctx(), money.Order{ID: money.OrderID{9}, To: "stub://c@h:1", Amount: 5}); !errors.Is(err, purse.ErrNoRail) {
		t.Errorf("nobody leads there: %v", err)
	}
	if got := w.stub.orders(); got != "b:01 a:02 b:03" {
		t.Errorf("paid %s", got)
	}
}

// stub is a driver whose rails pay anything, and remember what.
type stub struct {
	mu   sync.Mutex
	paid []string
	wait chan struct{}
}

func (s *stub) Open(_ context.Context, u *url.URL, _ rail.Env) (rail.Conn, error) {
	return &stubConn{s, u.User.Username()}, nil
}

func (s *stub) orders() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.paid, " ")
}

type stubConn struct {
	*stub
	payee string
}

func (c *stubConn) Pay(_ context.Context, o money.Order) (money.Receipt, error) {
	if c.wait != nil {
		<-c.wait
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paid = append(c.paid, fmt.Sprintf("%s:%02x", c.payee, o.ID[:1]))
	return money.Receipt{Order: o.ID, Amount: o.Amount, To: o.To}, nil
}

func (c *stubConn) Verify(money.Receipt) error { return nil }
func (c *stubConn) Close() error               { return nil }
