package earn_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"coinop.dev/core/earn"
	"coinop.dev/core/journal"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/core/tab"
	"coinop.dev/sim"
	"coinop.dev/world/drive"
)

// heldBy is money that a rail holds.
type heldBy struct {
	receipt.Entry
	until step.Time
}

func (h heldBy) Holding() receipt.Entry { return h.Entry }
func (h heldBy) Until() step.Time       { return h.until }

// store is a machine with a till, sessions and a journal, on one disk, in a world
// that may stop it between any two rounds.
type store struct {
	t    testing.TB
	disk *sim.Disk
	m    *drive.Machine
	now  step.Time
	fx   step.Effects // of the last round
}

func newStore(t testing.TB) *store {
	s := &store{t: t, disk: &sim.Disk{}, now: 1_000_000}
	s.start()
	return s
}

// start loads the machine from its disk.
func (s *store) start() {
	s.t.Helper()
	book, err := earn.Load(s.disk, nil, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	book.Journal = true
	tabs, err := tab.Load(s.disk)
	if err != nil {
		s.t.Fatal(err)
	}
	j, err := journal.Load(s.disk)
	if err != nil {
		s.t.Fatal(err)
	}
	s.m = drive.NewMachine()
	s.m.Add(journal.Name, j)
	s.m.Add(tab.Name, tabs)
	s.m.Add(earn.Name, book)
	for _, core := range []string{journal.Name, tab.Name, earn.Name} {
		s.round(core, step.Rang{ID: step.Start})
	}
}

func (s *store) book() *earn.Book { return s.m.Core(earn.Name).(*earn.Book) }
func (s *store) tabs() *tab.Tabs  { return s.m.Core(tab.Name).(*tab.Tabs) }

// round gives one core some events and does what comes of it.
func (s *store) round(core string, events ...any) step.Effects {
	s.t.Helper()
	var batch []drive.Event
	for _, e := range events {
		batch = append(batch, drive.Event{Core: core, What: e})
	}
	s.fx = s.m.Round(s.now, batch)
	s.disk.Commit(s.fx.Put)
	for _, d := range s.fx.Done {
		if d.ID == drive.Died {
			s.t.Fatalf("core %s died: %v", d.Core, d.Err)
		}
	}
	return s.fx
}

func (s *store) till(events ...any) step.Effects { s.t.Helper(); return s.round(earn.Name, events...) }

// same checks that what is on disk loads to what is in memory.
func (s *store) same() {
	s.t.Helper()
	again, err := earn.Load(s.disk, nil, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	equal := func(x, y step.Record) bool { return x.Key == y.Key && bytes.Equal(x.Value, y.Value) }
	if a, b := s.book().Durable(), again.Durable(); !slices.EqualFunc(a, b, equal) {
		s.t.Fatalf("memory has %v, and the disk %v", a, b)
	}
	tabs, err := tab.Load(s.disk)
	if err != nil {
		s.t.Fatal(err)
	}
	if a, b := s.tabs().Durable(), tabs.Durable(); !slices.EqualFunc(a, b, equal) {
		s.t.Fatalf("memory has %v, and the disk %v", a, b)
	}
}

func (s *store) want(n int, state string) {
	s.t.Helper()
	if o := s.book().Order(id(n)); o.State != state {
		s.t.Fatalf("order %d is %+v, want it %s", n, o, state)
	}
	s.same()
}

// sent counts the packets of one type in the last round.
func sent[M any](fx step.Effects, to string) (all []M) {
	for _, p := range fx.Send {
		if m, ok := p.Msg.(M); ok && p.To == to {
			all = append(all, m)
		}
	}
	return all
}

func (s *store) sell(n int, due money.Amount, change func(*earn.Sell)) earn.Sell {
	w := earn.Sell{
		Quote: offer.Quote{Order: id(n), Service: "water", Units: 1, Due: due, At: s.now, Until: s.now + step.Minute},
		Buyer: "http", To: earn.Device, Within: 10 * step.Second,
	}
	if change != nil {
		change(&w)
	}
	return w
}

func holding(w *earn.Sell) { w.Hold = true }

func heldFor(n int, amount money.Amount, until step.Time) step.Recv {
	e := receipt.Entry{Order: id(n), Amount: amount}
	return step.Recv{From: "lightning", Msg: step.Outcome{ID: "held/" + id(n).Key(), Value: heldBy{e, until}}}
}

func wentBack(n int) step.Recv {
	err := &money.Error{Kind: money.Unpaid, Err: errors.New("it went back")}
	return step.Recv{From: "lightning", Msg: step.Outcome{ID: "held/" + id(n).Key(), Err: err, Value: receipt.Returned{Entry: receipt.Entry{Order: id(n)}}}}
}

// The money is held, the device acts, and only then it is taken.
func TestHeldUntilDelivered(t *testing.T) {
	s := newStore(t)
	s.till(s.sell(1, 50, holding))
	fx := s.till(heldFor(1, 50, s.now+step.Hour))
	if got := sent[earn.Deliver](fx, earn.Device); len(got) != 1 || got[0].Until != s.now+10*step.Second {
		t.Fatalf("%+v", got)
	}
	s.want(1, "held")
	fx = s.till(earn.Delivered{Order: id(1), Ack: []byte("signed")})
	if got := sent[receipt.Release](fx, "lightning"); len(got) != 1 {
		t.Fatalf("%+v", fx.Send)
	}
	s.want(1, "delivered")
	// A crash now must not forget to take the money.
	s.start()
	if got := sent[receipt.Release](s.fx, "lightning"); len(got) != 1 {
		t.Fatalf("after a restart: %+v", s.fx.Send)
	}
	s.till(paidBy("lightning", 1, 50))
	s.want(1, "settled")
	if sum := s.book().Summary(); sum.Earned != 50 || sum.Back != 0 {
		t.Fatalf("%+v", sum)
	}
}

// The device is silent: the payment never settles.
func TestHeldAndNotDelivered(t *testing.T) {
	s := newStore(t)
	s.till(s.sell(1, 50, holding))
	s.till(heldFor(1, 50, s.now+step.Hour))
	s.now += 11 * step.Second
	fx := s.till(step.Rang{ID: "deadline"})
	if len(sent[receipt.Cancel](fx, "lightning")) != 1 {
		t.Fatalf("%+v", fx.Send)
	}
	s.want(1, "failed")
	s.start() // and the word is said again
	if len(sent[receipt.Cancel](s.fx, "lightning")) != 1 {
		t.Fatalf("after a restart: %+v", s.fx.Send)
	}
	s.till(wentBack(1))
	s.want(1, "refunded")
	// The device comes back too late: nobody pays for that.
	s.till(earn.Delivered{Order: id(1)})
	s.want(1, "refunded")
	if sum := s.book().Summary(); sum.Earned != 0 || sum.Back != 0 {
		t.Fatalf("%+v", sum)
	}
}

// Money that is held for nothing goes back at once.
func TestNothingToHoldFor(t *testing.T) {
	s := newStore(t)
	for name, c := range map[string]struct {
		sell  *earn.Sell
		event step.Recv
	}{
		"no order":         {nil, heldFor(1, 50, s.now+step.Hour)},
		"too little":       {new(s.sell(2, 50, holding)), heldFor(2, 49, s.now+step.Hour)},
		"too short a time": {new(s.sell(3, 50, holding)), heldFor(3, 50, s.now+step.Second)},
		"not to be held":   {new(s.sell(4, 50, nil)), heldFor(4, 50, s.now+step.Hour)},
	} {
		if c.sell != nil {
			s.till(*c.sell)
		}
		if fx := s.till(c.event); len(sent[receipt.Cancel](fx, "lightning")) != 1 || len(sent[earn.Deliver](fx, earn.Device)) != 0 {
			t.Errorf("%s: %+v", name, fx.Send)
		}
	}
	s.same()
}

// Not delivered: the money goes where the buyer said, once, or is credit.
func TestRefund(t *testing.T) {
	s := newStore(t)
	refundable := func(w *earn.Sell) { w.Refund = "lightning:lnbc1" }
	for n := range 3 {
		s.till(s.sell(n, 50, refundable), paid(n, 50))
	}
	s.till(s.sell(3, 50, nil), paid(3, 50))
	s.now += 11 * step.Second
	fx := s.till(step.Rang{ID: "deadline"})
	if got := sent[earn.Refund](fx, earn.Refunds); len(got) != 3 || got[0] != (earn.Refund{Order: id(0), To: "lightning:lnbc1", Amount: 50}) {
		t.Fatalf("%+v", got)
	}
	s.want(3, "refunded") // as credit
	if b, ok := s.tabs().Balance(id(3)); !ok || b.Left != 50 {
		t.Fatalf("%+v", b)
	}
	s.till(earn.Refunded{Order: id(0)})
	s.want(0, "refunded")
	s.till(earn.Refunded{Order: id(1), Err: &money.Error{Kind: money.Unpaid}}) // no way there
	s.want(1, "refunded")
	if b, _ := s.tabs().Balance(id(1)); b.Left != 50 {
		t.Fatalf("%+v", b)
	}
	s.till(earn.Refunded{Order: id(2), Err: noAnswer()}) // nobody knows
	s.want(2, "failed")
	s.now += step.Minute
	if got := sent[earn.Refund](s.till(step.Rang{ID: "refunds"}), earn.Refunds); len(got) != 1 {
		t.Fatalf("asked again for %+v", got)
	}
	s.till(earn.Refunded{Order: id(2)}, earn.Refunded{Order: id(2)})
	if sum := s.book().Summary(); sum.Earned != 200 || sum.Back != 200 {
		t.Fatalf("%+v", sum)
	}
}

func noAnswer() error { return errors.New("no answer") } // of no kind: pending

// A session is opened by its order and grows by what is paid later.
func TestSessionOrder(t *testing.T) {
	s := newStore(t)
	session := func(w *earn.Sell) { w.To, w.Within = earn.Tab, 0 }
	s.till(paid(1, 70))
	s.till(s.sell(1, 50, session))
	s.want(1, "settled")
	s.till(paid(1, 30))
	s.want(1, "settled")
	if b, _ := s.tabs().Balance(id(1)); b.Left != 100 || b.In != 100 {
		t.Fatalf("%+v", b)
	}
	fx := s.round(tab.Name, tab.Draw{Tab: id(1), Hold: 1, Amount: 60}, tab.Draw{Tab: id(1), Hold: 2, Amount: 60})
	var errs int
	for _, d := range fx.Done {
		if errors.Is(d.Err, money.Refused) {
			errs++
		}
	}
	if errs != 1 {
		t.Fatalf("%+v", fx.Done)
	}
	// A crash while a request is served leaves it at its estimate.
	s.start()
	s.round(tab.Name, tab.Settle{Tab: id(1), Hold: 1, Used: 10})
	if b, _ := s.tabs().Balance(id(1)); b.Left != 40 {
		t.Fatalf("%+v", b)
	}
	s.same()
}

// Random sales, payments, devices, refunds and crashes: whatever happens, what
// came in is what is earned, given back or still owed, no order is delivered
// twice, and in the end none is left hanging.
func TestNoOrderIsLost(t *testing.T) {
	seeds := 60
	if testing.Short() {
		seeds = 10
	}
	for seed := range uint64(seeds) {
		r := rand.New(rand.NewPCG(seed, 11))
		s := newStore(t)
		in, held := map[int]money.Amount{}, map[int]bool{}
		const orders = 12
		handle := func(fx step.Effects) {
			for _, c := range sent[receipt.Release](fx, "lightning") {
				n := number(c.Order)
				if held[n] {
					delete(held, n)
					in[n] += 50
					handleNothing(s.till(paidBy("lightning", n, 50)))
				}
			}
		}
		cancel := func(fx step.Effects) {
			for _, c := range sent[receipt.Cancel](fx, "lightning") {
				if n := number(c.Order); held[n] {
					delete(held, n)
					s.till(wentBack(n))
				}
			}
		}
		do := func(events ...any) {
			fx := s.till(events...)
			handle(fx)
			cancel(fx)
			s.same()
		}
		for range 150 {
			n := r.IntN(orders)
			s.now += step.Time(r.IntN(4000))
			switch r.IntN(10) {
			case 0, 1:
				do(s.sell(n, 50, func(w *earn.Sell) {
					w.Hold = n%3 == 0
					if n%4 == 1 {
						w.Refund = "lightning:x"
					}
					if n%6 == 5 {
						w.To, w.Within, w.Hold, w.Refund = earn.Tab, 0, false, ""
					}
				}))
			case 2:
				if n%3 != 0 {
					in[n] += 50
					do(paid(n, 50))
				}
			case 3:
				if n%3 == 0 && !held[n] && in[n] == 0 {
					held[n] = true
					do(heldFor(n, 50, s.now+step.Hour))
				}
			case 4:
				do(earn.Delivered{Order: id(n), Payload: []byte{byte(n)}})
			case 5:
				do(earn.Delivered{Order: id(n), Err: errors.New("stuck")})
			case 6:
				do(earn.Refunded{Order: id(n), Err: []error{nil, money.Unpaid, money.Pending}[r.IntN(3)]})
			case 7:
				do(step.Rang{ID: "deadline"}, step.Rang{ID: "refunds"})
			case 8:
				do(earn.GiveBack{Order: id(n), To: []string{"", "lightning:x"}[r.IntN(2)]})
			case 9:
				s.start()
				fx := s.fx
				handle(fx)
				cancel(fx)
				for h := range held { // the rail says so again
					do(heldFor(h, 50, s.now+step.Hour))
				}
			}
		}
		// Time goes by, and every refund is paid in the end.
		for range 5 {
			s.now += step.Day
			do(step.Rang{ID: "deadline"}, step.Rang{ID: "refunds"})
			for n := range orders {
				do(earn.Refunded{Order: id(n)})
			}
		}
		sum := money.Amount(0)
		for n := range orders {
			sum += in[n]
			if o := s.book().Order(id(n)); o.State == "held" || o.State == "failed" && o.Why == "" || o.State == "paid" && o.Item != "" {
				t.Fatalf("seed %d: order %d is left as %+v", seed, n, o)
			}
		}
		if got := s.book().Summary(); got.Earned != sum || got.Back > got.Earned {
			t.Fatalf("seed %d: earned %+v of %v", seed, got, sum)
		}
	}
}

func handleNothing(step.Effects) {}

func number(o money.OrderID) (n int) {
	for i := range 64 {
		if id(i) == o {
			return i
		}
	}
	panic(fmt.Sprint("order ", o))
}

// Of many sales the first to be due wakes the till, and no other: in which sequence
// it looks at them must not show.
func TestTheFirstDeadlineWakes(t *testing.T) {
	s := newStore(t)
	begun := s.now
	for n := 9; n > 0; n-- {
		s.till(s.sell(n, 50, func(w *earn.Sell) { w.Within = step.Time(n) * step.Second }), paid(n, 50))
	}
	s.now += step.Second
	fx := s.till(step.Rang{ID: "deadline"})
	s.want(1, "refunded")
	if len(fx.Wake) != 1 || fx.Wake[0].At != begun+2*step.Second {
		t.Errorf("it is woken by %+v", fx.Wake)
	}
}

// No record makes the book panic, and what it takes it writes again to the byte.
func FuzzLoadSale(f *testing.F) {
	s := newStore(f)
	s.till(s.sell(1, 50, holding), s.sell(2, 50, nil))
	s.till(heldFor(1, 50, s.now+step.Hour), paid(2, 50), paid(3, 7))
	for _, r := range s.book().Durable() {
		f.Add(r.Value)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		disk := &sim.Disk{}
		key := "earn/o/" + id(1).Key()
		disk.Commit([]step.Record{{Key: key, Value: value}})
		book, err := earn.Load(disk, nil, nil)
		if err != nil {
			return
		}
		first := book.Durable()
		disk.Commit(first)
		again, err := earn.Load(disk, nil, nil)
		if err != nil {
			t.Fatalf("what it wrote cannot be read: %v", err)
		}
		equal := func(x, y step.Record) bool { return x.Key == y.Key && bytes.Equal(x.Value, y.Value) }
		if !slices.EqualFunc(first, again.Durable(), equal) {
			t.Fatalf("%v, and then %v", first, again.Durable())
		}
	})
}
