package books

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"coinop.dev/core/step"
)

// An Event is an event of any gateway. Seq numbers those of all of them, grows,
// and never goes back: whoever has seen one has seen all below it.
type Event struct {
	Seq     uint64          `json:"seq"`
	Gateway string          `json:"gateway"`
	N       uint64          `json:"n"` // its number in the gateway's own journal
	At      step.Time       `json:"at_ms"`
	Type    string          `json:"type"`
	Subject string          `json:"subject"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// MaxTypes bounds the types that Events is asked for at once.
const MaxTypes = 32

// ErrForgotten means that events after the one named are not kept any more.
var ErrForgotten = errors.New("events that old are not kept; read the orders instead and go on from the newest event")

// Events returns at most most events after number after, of the given types or
// of all, and next, the number to go on from: it moves also when nothing fits.
// "order." is every type that begins so.
func (b *Books) Events(ctx context.Context, after uint64, most int, types []string) (list []Event, next uint64, err error) {
	most = min(max(most, 1), MaxPage)
	if len(types) > MaxTypes {
		return nil, after, fmt.Errorf("books: %d types of events; the limit is %d", len(types), MaxTypes)
	}
	last, err := b.newest(ctx)
	if err != nil || after >= last {
		return nil, min(after, last), err
	}
	var oldest uint64
	if _, err := b.one(ctx, "SELECT COALESCE(MIN(seq), 0) FROM events", nil, &oldest); err != nil {
		return nil, after, err
	}
	if after > 0 && after+1 < oldest {
		return nil, after, fmt.Errorf("books: event %d: %w", after, ErrForgotten)
	}
	where, args := "seq > ? AND seq <= ?", []any{int64(after), int64(last)}
	if len(types) > 0 {
		var any []string
		for _, t := range types {
			if strings.HasSuffix(t, ".") {
				any, args = append(any, "SUBSTR(type, 1, ?) = ?"), append(args, len(t), t) // whatever the collation is
				continue
			}
			any, args = append(any, "type = ?"), append(args, t)
		}
		where += " AND (" + strings.Join(any, " OR ") + ")"
	}
	err = b.rows(ctx, "SELECT seq, gateway, n, at_ms, type, subject, data FROM events WHERE "+where+" ORDER BY seq LIMIT ?", append(args, most),
		func(r *sql.Rows) error {
			e, err := scanEvent(r)
			list = append(list, e)
			return err
		})
	if err != nil {
		return nil, after, err
	}
	if len(list) == most {
		return list, list[most-1].Seq, nil
	}
	return list, last, nil
}

// EventsOf returns the newest events of a subject, at most most and MaxPage, oldest
// first: those of an order's ID are its history, as far as events are kept.
func (b *Books) EventsOf(ctx context.Context, subject string, most int) (list []Event, err error) {
	err = b.rows(ctx, "SELECT seq, gateway, n, at_ms, type, subject, data FROM events WHERE subject = ? ORDER BY seq DESC LIMIT ?",
		[]any{text(subject), min(max(most, 1), MaxPage)}, func(r *sql.Rows) error {
			e, err := scanEvent(r)
			list = append(list, e)
			return err
		})
	slices.Reverse(list)
	return list, err
}

// scanEvent reads an event, and into more what else the row has.
func scanEvent(r *sql.Rows, more ...any) (e Event, err error) {
	var data string
	err = r.Scan(append([]any{&e.Seq, &e.Gateway, &e.N, &e.At, &e.Type, &e.Subject, &data}, more...)...)
	if data != "" && json.Valid([]byte(data)) {
		e.Data = json.RawMessage(data)
	}
	return e, err
}

// Cursor is up to which event of its journal the gateway is in the books.
func (b *Books) Cursor(ctx context.Context) (n uint64, err error) {
	_, err = b.one(ctx, "SELECT n FROM cursors WHERE gateway = ?", []any{b.gateway}, &n)
	return n, err
}

// lookAgain is how often a database is asked for what other processes wrote.
const lookAgain = time.Second

// Await returns when there are events after number after.
func (b *Books) Await(ctx context.Context, after uint64) error {
	for {
		b.mu.Lock()
		news := b.news
		b.mu.Unlock()
		if last, err := b.newest(ctx); err != nil || last > after {
			return err
		}
		look := time.NewTimer(lookAgain)
		select {
		case <-ctx.Done():
			look.Stop()
			return ctx.Err()
		case <-news:
			look.Stop()
		case <-look.C:
		}
	}
}

// newest is the number of the last event. The database is asked for it twice in
// lookAgain at most, however many wait.
func (b *Books) newest(ctx context.Context) (uint64, error) {
	b.mu.Lock()
	last := b.last.Load()
	fresh := time.Since(b.seen) < lookAgain/2
	if !fresh {
		b.seen = time.Now()
	}
	b.mu.Unlock()
	if fresh {
		return last, nil
	}
	if _, err := b.one(ctx, "SELECT value FROM counters WHERE name = 'events'", nil, &last); err != nil {
		return 0, err
	}
	b.heard(last)
	return b.last.Load(), nil
}

// heard wakes whoever waits for an event.
func (b *Books) heard(last uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if last > b.last.Load() {
		b.last.Store(last)
		close(b.news)
		b.news = make(chan struct{})
	}
}
