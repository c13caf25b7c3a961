package books

import (
	"context"
	"path/filepath"
	"testing"

	"coinop.dev/core/journal"
	"coinop.dev/core/step"
)

// FuzzAnEventNeverStopsTheBooks files whatever a core may have noted of what a
// buyer or a device said, and the books go on.
func FuzzAnEventNeverStopsTheBooks(f *testing.F) {
	f.Add(int64(1), "order.paid", "s", []byte(`{"order":"c0000000000000000000000000000001","state":"paid","paid_msat":5,"rate":{"currency":"EUR","btc_micro":1}}`))
	f.Add(int64(-1), "payment.settled", "\x00", []byte(`{"order":"c0000000000000000000000000000001","amount_msat":5,"device":"\u0000"}`))
	f.Add(int64(1<<62), "test.fired", "", []byte(`{"order":"c0000000000000000000000000000001","state":"settled","units":18446744073709551615,"x":[1]}`))
	ctx := context.Background()
	b, err := Open(ctx, "sqlite://"+filepath.Join(f.TempDir(), "books.db"), "gate")
	if err != nil {
		f.Fatal(err)
	}
	defer b.Close()
	if err := b.PutEndpoint(ctx, Endpoint{ID: "all"}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, at int64, kind, subject string, data []byte) {
		n, err := b.Cursor(ctx)
		if err != nil {
			t.Fatal(err)
		}
		e := journal.Event{N: n + 1, At: step.Time(at), Type: kind, Subject: subject, Data: data}
		if upTo, err := b.Apply(ctx, []journal.Event{e}); err != nil || upTo != n+1 {
			t.Fatalf("%+v: up to %d, %v", e, upTo, err)
		}
		if o, ok := readOrder("gate", e); ok {
			if _, err := b.Order(ctx, o.ID); err != nil {
				t.Fatalf("%+v cannot be read back: %v", o, err)
			}
		}
		if p, ok := readPayment("gate", e); ok && p.State == "" {
			t.Errorf("%+v has no state", p)
		}
	})
}

// FuzzCursor reads cursors that strangers write.
func FuzzCursor(f *testing.F) {
	f.Add("mof8xy5c-c0000000000000000000000000000001")
	f.Add("-")
	f.Fuzz(func(t *testing.T, s string) {
		ms, id, ok := readCursor(s)
		if !ok {
			return
		}
		o := Order{First: step.Time(ms)}
		if err := o.ID.UnmarshalText([]byte(id)); err != nil {
			t.Fatal(err)
		}
		if again, _, ok := readCursor(cursor(o)); !ok || again != ms {
			t.Errorf("%q is %d, and written and read %d", s, ms, again)
		}
	})
}
