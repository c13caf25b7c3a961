package transfer_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"coinop.dev/core/ledger/transfer"
	"coinop.dev/core/money"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
)

// each runs a test on every kind of ledger.
func each(t *testing.T, test func(t *testing.T, w *world)) {
	for name, open := range ledgers {
		t.Run(name, func(t *testing.T) { test(t, newWorld(t, open())) })
	}
}

// fresh is a world of the same kind.
func (w *world) fresh() *world { return newWorld(w.t, ledgers[w.l.name()]()) }

func TestOrdersArePaidOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for n := range 10 {
			w.order(n, 100)
			w.order(n, 100)
		}
		w.pass(25)
		w.order(3, 100)
		for n := range 10 {
			if k := w.kind(n); k != "paid" {
				t.Errorf("order %d is %q: %v", n, k, w.ends["rich"].errs[orderID(n)])
			}
		}
		w.sums(1000)
	})
}

// sums checks that the poor one has so much, and that its till says the same.
func (w *world) sums(want money.Amount) {
	w.t.Helper()
	var till money.Amount
	for id, a := range w.ends["poor"].till {
		till += a
		if n := w.ends["poor"].told[id]; n != 1 {
			w.t.Errorf("the till is told of %s %d times", orderName(id), n)
		}
	}
	if got := w.l.has("poor"); got != want || till != want {
		w.t.Errorf("the payee has %v, its till %v; want %v", got, till, want)
	}
	if rich := w.l.has("rich"); rich+want > supply || rich+want < supply-1 {
		w.t.Errorf("the payer has %v of %d left", rich, supply)
	}
	for who, e := range w.ends {
		if s := e.core.Summary(); s.Open > 0 || s.Waiting > 0 || s.Sending > 0 {
			w.t.Errorf("%s: %+v", who, s)
		}
	}
}

// Wherever either machine crashes, before a write or after it, each order is paid
// once and the till is told once.
func TestCrashAtEveryWrite(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		crashes := 0
		for _, after := range []bool{false, true} {
			for crash := 1; ; crash++ {
				k := w.fresh()
				k.crashAt, k.after = k.writes+crash, after
				for range 4 { // whoever has no answer asks again
					for n := range 5 {
						if k.kind(n) == "" {
							k.order(n, 10)
						}
					}
					k.pass(15)
				}
				if k.writes < k.crashAt {
					break
				}
				crashes++
				for n := range 5 {
					if kind := k.kind(n); kind != "paid" {
						t.Fatalf("crash at write %d: order %d is %q", crash, n, kind)
					}
				}
				k.sums(50)
			}
		}
		if crashes < 20 {
			t.Errorf("it crashed at %d writes only", crashes)
		}
	})
}

// Whatever is lost, and whenever machines start again, it comes to the same.
func TestRandom(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for seed := range uint64(7) {
			k, r := w.fresh(), rand.New(rand.NewPCG(7, seed))
			k.lose = lossy(seed)
			want := money.Amount(0)
			amounts := map[int]money.Amount{}
			for n := range 20 {
				amounts[n] = money.Amount(1 + r.IntN(100))
				want += amounts[n]
				k.order(n, amounts[n])
				switch r.IntN(4) {
				case 0:
					k.ends[[]string{"rich", "poor"}[r.IntN(2)]].start()
				case 1:
					k.pass(r.IntN(5))
				}
			}
			for range 50 {
				k.pass(10)
				for n := range 20 {
					if k.kind(n) == "" {
						k.order(n, amounts[n])
					}
				}
			}
			k.lose = func() bool { return false }
			k.pass(70)
			k.sums(want)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	})
}

func TestTooMuch(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.order(1, supply+1)
		w.pass(5)
		if err := w.ends["rich"].errs[orderID(1)]; !errors.Is(err, money.Unpaid) {
			t.Fatalf("%v", err)
		}
		if w.ends["rich"].core.Known(orderID(1)) {
			t.Error("something of it is kept")
		}
		w.order(2, supply/2)
		w.order(3, supply/2-1) // and a bit, to tell the bills of a lattice apart
		w.pass(10)
		w.sums(supply - 1)
		w.order(4, 2)
		w.pass(5)
		if k := w.kind(4); k != "unpaid" {
			t.Errorf("an order of what is not there is %q", k)
		}
	})
}

