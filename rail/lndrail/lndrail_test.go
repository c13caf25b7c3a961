package lndrail_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/invoice"
	"coinop.dev/core/money"
	"coinop.dev/core/trade"
	"coinop.dev/engine"
	"coinop.dev/rail"
	"coinop.dev/rail/lndrail"
	"coinop.dev/rail/railtest"
	"coinop.dev/world/drive"
	"coinop.dev/world/store/bbolt"
)

// TestRail needs no lnd; interop runs the same with two.
func TestRail(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	railtest.Test(t, func(*testing.T) railtest.Rig {
		return railtest.Rig{
			Drivers: map[string]rail.Driver{lndrail.Scheme: lndrail.Driver{}},
			Earn:    func(addr string) []string { return []string{f.earns(addr)} },
			Pay:     func(keys.Public, string) []string { return []string{f.pays()} },
			Late:    true,
			Unit:    1000 * money.Sat, TooMuch: f.limit + 1,
		}
	})
}

// A machine has a key, a store and a till, and can be started again.
type machine struct {
	t    *testing.T
	name string
	dir  string
	addr string
	uri  func(addr string) string
	mute bool // the till is one that only listens
	db   *bbolt.DB
	m    *engine.Machine
	rail *rail.Rail
}

func newMachine(t *testing.T, name string, uri func(addr string) string) *machine {
	t.Helper()
	return run(&machine{t: t, name: name, dir: t.TempDir(), addr: railtest.FreeAddr(), uri: uri})
}

func newTillMachine(t *testing.T, name string, uri func(addr string) string) *machine {
	t.Helper()
	return run(&machine{t: t, name: name, dir: t.TempDir(), addr: railtest.FreeAddr(), uri: uri, mute: true})
}

func run(m *machine) *machine {
	m.start()
	m.t.Cleanup(m.stop)
	return m
}

func (m *machine) start() {
	m.t.Helper()
	key, err := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte(m.name), 32)))
	must(m.t, err)
	m.db, err = bbolt.Open(filepath.Join(m.dir, "store"))
	must(m.t, err)
	m.m = engine.New(context.Background(), engine.Options{Key: key, DB: m.db})
	var book drive.Core = loadTill(m.db)
	if !m.mute {
		book, err = earn.Load(m.db, nil, nil)
		must(m.t, err)
	}
	must(m.t, m.m.Host.Add(m.t.Context(), trade.Seller, book))
	addr, err := m.m.Listen(m.addr)
	must(m.t, err)
	m.addr = addr.String()
	var registry rail.Registry
	registry.Register(lndrail.Scheme, lndrail.Driver{})
	m.rail, err = registry.Open(m.t.Context(), m.uri(m.addr), rail.Env{Machine: m.m})
	must(m.t, err)
}

func (m *machine) stop() {
	if m.m != nil {
		must(m.t, errors.Join(m.rail.Close(), m.m.Close(), m.db.Close()))
		m.m = nil
	}
}

func (m *machine) earned(want money.Amount) {
	m.t.Helper()
	var got money.Amount
	for late := time.Now().Add(10 * time.Second); time.Now().Before(late); time.Sleep(5 * time.Millisecond) {
		must(m.t, m.m.Host.Do(m.t.Context(), func(d *drive.Machine) { got = d.Core(trade.Seller).(*earn.Book).Summary().Earned }))
		if got == want {
			return
		}
	}
	m.t.Errorf("the till has %v, want %v", got, want)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ends(t *testing.T, f *fakeLnd) (payer, payee *machine) {
	return newMachine(t, "payer", func(string) string { return f.pays() }), newMachine(t, "payee", f.earns)
}

func (m *machine) order(i byte) money.Order {
	biller, _ := rail.As[rail.Biller](m.rail)
	return money.Order{ID: money.OrderID{i}, To: biller.PayTo(), Amount: 1000 * money.Sat}
}

// Whatever gets lost between coinop and lnd, before or after lnd has paid, an
// order is paid once and ends.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	payer, payee := ends(t, f)
	lost := status.Error(codes.Unavailable, "the connection is gone")
	odd := status.Error(codes.Unknown, "starting up")
	for i, c := range []struct{ before, after error }{{lost, nil}, {nil, lost}, {nil, odd}} {
		f.mu.Lock()
		f.calls, f.sends = 0, 0
		f.trouble = func(call int) (error, error) {
			if call > 1 {
				return nil, nil
			}
			return c.before, c.after
		}
		f.mu.Unlock()
		if _, err := payer.rail.Pay(t.Context(), payee.order(byte(i))); err != nil {
			t.Errorf("case %d: %v", i, err)
		}
		f.mu.Lock()
		if f.sends != 1 {
			t.Errorf("case %d: lnd has paid %d times", i, f.sends)
		}
		f.mu.Unlock()
		payee.earned(money.Amount(i+1) * 1000 * money.Sat)
	}
	f.mu.Lock()
	f.trouble = func(int) (error, error) { return status.Error(codes.Unknown, "not with me"), nil }
	f.mu.Unlock()
	if _, err := payer.rail.Pay(t.Context(), payee.order(9)); !errors.Is(err, money.Unpaid) {
		t.Errorf("lnd refuses, and the order is %v", err)
	}
}

