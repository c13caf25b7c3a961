package books_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coinop.dev/core/earn"
	"coinop.dev/core/journal"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/world/books"
	"coinop.dev/world/store/postgres/pgtest"
)

var ctx = context.Background()

// noon is 2026-11-15, 12:00 UTC.
const noon step.Time = 1_794_744_000_000

var long = flag.Bool("long", false, "lease, file and cut more often")

// often is how many times a loop goes round: few by default.
func often(few, many int) int {
	if *long {
		return many
	}
	return few
}

// TestMain has more tests run at once than there are processors: what they wait for
// is the disk.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "12"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// unsynced has a commit not wait for the disk of PostgreSQL, which tests nothing here.
const unsynced = "&synchronous_commit=off"

// onBoth runs a test on a SQLite file and on PostgreSQL.
func onBoth(t *testing.T, test func(t *testing.T, uri string)) {
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); test(t, "sqlite://"+filepath.Join(t.TempDir(), "books.db")) })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); test(t, pgtest.Start(t)+unsynced) })
}

func open(t testing.TB, uri, gateway string) *books.Books {
	t.Helper()
	b, err := books.Open(ctx, uri, gateway)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func apply(t testing.TB, b *books.Books, events ...journal.Event) uint64 {
	t.Helper()
	upTo, err := b.Apply(ctx, events)
	must(t, err)
	return upTo
}

// tape numbers events as a machine's journal does.
type tape struct{ n uint64 }

func (j *tape) event(at step.Time, kind, subject string, what any) journal.Event {
	j.n++
	data, err := json.Marshal(what)
	if err != nil {
		panic(err)
	}
	return journal.Event{N: j.n, At: at, Type: kind, Subject: subject, Data: data}
}

func (j *tape) order(at step.Time, o earn.Order) journal.Event {
	o.At = at
	return j.event(at, "order."+o.State, o.ID.String(), o)
}

func id(n int) (id money.OrderID) {
	id[0], id[13], id[14], id[15] = 0xc0, byte(n>>16), byte(n>>8), byte(n)
	return id
}

func sale(n int, state string) earn.Order {
	return earn.Order{
		ID: id(n), State: state, Due: 5000, Paid: 5000, Item: "water", Units: 2, Buyer: "http", Device: "pump",
		Rate: offer.Rate{Currency: "EUR", Micro: 60_000_000_000, Source: "kraken", At: noon},
	}
}

func TestAnOrderThroughItsLife(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, uri string) {
		b, j := open(t, uri, "gate"), &tape{}
		o := sale(1, "paid")
		apply(t, b, j.order(noon, o))
		o.State, o.Ack = "delivered", []byte("ack")
		if upTo := apply(t, b, j.order(noon+10, o)); upTo != 2 {
			t.Errorf("the books are up to %d, want 2", upTo)
		}
		got, err := b.Order(ctx, id(1))
		must(t, err)
		o.At = noon + 10
		if fmt.Sprint(got.Order) != fmt.Sprint(o) || got.First != noon || got.Gateway != "gate" || got.Fiat.String() != "0.003 EUR" {
			t.Errorf("%+v, want %+v", got, o)
		}
		if _, err := b.Order(ctx, id(2)); !errors.Is(err, books.ErrUnknown) {
			t.Errorf("an unknown order: %v", err)
		}
	})
}

func TestAppliedTwiceIsAppliedOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, uri string) {
		b, j := open(t, uri, "gate"), &tape{}
		must(t, b.PutEndpoint(ctx, books.Endpoint{ID: "shop", URL: "https://shop", Types: []string{"order."}}))
		events := []journal.Event{j.order(noon, sale(1, "paid")), j.order(noon, sale(2, "paid")), j.order(noon, sale(1, "delivered"))}
		for range 3 {
			apply(t, b, events[:2]...)
			apply(t, b, events...)
		}
		wantTotals(t, b, books.Totals{Orders: 2, Earned: 10_000})
		if list, _, err := b.Events(ctx, 0, 10, nil); err != nil || len(list) != 3 || list[2].Seq != 3 || list[2].N != 3 {
			t.Errorf("%d events, %v", len(list), err)
		}
		if list, err := b.Deliveries(ctx, "shop", 0, 10); err != nil || len(list) != 3 {
			t.Errorf("%d deliveries, %v", len(list), err)
		}
	})
}

