package earn_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"coinop.dev/core/earn"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/internal/persisted"
	"coinop.dev/sim"
)

var update = flag.Bool("update", false, "accept the golden files as they come out now")

var items = []trade.Item{{Name: "reading", Unit: "reading", Price: 10}, {Name: "Wh", Unit: "Wh", Price: 3}}

// shop is a book with its disk.
type shop struct {
	t    testing.TB
	book *earn.Book
	disk *sim.Disk
}

func newShop(t testing.TB) *shop {
	return &shop{t, earn.NewBook(items, []string{"oneway://me"}), &sim.Disk{}}
}

func (s *shop) tell(events ...any) step.Effects {
	s.t.Helper()
	fx := s.book.Step(step.Input{At: 1, Events: events})
	s.disk.Commit(fx.Put)
	return fx
}

func (s *shop) reload() {
	s.t.Helper()
	again, err := earn.Load(s.disk, items, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	a, b := s.book.Durable(), again.Durable()
	if !slices.EqualFunc(a, b, func(x, y step.Record) bool { return x.Key == y.Key && bytes.Equal(x.Value, y.Value) }) {
		s.t.Fatalf("memory has %v, and the disk %v", a, b)
	}
	s.book = again
}

func id(n int) (id money.OrderID) {
	binary.BigEndian.PutUint32(id[:], uint32(n))
	return id
}

func paidBy(core string, n int, amount money.Amount) step.Recv {
	b := &receipt.Batch{Entries: []receipt.Entry{{Order: id(n), Amount: amount}}}
	return step.Recv{From: core, Msg: step.Outcome{ID: id(n).Key(), Value: receipt.Paid{Batch: b}}}
}

func paid(n int, amount money.Amount) step.Recv { return paidBy("rail", n, amount) }

func buy(n int, item string, units uint64) step.Recv {
	return step.Recv{From: "peer/b", Msg: trade.Buy{Order: id(n), Item: item, Units: units}}
}

func (s *shop) earned(want money.Amount) {
	s.t.Helper()
	if got := s.book.Summary().Earned; got != want {
		s.t.Errorf("the till has %v, want %v", got, want)
	}
}

// Money and wishes come in either sequence, and more than once.
func TestDeliveredOnceForWhatIsPaid(t *testing.T) {
	for name, events := range map[string][]any{
		"wish first":        {buy(1, "reading", 2), paid(1, 20)},
		"money first":       {paid(1, 20), buy(1, "reading", 2)},
		"wish twice":        {buy(1, "reading", 2), buy(1, "reading", 2), paid(1, 20), buy(1, "reading", 2)},
		"money in halves":   {buy(1, "reading", 2), paid(1, 10), paid(1, 10), buy(1, "reading", 2)},
		"wish thought over": {buy(1, "Wh", 100), buy(1, "reading", 2), paid(1, 20)},
	} {
		s := newShop(t)
		deliveries := 0
		for _, e := range events {
			for _, p := range s.tell(e).Send {
				if p.To == earn.Device {
					deliveries++
					if p.Msg != (earn.Deliver{Order: id(1), Item: "reading", Units: 2}) {
						t.Errorf("%s: the device is told %+v", name, p.Msg)
					}
				}
			}
			s.reload2(name)
		}
		if deliveries != 1 {
			t.Errorf("%s: the device is told %d times", name, deliveries)
		}
		s.earned(20)
	}
}

// reload2 checks the disk but keeps the book: wishes live in memory.
func (s *shop) reload2(name string) {
	s.t.Helper()
	book := s.book
	s.reload()
	s.book = book
}

func TestGoodsAreKeptUntilTheyAreThere(t *testing.T) {
	s := newShop(t)
	s.tell(buy(1, "reading", 1), paid(1, 10))
	s.reload()
	if fx := s.tell(step.Rang{ID: step.Start}); len(fx.Send) != 1 || fx.Send[0].Msg != (earn.Deliver{Order: id(1), Item: "reading", Units: 1}) {
		t.Fatalf("after a restart the device is told %+v", fx.Send)
	}
	if fx := s.tell(earn.Delivered{Order: id(1), Err: errors.New("jam")}); len(fx.Send) != 0 || len(fx.Wake) != 1 {
		t.Errorf("a jam: %+v", fx)
	}
	if fx := s.tell(step.Rang{ID: "deliver"}); len(fx.Send) != 1 {
		t.Errorf("after the jam: %+v", fx.Send)
	}
	goods := func(fx step.Effects) string {
		if len(fx.Send) != 1 {
			return ""
		}
		g, _ := fx.Send[0].Msg.(trade.Goods)
		return string(g.Payload)
	}
	if got := goods(s.tell(earn.Delivered{Order: id(1), Payload: []byte("21 °C")})); got != "21 °C" {
		t.Fatalf("delivered %q", got)
	}
	if fx := s.tell(earn.Delivered{Order: id(1), Payload: []byte("22 °C")}); len(fx.Send)+len(fx.Put) != 0 {
		t.Error("the device's second answer counts")
	}
	s.reload()
	for _, again := range []any{buy(1, "reading", 1), step.Linked{Peer: "peer/b"}} {
		if got := goods(s.tell(again)); got != "21 °C" {
			t.Errorf("after %T the goods are %q", again, got)
		}
	}
	if fx := s.tell(step.Recv{From: "peer/thief", Msg: trade.Buy{Order: id(1), Item: "reading", Units: 1}}); len(fx.Send) != 0 {
		t.Errorf("somebody else gets %+v", fx.Send)
	}
	s.tell(step.Recv{From: "peer/thief", Msg: trade.Got{Order: id(1)}})
	if got := goods(s.tell(step.Linked{Peer: "peer/b"})); got == "" {
		t.Error("somebody else says the goods are there, and is believed")
	}
	s.tell(step.Recv{From: "peer/b", Msg: trade.Got{Order: id(1)}})
	s.reload()
	if fx := s.tell(step.Linked{Peer: "peer/b"}, step.Rang{ID: step.Start}, buy(1, "reading", 1)); len(fx.Send) != 0 {
		t.Errorf("the goods are there, and %+v is sent", fx.Send)
	}
	if sum := s.book.Summary(); sum.Delivered != 1 || sum.Units != 1 || sum.Owed != 0 || sum.Orders != 1 {
		t.Errorf("%+v", sum)
	}
}

func TestWhatIsDeclined(t *testing.T) {
	for _, c := range []struct {
		events []any
		due    money.Amount
		why    string
	}{
		{[]any{buy(1, "gold", 1)}, 0, `"gold" is not for sale`},
		{[]any{paid(1, 5), buy(1, "gold", 1)}, 0, "not for sale"},
		{[]any{buy(1, "reading", 0)}, 0, "0 units"},
		{[]any{buy(1, "reading", 1<<63)}, 0, "cannot be sold at once"},
		{[]any{buy(1, "reading", 2), paid(1, 19)}, 20, "paid too little"},
		{[]any{paid(1, 19), buy(1, "reading", 2)}, 20, "paid too little"},
	} {
		s := newShop(t)
		var last trade.Decline
		for _, e := range c.events {
			for _, p := range s.tell(e).Send {
				last, _ = p.Msg.(trade.Decline)
				if p.To != "peer/b" {
					t.Errorf("%+v is sent to %s", p.Msg, p.To)
				}
			}
		}
		if last.Due != c.due || !strings.Contains(last.Why, c.why) {
			t.Errorf("%+v: declined with %+v", c.events, last)
		}
		s.reload()
	}
}

func TestTariff(t *testing.T) {
	fx := newShop(t).tell(step.Recv{From: "peer/b", Msg: trade.Browse{}})
	if len(fx.Send) != 1 || len(fx.Send[0].Msg.(trade.Tariff).Items) != 2 || fx.Send[0].Msg.(trade.Tariff).PayTo[0] != "oneway://me" {
		t.Errorf("%+v", fx.Send)
	}
}

func claim(core string, n int) step.Recv {
	return step.Recv{From: core, Msg: trade.Claim{Order: id(n)}}
}

// handedOver is the amount that fx hands to core, or 0.
func handedOver(fx step.Effects, core string) money.Amount {
	for _, p := range fx.Send {
		if o, ok := p.Msg.(step.Outcome); ok && p.To == core {
			return o.Value.(receipt.Paid).Entry().Amount
		}
	}
	return 0
}

// A settlement belongs to the channel that has sold on credit, and is not
// counted again, whichever comes first.
func TestClaimedMoneyIsNotEarned(t *testing.T) {
	s := newShop(t)
	s.tell(claim("payword/payee/1", 1))
	s.tell(paidBy("payword/payee/1", 7, 90)) // what the channel sold
	if fx := s.tell(paid(1, 90)); handedOver(fx, "payword/payee/1") != 90 || len(fx.Put) != 0 {
		t.Errorf("claimed before: %+v", fx)
	}
	s.earned(90)
	s.reload()
	s.tell(paid(2, 40))
	s.earned(130)
	s.reload()
	if fx := s.tell(claim("payword/payee/1", 2)); handedOver(fx, "payword/payee/1") != 40 {
		t.Errorf("claimed after: %+v", fx)
	}
	s.earned(90)
	if n := s.book.Summary().Orders; n != 1 {
		t.Errorf("%d orders are counted", n)
	}
	s.reload()
	if fx := s.tell(claim("payword/payee/1", 2)); handedOver(fx, "payword/payee/1") != 0 {
		t.Errorf("claimed twice: %+v", fx)
	}
}

// A wish for what a settlement pays gets nothing.
func TestClaimedMoneyBuysNothing(t *testing.T) {
	s := newShop(t)
	s.tell(claim("payword/payee/1", 1), buy(1, "reading", 1))
	for _, p := range s.tell(paid(1, 10)).Send {
		if p.To == earn.Device {
			t.Error("coins were settled and goods delivered for one payment")
		}
	}
}

// Two channels of promises cannot settle each other.
func TestPromisesSettleNothing(t *testing.T) {
	s := newShop(t)
	s.tell(claim("payword/payee/1", 1), claim("payword/payee/2", 2))
	if fx := s.tell(paidBy("payword/payee/2", 1, 10)); handedOver(fx, "payword/payee/1") != 0 {
		t.Error("a promise settles a claim that waits")
	}
	s.tell(paidBy("payword/payee/2", 3, 10))
	s.reload()
	s.tell(claim("payword/payee/2", 2))
	if fx := s.tell(claim("payword/payee/1", 3)); handedOver(fx, "payword/payee/1") != 0 {
		t.Error("a promise settles a claim that comes later")
	}
	s.earned(20)
}

func TestWishesAreBounded(t *testing.T) {
	s := newShop(t)
	for n := range earn.MaxQuotes + 1 {
		s.tell(buy(n, "reading", 1))
	}
	if fx := s.tell(paid(0, 10)); len(fx.Send) != 0 {
		t.Error("the oldest wish is still there")
	}
	if fx := s.tell(paid(1, 10)); len(fx.Send) != 1 {
		t.Error("the second wish is gone")
	}
}

func TestTheBookForgetsTheOldest(t *testing.T) {
	s := newShop(t)
	s.tell(buy(0, "reading", 1), paid(0, 10)) // owed, and so kept
	for n := 1; n <= earn.Keep+10; n++ {
		s.tell(paid(n, 1))
	}
	s.reload()
	if fx := s.tell(step.Rang{ID: step.Start}); len(fx.Send) != 1 {
		t.Errorf("what is owed is forgotten: %+v", fx.Send)
	}
	s.earned(10 + earn.Keep + 10)
}

// Whatever comes in whatever sequence, the device is told only of what is paid,
// and delivers an order once.
func TestAnythingGoes(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 4))
		s := newShop(t)
		have, told, done := map[int]money.Amount{}, map[int]earn.Deliver{}, map[int]string{}
		sum := money.Amount(0)
		for range 400 {
			n := r.IntN(12)
			var fx step.Effects
			switch r.IntN(6) {
			case 0:
				fx = s.tell(buy(n, items[r.IntN(2)].Name, uint64(r.IntN(4))))
			case 1:
				a := money.Amount(1 + r.IntN(15))
				have[n] += a
				sum += a
				fx = s.tell(paid(n, a))
			case 2:
				fx = s.tell(earn.Delivered{Order: id(n), Payload: fmt.Append(nil, r.Uint64())})
			case 3:
				fx = s.tell(step.Recv{From: "peer/b", Msg: trade.Got{Order: id(n)}})
			case 4:
				fx = s.tell(step.Linked{Peer: "peer/b"})
			case 5:
				s.reload()
				fx = s.tell(step.Rang{ID: step.Start})
			}
			for _, p := range fx.Send {
				switch m := p.Msg.(type) {
				case earn.Deliver:
					o := int(binary.BigEndian.Uint32(m.Order[:]))
					price := money.Amount(10)
					if m.Item == "Wh" {
						price = 3
					}
					if was, again := told[o]; again && was != m || have[o] < price*money.Amount(m.Units) || done[o] != "" {
						t.Fatalf("seed %d: the device is told %+v after %+v, for %v", seed, m, was, have[o])
					}
					told[o] = m
				case trade.Goods:
					o := int(binary.BigEndian.Uint32(m.Order[:]))
					if done[o] != "" && done[o] != string(m.Payload) || told[o].Units == 0 {
						t.Fatalf("seed %d: order %d is delivered as %q and %q", seed, o, done[o], m.Payload)
					}
					done[o] = string(m.Payload)
				}
			}
		}
		s.earned(sum)
	}
}

