package node_test

import (
	"errors"
	"fmt"
	"maps"
	"testing"

	"coinop.dev/core/lightning/invoice"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

// holdBill asks for a bill whose payment is to be held.
func (m *machine) holdBill(order byte, amount money.Amount) (to string) {
	id := money.OrderID{order}
	m.step(node.Bill{Bill: money.Bill{ID: id, Amount: amount, Hold: true}})
	return "lightning:" + m.last(node.BillID+id.Key()).Value.(string)
}

// held is what a node has said about holding an order, oldest first.
func (m *machine) held(order byte) (said []step.Outcome) {
	for _, d := range m.done {
		if d.ID == node.HeldID+(money.OrderID{order}).Key() {
			said = append(said, d)
		}
	}
	return said
}

// fate counts what a payee's till has heard of an order, and reads its payer's
// answer.
func fate(car, charger *machine, order byte) string {
	id := money.OrderID{order}
	holds, returns, earned := 0, 0, 0
	for _, d := range charger.held(order) {
		switch d.Value.(type) {
		case receipt.Held:
			holds++
		case receipt.Returned:
			returns++
		}
	}
	for _, d := range charger.done {
		if d.ID == node.EarnedID+id.Key() {
			earned++
		}
	}
	payer := "waits"
	if d := car.last(id.Key()); d != nil {
		payer = "paid"
		if d.Err != nil {
			payer = money.KindOf(d.Err).Error()
		}
	}
	return fmt.Sprintf("held %d, returned %d, earned %d, the payer %s", holds, returns, earned, payer)
}

func twoWithAChannel(t *testing.T) (w *world, car, charger *machine) {
	w = newWorld(t, "car", "charger")
	car, charger = w.machines[0], w.machines[1]
	w.connect(car, charger)
	w.open(car, charger, node.Open{Capacity: 1_000_000, Push: 100_000_000})
	return w, car, charger
}

func (w *world) pay(from *machine, order byte, to string, amount money.Amount) {
	from.step(money.Order{ID: money.OrderID{order}, To: to, Amount: amount})
	w.settle()
}

// want compares an order's fate with a story.
func want(t *testing.T, car, charger *machine, order byte, story string) {
	t.Helper()
	if got := fate(car, charger, order); got != story {
		t.Errorf("order %d: %s; want %s", order, got, story)
	}
}

func TestHoldEndsAsTheTillSays(t *testing.T) {
	w, car, charger := twoWithAChannel(t)
	id := money.OrderID{1}
	w.pay(car, 1, charger.holdBill(1, 5_000_000), 5_000_000)
	want(t, car, charger, 1, "held 1, returned 0, earned 0, the payer waits")
	h := charger.held(1)[0].Value.(receipt.Held)
	if h.Holding() != (receipt.Entry{Order: id, Amount: 5_000_000}) || h.Until() < w.at+step.Hour || h.Until() > w.at+6*step.Hour {
		t.Errorf("held: %+v until %d hours", h.Holding(), (h.Until()-w.at)/step.Hour)
	}
	if s := charger.n.Summary(); s.Held != 5_000_000 || s.Holding != 1 {
		t.Errorf("the summary has %v in %d payments", s.Held, s.Holding)
	}
	charger.step(receipt.Release{Order: id})
	charger.step(receipt.Release{Order: id}, receipt.Cancel{Order: id})
	w.settle()
	want(t, car, charger, 1, "held 1, returned 0, earned 1, the payer paid")

	w.pay(car, 2, charger.holdBill(2, 6_000_000), 6_000_000)
	charger.step(step.Recv{From: "earn", Msg: receipt.Cancel{Order: money.OrderID{2}}})
	charger.step(receipt.Release{Order: money.OrderID{2}}, receipt.Cancel{Order: money.OrderID{2}})
	w.settle()
	want(t, car, charger, 2, "held 1, returned 1, earned 0, the payer unpaid")
	last := charger.held(2)[1]
	if r := last.Value.(receipt.Returned); money.KindOf(last.Err) != money.Unpaid || r.Entry != (receipt.Entry{Order: money.OrderID{2}, Amount: 6_000_000}) {
		t.Errorf("returned: %+v", last)
	}
	if err := car.last(string(money.OrderID{2}.Key())).Err; !errors.Is(err, node.ErrPayee) {
		t.Errorf("the payer hears %v", err)
	}
	// What is not held is not the node's business.
	charger.step(receipt.Release{Order: money.OrderID{9}}, receipt.Cancel{Order: money.OrderID{9}})
	charger.restart()
}

// A held payment outlives its invoice, the blocks that the invoice asked for, and
// restarts; the till is told again, and may have spoken before the chain does.
func TestHoldOutlivesARestart(t *testing.T) {
	for _, c := range []struct {
		name  string
		early any // what the till says before the node knows how high the chain is
		late  any
		story string
	}{
		{"nothing", nil, nil, "held 2, returned 0, earned 0, the payer waits"},
		{"released", nil, receipt.Release{Order: money.OrderID{1}}, "held 2, returned 0, earned 1, the payer paid"},
		{"cancelled", nil, receipt.Cancel{Order: money.OrderID{1}}, "held 2, returned 1, earned 0, the payer unpaid"},
		{"released early", receipt.Release{Order: money.OrderID{1}}, receipt.Cancel{Order: money.OrderID{1}}, "held 1, returned 0, earned 1, the payer paid"},
		{"cancelled early", receipt.Cancel{Order: money.OrderID{1}}, receipt.Release{Order: money.OrderID{1}}, "held 1, returned 1, earned 0, the payer unpaid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, car, charger := twoWithAChannel(t)
			w.pay(car, 1, charger.holdBill(1, 5_000_000), 5_000_000)
			w.mine(25)
			w.at += 2 * step.Hour
			charger.restart()
			if c.early != nil {
				charger.step(c.early)
				charger.restart() // and its word is kept
			}
			w.mine(1)
			if c.late != nil {
				charger.step(c.late)
			}
			w.connect(car, charger)
			w.settle()
			want(t, car, charger, 1, c.story)
			charger.restart()
			if kept := len(charger.arrived()); kept > 0 && c.late != nil {
				t.Errorf("it is over, and %d records are kept", kept)
			}
		})
	}
}

