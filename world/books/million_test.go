package books

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"coinop.dev/core/earn"
	"coinop.dev/core/journal"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/world/store/postgres/pgtest"
)

// begun is 2026-08-17; a million orders are spread over 90 days from there.
const begun = step.Time(1_786_924_800_000)

// fill writes a million orders of 20 services, 10,000 devices and 5,000 buyers, and
// their sums, in SQL, as version 1 had them.
func fill(b *testing.B, books *Books) {
	for _, statement := range []string{
		backToVersion1,
		`WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < 999999)
		INSERT INTO orders (` + orderColumns + `)
		SELECT lower(hex(randomblob(16))), 'gate', 1786924800000 + n * 7776, 1786924800000 + n * 7776 + 900,
			CASE WHEN n % 1000 = 7 THEN 'paid' WHEN n % 100 = 3 THEN 'failed' WHEN n % 100 = 4 THEN 'refunded' WHEN n % 20 = 9 THEN 'delivered' ELSE 'settled' END,
			'service' || (n * 7 % 20), 1 + n % 9, 5000, 5000, CASE WHEN n % 100 = 4 THEN 5000 ELSE 0 END,
			'EUR', 60000000000 + n % 1000 * 1000000, 'kraken', 1786924800000 + n * 7776, CASE WHEN n % 100 = 4 THEN 0 ELSE 3000 END,
			'mqtt/buyer' || (n * 13 % 5000), 'device' || (n * 31 % 10000), 0, 0, '', '', 0, '{"ack":"YWNrbm93bGVkZ2VtZW50IG9mIHNpeHR5IGJ5dGVzLCBzaWduZWQ="}' FROM c`,
		`INSERT INTO hours (at_ms, name, gateway, ` + totalColumns + `)
		SELECT first_ms - first_ms % 3600000, service, gateway, COUNT(*), SUM(paid_msat - back_msat), SUM(back_msat), 0, 0, 0, 0 FROM orders GROUP BY 1, 2, 3`,
		`INSERT INTO days (at_ms, name, gateway, ` + totalColumns + `)
		SELECT first_ms - first_ms % 86400000, device, gateway, COUNT(*), SUM(paid_msat - back_msat), SUM(back_msat), 0, 0, 0, 0 FROM orders GROUP BY 1, 2, 3`,
	} {
		if _, err := books.write.Exec(statement); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMillion prints what questions cost with a million orders in SQLite,
// in ms: the middle one of five.
func BenchmarkMillion(b *testing.B) {
	ctx := context.Background()
	path := filepath.Join(b.TempDir(), "books.db")
	books, err := Open(ctx, "sqlite://"+path, "gate")
	if err != nil {
		b.Fatal(err)
	}
	fill(b, books)
	books.Close()

	took := func(name string, ask func() error) float64 {
		times := make([]time.Duration, 5)
		for i := range times {
			began := time.Now()
			if err := ask(); err != nil {
				b.Fatal(name, err)
			}
			times[i] = time.Since(began)
		}
		slices.Sort(times)
		return float64(times[len(times)/2].Microseconds()) / 1000
	}
	measure := func(name string, ask func() error) { b.ReportMetric(took(name, ask), name+"-ms") }
	began := time.Now()
	if books, err = Open(ctx, "sqlite://"+path, "gate"); err != nil {
		b.Fatal(err)
	}
	books.Close()
	b.ReportMetric(time.Since(began).Seconds(), "migrate-s")
	if info, err := os.Stat(path); err == nil {
		b.ReportMetric(float64(info.Size())/(1<<20), "MiB")
	}
	measure("open", func() error {
		if books, err = Open(ctx, "sqlite://"+path, "gate"); err != nil {
			return err
		}
		return books.Close()
	})
	if books, err = Open(ctx, "sqlite://"+path, "gate"); err != nil {
		b.Fatal(err)
	}
	defer books.Close()
	page, next, err := books.Orders(ctx, Filter{})
	if err != nil || len(page) != 50 {
		b.Fatal(len(page), err)
	}
	now := begun + 90*step.Day
	for name, f := range map[string]Filter{
		"newest": {}, "second": {Cursor: next}, "service": {Service: "service3"}, "device": {Device: "device77"}, "buyer": {Buyer: "mqtt/buyer9"},
		"state": {State: "paid"}, "device+state": {Device: "device77", State: "failed"}, "service+state": {Service: "service1", State: "failed"},
		"nothing": {Service: "service1", State: "paid", Device: "device2"}, "old": {From: begun + 3*step.Day, To: begun + 4*step.Day, State: "settled"},
	} {
		measure("page:"+name, func() error { _, _, err := books.Orders(ctx, f); return err })
	}
	measure("one", func() error { _, err := books.Order(ctx, page[7].ID); return err })
	measure("30d-by-day", func() error { _, err := books.Totals(ctx, now-30*step.Day, now, step.Day); return err })
	measure("30d-by-hour", func() error { _, err := books.Totals(ctx, now-30*step.Day, now, step.Hour); return err })
	measure("30d-services", func() error { _, err := books.ByService(ctx, now-30*step.Day, now); return err })
	thirty := func(until step.Time) float64 {
		return took("30d-devices", func() error {
			list, err := books.ByDevice(ctx, until-30*step.Day, until)
			if err == nil && len(list) != MaxPage {
				err = fmt.Errorf("%d devices", len(list))
			}
			return err
		})
	}
	b.ReportMetric(thirty(now), "30d-devices-ms")
	worst := 0.0 // however they lie over the runs
	for back := range step.Time(32) {
		worst = max(worst, thirty(now-back*step.Day))
	}
	b.ReportMetric(worst, "30d-devices-worst-ms")
	measure("statement-device", func() error { _, err := books.Statement(ctx, "2026-10", "device77", ""); return err })
	measure("90d-devices", func() error { _, err := books.ByDevice(ctx, now-90*step.Day, now); return err })
	measure("statement-buyer", func() error { _, err := books.Statement(ctx, "2026-10", "", "mqtt/buyer9"); return err })
	measure("events-of", func() error { _, err := books.EventsOf(ctx, page[7].ID.String(), 50); return err })
	measure("statement-all", func() error { _, err := books.Statement(ctx, "2026-10", "", ""); return err })
	measure("export-10000", func() error {
		return books.Export(ctx, Filter{From: begun, To: begun + 10_000*7776}, io.Discard, "csv")
	})
	benchmarkApply(b, ctx, books, now)
}

// BenchmarkPostgres prints what PostgreSQL on the same machine takes.
func BenchmarkPostgres(b *testing.B) {
	ctx := context.Background()
	books, err := Open(ctx, pgtest.Start(b), "gate")
	if err != nil {
		b.Fatal(err)
	}
	defer books.Close()
	benchmarkApply(b, ctx, books, begun)
	const leases = 300
	began := time.Now()
	for range leases {
		if granted, err := books.Lease(ctx, "pump", begun, 1e9, 5, "gate"); granted != 5 || err != nil {
			b.Fatal(granted, err)
		}
	}
	b.ReportMetric(leases/time.Since(began).Seconds(), "leases/s")
}

// benchmarkApply files orders, each paid and then settled, as a busy machine's
// books do, and reports events per second.
func benchmarkApply(b *testing.B, ctx context.Context, books *Books, now step.Time) {
	n := uint64(0)
	for _, batch := range []int{1, 64, MaxBatch} {
		rounds := max(20, 200/batch)
		began := time.Now()
		for range rounds {
			events := make([]journal.Event, batch)
			for i := range events {
				n++
				o := earn.Order{State: "paid", Due: 5000, Paid: 5000, Item: "service3", Units: 2, Buyer: "mqtt/buyer9", Device: "device77", At: now, Ack: make([]byte, 60),
					Rate: offer.Rate{Currency: "EUR", Micro: 60_000_000_000, Source: "kraken", At: now}}
				o.ID = money.OrderID{1, byte(n * 97 >> 16), byte(n * 97 >> 8), byte(n * 97), byte(n / 2 >> 16), byte(n / 2 >> 8), byte(n / 2)}
				o.ID[1], o.ID[2], o.ID[3] = byte(n/2*40503>>8), byte(n/2*40503), byte(n/2>>3)
				if n%2 == 1 {
					o.State = "settled"
				}
				data, err := json.Marshal(o)
				if err != nil {
					b.Fatal(err)
				}
				events[i] = journal.Event{N: n, At: now, Type: "order." + o.State, Subject: o.ID.String(), Data: data}
			}
			if _, err := books.Apply(ctx, events); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(rounds*batch)/time.Since(began).Seconds(), map[int]string{1: "apply1", 64: "apply64", MaxBatch: "apply1024"}[batch]+"-events/s")
	}
}
