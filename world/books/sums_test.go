package books_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"coinop.dev/core/journal"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/world/books"
)

// TestSumsAreThoseOfTheOrders applies random histories in random batches, with
// repeats, and holds all sums that were kept against those of the orders.
func TestSumsAreThoseOfTheOrders(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, uri string) {
		rng := rand.New(rand.NewPCG(5, 2))
		b := open(t, uri, "gate")
		begin := noon - noon%step.Day - 10*step.Day
		all := history(rng, &tape{}, begin, 60*step.Day, 600)
		for done := 0; done < len(all); {
			end := min(done+1+rng.IntN(90), len(all))
			apply(t, b, all[max(0, done-rng.IntN(5)):end]...)
			done = end
		}
		orders := allOrders(t, b)
		for _, month := range []string{"2026-10", "2026-11", "2026-12", "2027-01", "2027-02"} {
			for _, device := range []string{"", "pump", "lamp"} {
				s, err := b.Statement(ctx, month, device, "")
				must(t, err)
				if got, want := byLine(s.Lines), statement(orders, month, device); fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("%s %q:\n%v, want\n%v", month, device, got, want)
				}
			}
		}
		for range 60 {
			from := begin - 5*step.Day + step.Time(rng.IntN(60))*step.Day
			to := from + step.Time(rng.IntN(45))*step.Day
			list, err := b.ByDevice(ctx, from+step.Time(rng.IntN(int(step.Day))), to)
			must(t, err)
			for _, n := range list {
				if want := totals(orders, n.Name, from, to); n.Totals != want {
					t.Errorf("%s from %d for %d days: %+v, want %+v", n.Name, from, (to-from)/step.Day, n.Totals, want)
				}
			}
			devices := 0
			for _, name := range []string{"pump", "lamp"} {
				if totals(orders, name, from, to).Orders > 0 {
					devices++
				}
			}
			if len(list) != devices {
				t.Errorf("from %d for %d days: %d devices, want %d", from, (to-from)/step.Day, len(list), devices)
			}
		}
		var sum books.Totals
		points, err := b.Totals(ctx, begin, begin+60*step.Day, step.Day)
		must(t, err)
		for _, p := range points {
			sum.Orders, sum.Earned, sum.Refunded, sum.Failed = sum.Orders+p.Orders, sum.Earned+p.Earned, sum.Refunded+p.Refunded, sum.Failed+p.Failed
		}
		if want := totals(orders, "", begin, begin+60*step.Day); sum != want {
			t.Errorf("in all %+v, want %+v", sum, want)
		}
	})
}

// history is what becomes of orders within a time, at random: an order keeps what it
// was quoted at, and goes from any state to any other.
func history(rng *rand.Rand, j *tape, begin, within step.Time, events int) (all []journal.Event) {
	states := []string{"held", "paid", "delivered", "settled", "failed", "refunded", "expired"}
	for range events {
		n := rng.IntN(events / 4)
		o := sale(n, states[rng.IntN(len(states))])
		o.Item, o.Device = []string{"water", "light", "wash"}[n%3], []string{"pump", "lamp", ""}[n/3%3]
		o.Rate = offer.Rate{Currency: []string{"EUR", "CZK"}[n/5%2], Micro: 60_000_000_000 + uint64(n)*1_000_003, Source: []string{"kraken", "coinbase"}[n/7%2], At: begin + step.Time(n)}
		if n%11 == 0 {
			o.Rate = offer.Rate{}
		}
		o.Units, o.Test = uint64(n%9), n%10 == 0
		o.Paid = money.Amount(rng.IntN(9000))
		if o.State == "refunded" {
			o.Back = o.Paid
		}
		all = append(all, j.order(begin+step.Time(rng.Int64N(int64(within))), o))
	}
	return all
}

func allOrders(t *testing.T, b *books.Books) (all []books.Order) {
	t.Helper()
	f := books.Filter{Limit: 40}
	for {
		page, next, err := b.Orders(ctx, f)
		must(t, err)
		all = append(all, page...)
		if f.Cursor = next; next == "" {
			return all
		}
	}
}

// totals are what the sums of orders have to be.
func totals(orders []books.Order, device string, from, to step.Time) (sum books.Totals) {
	for _, o := range orders {
		if o.Test || device != "" && o.Device != device || o.First < from || o.First >= to {
			continue
		}
		kept, failed := outcome(o)
		sum.Orders++
		sum.Earned += kept
		sum.Refunded += o.Back
		sum.Failed += failed
	}
	return sum
}

func outcome(o books.Order) (kept money.Amount, failed int64) {
	switch o.State {
	case "paid", "delivered", "settled":
		return o.Paid, 0
	case "failed", "refunded", "expired":
		return 0, 1
	}
	return 0, 0
}

// statement is what the lines of a statement have to be.
func statement(orders []books.Order, month, device string) map[string]books.Line {
	lines, sources := map[string]books.Line{}, map[string]map[string]bool{}
	for _, o := range orders {
		if o.Test || device != "" && o.Device != device || time.UnixMilli(int64(o.First)).UTC().Format("2006-01") != month {
			continue
		}
		key := o.Item + " " + o.Rate.Currency
		l, known := lines[key]
		if !known {
			l = books.Line{Service: o.Item, Fiat: offer.Fiat{Currency: o.Rate.Currency}, Low: o.Rate.Micro, First: o.Rate.At, Source: o.Rate.Source}
			sources[key] = map[string]bool{}
		}
		kept, failed := outcome(o)
		l.Orders++
		l.Failed += failed
		l.Units += o.Units
		l.Earned += kept
		l.Refunded += o.Back
		l.Fiat.Micro += o.Fiat.Micro
		l.Low, l.High = min(l.Low, o.Rate.Micro), max(l.High, o.Rate.Micro)
		l.First, l.Last = min(l.First, o.Rate.At), max(l.Last, o.Rate.At)
		l.Source = min(l.Source, o.Rate.Source)
		if sources[key][o.Rate.Source] = true; o.Rate.Currency != "" {
			l.Sources = int64(len(sources[key]))
		}
		lines[key] = l
	}
	return lines
}

func byLine(lines []books.Line) map[string]books.Line {
	all := map[string]books.Line{}
	for _, l := range lines {
		all[l.Service+" "+l.Fiat.Currency] = l
	}
	return all
}
