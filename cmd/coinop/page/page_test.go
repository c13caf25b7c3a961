package page

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// serve starts h's handler and stops it when the test ends.
func serve(t *testing.T, h *Hub, actions map[string]func(context.Context) error) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h.Handler(actions))
	t.Cleanup(s.Close)
	t.Cleanup(h.Close) // first, so that Close does not wait for streams
	return s
}

// ask sends one request; edit may be nil.
func ask(t *testing.T, method, url string, edit func(*http.Request)) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(r)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	return answer
}

// wantProblem checks status and RFC 9457 body and returns the detail.
func wantProblem(t *testing.T, answer *http.Response, status int) string {
	t.Helper()
	if answer.StatusCode != status {
		t.Fatalf("status %d, want %d", answer.StatusCode, status)
	}
	if kind := answer.Header.Get("Content-Type"); kind != "application/problem+json" {
		t.Fatalf("content type %q", kind)
	}
	var p struct {
		Type, Title, Detail string
		Status              int
	}
	if err := json.NewDecoder(answer.Body).Decode(&p); err != nil {
		t.Fatal(err)
	}
	if p.Type != "about:blank" || p.Title == "" || p.Detail == "" || p.Status != status {
		t.Fatalf("problem %+v", p)
	}
	return p.Detail
}

// An event is one message of the stream.
type event struct{ kind, id, data string }

// next reads one message, skipping heartbeats.
func next(t *testing.T, r *bufio.Reader) (e event) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("stream: %v", err)
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "event":
			e.kind = value
		case "id":
			e.id = value
		case "data":
			e.data = value
		case "":
			if e.data != "" {
				return e
			}
		}
	}
}

type hello struct {
	Actions []string
	Points  [][2]float64
	Resumed bool
}

func parse[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %.200s", err, text)
	}
	return v
}

func TestStreamSnapshotThenChangesThenBye(t *testing.T) {
	h := NewHub()
	h.Publish(State{ElapsedS: 1, RatePerS: 10})
	h.Publish(State{ElapsedS: 2, RatePerS: 20, Payments: 7})
	s := serve(t, h, map[string]func(context.Context) error{"mine": nil, "link": nil})

	answer := ask(t, "GET", s.URL+"/events", nil)
	if kind := answer.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Fatalf("content type %q", kind)
	}
	r := bufio.NewReader(answer.Body)
	first := next(t, r)
	greeting := parse[hello](t, first.data)
	if first.kind != "hello" || first.id != "" || greeting.Resumed || len(greeting.Points) != 2 || strings.Join(greeting.Actions, " ") != "link mine" {
		t.Fatalf("hello %+v", first)
	}
	snapshot := next(t, r)
	if parse[State](t, snapshot.data).Payments != 7 {
		t.Fatalf("snapshot %+v", snapshot)
	}
	h.Publish(State{ElapsedS: 3, RatePerS: 30, Payments: 8})
	if e := next(t, r); parse[State](t, e.data).Payments != 8 {
		t.Fatalf("change %+v", e)
	}

	// A viewer that reconnects gets only the points it has missed.
	again := ask(t, "GET", s.URL+"/events", func(r *http.Request) { r.Header.Set("Last-Event-ID", snapshot.id) })
	greeting = parse[hello](t, next(t, bufio.NewReader(again.Body)).data)
	if !greeting.Resumed || len(greeting.Points) != 1 || greeting.Points[0] != [2]float64{3, 30} {
		t.Fatalf("resumed with %+v", greeting)
	}
	// One that watched another run starts over.
	other := ask(t, "GET", s.URL+"/events", func(r *http.Request) { r.Header.Set("Last-Event-ID", "ANOTHER1-2") })
	if greeting = parse[hello](t, next(t, bufio.NewReader(other.Body)).data); greeting.Resumed || len(greeting.Points) != 3 {
		t.Fatalf("another run resumed: %+v", greeting)
	}

	h.Publish(State{ElapsedS: 4, Payments: 9})
	h.Close()
	if e := next(t, r); parse[State](t, e.data).Payments != 9 {
		t.Fatalf("the last state was not sent: %+v", e)
	}
	if e := next(t, r); e.kind != "bye" {
		t.Fatalf("want bye, got %+v", e)
	}
	if rest, err := io.ReadAll(r); len(rest) != 0 || err != nil {
		t.Fatalf("after bye: %q, %v", rest, err)
	}
	wantProblem(t, ask(t, "GET", s.URL+"/events", nil), 503)
}

