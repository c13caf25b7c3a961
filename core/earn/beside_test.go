package earn_test

import (
	"encoding/json"
	"testing"

	"coinop.dev/core/earn"
	"coinop.dev/core/journal"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/core/tab"
)

// The simulator's kiosk found these: money that comes when nobody expects it.

// balanced checks an order's money, and that all orders together are the till's.
func (s *store) balanced(n int, paid, back, credit money.Amount) {
	s.t.Helper()
	s.same()
	o, sum := s.book().Order(id(n)), s.book().Summary()
	if o.Paid != paid || o.Back != back || o.Credit != credit {
		s.t.Fatalf("order %d is %+v; want %v paid, %v back, %v of it credit", n, o, paid, back, credit)
	}
	if b, _ := s.tabs().Balance(id(n)); b.Left != credit {
		s.t.Fatalf("the session has %+v, want %v", b, credit)
	}
	if sum.Earned != paid || sum.Back != back {
		s.t.Fatalf("the till has %+v", sum)
	}
}

// Held by one rail and paid by another: the first goes back, and counts for nothing.
func TestHeldAndPaidElsewhere(t *testing.T) {
	s := newStore(t)
	s.till(s.sell(1, 50, holding))
	s.till(heldFor(1, 50, s.now+step.Hour))
	fx := s.till(paidBy("cash", 1, 50))
	if got := sent[receipt.Cancel](fx, "lightning"); len(got) != 1 {
		t.Fatalf("%+v", fx.Send)
	}
	s.want(1, "paid")
	s.till(wentBack(1))
	s.want(1, "paid")
	s.balanced(1, 50, 0, 0)
	s.now += 11 * step.Second
	s.till(step.Rang{ID: "deadline"})
	s.want(1, "refunded")
	s.balanced(1, 50, 50, 50)
}

// Held, and too little is paid elsewhere: that is credit, whatever becomes of the
// order.
func TestHeldAndABitPaidElsewhere(t *testing.T) {
	s := newStore(t)
	s.till(s.sell(1, 50, holding))
	s.till(heldFor(1, 50, s.now+step.Hour))
	if fx := s.till(paidBy("cash", 1, 20)); len(sent[receipt.Cancel](fx, "lightning")) != 0 {
		t.Fatalf("%+v", fx.Send)
	}
	s.want(1, "held")
	s.start()
	s.till(earn.Delivered{Order: id(1)})
	s.till(paidBy("lightning", 1, 50))
	s.want(1, "settled")
	s.balanced(1, 70, 20, 20)
}

// Paid once more while the money goes back, and after: never more than came in goes
// back, and none stays.
func TestPaidWhileItGoesBack(t *testing.T) {
	s := newStore(t)
	s.till(s.sell(1, 50, func(w *earn.Sell) { w.Refund = "lightning:x" }), paid(1, 50))
	s.now += 11 * step.Second
	s.till(step.Rang{ID: "deadline"})
	s.till(paid(1, 30))
	s.start()
	fx := s.till(step.Rang{ID: "refunds"})
	if got := sent[earn.Refund](fx, earn.Refunds); len(got) != 1 || got[0] != (earn.Refund{Order: id(1), To: "lightning:x", Amount: 50}) {
		t.Fatalf("%+v", got)
	}
	s.till(earn.Refunded{Order: id(1)})
	s.want(1, "refunded")
	s.balanced(1, 80, 80, 30)
	s.till(paid(1, 5))
	s.balanced(1, 85, 85, 35)
}

func TestPaidAfterItWasNeverTaken(t *testing.T) {
	s := newStore(t)
	s.till(s.sell(1, 50, holding))
	s.till(heldFor(1, 50, s.now+step.Hour))
	s.now += 11 * step.Second
	s.till(step.Rang{ID: "deadline"})
	s.till(wentBack(1))
	s.till(paidBy("cash", 1, 50))
	s.want(1, "refunded")
	if o := s.book().Order(id(1)); o.Credit != 50 || o.Back != 50 {
		t.Fatalf("%+v", o)
	}
	if sum := s.book().Summary(); sum.Earned != 50 || sum.Back != 50 {
		t.Fatalf("%+v", sum)
	}
}

// An order failed while its rail was giving the money back, and then the rail took
// it after all: nothing was delivered, so it goes back.
func TestTakenAfterAll(t *testing.T) {
	s := newStore(t)
	s.till(s.sell(1, 50, holding))
	s.till(heldFor(1, 50, s.now+step.Hour))
	s.now += 11 * step.Second
	s.till(step.Rang{ID: "deadline"})
	s.want(1, "failed")
	s.till(paidBy("lightning", 1, 50))
	s.want(1, "refunded")
	s.balanced(1, 50, 50, 50)
}