// rival pays a bill with the rich one's key, and not by its wallet.
func (w *world) rival(n int, a money.Amount) {
	w.t.Helper()
	l := w.l.open("rich")
	if _, err := l.Load(nil, nil); err != nil {
		w.t.Fatal(err)
	}
	w.l.tell("rich", w.l.follow("rich"))
	for _, s := range w.l.take() {
		l.Hear(s.msg)
	}
	t, _, err := l.Build([]transfer.Payment{{Order: orderID(n), Amount: a, Bill: w.bill(n, a)}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.l.tell("rich", t.Submit)
}

// The money was spent by somebody else who has the key: the order is not paid, that
// is certain, and it can be paid with what is left.
func TestSomebodyElseHasTheKey(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.lose = func() bool { return true }
		w.order(1, 100)
		w.order(2, 100)
		w.lose = func() bool { return false }
		w.rival(7, 5)
		w.pass(40)
		for n := 1; n <= 2; n++ {
			if k := w.kind(n); k != "unpaid" && k != "paid" || n == 1 && k == "paid" {
				t.Errorf("order %d is %q", n, k)
			}
			delete(w.ends["rich"].errs, orderID(n))
			w.order(n, 100)
		}
		w.pass(20)
		w.sums(205)
		for n := 1; n <= 2; n++ {
			if k := w.kind(n); k != "paid" {
				t.Errorf("order %d is %q", n, k)
			}
		}
	})
}

// A till that many small orders fill can pay all of it at once.
func TestManySmallOnes(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		const n = 140
		for i := range n {
			w.order(i, 10)
		}
		w.pass(320) // the lattice here cements a block of an account a second
		w.sums(10 * n)
		rich, poor := w.ends["rich"], w.ends["poor"]
		rich.step(transfer.Invoice{Order: orderID(n), Amount: 10*n - 1})
		poor.step(transfer.Pay{Order: orderID(n), Amount: 10*n - 1, To: "rich", Bill: rich.bills[orderID(n)]})
		w.pass(5)
		if rich.till[orderID(n)] != 10*n-1 {
			t.Errorf("%v came back: %v", rich.till[orderID(n)], poor.errs)
		}
		if tangle, ok := w.l.(*tangleNode); ok && len(tangle.unspent) > 80 {
			t.Errorf("%d outputs are left", len(tangle.unspent))
		}
	})
}

// The poor one pays with what it got, as soon as that is final.
func TestMoneyComesBack(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.order(1, 1000)
		w.pass(5)
		rich, poor := w.ends["rich"], w.ends["poor"]
		rich.step(transfer.Invoice{Order: orderID(2), Amount: 600})
		poor.step(transfer.Pay{Order: orderID(2), Amount: 600, To: "rich", Bill: rich.bills[orderID(2)]})
		w.pass(10)
		if rich.till[orderID(2)] != 600 || poor.proofs[orderID(2)] == nil {
			t.Errorf("%v came back, %v", rich.till[orderID(2)], poor.errs)
		}
		if got := w.l.has("poor"); got > 400 || got < 399 {
			t.Errorf("%v are left", got)
		}
	})
}

func TestOrdersThatMakeNoSense(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		bill := w.bill(1, 100)
		rich := w.ends["rich"]
		own := func() string {
			rich.step(transfer.Invoice{Order: orderID(9), Amount: 5})
			return rich.bills[orderID(9)]
		}()
		for what, c := range map[string]struct {
			pay  transfer.Pay
			kind string
		}{
			"nothing":          {transfer.Pay{Bill: bill}, "invalid"},
			"too much":         {transfer.Pay{Amount: money.MaxAmount + 1, Bill: bill}, "invalid"},
			"another amount":   {transfer.Pay{Amount: 101, Bill: bill}, "invalid"},
			"no bill":          {transfer.Pay{Amount: 100}, "unpaid"},
			"no such bill":     {transfer.Pay{Amount: 100, Bill: "bitcoin:me"}, "invalid"},
			"a bill with more": {transfer.Pay{Amount: 100, Bill: bill + "&x=1"}, "invalid"},
			"our own bill":     {transfer.Pay{Order: orderID(9), Amount: 5, Bill: own}, "unpaid"},
		} {
			if c.pay.Order == (money.OrderID{}) {
				c.pay.Order = orderID(1)
			}
			rich.step(c.pay)
			w.pass(1)
			if err := rich.errs[c.pay.Order]; err == nil || money.KindOf(err).Error() != c.kind {
				t.Errorf("%s: %v", what, err)
			}
			delete(rich.errs, c.pay.Order)
		}
		w.order(1, 100)
		w.pass(5)
		// Who comes with the ID and another payee hears what was paid.
		fx := rich.core.Step(step.Input{At: w.now, Events: []any{transfer.Pay{Order: orderID(1), Amount: 100, To: "somebody else", Bill: bill}}})
		if p, ok := fx.Done[0].Value.(transfer.Paid); !ok || p.To != "poor" || len(fx.Send) > 0 {
			t.Errorf("an ID for another payee: %+v", fx)
		}
	})
}

