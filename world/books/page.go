package books

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// A Filter chooses orders. Empty fields choose all.
type Filter struct {
	Service, Device, Buyer, State, Gateway string

	From, To step.Time // when they were paid; To is not included
	Cursor   string    // goes on where a page ended
	Limit    int       // 0 is 50; at most MaxPage
}

// defaultPage is how many orders a page has if nobody says.
const defaultPage = 50

// ErrCursor means that a cursor is not one of these books.
var ErrCursor = errors.New("the cursor is not one that a page ended with; leave it out to begin anew")

// Orders returns a page of orders, newest first, and the cursor of the next one,
// empty after the last.
func (b *Books) Orders(ctx context.Context, f Filter) (page []Order, next string, err error) {
	if f.Limit <= 0 {
		f.Limit = defaultPage
	}
	f.Limit = min(f.Limit, MaxPage)
	return b.page(ctx, f, "<", "DESC")
}

// page reads orders beyond the cursor, in either direction.
func (b *Books) page(ctx context.Context, f Filter, beyond, direction string) (page []Order, next string, err error) {
	where, args, err := f.where(beyond)
	if err != nil {
		return nil, "", err
	}
	words := "SELECT " + orderColumns + " FROM orders" + where + " ORDER BY first_ms " + direction + ", id " + direction + " LIMIT ?"
	err = b.rows(ctx, words, append(args, f.Limit+1), func(r *sql.Rows) error {
		o, err := scanOrder(r)
		page = append(page, o)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("books: read orders: %w", err)
	}
	if len(page) > f.Limit {
		page = page[:f.Limit]
		next = cursor(page[f.Limit-1])
	}
	return page, next, nil
}

// where is the filter in SQL.
func (f Filter) where(beyond string) (where string, args []any, err error) {
	var all []string
	add := func(condition string, with ...any) {
		all, args = append(all, condition), append(args, with...)
	}
	// SQLite does not know which index chooses fewest orders, and we do: the first
	// condition uses its own, and "|| ''" keeps the others from theirs.
	conditions := []struct{ column, value string }{{"device", f.Device}, {"buyer", f.Buyer}, {"service", f.Service}, {"state", f.State}}
	if f.State != "settled" && f.State != "delivered" { // few orders are in the others
		conditions[2], conditions[3] = conditions[3], conditions[2]
	}
	own := ""
	for _, c := range conditions {
		if c.value != "" {
			add(c.column+own+" = ?", text(c.value))
			own = " || ''"
		}
	}
	if f.Gateway != "" {
		add("gateway = ?", f.Gateway)
	}
	if f.From != 0 {
		add("first_ms >= ?", int64(f.From))
	}
	if f.To != 0 {
		add("first_ms < ?", int64(f.To))
	}
	if f.Cursor != "" {
		ms, id, ok := readCursor(f.Cursor)
		if !ok {
			return "", nil, ErrCursor
		}
		add("(first_ms, id) "+beyond+" (?, ?)", ms, id)
	}
	if len(all) == 0 {
		return "", nil, nil
	}
	return " WHERE " + strings.Join(all, " AND "), args, nil
}

func cursor(o Order) string { return strconv.FormatInt(int64(o.First), 36) + "-" + o.ID.String() }

func readCursor(s string) (ms int64, id string, ok bool) {
	first, id, _ := strings.Cut(s, "-")
	ms, err := strconv.ParseInt(first, 36, 64)
	var parsed money.OrderID
	return ms, id, err == nil && parsed.UnmarshalText([]byte(id)) == nil
}

// Order reads one order, of this gateway if several have one of that ID.
func (b *Books) Order(ctx context.Context, id money.OrderID) (o Order, err error) {
	err = b.rows(ctx, "SELECT "+orderColumns+" FROM orders WHERE id = ? ORDER BY CASE WHEN gateway = ? THEN 0 ELSE 1 END, first_ms LIMIT 1",
		[]any{id.String(), b.gateway}, func(r *sql.Rows) (err error) {
			o, err = scanOrder(r)
			return err
		})
	if err == nil && o.State == "" {
		err = fmt.Errorf("order %s: %w", id, ErrUnknown)
	}
	return o, err
}