// A viewer that does not read must not hold up the demo, and then gets the
// newest state, not a queue of old ones.
func TestSlowViewerSkips(t *testing.T) {
	h := NewHub()
	s := serve(t, h, nil)
	h.Publish(State{})
	r := bufio.NewReader(ask(t, "GET", s.URL+"/events", nil).Body)
	next(t, r)           // hello
	const states = 4_000 // 28 MB: more than the socket takes
	big := State{Events: make([]Event, MaxEvents)}
	for i := range big.Events {
		big.Events[i].Text = strings.Repeat("x", 200)
	}
	begin := time.Now()
	for i := range uint64(states) {
		big.Payments = i + 1
		h.Publish(big)
	}
	if took := time.Since(begin); took > writeLimit {
		t.Fatalf("publishing waited %v for a viewer", took)
	}
	for n := 1; ; n++ {
		if parse[State](t, next(t, r).data).Payments == states {
			t.Logf("%d of %d states reached the slow viewer", n, states)
			if n == states {
				t.Fatal("all states were queued")
			}
			return
		}
	}
}

func TestLimits(t *testing.T) {
	h := NewHub()
	s := serve(t, h, nil)
	wantProblem(t, ask(t, "GET", s.URL+"/state", nil), 503)

	var leave []func()
	for range MaxViewers {
		answer := ask(t, "GET", s.URL+"/events", nil)
		next(t, bufio.NewReader(answer.Body))
		leave = append(leave, func() { answer.Body.Close() })
	}
	refused := ask(t, "GET", s.URL+"/events", nil)
	wantProblem(t, refused, 503)
	if refused.Header.Get("Retry-After") == "" {
		t.Fatal("a refusal must say when to come back")
	}
	leave[0]()
	for end := time.Now().Add(2 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if ask(t, "GET", s.URL+"/events", nil).StatusCode == 200 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a viewer that left still holds its place")
		}
	}

	for i := range 3 * maxSamples {
		h.Publish(State{ElapsedS: float64(i), RatePerS: math.NaN(), P99Ms: math.Inf(1), Readings: make([]Reading, 100), Events: make([]Event, 100)})
	}
	if points, _ := h.since(""); len(points) != maxSamples || points[maxSamples-1].elapsed != 3*maxSamples-1 {
		t.Fatalf("%d points", len(points))
	}
	got := parse[State](t, read(t, ask(t, "GET", s.URL+"/state", nil)))
	if len(got.Readings) != MaxReadings || len(got.Events) != MaxEvents || got.RatePerS != 0 || got.P99Ms != 0 {
		t.Fatalf("not fitted: %d readings, %d events, rate %v", len(got.Readings), len(got.Events), got.RatePerS)
	}
}