// written is a book's disk with an order in each state.
func written(t testing.TB) map[string][]byte {
	s := newShop(t)
	s.tell(paid(1, 5))
	s.tell(buy(2, "reading", 1), paid(2, 10))
	s.tell(buy(3, "Wh", 3), paid(3, 10))
	s.tell(earn.Delivered{Order: id(3), Payload: []byte("3 Wh")})
	s.tell(buy(4, "Wh", 3), paid(4, 10))
	s.tell(earn.Delivered{Order: id(4), Payload: []byte("3 Wh")})
	s.tell(step.Recv{From: "peer/b", Msg: trade.Got{Order: id(4)}})
	s.tell(claim("payword/payee/1", 9), paidBy("payword/payee/1", 5, 6))
	return persisted.Records(s.disk)
}

// Records of version 1 must be read for ever, so their bytes are kept.
func TestPersistedFormat(t *testing.T) {
	path := filepath.Join("testdata", "persisted", "v1-book.hex")
	persisted.Test(t, path, *update, written(t), func(d *sim.Disk) (*earn.Book, error) { return earn.Load(d, items, nil) })
}

// FuzzLoad changes one record: loading is an error or gives a book, and
// stepping that at worst asserts.
func FuzzLoad(f *testing.F) {
	for i := range byte(6) {
		f.Add(i, uint16(0), []byte{1})
		f.Add(i, uint16(2), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	}
	const order2, state, held = 2, 1, 4
	f.Add(byte(order2), uint16(state), []byte{held}) // money held for a sale that is missing
	good := written(f)
	f.Fuzz(func(t *testing.T, which byte, at uint16, with []byte) {
		d := persisted.Disk(good)
		var keys []string
		d.Scan("", func(key string, _ []byte) bool { keys = append(keys, key); return true })
		key := keys[int(which)%len(keys)]
		value := bytes.Clone(good[key])
		from := int(at) % (len(value) + 1)
		value = append(value[:from:from], append(with, value[min(len(value), from+len(with)):]...)...)
		d.Commit([]step.Record{{Key: key, Value: value}})
		book, err := earn.Load(d, items, nil)
		if err != nil {
			return
		}
		defer func() {
			r := recover()
			if _, bug := r.(runtime.Error); bug || r != nil && !strings.HasPrefix(fmt.Sprint(r), "assert: ") {
				panic(r)
			}
		}()
		book.Step(step.Input{At: 1, Events: []any{step.Rang{ID: step.Start}, buy(1, "reading", 1), paid(2, 10), claim("x", 1), step.Linked{Peer: "peer/b"}}})
		book.Durable()
		book.Summary()
	})
}
