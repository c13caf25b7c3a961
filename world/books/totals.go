package books

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// Totals are sums over orders and payments. What is sold counts when it was paid,
// and moves from earned to refunded when the money goes back. Tests do not count.
type Totals struct {
	Orders   int64        `json:"orders"`
	Earned   money.Amount `json:"earned_msat"`
	Refunded money.Amount `json:"refunded_msat"`
	Failed   int64        `json:"failed"` // orders that were not delivered
	Payments int64        `json:"payments"`
	Spent    money.Amount `json:"spent_msat"`
	Fees     money.Amount `json:"fees_msat"`
}

const totalColumns = "orders, earned_msat, refunded_msat, failed, payments, spent_msat, fees_msat"

// sums reads totalColumns of many rows as one.
const sums = "CAST(SUM(orders) AS BIGINT), CAST(SUM(earned_msat) AS BIGINT), CAST(SUM(refunded_msat) AS BIGINT), CAST(SUM(failed) AS BIGINT), " +
	"CAST(SUM(payments) AS BIGINT), CAST(SUM(spent_msat) AS BIGINT), CAST(SUM(fees_msat) AS BIGINT)"

func (t *Totals) into() []any {
	return []any{&t.Orders, &t.Earned, &t.Refunded, &t.Failed, &t.Payments, &t.Spent, &t.Fees}
}

// A share is what one order or payment adds to the sums; less than nothing where
// it takes back what it added before.
type share [7]int64

func (s *share) add(more share, sign int64) {
	for i := range s {
		s[i] += sign * more[i]
	}
}

// kept is what of an order's money is the seller's.
func (o *Order) kept() money.Amount {
	switch o.State {
	case "paid", "delivered", "settled":
		return o.Paid - min(o.Paid, o.Back)
	}
	return 0
}

func (o *Order) share() (s share) {
	if o.Test {
		return s
	}
	s[0], s[1], s[2] = 1, number(o.kept()), number(o.Back)
	switch o.State {
	case "failed", "refunded", "expired":
		s[3] = 1
	}
	return s
}

// A sum is a row of hours, which are by service, or of runs, which are by device.
type sum struct {
	run  int64 // how many days of a device, one of runs; 0 is an hour of a service
	at   step.Time
	name string
}

// runs are over how many days the sums of devices are kept, each a multiple of the
// one before. A month of ten thousand devices is then some 50,000 rows to add up and
// not 300,000.
var runs = [...]int64{1, 2, 4, 8, 16}

// tally collects what a batch changes in the sums.
type tally struct {
	sums   map[sum]*share
	months map[month]*sold
}

func newTally() tally { return tally{map[sum]*share{}, map[month]*sold{}} }

// order adds an order to the sums, or takes it back if sign is -1.
func (t tally) order(o *Order, sign int64) {
	t.add(o.First, o.Item, o.Device, o.share(), sign)
	t.month(o, sign)
}

func (t tally) add(at step.Time, service, device string, s share, sign int64) {
	t.one(sum{0, at - at%step.Hour, text(service)}, s, sign)
	if device == "" {
		return
	}
	for _, days := range runs {
		t.one(sum{days, at - at%(step.Time(days)*step.Day), text(device)}, s, sign)
	}
}

func (t tally) one(key sum, s share, sign int64) {
	if t.sums[key] == nil {
		t.sums[key] = &share{}
	}
	t.sums[key].add(s, sign)
}

// write adds the tally to the sums.
func (t tally) write(c change, gateway string) error {
	var hours, longer [][]any
	for key, s := range t.sums {
		if *s == (share{}) {
			continue
		}
		row := []any{int64(key.at), key.name, gateway}
		for _, n := range s {
			row = append(row, n)
		}
		if key.run == 0 {
			hours = append(hours, row)
		} else {
			longer = append(longer, append([]any{key.run}, row...))
		}
	}
	return errors.Join(
		c.insert("INSERT INTO hours (at_ms, name, gateway, "+totalColumns+") VALUES",
			"ON CONFLICT (at_ms, name, gateway) DO UPDATE SET "+added("hours", totalColumns), hours),
		c.insert("INSERT INTO runs (days, at_ms, name, gateway, "+totalColumns+") VALUES",
			"ON CONFLICT (days, at_ms, name, gateway) DO UPDATE SET "+added("runs", totalColumns), longer),
		t.writeMonths(c, gateway))
}

