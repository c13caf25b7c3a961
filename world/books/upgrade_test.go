package books

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"coinop.dev/core/earn"
	"coinop.dev/core/journal"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/world/store/postgres/pgtest"
)

// backToVersion1 undoes migrations/0002.sql.
const backToVersion1 = `CREATE TABLE days (
	at_ms BIGINT NOT NULL, name TEXT NOT NULL, gateway TEXT NOT NULL,
	orders BIGINT NOT NULL, earned_msat BIGINT NOT NULL, refunded_msat BIGINT NOT NULL, failed BIGINT NOT NULL,
	payments BIGINT NOT NULL, spent_msat BIGINT NOT NULL, fees_msat BIGINT NOT NULL,
	PRIMARY KEY (at_ms, name, gateway)
);
INSERT INTO days SELECT at_ms, name, gateway, ` + totalColumns + ` FROM runs WHERE days = 1;
DROP TABLE runs; DROP TABLE months; DROP INDEX events_about; DROP INDEX deliveries_due;
CREATE INDEX deliveries_due ON deliveries (state, next_ms);
DELETE FROM books_version WHERE version = 2`

// TestOldOrdersAreInTheNewSums holds the sums that the migration makes of orders
// against those that were kept with them, over twenty years of months.
func TestOldOrdersAreInTheNewSums(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, uri := range []string{"sqlite://" + filepath.Join(t.TempDir(), "books.db"), pgtest.Start(t)} {
		b, err := Open(ctx, uri, "gate")
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, 2))
		var events []journal.Event
		for n := range uint64(900) {
			o := earn.Order{ID: money.OrderID{1, byte(n / 2), byte(n / 2 >> 8)}, State: []string{"paid", "settled", "failed", "refunded"}[rng.IntN(4)],
				Paid: money.Amount(rng.IntN(1000)), Units: n % 5, Item: fmt.Sprint("s", n/2%3), Device: []string{"", "a", "b"}[n/2%3], Test: n/2%50 == 0,
				Rate: offer.Rate{Currency: []string{"EUR", ""}[n/2%2], Micro: 1e10 + n/2, Source: "kraken", At: step.Time(n / 2)}}
			data, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			at := 1_577_836_800_000 + step.Time(rng.Int64N(int64(20*365*step.Day))) // from 2020
			if n%10 < 2 {
				at = monthOf(at) - step.Time(n%10) // its first millisecond, or the one before
			}
			events = append(events, journal.Event{N: n + 1, At: at, Type: "order." + o.State, Data: data})
		}
		if _, err := b.Apply(ctx, events); err != nil {
			t.Fatal(err)
		}
		kept := append(dump(t, b, "months", 16), dump(t, b, "runs", 11)...)
		if _, err := b.write.Exec(backToVersion1); err != nil {
			t.Fatal(err)
		}
		b.Close()
		if b, err = Open(ctx, uri, "gate"); err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		made := append(dump(t, b, "months", 16), dump(t, b, "runs", 11)...)
		if len(made) < 500 || !slices.Equal(made, kept) {
			t.Errorf("%d rows were kept and %d are made", len(kept), len(made))
			for i := range min(len(kept), len(made)) {
				if kept[i] != made[i] {
					t.Fatalf("kept %s\nmade %s", kept[i], made[i])
				}
			}
		}
	}
}

// dump is a table as lines, sorted.
func dump(t *testing.T, b *Books, table string, columns int) (lines []string) {
	t.Helper()
	err := b.rows(context.Background(), "SELECT * FROM "+table, nil, func(r *sql.Rows) error {
		row := make([]any, columns)
		into := make([]any, columns)
		for i := range row {
			into[i] = &row[i]
		}
		err := r.Scan(into...)
		lines = append(lines, fmt.Sprint(row...))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}