// The books hear of money that comes for an order they know, also if the power
// fails before they are told.
func TestTheJournalHearsOfMoreMoney(t *testing.T) {
	s := newStore(t)
	s.till(s.sell(1, 50, func(w *earn.Sell) { w.To, w.Within = earn.Tab, 0 }), paid(1, 50))
	s.till(s.sell(2, 50, nil), paid(2, 50), earn.Delivered{Order: id(2)})
	s.till(paid(1, 30), paid(2, 7))
	s.same()
	s.start()
	last := map[money.OrderID]earn.Order{}
	for _, e := range s.m.Core(journal.Name).(*journal.Journal).Since(0, 1000) {
		var o earn.Order
		if json.Unmarshal(e.Data, &o) == nil && o.Item != "" {
			last[o.ID] = o
		}
	}
	if last[id(1)].Paid != 80 || last[id(2)].Paid != 57 {
		t.Fatalf("the journal has %+v", last)
	}
	s.same()
}

// Money for an order that is claimed too late is asked for again until it is back.
func TestALateClaimsRefundIsAskedForAgain(t *testing.T) {
	s := newStore(t)
	w := s.sell(1, 50, func(w *earn.Sell) { w.Refund = "lightning:x" })
	s.till(paid(1, 50))
	s.now += 2 * step.Hour
	s.till(w)
	s.want(1, "failed")
	s.now += step.Minute
	if fx := s.till(step.Rang{ID: "refunds"}); len(sent[earn.Refund](fx, earn.Refunds)) != 1 {
		t.Fatalf("%+v", fx)
	}
}

// The alarm that forgets a quote comes when it may be forgotten.
func TestQuotesAreForgotten(t *testing.T) {
	s := newStore(t)
	fx := s.till(s.sell(1, 50, holding))
	if len(fx.Wake) != 1 || fx.Wake[0].At <= s.now+step.Minute+step.Hour {
		t.Fatalf("%+v", fx.Wake)
	}
}

// A session that is paid out, topped up meanwhile, and paid out again: two payments,
// and nothing is lost in between.
func TestASessionIsPaidOutTwice(t *testing.T) {
	s := newStore(t)
	s.till(s.sell(1, 50, func(w *earn.Sell) { w.To, w.Within = earn.Tab, 0 }), paid(1, 50))
	out := tab.PayOut{Tab: id(1), To: "lightning:x"}
	refund := func(fx step.Effects, want earn.Refund) {
		t.Helper()
		if got := sent[earn.Refund](fx, earn.Refunds); len(got) != 1 || got[0] != want {
			t.Fatalf("%+v", got)
		}
	}
	refund(s.round(tab.Name, out), earn.Refund{Order: id(1), Nth: 1, To: "lightning:x", Amount: 50})
	s.till(paid(1, 30))
	s.round(tab.Name, earn.Refunded{Order: id(1)})
	s.start()
	s.same()
	if b, _ := s.tabs().Balance(id(1)); b.State != "open" || b.Left != 30 || b.In != 30 {
		t.Fatalf("%+v", b)
	}
	refund(s.round(tab.Name, out), earn.Refund{Order: id(1), Nth: 2, To: "lightning:x", Amount: 30})
	s.round(tab.Name, earn.Refunded{Order: id(1), Nth: 1}) // said again: of the first one
	if b, _ := s.tabs().Balance(id(1)); b.State != "closing" || b.Back != 30 {
		t.Fatalf("%+v", b)
	}
	s.round(tab.Name, earn.Refunded{Order: id(1), Nth: 2})
	s.till(paid(1, 9))
	s.start()
	refund(s.round(tab.Name, out), earn.Refund{Order: id(1), Nth: 3, To: "lightning:x", Amount: 9})
}

// The owner gives back what its rail is giving back already: that is once.
func TestGivenBackWhileItGoesBack(t *testing.T) {
	s := newStore(t)
	s.till(s.sell(1, 50, holding))
	s.till(heldFor(1, 50, s.now+step.Hour))
	s.now += 11 * step.Second
	s.till(step.Rang{ID: "deadline"})
	s.want(1, "failed")
	if fx := s.till(earn.GiveBack{Order: id(1)}); len(fx.Done) != 1 || money.KindOf(fx.Done[0].Err) != money.Refused {
		t.Fatalf("%+v", fx)
	}
	s.till(wentBack(1))
	s.want(1, "refunded")
	if sum := s.book().Summary(); sum.Earned != 0 || sum.Back != 0 {
		t.Fatalf("%+v", sum)
	}
}
