package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"

	"coinop.dev/world/books"
)

const (
	// MaxStreams bounds the event streams that are open at a time.
	MaxStreams = 256
	// eventBatch is how many events are read at a time, and eventPulse how often a
	// stream without news says that it lives.
	eventBatch = 100
	eventPulse = 15 * time.Second
	// slowReader is how long a reader may take for what it was sent; then it is cut,
	// and comes back with its cursor.
	slowReader = 20 * time.Second
)

// events serves /v1/events as server-sent events, or as a WebSocket if it is asked
// to: everything after ?cursor=N or Last-Event-ID, and then what comes. Whoever
// comes back with the number of the last event that it has seen misses none.
func (a *API) events(w http.ResponseWriter, r *http.Request) {
	select {
	case a.streams <- struct{}{}:
		defer func() { <-a.streams }()
	default:
		(&Problem{Title: "too many requests", Status: http.StatusTooManyRequests, Code: "RATE_LIMITED",
			Detail: fmt.Sprintf("%d event streams are open; the limit is %d", MaxStreams, MaxStreams)}).write(w)
		return
	}
	cursor, types, err := a.from(r)
	if err != nil {
		badRequest(err).(*Problem).write(w)
		return
	}
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	defer context.AfterFunc(a.closing, stop)()
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		a.webSocket(ctx, w, r, cursor, types)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	send := func(e *books.Event) error {
		out.SetWriteDeadline(time.Now().Add(slowReader))
		text := ": still here\n\n"
		if e != nil {
			data, err := json.Marshal(e)
			if err != nil {
				return err
			}
			text = fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", e.Seq, e.Type, data)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			return err
		}
		return out.Flush()
	}
	if send(nil) == nil {
		a.follow(ctx, cursor, types, send)
	}
}

// from reads where a stream begins, and of what.
func (a *API) from(r *http.Request) (cursor uint64, types []string, err error) {
	text := r.Header.Get("Last-Event-ID")
	if q := r.URL.Query().Get("cursor"); q != "" {
		text = q
	}
	if t := r.URL.Query().Get("types"); t != "" {
		if types = strings.Split(t, ","); len(types) > books.MaxTypes {
			return 0, nil, fmt.Errorf("%d types of events; the limit is %d", len(types), books.MaxTypes)
		}
	}
	if text == "" {
		cursor, err = a.Books.Cursor(r.Context())
		return cursor, types, err
	}
	if cursor, err = strconv.ParseUint(text, 10, 63); err != nil {
		return 0, nil, fmt.Errorf("cursor %.20q is not the number of an event", text)
	}
	return cursor, types, nil
}

// follow sends events after a cursor until ctx ends or send fails. A nil event is
// a pulse.
func (a *API) follow(ctx context.Context, cursor uint64, types []string, send func(*books.Event) error) error {
	for {
		list, next, err := a.Books.Events(ctx, cursor, eventBatch, types)
		if err != nil {
			return err
		}
		for i := range list {
			if err := send(&list[i]); err != nil {
				return err
			}
		}
		if cursor < next {
			cursor = next
			continue
		}
		wait, cancel := context.WithTimeout(ctx, eventPulse)
		err = a.Books.Await(wait, cursor)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			if err := send(nil); err != nil {
				return err
			}
		case err != nil:
			return err
		}
	}
}

func (a *API) webSocket(ctx context.Context, w http.ResponseWriter, r *http.Request, cursor uint64, types []string) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	ctx = c.CloseRead(ctx)
	err = a.follow(ctx, cursor, types, func(e *books.Event) error {
		ctx, cancel := context.WithTimeout(ctx, slowReader)
		defer cancel()
		if e == nil {
			return c.Ping(ctx)
		}
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		return c.Write(ctx, websocket.MessageText, data)
	})
	reason := "the gateway stops: come back with the number of the last event"
	if errors.Is(err, books.ErrForgotten) {
		reason = books.ErrForgotten.Error()
	}
	c.Close(websocket.StatusGoingAway, reason[:min(len(reason), 120)])
}