// Who asks for one order is answered once, each under a name of its own, and not by
// what others are told.
func TestEveryAskerIsAnswered(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		pay := transfer.Pay{Order: orderID(1), Amount: 5, To: "poor", Bill: w.bill(1, 5)}
		answers := map[string]int{}
		tell := func(events ...any) {
			fx := w.ends["rich"].core.Step(step.Input{At: w.now, Events: events})
			for _, o := range fx.Done {
				answers[o.ID]++
				if o.Err == nil != (o.ID != "bad") && o.ID != orderID(1).Key() {
					t.Errorf("%+v", o)
				}
			}
			for _, p := range fx.Send {
				w.l.tell("rich", p.Msg)
			}
		}
		bad := pay
		bad.Amount, bad.Ask = 0, "bad"
		tell(bad)
		for i := range transfer.MaxAsks + 5 {
			pay.Ask = fmt.Sprint("ask", i)
			tell(pay, pay)
		}
		for range 10 {
			w.l.tick()
			for _, s := range w.l.take() {
				if s.to == "rich" {
					tell(step.Recv{From: "node", Msg: s.msg})
				}
			}
		}
		if len(answers) != transfer.MaxAsks+2 {
			t.Errorf("%d are answered", len(answers))
		}
		pay.Ask = "late"
		tell(pay)
		for who, n := range answers {
			if n != 1 && who != orderID(1).Key() {
				t.Errorf("%s is answered %d times", who, n)
			}
		}
		if answers["late"] != 1 {
			t.Error("who comes late is not answered")
		}
	})
}

// Prove never pays.
func TestProve(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		rich := w.ends["rich"]
		rich.step(money.Inquiry{Order: orderID(1)})
		if err := rich.errs[orderID(1)]; !errors.Is(err, money.Refused) || !errors.Is(err, money.ErrForgotten) {
			t.Fatalf("%v", err)
		}
		w.order(1, 5)
		w.pass(5)
		had := rich.proofs[orderID(1)]
		delete(rich.proofs, orderID(1))
		rich.start()
		rich.step(money.Inquiry{Order: orderID(1)})
		if got := rich.proofs[orderID(1)]; had == nil || string(got) != string(had) {
			t.Errorf("%x, and it was %x", got, had)
		}
	})
}

// A bill that is asked for again is the same, until something is paid for it.
func TestBills(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		first := w.bill(1, 100)
		w.ends["poor"].start()
		if again := w.bill(1, 100); again != first {
			t.Errorf("%s, and then %s", first, again)
		}
		w.ends["poor"].step(transfer.Invoice{Order: orderID(1), Amount: 50})
		if w.ends["poor"].bills[orderID(1)] == first {
			t.Error("another amount has the same bill")
		}
		w.ends["rich"].step(transfer.Pay{Order: orderID(1), Amount: 50, To: "poor", Bill: w.ends["poor"].bills[orderID(1)]})
		w.pass(5)
		w.sums(50)
		w.ends["poor"].step(transfer.Invoice{Order: orderID(1), Amount: 70})
		if err := w.ends["poor"].core.Step(step.Input{At: w.now, Events: []any{transfer.Invoice{Order: orderID(1), Amount: 70}}}).Done[0].Err; !errors.Is(err, money.Refused) {
			t.Errorf("a paid bill changes: %v", err)
		}
	})
}

// Nobody makes the wallet keep more than its limits say.
func TestLimits(t *testing.T) {
	if transfer.KeepOrders < spend.MaxOpen || transfer.MaxOrders < spend.MaxOpen {
		t.Errorf("a purse may have %d orders open", spend.MaxOpen)
	}
	each(t, func(t *testing.T, w *world) {
		poor := w.ends["poor"].core
		refused := 0
		for n := range transfer.MaxBills + 10 {
			fx := poor.Step(step.Input{At: w.now, Events: []any{transfer.Invoice{Order: money.OrderID{2, byte(n >> 8), byte(n)}, Amount: 1}}})
			if fx.Done[0].Err != nil {
				refused++
			}
		}
		if refused != 10 || poor.Summary().Bills != transfer.MaxBills {
			t.Errorf("%d bills are refused: %+v", refused, poor.Summary())
		}
		late := w.now + transfer.MinBillLife
		if fx := poor.Step(step.Input{At: late, Events: []any{transfer.Invoice{Order: money.OrderID{3}, Amount: 1}}}); fx.Done[0].Err != nil {
			t.Errorf("nobody has paid for long: %v", fx.Done[0].Err)
		}
		// A node that says nothing: everything waits.
		silent, err := transfer.Load(disk{}, transfer.Options{Name: "w", Node: "node"}, w.l.open("rich"))
		if err != nil {
			t.Fatal(err)
		}
		unpaid, payee := 0, w.l.open("poor")
		for n := range transfer.MaxOrders + 10 {
			id := money.OrderID{4, byte(n >> 8), byte(n)}
			text, _, err := payee.Bill(id, 5, uint64(n))
			if err != nil {
				t.Fatal(err)
			}
			fx := silent.Step(step.Input{At: step.Time(n), Events: []any{transfer.Pay{Order: id, Amount: 5, To: "x", Bill: text}}})
			for _, o := range fx.Done {
				if errors.Is(o.Err, money.Unpaid) {
					unpaid++
				}
			}
		}
		if s := silent.Summary(); s.Waiting+unpaid != transfer.MaxOrders+10 || s.Waiting > transfer.MaxOrders {
			t.Errorf("%+v, %d unpaid", s, unpaid)
		}
	})
}
