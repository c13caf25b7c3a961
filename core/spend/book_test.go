package spend_test

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

	"coinop.dev/core/money"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/internal/persisted"
	"coinop.dev/sim"
)

var update = flag.Bool("update", false, "accept the golden files as they come out now")

const noon = 1_700_000_000 * step.Second

// desk is a book with its disk, and the rail it hands orders to.
type desk struct {
	t    testing.TB
	book *spend.Book
	disk *sim.Disk
	now  step.Time
	l    spend.Limits
}

func newDesk(t testing.TB, l spend.Limits) *desk {
	return &desk{t: t, book: spend.NewBook(l), disk: &sim.Disk{}, now: noon, l: l}
}

// tell steps the book, writes what it wants, and holds its memory against it.
func (d *desk) tell(event any) step.Effects {
	d.t.Helper()
	fx := d.book.Step(step.Input{At: d.now, Events: []any{event}})
	d.disk.Commit(fx.Put)
	return fx
}

// reload starts the book again from its disk.
func (d *desk) reload() {
	d.t.Helper()
	again, err := spend.Load(d.disk, d.l)
	if err != nil {
		d.t.Fatal(err)
	}
	a, b := d.book.Durable(), again.Durable()
	if !slices.EqualFunc(a, b, func(x, y step.Record) bool { return x.Key == y.Key && bytes.Equal(x.Value, y.Value) }) {
		d.t.Fatalf("memory has %v, and the disk %v", a, b)
	}
	d.book = again
}

func order(n int, to string, amount money.Amount) money.Order {
	o := money.Order{To: "oneway://" + to, Amount: amount}
	binary.BigEndian.PutUint32(o.ID[:], uint32(n))
	return o
}

func ask(o money.Order) spend.Ask { return spend.Ask{Order: o, Via: "rail"} }

func answered(o money.Order, err error) step.Recv {
	return step.Recv{From: "rail", Msg: step.Outcome{ID: o.ID.Key(), Err: err}}
}

var unpaid = &money.Error{Kind: money.Unpaid, Err: errors.New("no route")}

// refused returns the limit that an outcome says was reached, or "".
func refused(fx step.Effects) (limit string, err error) {
	for _, d := range fx.Done {
		var r *spend.Refusal
		if errors.As(d.Err, &r) {
			return r.Limit, d.Err
		}
	}
	return "", nil
}

func TestEachLimitIsNamed(t *testing.T) {
	l := spend.Limits{Order: 100, UnitPrice: 10, Total: 250, Payee: 150, Period: period(t, "daily"), PerMinute: 4}
	d := newDesk(t, l)
	units := order(1, "a", 95)
	units.Units = 9
	for _, c := range []struct {
		o     money.Order
		limit string
		says  string
	}{
		{order(1, "a", 101), "order", "101 msat is more than the limit of 100 msat per order"},
		{units, "unit price", "11 msat per unit is more than the limit of 10 msat"},
		{order(2, "a", 100), "", ""},
		{order(3, "a", 51), "payee", "51 msat to this payee would pass its limit of 150 msat (daily); 50 msat is left; it renews at 2023-11-15T00:00:00Z"},
		{order(4, "a?order=1", 51), "payee", "50 msat is left"},
		{order(5, "a", 50), "", ""},
		{order(6, "b", 100), "", ""},
		{order(7, "c", 1), "total", "would pass the limit of 250 msat (daily); 0 sat is left; it renews at 2023-11-15T00:00:00Z"},
	} {
		fx := d.tell(ask(c.o))
		limit, err := refused(fx)
		if limit != c.limit || err != nil && (!strings.Contains(err.Error(), c.says) || money.KindOf(err) != money.Refused) {
			t.Errorf("%v to %s: %v", c.o.Amount, c.o.To, err)
		}
		if limit != "" && len(fx.Send) != 0 {
			t.Errorf("%v is refused, and %+v is sent", c.o.Amount, fx.Send)
		}
		d.reload()
	}
	d.now += 24 * step.Hour
	if limit, _ := refused(d.tell(ask(order(8, "a", 100)))); limit != "" {
		t.Errorf("the next day: %s", limit)
	}
	d.tell(ask(order(9, "b", 1)))
	d.tell(ask(order(10, "b", 1)))
	d.tell(ask(order(11, "b", 1)))
	limit, err := refused(d.tell(ask(order(12, "b", 1))))
	if limit != "per minute" || !strings.Contains(err.Error(), "4 orders in this minute are the limit; it renews at 2023-11-15T22:14:00Z") {
		t.Errorf("the fifth order in a minute: %v", err)
	}
	d.now += step.Minute
	if limit, _ := refused(d.tell(ask(order(12, "b", 1)))); limit != "" {
		t.Errorf("the next minute: %s", limit)
	}
}

