package lndrail_test

import (
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"coinop.dev/core/codec"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/rail"
	"coinop.dev/world/drive"
)

// A till that writes down what it hears of held money, in the same write as the
// rail's own book, and says nothing by itself.
type till struct{ holds, returns, earned map[money.OrderID]int }

func loadTill(db step.Reader) *till {
	t := &till{map[money.OrderID]int{}, map[money.OrderID]int{}, map[money.OrderID]int{}}
	for prefix, m := range map[string]map[money.OrderID]int{"t/h/": t.holds, "t/r/": t.returns, "t/e/": t.earned} {
		codec.Scan(db, prefix, func(name string, r *codec.Reader) {
			id, _ := money.OrderIDFromKey(name)
			m[id] = r.Int(1000, "times")
		})
	}
	return t
}

func (t *till) Step(in step.Input) (fx step.Effects) {
	count := func(prefix string, m map[money.OrderID]int, id money.OrderID) {
		m[id]++
		fx.Put = append(fx.Put, step.Record{Key: prefix + id.Key(), Value: codec.AppendUint(nil, m[id])})
	}
	for _, event := range in.Events {
		r, _ := event.(step.Recv)
		out, _ := r.Msg.(step.Outcome)
		switch v := out.Value.(type) {
		case receipt.Held:
			count("t/h/", t.holds, v.Holding().Order)
		case receipt.Returned:
			if money.KindOf(out.Err) == money.Unpaid {
				count("t/r/", t.returns, v.Entry.Order)
			}
		case receipt.Income:
			count("t/e/", t.earned, v.Income().Order)
		}
	}
	return fx
}

// heard waits until the till has heard so much of an order.
func (m *machine) heard(what string, of func(*till) map[money.OrderID]int, id money.OrderID, times int) {
	m.t.Helper()
	got := -1
	for late := time.Now().Add(10 * time.Second); time.Now().Before(late); time.Sleep(5 * time.Millisecond) {
		must(m.t, m.m.Host.Do(m.t.Context(), func(d *drive.Machine) { got = of(d.Core(trade.Seller).(*till))[id] }))
		if got >= times {
			break
		}
	}
	if got != times {
		m.t.Errorf("%s: %d times, want %d", what, got, times)
	}
}

func holds(t *till) map[money.OrderID]int   { return t.holds }
func returns(t *till) map[money.OrderID]int { return t.returns }
func earned(t *till) map[money.OrderID]int  { return t.earned }

func (m *machine) says(word any) {
	must(m.t, m.m.Host.Tell(m.t.Context(), "lnd/bills", step.Recv{Msg: word}))
}

// holding has a payer pay a bill that is to be held.
func holding(t *testing.T, payer, payee *machine, id money.OrderID) (paid chan error) {
	biller, _ := rail.As[rail.Biller](payee.rail)
	bill := money.Bill{ID: id, Amount: 1000 * money.Sat, Hold: true}
	uri, err := biller.Bill(bill)
	must(t, err)
	if again, err := biller.Bill(bill); err != nil || again != uri {
		t.Errorf("the bill is %s, and again %s: %v", uri, again, err)
	}
	if _, err := biller.Bill(money.Bill{ID: id, Amount: 1000 * money.Sat}); err != nil {
		t.Errorf("a bill to the machine itself: %v", err)
	}
	paid = make(chan error, 1)
	go func() {
		_, err := payer.rail.Pay(t.Context(), money.Order{ID: id, To: uri, Amount: bill.Amount})
		paid <- err
	}()
	payee.heard("held", holds, id, 1)
	return paid
}

