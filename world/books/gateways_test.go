package books_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"coinop.dev/core/journal"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/world/books"
)

func TestAWebhookIsOwedEachEventOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, uri string) {
		b, j := open(t, uri, "gate"), &tape{}
		must(t, b.PutEndpoint(ctx, books.Endpoint{ID: "all", URL: "https://a", Secret: "s"}))
		must(t, b.PutEndpoint(ctx, books.Endpoint{ID: "faults", URL: "https://b", Types: []string{journal.DeviceFault}}))
		must(t, b.PutEndpoint(ctx, books.Endpoint{ID: "off", URL: "https://c", Off: true}))
		apply(t, b, j.order(noon, sale(1, "paid")), j.event(noon, journal.DeviceFault, "pump", map[string]any{"text": "dry"}))

		claim := func(endpoint string, now step.Time, most int) []books.Due {
			t.Helper()
			list, err := b.Claim(ctx, endpoint, now, noon+step.Minute, most)
			must(t, err)
			return list
		}
		first, rest, none := claim("all", noon, 1), claim("all", noon, 10), claim("all", noon, 10)
		fault := claim("faults", noon, 10)
		if len(first) != 1 || len(rest) != 1 || len(none) != 0 || len(fault) != 1 || len(claim("off", noon, 10)) != 0 {
			t.Fatalf("claimed %d, %d, %d and %d, want 1, 1, 0 and 1", len(first), len(rest), len(none), len(fault))
		}
		if w := first[0]; w.ID() != "all-1" || w.What.Type != "order.paid" || w.Attempts != 0 {
			t.Errorf("the first is %+v", w)
		}
		d := first[0].Delivery
		d.Status, d.Error = 500, "no"
		must(t, b.Delivered(ctx, d, noon+1, false, noon+5))
		must(t, b.Delivered(ctx, fault[0].Delivery, noon+1, false, 0))
		again := claim("all", noon+5, 10)
		if len(again) != 1 || again[0].Attempts != 1 || again[0].Error != "no" {
			t.Errorf("again: %+v", again)
		}
		// What was claimed and not tried comes again, and nothing was attempted.
		if late := claim("all", noon+step.Minute, 10); len(late) != 2 || late[0].Attempts != 1 || late[1].Attempts != 0 {
			t.Errorf("when the claims have ended: %+v", late)
		}
		must(t, b.Delivered(ctx, rest[0].Delivery, noon+1, true, 0))
		if list := claim("faults", noon+step.Day, 10); len(list) != 0 {
			t.Errorf("what has failed is claimed: %+v", list)
		}
		must(t, b.Redeliver(ctx, "faults", fault[0].Event, noon+9))
		if once := claim("faults", noon+9, 10); len(once) != 1 || once[0].ID() != fault[0].ID() {
			t.Errorf("redelivered: %+v", once)
		}
		if err := b.Redeliver(ctx, "all", 99, noon); !errors.Is(err, books.ErrUnknown) {
			t.Errorf("an unknown delivery: %v", err)
		}
		must(t, b.DropEndpoint(ctx, "all"))
		if list, _ := b.Deliveries(ctx, "all", 0, 10); len(list) != 0 {
			t.Errorf("%d deliveries of an endpoint that is gone", len(list))
		}
		var err error
		for n := range books.MaxEndpoints {
			err = b.PutEndpoint(ctx, books.Endpoint{ID: fmt.Sprint(n)})
		}
		if !errors.Is(err, books.ErrTooMany) {
			t.Errorf("one endpoint too many: %v", err)
		}
		if all, _ := b.Endpoints(ctx); len(all) != books.MaxEndpoints {
			t.Errorf("%d endpoints", len(all))
		}
	})
}

