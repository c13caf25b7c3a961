package transfer_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"coinop.dev/core/ledger/transfer"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

// A disk is what a machine finds after a crash.
type disk map[string][]byte

func (d disk) Get(key string) ([]byte, error) { return d[key], nil }

func (d disk) Scan(prefix string, yield func(string, []byte) bool) error {
	for _, key := range slices.Sorted(maps.Keys(d)) {
		if strings.HasPrefix(key, prefix) && !yield(key, d[key]) {
			return nil
		}
	}
	return nil
}

// A world is a ledger and two machines: rich pays, poor is paid.
type world struct {
	t    *testing.T
	l    ledger
	now  step.Time
	ends map[string]*end

	writes, crashAt int
	after           bool // it crashes after the write, and not before
	lose            func() bool
}

// An end is a machine: its wallet, its disk, and its till, which is on the same disk.
type end struct {
	*world
	who    string
	disk   disk
	core   *transfer.Wallet
	till   map[money.OrderID]money.Amount
	told   map[money.OrderID]int
	proofs map[money.OrderID][]byte
	errs   map[money.OrderID]error
	bills  map[money.OrderID]string
	alarm  step.Time
	later  step.Time
}

func newWorld(t *testing.T, l ledger) *world {
	w := &world{t: t, l: l, now: 1_000_000, ends: map[string]*end{}, lose: func() bool { return false }}
	for _, who := range []string{"rich", "poor"} {
		e := &end{
			world: w, who: who, disk: disk{}, till: map[money.OrderID]money.Amount{}, told: map[money.OrderID]int{},
			proofs: map[money.OrderID][]byte{}, errs: map[money.OrderID]error{}, bills: map[money.OrderID]string{},
		}
		w.ends[who] = e
		e.start()
	}
	w.deliver()
	return w
}

func (e *end) start() {
	core, err := transfer.Load(e.disk, transfer.Options{Name: "w", Node: "node", Follow: e.l.follow(e.who)}, e.l.open(e.who))
	if err != nil {
		e.t.Fatalf("%s: %v", e.who, err)
	}
	e.core = core
	e.step(step.Rang{ID: step.Start})
}

// step hands the wallet something, and carries out what it wants, unless it crashes.
func (e *end) step(events ...any) {
	e.t.Helper()
	fx := e.core.Step(step.Input{At: e.now, Events: events})
	crash := false
	if len(fx.Put) > 0 {
		e.writes++
		crash = e.writes == e.crashAt
	}
	if crash && !e.after {
		e.start()
		return
	}
	for _, r := range fx.Put {
		if r.Value == nil {
			delete(e.disk, r.Key)
		} else {
			e.disk[r.Key] = bytes.Clone(r.Value)
		}
	}
	for _, o := range fx.Done {
		if in, ok := o.Value.(receipt.Income); ok && o.ID == transfer.IncomeID {
			e.till[in.Income().Order] += in.Income().Amount
			e.told[in.Income().Order]++
		}
	}
	e.same()
	if crash {
		e.start()
		return
	}
	for _, o := range fx.Done {
		e.done(o)
	}
	for _, p := range fx.Send {
		if !e.lose() {
			e.l.tell(e.who, p.Msg)
		}
	}
	for _, a := range fx.Wake {
		if a.ID == "again" {
			e.alarm = a.At
		} else {
			e.later = a.At
		}
	}
}

func (e *end) done(o step.Outcome) {
	if text, ok := o.Value.(string); ok {
		id, _ := money.OrderIDFromKey(strings.TrimPrefix(o.ID, "bill/"))
		e.bills[id] = text
		return
	}
	id, ok := money.OrderIDFromKey(o.ID)
	if !ok {
		return
	}
	if o.Err != nil {
		e.errs[id] = o.Err
		return
	}
	paid := o.Value.(transfer.Paid)
	p, err := transfer.ReadProof(paid.Proof())
	if err == nil {
		err = e.l.verify(p.Bill, p.Ledger)
	}
	if err != nil {
		e.t.Errorf("%s: the proof does not hold: %v", orderName(id), err)
	}
	if had := e.proofs[id]; had != nil && !bytes.Equal(had, paid.Proof()) {
		e.t.Errorf("%s has two proofs", orderName(id))
	}
	e.proofs[id] = paid.Proof()
}

// same checks that what is on disk is what the wallet would find.
func (e *end) same() {
	e.t.Helper()
	have := disk{}
	for key, value := range e.disk {
		if !strings.HasPrefix(key, "w/p/") {
			have[key] = value
		}
	}
	want := disk{}
	for _, r := range e.core.Durable() {
		want[r.Key] = r.Value
	}
	if !maps.EqualFunc(have, want, bytes.Equal) {
		e.t.Fatalf("%s: disk and memory differ: %.400q, %.400q", e.who, slices.Sorted(maps.Keys(have)), slices.Sorted(maps.Keys(want)))
	}
}

// deliver carries what is said, until all are quiet.
func (w *world) deliver() {
	w.t.Helper()
	for range 100 {
		says := w.l.take()
		if len(says) == 0 {
			return
		}
		for _, s := range says {
			if !w.lose() {
				w.ends[s.to].step(step.Recv{From: "node", Msg: s.msg})
			}
		}
	}
	w.t.Fatal("the node and the wallets talk for ever")
}

// pass lets time pass: the ledger goes on, and alarms ring.
func (w *world) pass(times int) {
	w.t.Helper()
	for range times {
		w.now += step.Second
		w.l.tick()
		w.deliver()
		for _, who := range []string{"rich", "poor"} {
			e := w.ends[who]
			if e.alarm <= w.now {
				e.step(step.Rang{ID: "again"})
			}
			if e.later != 0 && e.later <= w.now {
				e.later = 0
				e.step(step.Rang{ID: "later"})
			}
		}
		w.deliver()
	}
}

// bill asks the poor one for a bill, until it is there.
func (w *world) bill(n int, a money.Amount) string {
	w.t.Helper()
	poor := w.ends["poor"]
	for range 10 {
		poor.step(transfer.Invoice{Order: orderID(n), Amount: a})
		if text := poor.bills[orderID(n)]; text != "" {
			return text
		}
	}
	w.t.Fatalf("no bill for order %d", n)
	return ""
}

func (w *world) order(n int, a money.Amount) {
	w.t.Helper()
	w.ends["rich"].step(transfer.Pay{Order: orderID(n), Amount: a, To: "poor", Bill: w.bill(n, a)})
}

// kind is how an order ended: "paid", the kind of its error, or "" if it did not.
func (w *world) kind(n int) string {
	rich := w.ends["rich"]
	switch {
	case rich.proofs[orderID(n)] != nil:
		return "paid"
	case rich.errs[orderID(n)] != nil:
		return fmt.Sprint(money.KindOf(rich.errs[orderID(n)]))
	}
	return ""
}

// lossy loses some of what is said.
func lossy(seed uint64) func() bool {
	r := rand.New(rand.NewPCG(seed, seed))
	return func() bool { return r.IntN(4) == 0 }
}
