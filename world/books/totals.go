package books

import (
	"context"
	"database/sql"
	"fmt"

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

// A sum is a row of hours or days.
type sum struct {
	table string
	at    step.Time
	name  string // the service, or the device
}

// tally collects what a batch changes in the sums.
type tally map[sum]*share

func (t tally) add(at step.Time, service, device string, s share, sign int64) {
	t.one(sum{"hours", at - at%step.Hour, text(service)}, s, sign)
	if device != "" {
		t.one(sum{"days", at - at%step.Day, text(device)}, s, sign)
	}
}

func (t tally) one(key sum, s share, sign int64) {
	if t[key] == nil {
		t[key] = &share{}
	}
	t[key].add(s, sign)
}

// write adds the tally to the sums.
func (t tally) write(c change, gateway string) error {
	rows := map[string][][]any{}
	for key, s := range t {
		if *s == (share{}) {
			continue
		}
		row := []any{int64(key.at), key.name, gateway}
		for _, n := range s {
			row = append(row, n)
		}
		rows[key.table] = append(rows[key.table], row)
	}
	for _, table := range []string{"hours", "days"} {
		err := c.insert("INSERT INTO "+table+" (at_ms, name, gateway, "+totalColumns+") VALUES",
			"ON CONFLICT (at_ms, name, gateway) DO UPDATE SET orders = "+table+".orders + excluded.orders, "+
				"earned_msat = "+table+".earned_msat + excluded.earned_msat, refunded_msat = "+table+".refunded_msat + excluded.refunded_msat, "+
				"failed = "+table+".failed + excluded.failed, payments = "+table+".payments + excluded.payments, "+
				"spent_msat = "+table+".spent_msat + excluded.spent_msat, fees_msat = "+table+".fees_msat + excluded.fees_msat", rows[table])
		if err != nil {
			return err
		}
	}
	return nil
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
	return b.by(ctx, "hours", from, to)
}

// ByDevice are the totals of each device of the fleet over whole days, UTC.
func (b *Books) ByDevice(ctx context.Context, from, to step.Time) ([]Named, error) {
	return b.by(ctx, "days", from-from%step.Day, to)
}

func (b *Books) by(ctx context.Context, table string, from, to step.Time) (list []Named, err error) {
	err = b.rows(ctx, "SELECT name, "+sums+" FROM "+table+" WHERE at_ms >= ? AND at_ms < ? GROUP BY name ORDER BY 3 DESC, 1 LIMIT ?",
		[]any{int64(from), int64(to), MaxPage}, func(r *sql.Rows) error {
			var n Named
			err := r.Scan(append([]any{&n.Name}, n.into()...)...)
			list = append(list, n)
			return err
		})
	return list, err
}