func read(t *testing.T, answer *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestActions(t *testing.T) {
	mined := 0
	begun, finish := make(chan struct{}), make(chan struct{})
	s := serve(t, NewHub(), map[string]func(context.Context) error{
		"mine": func(context.Context) error { mined++; return nil },
		"link": func(context.Context) error { return errors.New("already settled") },
		"reorg": func(ctx context.Context) error {
			close(begun)
			<-finish
			return ctx.Err()
		},
		"kill-buyer": func(context.Context) error { return context.DeadlineExceeded },
	})
	if a := ask(t, "POST", s.URL+"/do/mine", nil); a.StatusCode != 204 || mined != 1 {
		t.Fatalf("mine: %d, mined %d times", a.StatusCode, mined)
	}
	if d := wantProblem(t, ask(t, "POST", s.URL+"/do/link", nil), 500); d != "already settled" {
		t.Fatalf("detail %q", d)
	}
	wantProblem(t, ask(t, "POST", s.URL+"/do/kill-buyer", nil), 504)
	wantProblem(t, ask(t, "POST", s.URL+"/do/nonsense", nil), 404)
	wantProblem(t, ask(t, "POST", s.URL+"/do/mine/twice", nil), 404)
	get := ask(t, "GET", s.URL+"/do/mine", nil)
	if wantProblem(t, get, 405); get.Header.Get("Allow") != "POST" || mined != 1 {
		t.Fatalf("GET pushed a button, or says not how: %v", get.Header)
	}

	// The browser goes away: the action is not cut in half, and is busy until done.
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	r, _ := http.NewRequestWithContext(ctx, "POST", s.URL+"/do/reorg", nil)
	if _, err := http.DefaultClient.Do(r); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	wantProblem(t, ask(t, "POST", s.URL+"/do/reorg", nil), 409)
	close(finish)
}

func TestForeignersRefused(t *testing.T) {
	mined := 0
	h := NewHub()
	h.Publish(State{})
	s := serve(t, h, map[string]func(context.Context) error{"mine": func(context.Context) error { mined++; return nil }})
	for name, edit := range map[string]func(*http.Request){
		"cross-site": func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"same-site":  func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
		"origin":     func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
		"other port": func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:1") },
		"null":       func(r *http.Request) { r.Header.Set("Origin", "null") },
	} {
		if wantProblem(t, ask(t, "POST", s.URL+"/do/mine", edit), 403); mined != 0 {
			t.Fatalf("%s pushed a button", name)
		}
	}
	for _, path := range []string{"/", "/state", "/events", "/nowhere"} {
		for _, host := range []string{"evil.example", "evil.example:8402", "localhost.evil.example", "127.0.0.1.nip.io", "10.0.0.1:8402", "[::2]:8402"} {
			wantProblem(t, ask(t, "GET", s.URL+path, func(r *http.Request) { r.Host = host }), 421)
		}
	}
	for _, host := range []string{"localhost", "localhost:8402", "127.0.0.1:8402", "127.8.8.8", "[::1]:8402", "[::1]"} {
		if a := ask(t, "POST", s.URL+"/do/mine", func(r *http.Request) {
			r.Host = host
			r.Header.Set("Origin", "http://"+host)
		}); a.StatusCode != 204 {
			t.Fatalf("host %s: %d", host, a.StatusCode)
		}
	}
	for _, host := range []string{"", "[", "[]", ":80", "127.0.0.1:80:80"} {
		if loopback(host) {
			t.Fatalf("host %q taken for loopback", host)
		}
	}
}

func TestPageIsItsOwn(t *testing.T) {
	s := serve(t, NewHub(), nil)
	for path, kind := range map[string]string{"/": "text/html", "/page.css": "text/css", "/page.js": "text/javascript"} {
		a := ask(t, "GET", s.URL+path, nil)
		body := read(t, a)
		if a.StatusCode != 200 || !strings.HasPrefix(a.Header.Get("Content-Type"), kind) {
			t.Fatalf("%s: %d %s", path, a.StatusCode, a.Header.Get("Content-Type"))
		}
		for _, head := range []string{"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy", "Cross-Origin-Opener-Policy"} {
			if a.Header.Get(head) == "" {
				t.Errorf("%s: no %s", path, head)
			}
		}
		for _, bad := range []string{"https://", "@import", "innerHTML", " style=", " onclick=", "eval("} {
			if strings.Contains(body, bad) {
				t.Errorf("%s contains %q", path, bad)
			}
		}
		etag := a.Header.Get("Etag")
		if b := ask(t, "GET", s.URL+path, func(r *http.Request) { r.Header.Set("If-None-Match", etag) }); etag == "" || b.StatusCode != 304 {
			t.Errorf("%s: etag %q, status %d", path, etag, b.StatusCode)
		}
	}
	if csp := ask(t, "GET", s.URL, nil).Header.Get("Content-Security-Policy"); !strings.Contains(csp, "script-src 'self';") || strings.Contains(csp, "unsafe") {
		t.Errorf("policy %q", csp)
	}
	wantProblem(t, ask(t, "GET", s.URL+"/favicon.ico", nil), 404)
}