func TestSenselessOrders(t *testing.T) {
	d := newDesk(t, spend.Limits{})
	long := order(1, strings.Repeat("x", 600), 1)
	wordy := order(1, "a", 1)
	wordy.For = strings.Repeat("x", trade.MaxName+1)
	for _, o := range []money.Order{order(1, "a", 0), order(1, "a", money.MaxAmount+1), long, wordy} {
		fx := d.tell(ask(o))
		if len(fx.Done) != 1 || money.KindOf(fx.Done[0].Err) != money.Invalid || len(fx.Send)+len(d.book.Durable()) != 0 {
			t.Errorf("%v to %.20s: %+v", o.Amount, o.To, fx)
		}
	}
}

func TestTheMoneyComesBackOnlyIfCertain(t *testing.T) {
	for _, c := range []struct {
		err  error
		back bool
	}{
		{unpaid, true},
		{&money.Error{Kind: money.Refused}, true},
		{&money.Error{Kind: money.Invalid}, true},
		{&money.Error{Kind: money.Pending}, false},
		{&money.Error{Kind: money.Broken}, false},
		{errors.New("who knows"), false},
		{nil, false},
	} {
		d := newDesk(t, spend.Limits{Total: 100, Period: period(t, "daily")})
		o := order(1, "a", 60)
		if fx := d.tell(ask(o)); len(fx.Send) != 1 || fx.Send[0].To != "rail" || fx.Send[0].Msg != o {
			t.Fatalf("handed over: %+v", fx.Send)
		}
		d.tell(answered(o, c.err))
		d.reload()
		limit, _ := refused(d.tell(ask(order(2, "a", 60))))
		if back := limit == ""; back != c.back {
			t.Errorf("after %v the money is back: %v", c.err, back)
		}
	}
}

func TestAnOrderIsHandedOverOnce(t *testing.T) {
	d := newDesk(t, spend.Limits{})
	o := order(1, "a", 60)
	d.tell(ask(o))
	if fx := d.tell(ask(o)); len(fx.Send)+len(fx.Put)+len(fx.Done) != 0 {
		t.Errorf("asked twice: %+v", fx)
	}
	d.reload()
	if fx := d.tell(step.Rang{ID: step.Start}); len(fx.Send) != 1 || fx.Send[0].Msg != o {
		t.Errorf("after a restart: %+v", fx.Send)
	}
	d.tell(answered(o, nil))
	d.reload()
	if fx := d.tell(step.Rang{ID: step.Start}); len(fx.Send) != 0 {
		t.Errorf("a paid order is handed over: %+v", fx.Send)
	}
	if fx := d.tell(ask(o)); len(fx.Send) != 1 || fx.Send[0].Msg != (money.Inquiry{Order: o.ID}) {
		t.Errorf("a paid order is asked again: %+v", fx.Send)
	}
	if s := d.book.Summary(d.now); s.Paid != 60 || s.Settled != 1 || s.Open != 0 {
		t.Errorf("%+v", s)
	}
}