// The payer's machine dies after lnd has paid and before it hears so.
func TestPayerDiesBehindLnd(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	payer, payee := ends(t, f)
	f.trouble = func(int) (error, error) { return nil, status.Error(codes.Unavailable, "the connection is gone") }
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	o := payee.order(1)
	if _, err := payer.rail.Pay(soon, o); money.KindOf(err) != money.Pending {
		t.Fatalf("lnd says nothing, and the order is %v", err)
	}
	payer.stop()
	f.mu.Lock()
	f.trouble = nil
	f.mu.Unlock()
	payer.start()
	r, err := payer.rail.Pay(t.Context(), o)
	must(t, err)
	again, err := payer.rail.Prove(t.Context(), o.ID)
	must(t, err)
	if !bytes.Equal(r.Proof, again.Proof) {
		t.Error("the order has two proofs")
	}
	payee.earned(o.Amount)
	if f.sends != 1 {
		t.Errorf("lnd has paid %d times", f.sends)
	}
}

// What lnd is paid while the payee's machine is off, also before it was ever
// paid, is in the till when it comes back.
func TestPaidWhileAway(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	payer, payee := ends(t, f)
	for i := range byte(2) {
		bill, err := payee.bill(money.OrderID{i})
		must(t, err)
		payee.stop()
		_, err = payer.rail.Pay(t.Context(), money.Order{ID: money.OrderID{i}, To: "lnd:" + bill, Amount: 1000 * money.Sat})
		must(t, err)
		payee.start()
		payee.earned(money.Amount(i+1) * 1000 * money.Sat)
	}
	payee.stop()
	payee.start()
	payee.earned(2000 * money.Sat)
}

func (m *machine) bill(id money.OrderID) (string, error) {
	invoicer, _ := rail.As[interface {
		Invoice(context.Context, money.Bill) (string, error)
	}](m.rail)
	return invoicer.Invoice(m.t.Context(), money.Bill{ID: id, Amount: 1000 * money.Sat})
}

// A plain invoice is paid for one order, of its amount, and proves itself.
func TestPlainInvoice(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	payer, payee := ends(t, f)
	bill, err := payee.bill(money.OrderID{1})
	must(t, err)
	if again, err := payee.bill(money.OrderID{1}); err != nil || again != bill {
		t.Errorf("the bill is %s, and again %s: %v", bill, again, err)
	}
	o := money.Order{ID: money.OrderID{1}, To: "lnd:" + strings.ToUpper(bill), Amount: 999 * money.Sat}
	if _, err := payer.rail.Pay(t.Context(), o); !errors.Is(err, money.Unpaid) {
		t.Errorf("another amount than the invoice's: %v", err)
	}
	o.Amount = 1000 * money.Sat
	r, err := payer.rail.Pay(t.Context(), o)
	must(t, err)
	must(t, payee.rail.Verify(r))
	r.Proof[0] ^= 1
	if payee.rail.Verify(r) == nil {
		t.Error("a forged preimage proves a payment")
	}
	o.ID = money.OrderID{2}
	if _, err := payer.rail.Pay(t.Context(), o); !errors.Is(err, money.Unpaid) {
		t.Errorf("a second order with the same invoice: %v", err)
	}
	payee.earned(1000 * money.Sat)

	// Somebody else with the same lnd has paid this one.
	bill, err = payee.bill(money.OrderID{3})
	must(t, err)
	i, err := invoice.Parse(bill)
	must(t, err)
	_, err = f.pay(i)
	must(t, err)
	if _, err := payer.rail.Pay(t.Context(), money.Order{ID: money.OrderID{3}, To: "lnd:" + bill, Amount: i.Amount}); !errors.Is(err, money.Unpaid) {
		t.Errorf("an invoice that lnd has paid for others: %v", err)
	}
}

// A stranger cannot take an order's invoice back by asking for it.
func TestAnothersOrder(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	payer, payee := ends(t, f)
	stranger := newMachine(t, "stranger", func(string) string { return f.pays() })
	f.trouble = func(int) (error, error) { return status.Error(codes.Unavailable, "later"), nil }
	soon, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	o := payee.order(1)
	payer.rail.Pay(soon, o)
	theirs := o
	theirs.Amount /= 2
	if _, err := stranger.rail.Pay(t.Context(), theirs); !errors.Is(err, money.Unpaid) || !strings.Contains(fmt.Sprint(err), "another's") {
		t.Errorf("a stranger asks for the order: %v", err)
	}
	f.mu.Lock()
	f.trouble = nil
	f.mu.Unlock()
	_, err := payer.rail.Pay(t.Context(), o)
	must(t, err)
	payee.earned(o.Amount)
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	payer, _ := ends(t, f)
	bad := filepath.Join(t.TempDir(), "bad")
	must(t, os.WriteFile(bad, []byte("x"), 0o600))
	var registry rail.Registry
	registry.Register(lndrail.Scheme, lndrail.Driver{})
	for uri, want := range map[string]string{
		"lnd://" + f.addr: "parameter cert",
		"lnd://" + f.addr + "?cert=" + bad + "&macaroon=" + f.macaroon: "holds no certificate",
		"lnd://" + f.addr + "?cert=" + f.cert:                          "parameter macaroon",
		"lnd://" + f.addr + "?cert=" + f.cert + "&macaroon=" + bad:     "does not let this macaroon pay (offchain:read",
		"lnd:?rpc=" + f.addr + "&cert=" + f.cert + "&macaroon=" + bad:  "does not let this macaroon be paid (invoices:read",
		"lnd://key@" + f.addr: "write lnd://",
		"lnd://127.0.0.1?cert=" + f.cert + "&macaroon=" + f.macaroon:      "lnd's address",
		"lnd:?rpc=" + f.addr + "&expiry=1&cert=" + f.cert + "&macaroon=m": "expiry",
	} {
		_, err := registry.Open(t.Context(), uri, rail.Env{Machine: payer.m})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", uri, err, want)
		}
	}
}
