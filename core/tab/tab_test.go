package tab_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"coinop.dev/core/earn"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/tab"
	"coinop.dev/sim"
)

func id(n int) (id money.OrderID) {
	binary.BigEndian.PutUint32(id[:], uint32(n))
	return id
}

// bar is the core with its disk.
type bar struct {
	t    testing.TB
	tabs *tab.Tabs
	disk *sim.Disk
}

func newBar(t testing.TB) *bar { return &bar{t, tab.New(), &sim.Disk{}} }

func (b *bar) tell(events ...any) step.Effects {
	b.t.Helper()
	fx := b.tabs.Step(step.Input{At: 1, Events: events})
	b.disk.Commit(fx.Put)
	return fx
}

func (b *bar) reload() {
	b.t.Helper()
	again, err := tab.Load(b.disk)
	if err != nil {
		b.t.Fatal(err)
	}
	equal := func(x, y step.Record) bool { return x.Key == y.Key && bytes.Equal(x.Value, y.Value) }
	if m, d := b.tabs.Durable(), again.Durable(); !slices.EqualFunc(m, d, equal) {
		b.t.Fatalf("memory has %v, and the disk %v", m, d)
	}
	b.tabs = again
}

func paid(n int, amount money.Amount) step.Recv {
	return step.Recv{From: earn.Name, Msg: earn.Deliver{Order: id(n), Paid: amount}}
}

func TestAnOrderOpensOneTabOnce(t *testing.T) {
	b := newBar(t)
	for range 2 {
		fx := b.tell(paid(1, 100))
		if got, ok := fx.Send[len(fx.Send)-1].Msg.(earn.Delivered); !ok || got.Err != nil || got.Order != id(1) {
			t.Fatalf("%+v", fx.Send)
		}
	}
	if got, _ := b.tabs.Balance(id(1)); got.Left != 100 || got.In != 100 {
		t.Fatalf("%+v", got)
	}
}

// What is left is paid out once. A way that is closed leaves it where it was, and
// nobody draws while it is on its way.
func TestPayOut(t *testing.T) {
	b := newBar(t)
	b.tell(paid(1, 100), tab.Draw{Tab: id(1), Hold: 1, Amount: 30}, tab.Settle{Tab: id(1), Hold: 1, Used: 20})
	fx := b.tell(tab.PayOut{Tab: id(1), To: "lightning:x"})
	out := fx.Send[0].Msg.(earn.Refund)
	if out.Amount != 80 || out.To != "lightning:x" {
		t.Fatalf("%+v", out)
	}
	if fx := b.tell(tab.Draw{Tab: id(1), Hold: 2, Amount: 1}); !errors.Is(fx.Done[0].Err, money.Refused) {
		t.Fatalf("drawn while it is paid out: %+v", fx.Done)
	}
	b.reload()
	if fx := b.tell(step.Rang{ID: step.Start}); len(fx.Send) != 1 || fx.Send[0].Msg.(earn.Refund) != out {
		t.Fatalf("after a restart: %+v", fx.Send)
	}
	b.tell(earn.Refunded{Order: id(1), Nth: out.Nth, Err: &money.Error{Kind: money.Unpaid}})
	if got, _ := b.tabs.Balance(id(1)); got.Left != 80 || got.State != "open" {
		t.Fatalf("%+v", got)
	}
	again := b.tell(tab.PayOut{Tab: id(1), To: "lightning:y"}).Send[0].Msg.(earn.Refund)
	if again.Nth == out.Nth {
		t.Fatal("the second try has the first one's name, and its receipt")
	}
	b.tell(earn.Refunded{Order: id(1), Nth: again.Nth}, earn.Refunded{Order: id(1), Nth: again.Nth})
	if got, _ := b.tabs.Balance(id(1)); got.Left != 0 || got.State != "closed" {
		t.Fatalf("%+v", got)
	}
}

// Whatever is drawn, settled, paid and forgotten by a crash: nobody has more than
// was paid, and a crash gives nothing away.
func TestNobodyOverdraws(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 7))
		b := newBar(t)
		in, used := map[int]money.Amount{}, map[int]money.Amount{}
		holds, next := map[uint64][2]int{}, uint64(0) // tab and amount
		for range 300 {
			n := r.IntN(4)
			switch r.IntN(5) {
			case 0:
				if in[n] == 0 {
					in[n] = 500
					b.tell(paid(n, 500))
				} else {
					in[n] += 50
					b.tell(step.Recv{From: earn.Name, Msg: earn.Credit{Order: id(n), Amount: 50}})
				}
			case 1, 2:
				next++
				amount := r.IntN(120)
				if fx := b.tell(tab.Draw{Tab: id(n), Hold: next, Amount: money.Amount(amount)}); fx.Done[0].Err == nil {
					holds[next] = [2]int{n, amount}
				}
			case 3:
				for h, at := range holds {
					spent := r.IntN(at[1] + 1)
					b.tell(tab.Settle{Tab: id(at[0]), Hold: h, Used: money.Amount(spent)}, tab.Settle{Tab: id(at[0]), Hold: h})
					used[at[0]] += money.Amount(spent)
					delete(holds, h)
					break
				}
			case 4:
				for _, at := range holds { // they stay at their estimate
					used[at[0]] += money.Amount(at[1])
				}
				clear(holds)
				b.reload()
			}
			for n := range in {
				held := money.Amount(0)
				for _, at := range holds {
					if at[0] == n {
						held += money.Amount(at[1])
					}
				}
				if got, _ := b.tabs.Balance(id(n)); got.Left+held+used[n] != in[n] || got.In != in[n] {
					t.Fatalf("seed %d: %v came in, %v was used, %v is held, and the tab is %+v", seed, in[n], used[n], held, got)
				}
			}
		}
	}
}

func FuzzLoad(f *testing.F) {
	b := newBar(f)
	b.tell(paid(1, 100), tab.PayOut{Tab: id(1), To: "lightning:x"})
	for _, r := range b.tabs.Durable() {
		f.Add(r.Value)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		disk := &sim.Disk{}
		disk.Commit([]step.Record{{Key: "tab/" + id(1).Key(), Value: value}})
		if tabs, err := tab.Load(disk); err == nil {
			tabs.Durable() // does not panic on what it has loaded
		}
	})
}
