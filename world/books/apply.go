package books

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"coinop.dev/core/journal"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// MaxBatch bounds the events of one Apply.
const MaxBatch = 1024

// ErrOtherJournal means that these books follow another journal of that name.
var ErrOtherJournal = errors.New("these books follow another journal of the same gateway's name")

// Gap is the type of the event that the books write for themselves where a
// journal goes on later than they had it: they were away, or are an old copy.
const Gap = "books.gap"

// Apply files the gateway's events, oldest first, in one transaction: events,
// orders, sums, deliveries to make, and how far the books are. It returns that.
// Events that are filed already change nothing.
func (b *Books) Apply(ctx context.Context, events []journal.Event) (upTo uint64, err error) {
	if len(events) > MaxBatch {
		return 0, fmt.Errorf("books: %d events at once; the limit is %d", len(events), MaxBatch)
	}
	var seq uint64
	err = b.change(ctx, func(c change) error {
		a := apply{change: c, gateway: b.gateway, sums: newTally()}
		if err := a.begin(); err != nil {
			return err
		}
		err := a.file(events)
		upTo, seq = a.upTo, a.seq
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("books: apply %d events: %w", len(events), err)
	}
	b.heard(seq)
	return upTo, nil
}

// apply is one Apply under way.
type apply struct {
	change
	gateway   string
	upTo      uint64 // how far the books are in the journal
	seq       uint64 // number of the last event
	sums      tally
	endpoints []Endpoint
}

// begin takes the counter, which makes other gateways wait, and reads the rest.
func (a *apply) begin() error {
	if _, err := a.one("UPDATE counters SET value = value WHERE name = 'events' RETURNING value", nil, &a.seq); err != nil {
		return err
	}
	if _, err := a.one("SELECT n FROM cursors WHERE gateway = ?", []any{a.gateway}, &a.upTo); err != nil {
		return err
	}
	var err error
	a.endpoints, err = readEndpoints(a.rows)
	return err
}

func (a *apply) file(events []journal.Event) error {
	first := a.seq
	known := 0
	for known < len(events) && events[known].N <= a.upTo {
		known++
	}
	if known > 0 {
		if err := a.same(events[known-1]); err != nil {
			return err
		}
	}
	if events = events[known:]; len(events) == 0 {
		return nil
	}
	if next := events[0].N; a.upTo > 0 && next != a.upTo+1 {
		gap := journal.Event{N: next - 1, At: events[0].At, Type: Gap, Subject: a.gateway, Data: fmt.Appendf(nil, `{"from":%d,"to":%d}`, a.upTo+1, next-1)}
		events = slices.Insert(slices.Clone(events), 0, gap)
	}
	for _, write := range []func([]journal.Event) error{a.orders, a.payments, a.events} {
		if err := write(events); err != nil {
			return err
		}
	}
	if err := a.sums.write(a.change, a.gateway); err != nil {
		return err
	}
	a.upTo = events[len(events)-1].N
	if _, err := a.exec("INSERT INTO cursors (gateway, n) VALUES (?, ?) ON CONFLICT (gateway) DO UPDATE SET n = excluded.n", a.gateway, int64(a.upTo)); err != nil {
		return err
	}
	if _, err := a.exec("UPDATE counters SET value = ? WHERE name = 'events'", int64(a.seq)); err != nil {
		return err
	}
	return a.forget(first)
}

// same reports a journal that is not the one these books have followed: its
// event of a number that is known is another.
func (a *apply) same(e journal.Event) error {
	var at step.Time
	var kind, subject string
	found, err := a.one("SELECT at_ms, type, subject FROM events WHERE gateway = ? AND n = ? AND type <> '"+Gap+"'",
		[]any{a.gateway, int64(e.N)}, &at, &kind, &subject)
	if err != nil || !found || at == e.At && kind == text(e.Type) && subject == text(e.Subject) {
		return err
	}
	return fmt.Errorf("%w: event %d of %s is %s %s here and %s %.40s there; the machine's store is new or an old copy, give the gateway a new name",
		ErrOtherJournal, e.N, a.gateway, kind, subject, e.Type, e.Subject)
}

// orders brings the orders that events tell of up to date.
func (a *apply) orders(events []journal.Event) error {
	var told []Order
	var ids []any
	for _, e := range events {
		if o, ok := readOrder(a.gateway, e); ok {
			told, ids = append(told, o), append(ids, o.ID.String())
		}
	}
	now := map[money.OrderID]*Order{}
	err := a.in("SELECT "+orderColumns+" FROM orders WHERE gateway = ? AND id IN", ids, func(r *sql.Rows) error {
		o, err := scanOrder(r)
		now[o.ID] = &o
		return err
	})
	if err != nil {
		return err
	}
	for _, o := range told {
		if was := now[o.ID]; was != nil {
			a.sums.order(was, -1)
			o.First = was.First
		}
		a.sums.order(&o, 1)
		now[o.ID] = &o
	}
	var rows [][]any
	for _, o := range told {
		if last := now[o.ID]; last != nil {
			rows = append(rows, last.row())
			delete(now, o.ID)
		}
	}
	return a.insert("INSERT INTO orders ("+orderColumns+") VALUES", upsertOrder, rows)
}

// in asks for rows of the gateway with any of ids, 64 at a time.
func (a *apply) in(words string, ids []any, each func(*sql.Rows) error) error {
	const most = 64
	for part := range slices.Chunk(ids, most) {
		n := 1
		for n < len(part) {
			n *= 8 // so that there are few questions, and they can be kept
		}
		args := append([]any{a.gateway}, part...)
		for len(args) < n+1 {
			args = append(args, part[0])
		}
		if err := a.rows(words+" (?"+strings.Repeat(", ?", n-1)+")", args, each); err != nil {
			return err
		}
	}
	return nil
}

// events writes the events themselves, and what webhooks must be told of them.
func (a *apply) events(events []journal.Event) error {
	var rows, deliveries [][]any
	for _, e := range events {
		a.seq++
		rows = append(rows, []any{int64(a.seq), a.gateway, int64(e.N), int64(e.At), text(e.Type), text(e.Subject), text(string(e.Data))})
		for _, p := range a.endpoints {
			if p.wants(e.Type) {
				deliveries = append(deliveries, []any{p.ID, int64(a.seq), waiting, 0, int64(e.At), int64(e.At), 0, ""})
			}
		}
	}
	return errors.Join(
		a.insert("INSERT INTO events (seq, gateway, n, at_ms, type, subject, data) VALUES", "", rows),
		a.insert("INSERT INTO deliveries ("+deliveryColumns+") VALUES", "ON CONFLICT (endpoint, event) DO NOTHING", deliveries))
}

// forget drops events beyond KeepEvents with their deliveries, every so often.
func (a *apply) forget(before uint64) error {
	const often = 1000
	if a.seq/often == before/often || a.seq <= KeepEvents {
		return nil
	}
	_, err := a.exec("DELETE FROM events WHERE seq <= ?", int64(a.seq-KeepEvents))
	if err != nil {
		return err
	}
	_, err = a.exec("DELETE FROM deliveries WHERE event <= ?", int64(a.seq-KeepEvents))
	return err
}
