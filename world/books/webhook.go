package books

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"coinop.dev/core/step"
)

// An Endpoint is told of events by HTTP (gateway/hooks).
type Endpoint struct {
	ID     string    `json:"id"`
	URL    string    `json:"url"`
	Secret string    `json:"-"`               // signs what is sent
	Types  []string  `json:"types,omitempty"` // of events, as in Events; none is all
	Off    bool      `json:"off,omitempty"`
	At     step.Time `json:"at_ms"`
}

func (p Endpoint) wants(kind string) bool {
	return !p.Off && (len(p.Types) == 0 || slices.ContainsFunc(p.Types, func(t string) bool {
		return t == kind || strings.HasSuffix(t, ".") && strings.HasPrefix(kind, t)
	}))
}

// ErrTooMany means that a limit on how many there are is reached.
var ErrTooMany = errors.New("there are too many")

// PutEndpoint adds an endpoint, or changes the one with its ID. From now on it is
// owed every event of its types, once.
func (b *Books) PutEndpoint(ctx context.Context, p Endpoint) error {
	return b.change(ctx, func(c change) error {
		if err := c.holdEvents(); err != nil {
			return err
		}
		var others int
		if _, err := c.one("SELECT COUNT(*) FROM endpoints WHERE id <> ?", []any{p.ID}, &others); err != nil {
			return err
		}
		if others >= MaxEndpoints {
			return fmt.Errorf("webhook endpoints: %w: the limit is %d, drop one", ErrTooMany, MaxEndpoints)
		}
		_, err := c.exec("INSERT INTO endpoints (id, url, secret, types, off, at_ms) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "+
			"url = excluded.url, secret = excluded.secret, types = excluded.types, off = excluded.off",
			p.ID, text(p.URL), p.Secret, text(strings.Join(p.Types, " ")), flag(p.Off), int64(p.At))
		return err
	})
}

// holdEvents keeps other gateways from filing events, for which they read the
// endpoints, until the change is done.
func (c change) holdEvents() error {
	_, err := c.exec("UPDATE counters SET value = value WHERE name = 'events'")
	return err
}

// DropEndpoint forgets an endpoint and its deliveries.
func (b *Books) DropEndpoint(ctx context.Context, id string) error {
	return b.change(ctx, func(c change) error {
		if err := c.holdEvents(); err != nil {
			return err
		}
		n, err := c.exec("DELETE FROM endpoints WHERE id = ?", id)
		if err == nil && n == 0 {
			err = fmt.Errorf("webhook endpoint %.40q: %w", id, ErrUnknown)
		}
		if err == nil {
			_, err = c.exec("DELETE FROM deliveries WHERE endpoint = ?", id)
		}
		return err
	})
}

// Endpoints are all of them, oldest first.
func (b *Books) Endpoints(ctx context.Context) ([]Endpoint, error) {
	return readEndpoints(func(words string, args []any, each func(*sql.Rows) error) error {
		return b.rows(ctx, words, args, each)
	})
}

func readEndpoints(rows func(string, []any, func(*sql.Rows) error) error) (list []Endpoint, err error) {
	err = rows("SELECT id, url, secret, types, off, at_ms FROM endpoints ORDER BY at_ms, id", nil, func(r *sql.Rows) error {
		var p Endpoint
		var types string
		err := r.Scan(&p.ID, &p.URL, &p.Secret, &types, &p.Off, &p.At)
		p.Types = strings.Fields(types)
		list = append(list, p)
		return err
	})
	return list, err
}

// The states of a delivery.
const (
	waiting = "waiting"
	done    = "done"
	failed  = "failed"
)

// A Delivery is one event for one endpoint. There is one for each pair, however
// often the journal is read.
type Delivery struct {
	Endpoint string    `json:"endpoint"`
	Event    uint64    `json:"event"`
	State    string    `json:"state"`             // waiting, done, failed
	Attempts int       `json:"attempts"`          // that came to an end
	Next     step.Time `json:"next_ms,omitempty"` // when it is tried, while it waits
	At       step.Time `json:"at_ms"`             // of the last change
	Status   int       `json:"status,omitempty"`  // of the last answer
	Error    string    `json:"error,omitempty"`
}

// ID names the delivery to its receiver, who may see it twice.
func (d Delivery) ID() string { return d.Endpoint + "-" + strconv.FormatUint(d.Event, 10) }