func wantTotals(t *testing.T, b *books.Books, want books.Totals) {
	t.Helper()
	for _, bucket := range []step.Time{step.Hour, step.Day} {
		points, err := b.Totals(ctx, noon-step.Day, noon+step.Day, bucket)
		must(t, err)
		var sum books.Totals
		for _, p := range points {
			sum.Orders += p.Orders
			sum.Earned += p.Earned
			sum.Refunded += p.Refunded
			sum.Failed += p.Failed
			sum.Payments += p.Payments
			sum.Spent += p.Spent
			sum.Fees += p.Fees
		}
		if sum != want {
			t.Errorf("by %d ms: %+v, want %+v", bucket, sum, want)
		}
	}
}

func TestMoneyThatGoesBackIsNotEarned(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, uri string) {
		b, j := open(t, uri, "gate"), &tape{}
		back, held, test := sale(2, "refunded"), sale(3, "held"), sale(4, "settled")
		back.Back, test.Test = back.Paid, true
		apply(t, b, j.order(noon, sale(1, "paid")), j.order(noon, sale(2, "paid")), j.order(noon, held), j.order(noon, test))
		wantTotals(t, b, books.Totals{Orders: 3, Earned: 10_000})
		apply(t, b, j.order(noon+1, sale(2, "failed")))
		wantTotals(t, b, books.Totals{Orders: 3, Earned: 5000, Failed: 1})
		apply(t, b, j.order(noon+step.Day, back), j.event(noon, journal.PaymentSettled, "x", map[string]any{"order": id(9), "amount_msat": 700, "fee_msat": 3}))
		wantTotals(t, b, books.Totals{Orders: 3, Earned: 5000, Refunded: 5000, Failed: 1, Payments: 1, Spent: 700, Fees: 3})
		if paid, err := b.Payments(ctx, 0, noon+1, 10); err != nil || len(paid) != 1 || paid[0].Amount != 700 || paid[0].State != "settled" {
			t.Errorf("paid: %+v, %v", paid, err)
		}
		list, err := b.ByDevice(ctx, noon, noon+step.Hour)
		if err != nil || len(list) != 1 || list[0].Name != "pump" || list[0].Earned != 5000 {
			t.Errorf("by device: %+v, %v", list, err)
		}
	})
}

func TestPagesAndFilters(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, uri string) {
		b, j := open(t, uri, "gate"), &tape{}
		var many []journal.Event
		for n := range 120 {
			o := sale(n, "settled")
			if n%3 == 0 {
				o.State = "failed"
			}
			if n%4 == 0 {
				o.Device, o.Item = "lamp", "light"
			}
			many = append(many, j.order(noon+step.Time(n/2), o)) // two at a time
		}
		apply(t, b, many...)
		for want, f := range map[int]books.Filter{
			120: {Limit: 7}, 40: {State: "failed", Limit: 7}, 30: {Service: "light"}, 10: {Device: "lamp", State: "failed", Limit: 3},
			20: {From: noon + 10, To: noon + 20, Limit: 19}, 0: {Buyer: "nobody"},
		} {
			seen, last := 0, step.Time(1<<60)
			for {
				page, next, err := b.Orders(ctx, f)
				must(t, err)
				for _, o := range page {
					if o.First > last {
						t.Fatalf("%+v: %d comes after %d", f, o.First, last)
					}
					last = o.First
				}
				seen += len(page)
				if f.Cursor = next; next == "" {
					break
				}
			}
			if seen != want {
				t.Errorf("%+v: %d orders, want %d", f, seen, want)
			}
		}
		if _, _, err := b.Orders(ctx, books.Filter{Cursor: "x'; DROP"}); !errors.Is(err, books.ErrCursor) {
			t.Errorf("a strange cursor: %v", err)
		}
	})
}

