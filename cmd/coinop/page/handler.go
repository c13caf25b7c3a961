package page

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"
)

//go:embed index.html page.css page.js words.js custody.js network.js explorer.js
var files embed.FS

const (
	// MaxViewers bounds open streams. A browser opens six to one host at most.
	MaxViewers = 32
	// ActionLimit is how long a button's action may take.
	ActionLimit = 15 * time.Second

	// heartbeatEvery keeps proxies and tunnels from cutting a quiet stream.
	heartbeatEvery = 10 * time.Second
	// writeLimit frees the stream of a viewer that stopped reading.
	writeLimit = 5 * time.Second
)

// csp lets the page load its own seven files and nothing else, and lets no
// script make markup out of text.
const csp = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// Handler serves the page. POST /do/NAME runs actions[NAME], one of each at a
// time; the page shows a button for link (cut or restore), kill-buyer,
// kill-seller, mine, reorg and its like if it is among them. An action keeps running when
// its browser goes away, for at most ActionLimit.
//
// Anyone on this computer may push the buttons, but no web site may: requests
// from other origins and for other host names than loopback's are refused.
func (h *Hub) Handler(actions map[string]func(context.Context) error) http.Handler {
	names := slices.Sorted(maps.Keys(actions))
	mux := http.NewServeMux()
	for path, asset := range map[string]struct{ file, kind string }{
		"GET /{$}":         {"index.html", "text/html; charset=utf-8"},
		"GET /page.css":    {"page.css", "text/css; charset=utf-8"},
		"GET /page.js":     {"page.js", "text/javascript; charset=utf-8"},
		"GET /words.js":    {"words.js", "text/javascript; charset=utf-8"},
		"GET /custody.js":  {"custody.js", "text/javascript; charset=utf-8"},
		"GET /network.js":  {"network.js", "text/javascript; charset=utf-8"},
		"GET /explorer.js": {"explorer.js", "text/javascript; charset=utf-8"},
	} {
		mux.Handle(path, static(asset.file, asset.kind))
	}
	mux.HandleFunc("GET /state", h.serveState)
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) { h.serveEvents(w, r, names) })
	mux.Handle("POST /do/{action}", do(actions))
	mux.HandleFunc("/do/{action}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", "POST")
		problem(w, http.StatusMethodNotAllowed, "a button is pushed with POST")
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem(w, http.StatusNotFound, "the demo serves /, /state, /events and POST /do/ACTION")
	})

	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		problem(w, http.StatusForbidden, "another web site may not push the demo's buttons")
	}))
	return guard(sameOrigin.Handler(mux))
}

// guard sets the headers every answer has and refuses foreign host names: a
// site that points its own name at 127.0.0.1 (DNS rebinding) gets nothing.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Content-Security-Policy", csp)
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Referrer-Policy", "no-referrer")
		head.Set("Cross-Origin-Opener-Policy", "same-origin")
		head.Set("Cross-Origin-Resource-Policy", "same-origin")
		head.Set("Cache-Control", "no-cache")
		if !loopback(r.Host) {
			problem(w, http.StatusMisdirectedRequest, "the demo answers only to localhost, 127.0.0.1 and [::1]")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil { // no port
		host = hostport
	}
	if n := len(host); n > 2 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

func static(file, kind string) http.Handler {
	body, err := files.ReadFile(file)
	if err != nil {
		panic(err) // the embed line and this list are in one file
	}
	etag := fmt.Sprintf(`"%x"`, sha256.Sum256(body))[:18] + `"`
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Etag", etag)
		http.ServeContent(w, r, file, time.Time{}, bytes.NewReader(body))
	})
}

func (h *Hub) serveState(w http.ResponseWriter, r *http.Request) {
	state, seq, _ := h.latest()
	if seq == 0 {
		w.Header().Set("Retry-After", "1")
		problem(w, http.StatusServiceUnavailable, "the demo has not begun")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(state)
}

// serveEvents streams: first hello (the actions, the chart so far), then the
// newest state at once and after each change, and bye when the demo ends.
func (h *Hub) serveEvents(w http.ResponseWriter, r *http.Request, actions []string) {
	if !h.enter() {
		w.Header().Set("Retry-After", "3")
		problem(w, http.StatusServiceUnavailable, fmt.Sprintf("the demo has ended or %d viewers are watching already; close one", MaxViewers))
		return
	}
	defer h.leave()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	conn := http.NewResponseController(w)
	send := func(format string, args ...any) error {
		// A recorder in a test has no deadlines; a socket always has.
		_ = conn.SetWriteDeadline(time.Now().Add(writeLimit))
		if _, err := fmt.Fprintf(w, format, args...); err != nil {
			return err
		}
		return conn.Flush()
	}

	points, resumed := h.since(r.Header.Get("Last-Event-ID"))
	hello, err := json.Marshal(map[string]any{"actions": actions, "points": points, "resumed": resumed})
	if err != nil {
		return
	}
	// The id belongs to the states only: hello must not move the mark.
	if send("retry: 1000\nevent: hello\ndata: %s\n\n", hello) != nil {
		return
	}
	heartbeat := time.NewTicker(heartbeatEvery)
	defer heartbeat.Stop()
	for seen := uint64(0); ; {
		state, seq, changed := h.latest()
		if seq != seen {
			if send("id: %s-%d\ndata: %s\n\n", h.run, seq, state) != nil {
				return
			}
			seen = seq
		}
		select {
		case <-changed:
		case <-heartbeat.C:
			if send(": still here\n\n") != nil {
				return
			}
		case <-h.closed:
			if state, seq, _ := h.latest(); seq != seen {
				_ = send("id: %s-%d\ndata: %s\n\n", h.run, seq, state)
			}
			_ = send("event: bye\ndata: {}\n\n") // it leaves either way
			return
		case <-r.Context().Done():
			return
		}
	}
}

// do runs the actions. A second push of a button whose action still runs is
// refused: two overlapping reorgs would be nobody's intention.
func do(actions map[string]func(context.Context) error) http.Handler {
	busy := make(map[string]*sync.Mutex, len(actions))
	for name := range actions {
		busy[name] = new(sync.Mutex)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("action")
		act, ok := actions[name]
		if !ok {
			problem(w, http.StatusNotFound, fmt.Sprintf("there is no action %.40q", name))
			return
		}
		if !busy[name].TryLock() {
			problem(w, http.StatusConflict, name+" is still at work; wait for it")
			return
		}
		defer busy[name].Unlock()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), ActionLimit)
		defer cancel()
		switch err := act(ctx); {
		case err == nil:
			w.WriteHeader(http.StatusNoContent)
		case errors.Is(err, context.DeadlineExceeded):
			problem(w, http.StatusGatewayTimeout, fmt.Sprintf("%s took longer than %v", name, ActionLimit))
		default:
			problem(w, http.StatusInternalServerError, err.Error())
		}
	})
}

// problem answers as RFC 9457 says.
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{ // the viewer may be gone
		"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail,
	})
}