const deliveryColumns = "endpoint, event, state, attempts, next_ms, at_ms, status, error"

func (d *Delivery) into() []any {
	return []any{&d.Endpoint, &d.Event, &d.State, &d.Attempts, &d.Next, &d.At, &d.Status, &d.Error}
}

// A Due is a delivery to make now.
type Due struct {
	Delivery
	What Event
}

// Claim returns at most most deliveries to an endpoint that are due at now, and
// puts them off until until: two gateways do not make the same one, and if this one
// stops the other does. Endpoints are claimed for one by one, so that one that does
// not answer keeps nothing from the others.
func (b *Books) Claim(ctx context.Context, endpoint string, now, until step.Time, most int) (list []Due, err error) {
	const due = "endpoint = ? AND state = 'waiting' AND next_ms <= ?"
	var one int // mostly there is nothing, and then nobody has to wait
	if found, err := b.one(ctx, "SELECT 1 FROM deliveries WHERE "+due+" LIMIT 1", []any{endpoint, int64(now)}, &one); err != nil || !found {
		return nil, err
	}
	err = b.change(ctx, func(c change) error {
		var claimed []Delivery
		// The condition stands twice: of two gateways that choose the same rows the
		// second looks again when the first is done.
		err := c.rows("UPDATE deliveries SET next_ms = ?, at_ms = ? WHERE "+due+" AND event IN "+
			"(SELECT event FROM deliveries WHERE "+due+" ORDER BY next_ms, event LIMIT ?) RETURNING "+deliveryColumns,
			[]any{int64(until), int64(now), endpoint, int64(now), endpoint, int64(now), min(max(most, 1), MaxPage)}, func(r *sql.Rows) error {
				var d Delivery
				err := r.Scan(d.into()...)
				claimed = append(claimed, d)
				return err
			})
		if err != nil {
			return err
		}
		slices.SortFunc(claimed, func(x, y Delivery) int { return cmp.Compare(x.Event, y.Event) })
		for _, d := range claimed {
			due := Due{Delivery: d}
			err := c.rows("SELECT seq, gateway, n, at_ms, type, subject, data FROM events WHERE seq = ?", []any{int64(d.Event)}, func(r *sql.Rows) (err error) {
				due.What, err = scanEvent(r)
				return err
			})
			if err != nil {
				return err
			}
			list = append(list, due)
		}
		return nil
	})
	return list, err
}

// Delivered files an attempt at a delivery that was claimed: it is done, or tried
// again at next, or has failed if next is 0.
func (b *Books) Delivered(ctx context.Context, d Delivery, at step.Time, ok bool, next step.Time) error {
	state := done
	switch {
	case !ok && next == 0:
		state = failed
	case !ok:
		state = waiting
	}
	return b.change(ctx, func(c change) error {
		_, err := c.exec("UPDATE deliveries SET attempts = attempts + 1, state = ?, next_ms = ?, at_ms = ?, status = ?, error = ? WHERE endpoint = ? AND event = ?",
			state, int64(next), int64(at), d.Status, text(d.Error), d.Endpoint, int64(d.Event))
		return err
	})
}

// Redeliver has a delivery made again, now.
func (b *Books) Redeliver(ctx context.Context, endpoint string, event uint64, now step.Time) error {
	return b.change(ctx, func(c change) error {
		n, err := c.exec("UPDATE deliveries SET state = 'waiting', next_ms = ?, at_ms = ? WHERE endpoint = ? AND event = ?", int64(now), int64(now), endpoint, int64(event))
		if err == nil && n == 0 {
			err = fmt.Errorf("delivery %d of %.40q: %w; the last %d events can be delivered again", event, endpoint, ErrUnknown, KeepEvents)
		}
		return err
	})
}

// Deliveries are those of an endpoint, newest first, of events before before; 0
// begins with the newest.
func (b *Books) Deliveries(ctx context.Context, endpoint string, before uint64, most int) (list []Delivery, err error) {
	if before == 0 {
		before = 1 << 62
	}
	err = b.rows(ctx, "SELECT "+deliveryColumns+" FROM deliveries WHERE endpoint = ? AND event < ? ORDER BY event DESC LIMIT ?",
		[]any{endpoint, int64(before), min(max(most, 1), MaxPage)}, func(r *sql.Rows) error {
			var d Delivery
			err := r.Scan(d.into()...)
			list = append(list, d)
			return err
		})
	return list, err
}