func TestGoods(t *testing.T) {
	d := newDesk(t, spend.Limits{})
	o := order(1, "a", 60)
	o.For, o.Units = "reading", 2
	goods := trade.Goods{Order: o.ID, Payload: []byte("21 °C")}
	fx := d.tell(spend.Ask{Order: o, Via: "rail", Seller: "peer/s"})
	if len(fx.Send) != 2 || fx.Send[0].Msg != (trade.Buy{Order: o.ID, Item: "reading", Units: 2}) {
		t.Fatalf("%+v", fx.Send)
	}
	if fx := d.tell(step.Recv{From: "peer/thief", Msg: goods}); len(fx.Put) != 0 {
		t.Error("goods from somebody else are taken")
	}
	// The goods may come before the rail's word that the order is paid.
	if fx := d.tell(step.Recv{From: "peer/s", Msg: goods}); len(fx.Put) != 1 || len(fx.Done)+len(fx.Send) != 0 {
		t.Errorf("goods before the payment: %+v", fx)
	}
	d.reload()
	fx = d.tell(answered(o, nil))
	if len(fx.Done) != 2 || len(fx.Send) != 1 || fx.Send[0].Msg != (trade.Got{Order: o.ID}) {
		t.Fatalf("paid: %+v", fx)
	}
	d.reload()
	again := d.tell(step.Recv{From: "peer/s", Msg: goods})
	if len(again.Done)+len(again.Put) != 0 || len(again.Send) != 1 {
		t.Errorf("the goods come twice: %+v", again)
	}
	fx = d.tell(spend.Ask{Order: o, Via: "rail", Seller: "peer/s"})
	if len(fx.Done) != 1 || !bytes.Equal(fx.Done[0].Value.(trade.Goods).Payload, goods.Payload) {
		t.Errorf("asked again: %+v", fx.Done)
	}
}

// Whatever is asked, answered, restarted and however the clock runs, no window
// of the calendar sees more spent than its limit.
func TestLimitsHoldWhateverHappens(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 3))
		l := spend.Limits{Order: 40, Total: 100 + money.Amount(r.IntN(100)), Payee: 60, Period: period(t, []string{"daily", "PT1H", "R/2023-01-01T00:07:00Z/PT30M"}[seed%3]), PerMinute: 9}
		d := newDesk(t, l)
		type key struct {
			start step.Time
			payee string
		}
		spent := map[key]money.Amount{} // what may have left, by window and payee ("" for all)
		minute := map[step.Time]int{}
		var open []money.Order
		windows := map[money.OrderID]step.Time{}
		latest := d.now // a clock that is set back renews nothing
		for n := range 600 {
			switch r.IntN(8) {
			case 0:
				d.now += step.Time(r.Int64N(int64(10 * step.Minute)))
			case 1:
				if r.IntN(4) == 0 {
					d.now -= step.Time(r.Int64N(int64(2 * step.Minute))) // a clock that is set back
				}
			case 2:
				d.reload()
				d.tell(step.Rang{ID: step.Start})
			case 3, 4:
				if len(open) == 0 {
					continue
				}
				i := r.IntN(len(open))
				o := open[i]
				open = slices.Delete(open, i, i+1)
				err := []error{nil, unpaid, errors.New("unknown")}[r.IntN(3)]
				d.tell(answered(o, err))
				if err == error(unpaid) {
					payee, _, _ := strings.Cut(o.To, "?")
					spent[key{windows[o.ID], ""}] -= o.Amount
					spent[key{windows[o.ID], payee}] -= o.Amount
				}
			default:
				o := order(n, fmt.Sprintf("p%d?n=%d", r.IntN(4), n), money.Amount(1+r.IntN(50)))
				fx := d.tell(ask(o))
				latest = max(latest, d.now)
				if len(fx.Send) == 0 {
					continue
				}
				open = append(open, o)
				start, _ := l.Period.Window(latest)
				payee, _, _ := strings.Cut(o.To, "?")
				windows[o.ID] = start
				spent[key{start, ""}] += o.Amount
				spent[key{start, payee}] += o.Amount
				minute[latest/step.Minute]++
				if o.Amount > l.Order || spent[key{start, ""}] > l.Total || spent[key{start, payee}] > l.Payee || minute[latest/step.Minute] > l.PerMinute {
					t.Fatalf("seed %d: order %d of %v passes: %v in all, %v to %s, %d this minute", seed, n, o.Amount, spent[key{start, ""}], spent[key{start, payee}], payee, minute[latest/step.Minute])
				}
			}
		}
	}
}