// What a buyer or a device says must not stop the books.
func TestPoisonIsFiledAndTheBooksGoOn(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, uri string) {
		b, j := open(t, uri, "gate"), &tape{}
		bad := sale(1, "paid")
		bad.Buyer, bad.Why, bad.Units = "zero\x00byte", "no utf-8: \xff", 1<<64-1
		odd := journal.Event{N: 2, At: noon, Type: "order.paid", Subject: "a\x00b\xff", Data: []byte("{\x00\xff")}
		apply(t, b, j.order(noon, bad), odd)
		j.n = 2
		apply(t, b, j.event(noon, "order.paid", "s", map[string]any{"order": 7}), j.event(noon, "payment.settled", "s", []int{1}), j.order(noon, sale(5, "paid")))
		if o, err := b.Order(ctx, id(1)); err != nil || o.Buyer != "zero\uFFFDbyte" {
			t.Errorf("%+v, %v", o, err)
		}
		if list, next, err := b.Events(ctx, 0, 10, nil); err != nil || len(list) != 5 || next != 5 {
			t.Errorf("%d events, %v", len(list), err)
		}
		wantTotals(t, b, books.Totals{Orders: 2, Earned: 10_000})
	})
}

func TestFieldsOfALaterVersionAreKept(t *testing.T) {
	t.Parallel()
	b, j := open(t, "sqlite://"+filepath.Join(t.TempDir(), "b"), "gate"), &tape{}
	apply(t, b, j.event(noon, "order.paid", "s", map[string]any{"order": id(1), "state": "paid", "paid_msat": 7, "payload": []byte("goods"), "later": "field"}))
	if o, err := b.Order(ctx, id(1)); err != nil || string(o.Payload) != "goods" || o.Paid != 7 {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestEventsOfSomeTypes(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, uri string) {
		b, j := open(t, uri, "gate"), &tape{}
		apply(t, b, j.order(noon, sale(1, "paid")), j.event(noon, "orders", "", nil), j.event(noon, journal.DeviceFault, "pump", nil),
			j.order(noon, sale(1, "settled")), j.event(noon, journal.DeviceSeen, "pump", nil))
		for want, types := range map[string][]string{
			"1 4 to 5": {"order."}, "3 to 5": {journal.DeviceFault}, "1 3 4 5 to 5": {"device.", "order."}, "to 5": {"price."}, "1 2 3 4 5 to 5": nil,
		} {
			list, next, err := b.Events(ctx, 0, 10, types)
			got := ""
			for _, e := range list {
				got += fmt.Sprint(e.Seq, " ")
			}
			if got += fmt.Sprint("to ", next); got != want || err != nil {
				t.Errorf("%q: %s, want %s, %v", types, got, want, err)
			}
		}
		if list, next, err := b.Events(ctx, 1, 1, []string{"order.", "device."}); err != nil || len(list) != 1 || next != 3 {
			t.Errorf("a page of one: %+v, %d, %v", list, next, err)
		}
		if list, next, err := b.Events(ctx, 99, 1, nil); err != nil || len(list) != 0 || next != 5 {
			t.Errorf("beyond the end: %+v, %d, %v", list, next, err)
		}
	})
}

