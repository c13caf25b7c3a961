package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
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
// to: everything after Last-Event-ID or ?cursor=N, and then what comes. Whoever
// comes back with the number of the last event that it has seen misses none.
func (a *API) events(w http.ResponseWriter, r *http.Request) {
	select {
	case a.streams <- struct{}{}:
		defer func() { <-a.streams }()
	default:
		Problems(w, refusal(http.StatusTooManyRequests, "RATE_LIMITED", fmt.Sprintf("%d event streams are open, which is the limit", MaxStreams)))
		return
	}
	f, err := a.from(r)
	if err != nil {
		Problems(w, err)
		return
	}
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	defer context.AfterFunc(a.closing, stop)()
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		f.webSocket(ctx, w)
		return
	}
	f.serverSent(ctx, w)
}

// A follower is one stream.
type follower struct {
	a       *API
	r       *http.Request // whose credential must stay good
	cursor  uint64
	types   []string
	checked time.Time
}

// from reads where a stream begins, and of what. What a browser comes back with
// counts more than what the address said at first.
func (a *API) from(r *http.Request) (*follower, error) {
	f := &follower{a: a, r: r, checked: time.Now()}
	text := cmp.Or(r.Header.Get("Last-Event-ID"), r.URL.Query().Get("cursor"))
	if t := r.URL.Query().Get("types"); t != "" {
		if f.types = strings.Split(t, ","); len(f.types) > books.MaxTypes {
			return nil, invalid(fmt.Sprintf("%d types of events; the limit is %d", len(f.types), books.MaxTypes))
		}
	}
	var err error
	if text == "" {
		_, f.cursor, err = a.Books.Events(r.Context(), math.MaxInt64, 1, nil) // the newest
		return f, err
	}
	if f.cursor, err = strconv.ParseUint(text, 10, 63); err != nil {
		return nil, invalid(fmt.Sprintf("cursor %.20q is not the number of an event", text))
	}
	_, _, err = a.Books.Events(r.Context(), f.cursor, 1, nil) // is it still there?
	return f, err
}

// run sends events until ctx ends or send fails. A nil event is a pulse.
func (f *follower) run(ctx context.Context, send func(*books.Event) error) error {
	for {
		if time.Since(f.checked) >= eventPulse {
			if _, err := f.a.Admit(f.r, Read); err != nil {
				return err
			}
			f.checked = time.Now()
		}
		list, next, err := f.a.Books.Events(ctx, f.cursor, eventBatch, f.types)
		if err != nil {
			return err
		}
		for i := range list {
			if err := send(&list[i]); err != nil {
				return err
			}
		}
		if f.cursor < next {
			f.cursor = next
			continue
		}
		wait, cancel := context.WithTimeout(ctx, eventPulse)
		err = f.a.Books.Await(wait, f.cursor)
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

func (f *follower) serverSent(ctx context.Context, w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy must not gather them
	out := http.NewResponseController(w)
	defer out.SetWriteDeadline(time.Time{})
	send := func(e *books.Event) error {
		out.SetWriteDeadline(time.Now().Add(f.a.slowReader))
		// A pulse moves the number too: events that were not asked for need not be
		// looked through again.
		text := fmt.Sprintf(": still here\nid: %d\n\n", f.cursor)
		if e != nil {
			data, err := json.Marshal(e)
			if err != nil {
				return err
			}
			text = fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", e.Seq, e.Type, data)
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
		return out.Flush()
	}
	if send(nil) == nil {
		f.run(ctx, send)
	}
}

func (f *follower) webSocket(ctx context.Context, w http.ResponseWriter) {
	c, err := websocket.Accept(w, f.r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	// Who reads must outlive ctx, or there is nobody left to say goodbye.
	ctx, stop := context.WithCancel(ctx)
	defer context.AfterFunc(c.CloseRead(context.WithoutCancel(ctx)), stop)()
	defer stop()
	f.run(ctx, func(e *books.Event) error {
		ctx, cancel := context.WithTimeout(ctx, f.a.slowReader)
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
	c.Close(websocket.StatusGoingAway, "come back with the number of the last event")
}