func TestTwoGatewaysNeverClaimTheSameDelivery(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, uri string) {
		two, j := []*books.Books{open(t, uri, "a"), open(t, uri, "b")}, &tape{}
		must(t, two[0].PutEndpoint(ctx, books.Endpoint{ID: "all", URL: "https://a"}))
		var many []journal.Event
		for n := range 60 {
			many = append(many, j.order(noon, sale(n, "paid")))
		}
		apply(t, two[0], many...)
		var mu sync.Mutex
		claimed := map[string]int{}
		var all sync.WaitGroup
		for g := range 4 {
			all.Go(func() {
				for range 12 {
					list, err := two[g%2].Claim(ctx, "all", noon, noon+step.Minute, 5)
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					for _, d := range list {
						claimed[d.ID()]++
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
		for d, times := range claimed {
			if times != 1 {
				t.Errorf("%s was claimed %d times", d, times)
			}
		}
		if len(claimed) != 60 {
			t.Errorf("%d of 60 were claimed", len(claimed))
		}
	})
}

func TestAnIdempotencyKeyAnswersOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, uri string) {
		b := open(t, uri, "gate")
		begin := func(request string, at step.Time) (*books.Answer, error) { return b.Begin(ctx, "k", request, at) }
		if a, err := begin("pay 5", noon); a != nil || err != nil {
			t.Fatalf("the first: %v, %v", a, err)
		}
		if _, err := begin("pay 5", noon); !errors.Is(err, books.ErrUnderWay) {
			t.Errorf("while it is under way: %v", err)
		}
		must(t, b.Abandon(ctx, "k"))
		if a, err := begin("pay 5", noon); a != nil || err != nil {
			t.Errorf("after nothing was done: %v, %v", a, err)
		}
		must(t, b.Answer(ctx, "k", books.Answer{Status: 201, Type: "application/json", Body: "{}"}))
		must(t, b.Abandon(ctx, "k")) // too late
		if a, err := begin("pay 5", noon+1); err != nil || a == nil || a.Status != 201 || a.Body != "{}" {
			t.Errorf("the replay: %+v, %v", a, err)
		}
		if _, err := begin("pay 6", noon+1); !errors.Is(err, books.ErrKeyReused) {
			t.Errorf("another request: %v", err)
		}
		if a, err := begin("pay 6", noon+books.KeepAnswers); a != nil || err != nil {
			t.Errorf("a day later: %v, %v", a, err)
		}
	})
}

func TestOneOfTenRequestsWithOneKeyGoesOn(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, uri string) {
		b := open(t, uri, "gate")
		var mu sync.Mutex
		var all sync.WaitGroup
		on := 0
		for range 10 {
			all.Go(func() {
				_, err := b.Begin(ctx, "k", "r", noon)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					on++
				} else if !errors.Is(err, books.ErrUnderWay) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if on != 1 {
			t.Errorf("%d went on", on)
		}
	})
}

func TestDevicesAreShared(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, uri string) {
		a, b := open(t, uri, "a"), open(t, uri, "b")
		v, err := a.PutDevice(ctx, "pump", `{"v":1}`, 0, noon)
		must(t, err)
		if _, err := b.PutDevice(ctx, "pump", `{}`, 0, noon); !errors.Is(err, books.ErrChanged) {
			t.Errorf("added twice: %v", err)
		}
		_, err = b.PutDevice(ctx, "lamp", `{}`, 0, noon)
		must(t, err)
		seen, err := a.Devices(ctx, 0)
		if err != nil || len(seen) != 2 {
			t.Fatalf("%+v, %v", seen, err)
		}
		v2, err := b.PutDevice(ctx, "pump", `{"v":2}`, v, noon)
		must(t, err)
		if _, err := a.PutDevice(ctx, "pump", `{"v":3}`, v, noon); !errors.Is(err, books.ErrChanged) {
			t.Errorf("an old version was written over: %v", err)
		}
		news, err := a.Devices(ctx, seen[1].Change)
		if err != nil || len(news) != 1 || news[0].Data != `{"v":2}` || news[0].Version != v2 || news[0].Gateway != "b" {
			t.Errorf("%+v, %v", news, err)
		}
	})
}