func TestTheBookForgetsTheOldest(t *testing.T) {
	d := newDesk(t, spend.Limits{})
	first := order(0, "a", 1)
	d.tell(ask(first)) // stays open, and so is never forgotten
	for n := 1; n <= spend.Keep+10; n++ {
		o := order(n, "a", 1)
		d.tell(ask(o))
		d.tell(answered(o, nil))
	}
	d.reload()
	if fx := d.tell(ask(order(5, "a", 1))); len(fx.Send) != 1 || fx.Send[0].Msg != order(5, "a", 1) {
		t.Errorf("a forgotten order: %+v", fx.Send)
	}
	if fx := d.tell(ask(order(11, "a", 1))); len(fx.Send) != 1 || fx.Send[0].Msg != (money.Inquiry{Order: order(11, "a", 1).ID}) {
		t.Errorf("a kept order: %+v", fx.Send)
	}
	if fx := d.tell(ask(first)); len(fx.Send) != 0 {
		t.Errorf("an open order: %+v", fx.Send)
	}
}

func TestOpenOrdersAreBounded(t *testing.T) {
	d := newDesk(t, spend.Limits{})
	for n := range spend.MaxOpen {
		d.tell(ask(order(n, "a", 1)))
	}
	fx := d.tell(ask(order(spend.MaxOpen, "a", 1)))
	if len(fx.Done) != 1 || money.KindOf(fx.Done[0].Err) != money.Refused || !strings.Contains(fx.Done[0].Err.Error(), "4096 orders are open") {
		t.Errorf("%+v", fx.Done)
	}
}

func TestPayeesAreBounded(t *testing.T) {
	d := newDesk(t, spend.Limits{Period: period(t, "daily")})
	for n := range spend.MaxPayees {
		o := order(n, fmt.Sprint("p", n), 1)
		d.tell(ask(o))
		d.tell(answered(o, unpaid))
	}
	if fx := d.tell(ask(order(5000, "one more", 1))); len(fx.Done) != 1 || !strings.Contains(fx.Done[0].Err.Error(), "1024 payees are tracked") {
		t.Errorf("%+v", fx.Done)
	}
	d.now += 24 * step.Hour
	if fx := d.tell(ask(order(5000, "one more", 1))); len(fx.Send) != 1 {
		t.Errorf("the next day: %+v", fx.Done)
	}
	d.reload()
}

// written is a book's disk with an order in each state.
func written(t testing.TB) map[string][]byte {
	d := newDesk(t, spend.Limits{Total: 1000, Period: period(t, "daily")})
	for n, err := range []error{nil, errors.New("unknown"), unpaid} {
		o := order(n, "a?n=1", 60)
		d.tell(ask(o))
		d.tell(answered(o, err))
	}
	d.tell(ask(order(3, "b", 7)))
	o := order(4, "b", 8)
	o.For, o.Units = "reading", 3
	d.tell(spend.Ask{Order: o, Via: "rail", Seller: "peer/s"})
	d.tell(step.Recv{From: "peer/s", Msg: trade.Goods{Order: o.ID, Payload: []byte("21 °C")}})
	return persisted.Records(d.disk)
}

// Records of version 1 must be read for ever, so their bytes are kept.
func TestPersistedFormat(t *testing.T) {
	path := filepath.Join("testdata", "persisted", "v1-book.hex")
	persisted.Test(t, path, *update, written(t), func(d *sim.Disk) (*spend.Book, error) { return spend.Load(d, spend.Limits{}) })
}

// FuzzLoad changes one record: loading is an error or gives a book, and
// stepping that at worst asserts.
func FuzzLoad(f *testing.F) {
	for i := range byte(8) {
		f.Add(i, uint16(0), []byte{1})
		f.Add(i, uint16(2), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	}
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
		book, err := spend.Load(d, spend.Limits{Total: 100})
		if err != nil {
			return
		}
		defer func() {
			r := recover()
			if _, bug := r.(runtime.Error); bug || r != nil && !strings.HasPrefix(fmt.Sprint(r), "assert: ") {
				panic(r)
			}
		}()
		book.Step(step.Input{At: noon, Events: []any{step.Rang{ID: step.Start}, ask(order(4, "b", 8)), answered(order(3, "b", 7), unpaid), ask(order(9, "a", 8))}})
		book.Durable()
		book.Summary(noon)
	})
}