// added adds what was to be inserted to the columns of the row that is there.
func added(table, columns string) string {
	var all []string
	for name := range strings.SplitSeq(columns, ", ") {
		all = append(all, name+" = "+table+"."+name+" + excluded."+name)
	}
	return strings.Join(all, ", ")
}

// A Point is the totals of one hour or day.
type Point struct {
	At step.Time `json:"at_ms"` // its beginning, UTC
	Totals
}

// MaxPoints bounds what Totals returns: a year of hours.
const MaxPoints = 366 * 24

// Totals are those of all gateways from from up to to, by step.Hour or step.Day.
// Hours and days in which nothing happened are left out.
func (b *Books) Totals(ctx context.Context, from, to, bucket step.Time) (points []Point, err error) {
	if bucket != step.Hour && bucket != step.Day {
		return nil, fmt.Errorf("totals are by hour or by day, and not by %d ms", int64(bucket))
	}
	if to < from || int64((to-from)/bucket) > MaxPoints {
		return nil, fmt.Errorf("totals of %d points were asked for; the limit is %d, ask for less time or by day", int64((to-from)/bucket), MaxPoints)
	}
	err = b.rows(ctx, "SELECT at_ms - at_ms % ?, "+sums+" FROM hours WHERE at_ms >= ? AND at_ms < ? GROUP BY 1 ORDER BY 1",
		[]any{int64(bucket), int64(from - from%bucket), int64(to)}, func(r *sql.Rows) error {
			var p Point
			err := r.Scan(append([]any{&p.At}, p.into()...)...)
			points = append(points, p)
			return err
		})
	return points, err
}

// Named are the totals of a service or a device.
type Named struct {
	Name string `json:"name"`
	Totals
}

// ByService are the totals of each service, those that earn most first.
func (b *Books) ByService(ctx context.Context, from, to step.Time) ([]Named, error) {
	return b.by(ctx, "hours WHERE at_ms >= ? AND at_ms < ?", []any{int64(from), int64(to)})
}

// ByDevice are the totals of each device of the fleet over whole days, UTC, those
// that earn most first.
func (b *Books) ByDevice(ctx context.Context, from, to step.Time) ([]Named, error) {
	from -= from % step.Day
	to += (step.Day - to%step.Day) % step.Day
	// Beyond the newest day there is nothing, so a run may as well go on.
	var newest step.Time
	if _, err := b.one(ctx, "SELECT COALESCE(MAX(at_ms), 0) FROM runs WHERE days = 1", nil, &newest); err != nil {
		return nil, err
	}
	if longest := step.Time(runs[len(runs)-1]) * step.Day; to > newest {
		to = max(to, newest-newest%longest+longest)
	}
	var parts []string
	var args []any
	for _, c := range cover(from, to, runs[:]) {
		parts = append(parts, "SELECT name, "+totalColumns+" FROM runs WHERE days = ? AND at_ms >= ? AND at_ms < ?")
		args = append(args, c.days, int64(c.from), int64(c.to))
	}
	if len(parts) == 0 {
		return nil, nil
	}
	return b.by(ctx, "("+strings.Join(parts, " UNION ALL ")+") AS parts", args)
}

// A stretch is all runs of so many days that begin from from up to to.
type stretch struct {
	days     int64
	from, to step.Time
}

// cover are the stretches that make up the time from from up to to, which begin
// and end with a day: long runs in the middle and short ones at the ends.
func cover(from, to step.Time, lengths []int64) (list []stretch) {
	if from >= to {
		return nil
	}
	if len(lengths) > 1 {
		longer := step.Time(lengths[1]) * step.Day
		first, last := from+(longer-from%longer)%longer, to-to%longer
		if first < last {
			list = append(list, cover(from, first, lengths[:1])...)
			list = append(list, cover(first, last, lengths[1:])...)
			return append(list, cover(last, to, lengths[:1])...)
		}
	}
	return []stretch{{lengths[0], from, to}}
}

func (b *Books) by(ctx context.Context, rows string, args []any) (list []Named, err error) {
	err = b.rows(ctx, "SELECT name, "+sums+" FROM "+rows+" GROUP BY name ORDER BY 3 DESC, 1 LIMIT ?", append(args, MaxPage), func(r *sql.Rows) error {
		var n Named
		err := r.Scan(append([]any{&n.Name}, n.into()...)...)
		list = append(list, n)
		return err
	})
	return list, err
}