func TestHoldEndsAsTheTillSays(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	payer := newMachine(t, "payer", func(string) string { return f.pays() })
	payee := newTillMachine(t, "payee", f.earns)
	yes, no, gone := money.OrderID{1}, money.OrderID{2}, money.OrderID{3}

	paid := holding(t, payer, payee, yes)
	payee.says(receipt.Release{Order: yes})
	payee.says(receipt.Release{Order: yes})
	must(t, <-paid)
	payee.heard("earned", earned, yes, 1)

	paid = holding(t, payer, payee, no)
	payee.says(receipt.Cancel{Order: no})
	payee.says(receipt.Release{Order: no})
	if err := <-paid; !errors.Is(err, money.Unpaid) {
		t.Errorf("what the till cancels ends with %v", err)
	}
	payee.heard("returned", returns, no, 1)

	paid = holding(t, payer, payee, gone)
	f.mu.Lock()
	for _, i := range f.invoices { // lnd gives it back by itself
		if i.State.String() == "ACCEPTED" {
			i.State = 2
		}
	}
	f.wake()
	f.mu.Unlock()
	if err := <-paid; !errors.Is(err, money.Unpaid) {
		t.Errorf("what lnd gives back ends with %v", err)
	}
	payee.heard("returned", returns, gone, 1)
	payee.says(receipt.Release{Order: gone})
	for _, id := range []money.OrderID{no, gone} {
		payee.heard("earned", earned, id, 0)
	}
	payee.heard("returned", returns, yes, 0)
}

// The machine dies while lnd holds a payment, and after the till has spoken but
// before lnd has heard it.
func TestHoldOutlivesARestart(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	payer := newMachine(t, "payer", func(string) string { return f.pays() })
	payee := newTillMachine(t, "payee", f.earns)
	id := money.OrderID{1}
	paid := holding(t, payer, payee, id)
	payee.stop()
	payee.start()
	payee.heard("held", holds, id, 2)
	f.mu.Lock()
	f.deaf = 1 << 20
	f.mu.Unlock()
	payee.says(receipt.Release{Order: id})
	time.Sleep(50 * time.Millisecond)
	payee.stop()
	f.mu.Lock()
	f.deaf = 0
	f.mu.Unlock()
	payee.start()
	must(t, <-paid)
	payee.heard("earned", earned, id, 1)
	payee.stop()
	payee.start()
	payee.heard("earned", earned, id, 1)
	payee.heard("held", holds, id, 2)
}

// What a payment will reveal is known before it is made, also after a restart, and
// after it.
func TestSeal(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	payer, payee := ends(t, f)
	seal := func() rail.Sale {
		sealer, _ := rail.As[rail.Sealer](payee.rail)
		s, err := sealer.Seal(t.Context(), money.Bill{ID: money.OrderID{1}, Amount: 1000 * money.Sat})
		must(t, err)
		return s
	}
	s := seal()
	payee.stop()
	payee.start()
	if again := seal(); again.Pay != s.Pay || again.Hash != s.Hash || again.Key.Reveal() != s.Key.Reveal() {
		t.Error("the sale is another one after a restart")
	}
	r, err := payer.rail.Pay(t.Context(), money.Order{ID: money.OrderID{1}, To: s.Pay, Amount: 1000 * money.Sat})
	must(t, err)
	must(t, payer.rail.Verify(r))
	preimage := s.Key.Reveal()
	if sha256.Sum256(preimage[:]) != s.Hash {
		t.Error("the key is not the hash's")
	}
	f.mu.Lock()
	if p := f.payments[s.Hash]; p == nil || p.PaymentPreimage == "" {
		t.Error("the payment reveals nothing")
	}
	f.mu.Unlock()
	payee.earned(1000 * money.Sat)
	if again := seal(); again.Key.Reveal() != s.Key.Reveal() || again.Pay != "" {
		t.Error("the sale is another one once it is paid")
	}
	sealer, _ := rail.As[rail.Sealer](payee.rail)
	if _, err := sealer.Seal(t.Context(), money.Bill{ID: money.OrderID{1}, Amount: 999 * money.Sat}); err == nil {
		t.Error("the order is sealed again for another amount")
	}
}