// arrived is what a node has on disk of what it holds.
func (m *machine) arrived() disk {
	d := disk{}
	m.disk.Scan("ln/h/", func(key string, value []byte) bool { d[key] = value; return true })
	return d
}

// What was held and has no HTLC any more, as after the end of its channel, is said
// to be lost, once.
func TestHoldIsMissed(t *testing.T) {
	w, car, charger := twoWithAChannel(t)
	w.pay(car, 1, charger.holdBill(1, 5_000_000), 5_000_000)
	was := charger.arrived()
	charger.step(receipt.Cancel{Order: money.OrderID{1}})
	w.settle()
	maps.Copy(charger.disk, was)
	for range 2 {
		n, err := node.Load(charger.disk, charger.key, w.config)
		if err != nil {
			t.Fatal(err)
		}
		charger.n = n
		charger.step(step.Rang{ID: step.Start})
		w.mine(1)
		want(t, car, charger, 1, "held 1, returned 2, earned 0, the payer unpaid")
	}
	if last := charger.held(1)[2]; !errors.Is(last.Err, node.ErrLostPart) || len(charger.arrived()) > 0 {
		t.Errorf("it says %v, and keeps %d records", last.Err, len(charger.arrived()))
	}
}

// Nobody forgets a payment until its channel has to be closed.
func TestHoldEndsBeforeItsExpiry(t *testing.T) {
	for _, away := range []bool{false, true} {
		w, car, charger := twoWithAChannel(t)
		w.pay(car, 1, charger.holdBill(1, 5_000_000), 5_000_000)
		expiry := int32(charger.held(1)[0].Value.(node.Held).Expiry)
		w.mine(expiry - 13 - w.tip)
		want(t, car, charger, 1, "held 1, returned 0, earned 0, the payer waits")
		if away {
			charger.restart()
		}
		w.mine(1)
		w.connect(car, charger)
		want(t, car, charger, 1, "held 1, returned 1, earned 0, the payer unpaid")
		if said := charger.held(1); !errors.Is(said[len(said)-1].Err, node.ErrHeldTooLong) {
			t.Errorf("it says %v", said[len(said)-1].Err)
		}
		charger.step(receipt.Release{Order: money.OrderID{1}})
		w.mine(20)
		if s := car.n.Summary().Channels[0]; s.State != "open" || s.HTLCs != 0 {
			t.Errorf("the channel is %s with %d HTLCs", s.State, s.HTLCs)
		}
	}
}

// What leaves too few blocks, and a second payment of an order that is held, are
// refused; after the first is taken the till decides.
func TestHoldIsRefused(t *testing.T) {
	w, car, charger := twoWithAChannel(t)
	first := charger.holdBill(1, 5_000_000)
	w.at += step.Minute
	second := charger.holdBill(1, 5_000_000)
	if first == second {
		t.Fatal("two invoices are the same")
	}
	w.pay(car, 1, first, 5_000_000)
	w.pay(car, 2, second, 5_000_000)
	want(t, car, charger, 2, "held 0, returned 0, earned 0, the payer unpaid")
	want(t, car, charger, 1, "held 1, returned 0, earned 0, the payer waits")
	charger.step(receipt.Release{Order: money.OrderID{1}})
	w.settle()
	w.pay(car, 3, second, 5_000_000)
	want(t, car, charger, 1, "held 2, returned 0, earned 1, the payer paid")

	i, err := invoice.Parse(first[len("lightning:"):])
	if err != nil || i.FinalCLTV != node.HoldCLTV {
		t.Fatalf("the invoice asks for %d blocks: %v", i.FinalCLTV, err)
	}
	// An order of another payment hash that claims to be a hold of ours is nobody's.
	i.Hash[0] ^= 1
	forged, err := i.Sign(charger.key)
	if err != nil {
		t.Fatal(err)
	}
	w.pay(car, 4, "lightning:"+forged, 5_000_000)
	if d := car.last(string(money.OrderID{4}.Key())); d == nil || money.KindOf(d.Err) != money.Unpaid {
		t.Errorf("a forged invoice: %+v", d)
	}
}