func TestTheStoryOfAnOrder(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, uri string) {
		b, j := open(t, uri, "gate"), &tape{}
		apply(t, b, j.order(noon, sale(1, "paid")), j.order(noon, sale(2, "paid")), j.order(noon+1, sale(1, "delivered")), j.order(noon+2, sale(1, "refunded")))
		for want, most := range map[string]int{"paid delivered refunded ": 10, "delivered refunded ": 2} {
			list, err := b.EventsOf(ctx, id(1).String(), most)
			got := ""
			for _, e := range list {
				got += strings.TrimPrefix(e.Type, "order.") + " "
			}
			if got != want || err != nil {
				t.Errorf("%d: %q, want %q, %v", most, got, want, err)
			}
		}
		if list, err := b.EventsOf(ctx, "nobody\x00", 10); len(list) != 0 || err != nil {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

func TestAGapIsWrittenDown(t *testing.T) {
	t.Parallel()
	b, j := open(t, "sqlite://"+filepath.Join(t.TempDir(), "b"), "gate"), &tape{}
	apply(t, b, j.order(noon, sale(1, "paid")))
	j.n = 7
	if upTo := apply(t, b, j.order(noon, sale(2, "paid"))); upTo != 8 {
		t.Errorf("up to %d", upTo)
	}
	list, _, err := b.Events(ctx, 0, 10, []string{books.Gap})
	if err != nil || len(list) != 1 || string(list[0].Data) != `{"from":2,"to":7}` {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestAnotherJournalIsNotFollowed(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, uri string) {
		b, j := open(t, uri, "gate"), &tape{}
		apply(t, b, j.order(noon, sale(1, "paid")), j.order(noon, sale(2, "paid")))
		other := &tape{}
		if _, err := b.Apply(ctx, []journal.Event{other.order(noon+5, sale(8, "paid"))}); !errors.Is(err, books.ErrOtherJournal) || !strings.Contains(err.Error(), "new name") {
			t.Errorf("another journal: %v", err)
		}
	})
}

func TestTwoGatewaysInOneDatabase(t *testing.T) {
	t.Parallel()
	uri, each := pgtest.Start(t), often(15, 40)
	a, b := open(t, uri, "north"), open(t, uri, "south")
	ja, jb := &tape{}, &tape{}
	errs := make(chan error)
	for _, g := range []struct {
		b *books.Books
		j *tape
	}{{a, ja}, {b, jb}} {
		go func() {
			for n := range each {
				if _, err := g.b.Apply(ctx, []journal.Event{g.j.order(noon+step.Time(n), sale(n, "paid"))}); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	// Somebody follows meanwhile: numbers appear in their order, none is missed.
	followed, after := 0, uint64(0)
	for finished := 0; finished < 2 || followed < 2*each; {
		select {
		case err := <-errs:
			must(t, err)
			finished++
		default:
		}
		wait, cancel := context.WithTimeout(ctx, 5e9)
		must(t, a.Await(wait, after))
		cancel()
		list, next, err := a.Events(ctx, after, 500, nil)
		must(t, err)
		for i, e := range list {
			if e.Seq != after+uint64(i)+1 {
				t.Fatalf("event %d follows %d", e.Seq, after+uint64(i))
			}
		}
		followed, after = followed+len(list), next
		if followed >= 2*each && finished < 2 {
			for ; finished < 2; finished++ {
				must(t, <-errs)
			}
		}
	}
	if o, err := b.Order(ctx, id(3)); err != nil || o.Gateway != "south" {
		t.Errorf("south's own order of that ID comes first: %+v, %v", o, err)
	}
	wantTotals(t, a, books.Totals{Orders: int64(2 * each), Earned: money.Amount(2 * each * 5000)})
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "text"), []byte("this is not a database, but it is long enough to look at"), 0o600))
	for _, c := range []struct{ uri, gateway, want string }{
		{"sqlite://" + dir + "/a", "Gate!", "is no name"},
		{"redis:x", "gate", "write sqlite:"},
		{"sqlite:", "gate", "no path"},
		{"sqlite://" + dir + "/text", "gate", "not a database"},
		{"postgres://u:hush@127.0.0.1:1/db", "gate", "connect"},
	} {
		_, err := books.Open(ctx, c.uri, c.gateway)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v, want %q", c.uri, err, c.want)
		}
	}
}

func TestOnlyTheOwnerReadsTheFile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	b, j := open(t, "sqlite://"+filepath.Join(dir, "books.db"), "gate"), &tape{}
	apply(t, b, j.order(noon, sale(1, "paid")))
	files, err := os.ReadDir(dir)
	must(t, err)
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
		}
	}
}
