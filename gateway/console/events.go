package console

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"coinop.dev/world/books"
)

const (
	// maxStreams bounds the open streams; a browser has one for each tab.
	maxStreams = 64
	// eventPause is how long changes are gathered, so that a busy machine's pages are
	// drawn again once a second and not for each order.
	eventPause = time.Second
	// eventPulse is how often a quiet stream says that it lives.
	eventPulse = 15 * time.Second
	// slowReader is how long a browser may take for what it was sent.
	slowReader = 20 * time.Second
)

// events tells pages what kind of thing has changed since they were drawn, and no
// more: they ask for the rest.
func (c *Console) events(w http.ResponseWriter, r *http.Request, v *visit) error {
	select {
	case c.streams <- struct{}{}:
		defer func() { <-c.streams }()
	default:
		return &trouble{http.StatusServiceUnavailable, fmt.Sprintf("%d pages are open already. Close some.", maxStreams)}
	}
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	defer context.AfterFunc(c.closing, stop)()
	_, cursor, err := c.Books.Events(ctx, math.MaxInt64, 1, nil)
	if err != nil {
		return err
	}
	if last, err := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 63); err == nil {
		cursor = min(cursor, last)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	out := http.NewResponseController(w)
	send := func(text string) bool {
		_ = out.SetWriteDeadline(time.Now().Add(slowReader)) // a recorder in a test has none
		_, err := w.Write([]byte(text))
		return err == nil && out.Flush() == nil
	}
	if !send(fmt.Sprintf(": hello\nid: %d\n\n", cursor)) {
		return nil
	}
	for ctx.Err() == nil {
		if _, err := c.who(r); err != nil {
			return nil // whoever was logged out meanwhile hears no more
		}
		kinds, next, err := c.news(ctx, cursor)
		if err != nil {
			return nil // the browser comes back
		}
		if next > cursor {
			cursor = next
			var text strings.Builder
			for i, kind := range kinds {
				fmt.Fprintf(&text, "event: %s\ndata: %d\n", kind, cursor)
				if i == len(kinds)-1 {
					fmt.Fprintf(&text, "id: %d\n", cursor)
				}
				text.WriteString("\n")
			}
			if !send(text.String()) {
				return nil
			}
			pause(ctx, eventPause)
			continue
		}
		wait, cancel := context.WithTimeout(ctx, eventPulse)
		err = c.Books.Await(wait, cursor)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) && !send(": still here\n\n") {
			return nil
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// news lists the kinds of what happened after an event: the first words of the
// types of events, and the number to go on from.
func (c *Console) news(ctx context.Context, after uint64) (kinds []string, next uint64, err error) {
	list, next, err := c.Books.Events(ctx, after, books.MaxPage, nil)
	if errors.Is(err, books.ErrForgotten) || len(list) == books.MaxPage { // so much that everything has changed
		_, next, err = c.Books.Events(ctx, math.MaxInt64, 1, nil)
		return []string{"order", "session", "payment", "device", "price"}, next, err
	}
	for _, e := range list {
		kind, _, _ := strings.Cut(e.Type, ".")
		if kind == "test" {
			kind = "order"
		}
		if !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	return kinds, next, err
}