// Parts that come over two channels are held and taken together.
func TestHoldInParts(t *testing.T) {
	w, car, charger := twoWithAChannel(t)
	w.open(car, charger, node.Open{Capacity: 500_000})
	w.pay(car, 1, charger.holdBill(1, 1_100_000_000), 1_100_000_000)
	want(t, car, charger, 1, "held 1, returned 0, earned 0, the payer waits")
	if a, b := charger.n.Summary().Channels[0].HTLCs, charger.n.Summary().Channels[1].HTLCs; a == 0 || b == 0 {
		t.Fatalf("%d and %d HTLCs hang", a, b)
	}
	charger.restart()
	w.mine(1)
	w.connect(car, charger)
	want(t, car, charger, 1, "held 2, returned 0, earned 0, the payer waits")
	charger.step(receipt.Release{Order: money.OrderID{1}})
	w.settle()
	want(t, car, charger, 1, "held 2, returned 0, earned 1, the payer paid")
}

// Either machine is killed before any one of the messages of a held payment, and
// comes back: the order is taken once, or given back once, as the till has said.
func TestHoldIsKilledAtEveryMessage(t *testing.T) {
	for _, release := range []bool{true, false} {
		for who := range 2 {
			for kill := 0; ; kill++ {
				w, car, charger := twoWithAChannel(t)
				id := money.OrderID{1}
				till := func() {
					if said := charger.held(1); len(said) > 0 {
						if release {
							charger.step(receipt.Release{Order: id})
						} else {
							charger.step(receipt.Cancel{Order: id})
						}
					}
				}
				to := charger.holdBill(1, 5_000_000)
				car.step(money.Order{ID: id, To: to, Amount: 5_000_000})
				n := 0
				for ; len(w.net) > 0; n++ {
					if n == kill {
						victim := w.machines[who]
						victim.restart()
						w.mine(1)
						w.connect(car, charger)
						if victim == car && car.last(id.Key()) == nil {
							car.step(money.Order{ID: id, To: to, Amount: 5_000_000})
						}
						till()
						continue
					}
					w.deliver()
					till()
				}
				earned, payer := 1, "paid"
				if !release {
					earned, payer = 0, "unpaid"
				}
				got, d := 0, car.last(id.Key())
				for _, o := range charger.done {
					if o.ID == node.EarnedID+id.Key() {
						got++
					}
				}
				if d == nil || got != earned || (d.Err == nil) != release {
					t.Fatalf("killed machine %d at message %d: %s; want earned %d, the payer %s", who, kill, fate(car, charger, 1), earned, payer)
				}
				if kill > n {
					break
				}
			}
		}
	}
}

// A sale's preimage is known before it is paid, and is the same for ever.
func TestKnownPreimage(t *testing.T) {
	w, car, charger := twoWithAChannel(t)
	bill := node.Bill{Bill: money.Bill{ID: money.OrderID{1}, Amount: 7_000}, Known: true}
	charger.step(bill)
	s := charger.last(node.SaleID + bill.ID.Key()).Value.(node.Sale)
	w.at += 7 * step.Day
	charger.restart()
	w.mine(1)
	w.connect(car, charger)
	charger.step(bill)
	again := charger.last(node.SaleID + bill.ID.Key()).Value.(node.Sale)
	if again.Hash != s.Hash || again.Key.Reveal() != s.Key.Reveal() || s.Key.Hash() != s.Hash {
		t.Fatal("the sale is another one after a week")
	}
	w.pay(car, 1, "lightning:"+again.Invoice, 7_000)
	paid := car.last(string(bill.ID.Key()))
	if paid == nil || paid.Err != nil {
		t.Fatalf("it is not paid: %+v", paid)
	}
	if got := paid.Value.(node.Paid).Proof(); string(got) != func() string { b := s.Key.Reveal(); return string(b[:]) }() {
		t.Errorf("the proof is %x", got)
	}
	other := bill
	other.Amount++
	charger.step(other)
	if charger.last(node.SaleID+bill.ID.Key()).Value.(node.Sale).Hash == s.Hash {
		t.Error("another amount has the same preimage")
	}
	charger.step(node.Bill{Bill: bill.Bill, Known: true, Hash: &[32]byte{1}})
	if err := charger.last(node.SaleID + bill.ID.Key()).Err; money.KindOf(err) != money.Invalid {
		t.Errorf("a known preimage of another's hash: %v", err)
	}
}