func TestTheExportIsForSpreadsheetsAndSafe(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, uri string) {
		b, j := open(t, uri, "gate"), &tape{}
		evil := sale(700, "paid")
		evil.Buyer, evil.Rate = `=HYPERLINK("http://evil","x")`, offer.Rate{}
		apply(t, b, j.order(noon+1, evil))
		var many []journal.Event // more than a page
		for n := range 600 {
			many = append(many, j.order(noon+2, sale(n, "settled")))
		}
		apply(t, b, many...)
		var out bytes.Buffer
		must(t, b.Export(ctx, books.Filter{}, &out, "csv"))
		lines, err := csv.NewReader(&out).ReadAll()
		must(t, err)
		if len(lines) != 602 || fmt.Sprint(lines[0]) != fmt.Sprint(books.Columns) {
			t.Fatalf("%d lines, %q", len(lines), lines[0])
		}
		const first = "2026-11-15T12:00:00.001Z,c00000000000000000000000000002bc,gate,water,2,paid,5000,5000,0,,,,,," +
			`'=HYPERLINK("http://evil","x"),pump,2026-11-15T12:00:00.001Z,false,false,,`
		if got := strings.Join(lines[1], ","); got != first {
			t.Errorf("got  %s\nwant %s", got, first)
		}
		if got := strings.Join(lines[2][9:14], " "); got != "EUR 60000.000000 kraken 2026-11-15T12:00:00.000Z 0.003000" {
			t.Errorf("the stamp is %s", got)
		}
		out.Reset()
		must(t, b.Export(ctx, books.Filter{State: "paid"}, &out, "json"))
		var objects []map[string]any
		if err := json.Unmarshal(out.Bytes(), &objects); err != nil || len(objects) != 1 || objects[0]["paid_msat"] != 5000.0 || objects[0]["buyer"] != evil.Buyer {
			t.Errorf("%v, %v", objects, err)
		}
		out.Reset()
		must(t, b.Export(ctx, books.Filter{State: "none"}, &out, "json"))
		if out.String() != "[]\n" {
			t.Errorf("nothing is %q", out.String())
		}
		if err := b.Export(ctx, books.Filter{}, &out, "pdf"); err == nil {
			t.Error("a PDF was written")
		}
	})
}

func TestAStatementAddsUpAMonthAtItsRates(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, uri string) {
		b, j := open(t, uri, "gate"), &tape{}
		dear, back, light, later, test := sale(2, "settled"), sale(3, "refunded"), sale(4, "paid"), sale(5, "paid"), sale(6, "paid")
		dear.Rate.Micro, dear.Rate.Source, dear.Rate.At = 90_000_000_000, "bitstamp", noon+9
		back.Back = 5000
		light.Item, light.Rate, test.Test = "light", offer.Rate{}, true
		apply(t, b, j.order(noon, sale(1, "paid")), j.order(noon, dear), j.order(noon, back), j.order(noon, light),
			j.order(noon+20*step.Day, later), j.order(noon, test))
		s, err := b.Statement(ctx, "2026-11", "pump", "")
		must(t, err)
		if len(s.Lines) != 2 || s.Orders != 4 || s.Earned != 15_000 || s.Refunded != 5000 || s.Failed != 1 || s.Fiat.Micro != 0 {
			t.Errorf("%+v", s)
		}
		w := s.Lines[1]
		if w.Service != "water" || w.Fiat.String() != "0.0075 EUR" || w.Low != 60_000_000_000 || w.High != 90_000_000_000 || w.Sources != 2 || w.Last != noon+9 || w.Units != 6 {
			t.Errorf("%+v", w)
		}
		if s, err := b.Statement(ctx, "2026-12", "", "http"); err != nil || s.Orders != 1 || s.Fiat.String() != "0.003 EUR" {
			t.Errorf("%+v, %v", s, err)
		}
		if s, err := b.Statement(ctx, "2027-01", "", ""); err != nil || len(s.Lines) != 0 {
			t.Errorf("%+v, %v", s, err)
		}
		for _, bad := range []string{"", "2026", "11/2026", "2026-13"} {
			if _, err := b.Statement(ctx, bad, "", ""); err == nil {
				t.Errorf("month %q was taken", bad)
			}
		}
	})
}
