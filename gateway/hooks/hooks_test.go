package hooks_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coinop.dev/core/journal"
	"coinop.dev/core/step"
	"coinop.dev/gateway/hooks"
	"coinop.dev/world/books"
	"coinop.dev/world/store/postgres/pgtest"
)

var long = flag.Bool("long", false, "more events")

// TestMain has all tests run at once: they wait for one another's disk and network,
// and for time to pass. As somebody's victim it is a gateway (see TestKilled).
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	if uri := os.Getenv(victimBooks); uri != "" {
		b, err := books.Open(context.Background(), uri, "corner")
		if err != nil {
			panic(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // whatever becomes of the test
		hooks.Run(ctx, b, quick)
		cancel()
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// quick looks often, and waits little.
var quick = hooks.Options{Private: true, Timeout: 400 * time.Millisecond, Poll: 50 * time.Millisecond}

const secret = "a secret of sixteen bytes"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openBooks(t *testing.T) *books.Books {
	t.Helper()
	b, err := books.Open(t.Context(), "sqlite://"+filepath.Join(t.TempDir(), "books.sqlite"), "corner")
	must(t, err)
	t.Cleanup(func() { b.Close() })
	return b
}

func now() step.Time { return step.Time(time.Now().UnixMilli()) }

// happen files n events after the first after ones.
func happen(t *testing.T, b *books.Books, after, n int) {
	t.Helper()
	var list []journal.Event
	for i := range n {
		list = append(list, journal.Event{N: uint64(after + i + 1), At: now(), Type: journal.DeviceFault, Subject: "tap-1", Data: []byte(`{"text":"no water"}`)})
	}
	_, err := b.Apply(t.Context(), list)
	must(t, err)
}

func endpoint(t *testing.T, b *books.Books, id, url string) books.Endpoint {
	t.Helper()
	p := books.Endpoint{ID: id, URL: url, Secret: secret, At: now()}
	must(t, b.PutEndpoint(t.Context(), p))
	return p
}

// run works the hooks until the test ends.
func run(t *testing.T, b *books.Books, o hooks.Options) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan bool)
	go func() {
		defer close(done)
		hooks.Run(ctx, b, o)
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

// A receiver counts what it takes, by the delivery's name.
type receiver struct {
	*httptest.Server
	mu   sync.Mutex
	seen map[string]int
	hook func(http.ResponseWriter, *http.Request, []byte) bool // false: it has answered
}

func receive(t *testing.T, hook func(http.ResponseWriter, *http.Request, []byte) bool) *receiver {
	r := &receiver{seen: map[string]int{}, hook: hook}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		raw, _ := io.ReadAll(req.Body)
		if r.hook != nil && !r.hook(w, req, raw) {
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.seen[req.Header.Get(hooks.HeaderDelivery)]++
	}))
	t.Cleanup(func() { r.CloseClientConnections(); r.Close() })
	return r
}

func (r *receiver) wait(t *testing.T, n int, within time.Duration) {
	t.Helper()
	for until := time.Now().Add(within); ; time.Sleep(10 * time.Millisecond) {
		r.mu.Lock()
		have := len(r.seen)
		r.mu.Unlock()
		if have >= n {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%d of %d deliveries came in %v", have, n, within)
		}
	}
}

func (r *receiver) once(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, n := range r.seen {
		if n != 1 {
			t.Errorf("%s came %d times", id, n)
		}
	}
}

func TestDelivery(t *testing.T) {
	t.Parallel()
	b := openBooks(t)
	r := receive(t, func(_ http.ResponseWriter, req *http.Request, raw []byte) bool {
		var body struct {
			Delivery string    `json:"delivery"`
			Sent     step.Time `json:"sent_ms"`
			Type     string    `json:"type"`
			Data     struct{ Text string }
		}
		if err := json.Unmarshal(raw, &body); err != nil || body.Type != journal.DeviceFault || body.Data.Text != "no water" {
			t.Errorf("%v: %s", err, raw)
		}
		if req.Header.Get(hooks.HeaderSignature) != hooks.Sign(secret, raw) || req.Header.Get(hooks.HeaderDelivery) != body.Delivery ||
			req.Header.Get(hooks.HeaderTimestamp) != fmt.Sprint(int64(body.Sent)) {
			t.Errorf("%v over %s", req.Header, raw)
		}
		return true
	})
	endpoint(t, b, "ops", r.URL)
	run(t, b, hooks.Options{Private: true})
	happen(t, b, 0, 200)
	r.wait(t, 200, 20*time.Second)
	r.once(t)
}

// What an endpoint does not take is tried again until it does.
func TestTriedAgain(t *testing.T) {
	t.Parallel()
	b := openBooks(t)
	var tries atomic.Int32
	r := receive(t, func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
		if tries.Add(1) <= 2 {
			w.WriteHeader(http.StatusInternalServerError)
			return false
		}
		return true
	})
	endpoint(t, b, "ops", r.URL)
	clock := &atomic.Int64{} // fast: a second is a tenth
	began := time.Now()
	fast := func() step.Time {
		return now() + step.Time(9*time.Since(began).Milliseconds()) + step.Time(clock.Load())
	}
	run(t, b, hooks.Options{Private: true, Now: fast, Timeout: 5 * time.Second, Poll: quick.Poll}) // of fast seconds
	happen(t, b, 0, 1)
	r.wait(t, 1, 10*time.Second)
	if n := tries.Load(); n != 3 {
		t.Errorf("%d tries", n)
	}
}

// An endpoint that answers with a failure for days is given up, and can be had again.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	b := openBooks(t)
	var well atomic.Bool
	r := receive(t, func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
		if !well.Load() {
			w.WriteHeader(http.StatusGone)
		}
		return well.Load()
	})
	endpoint(t, b, "ops", r.URL)
	happen(t, b, 0, 1)
	var ahead atomic.Int64
	run(t, b, hooks.Options{Private: true, Poll: quick.Poll, Now: func() step.Time { return now() + step.Time(ahead.Load()) }})
	state := func(want string) {
		t.Helper()
		for until := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			list, err := b.Deliveries(t.Context(), "ops", 0, 10)
			must(t, err)
			if len(list) == 1 && list[0].State == want && list[0].Status != 0 {
				return
			}
			if time.Now().After(until) {
				t.Fatalf("%+v is not %s", list, want)
			}
		}
	}
	state("waiting")
	ahead.Store(int64(hooks.GiveUp + step.Day))
	state("failed")
	well.Store(true)
	must(t, b.Redeliver(t.Context(), "ops", 1, now()))
	state("done")
}

// Receivers that hang, that answer byte by byte, that redirect or that are not there
// do not keep an event from one that works.
func TestBadReceivers(t *testing.T) {
	t.Parallel()
	b := openBooks(t)
	ctx, release := context.WithCancel(t.Context())
	hangs := receive(t, func(http.ResponseWriter, *http.Request, []byte) bool { <-ctx.Done(); return false })
	drips := receive(t, func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
		for ctx.Err() == nil {
			if _, err := io.WriteString(w, "x"); err != nil {
				break
			}
			w.(http.Flusher).Flush()
			time.Sleep(50 * time.Millisecond)
		}
		return false
	})
	good := receive(t, nil)
	var followed atomic.Bool
	trap := receive(t, func(http.ResponseWriter, *http.Request, []byte) bool { followed.Store(true); return true })
	redirects := receive(t, func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		http.Redirect(w, r, trap.URL, http.StatusTemporaryRedirect)
		return false
	})
	floods := receive(t, func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
		w.Header().Set("X-Long", strings.Repeat("x", 1<<20))
		return false
	})
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	must(t, err)
	defer silent.Close()
	for id, url := range map[string]string{
		"a-hangs": hangs.URL, "b-drips": drips.URL, "c-redirects": redirects.URL, "d-silent": "http://" + silent.Addr().String(),
		"e-floods": floods.URL, "f-nobody": "http://127.0.0.1:1/", "z-good": good.URL,
	} {
		endpoint(t, b, id, url)
	}
	t.Cleanup(release)
	happen(t, b, 0, 60)
	stop := run(t, b, quick)
	good.wait(t, 60, 8*time.Second)
	happen(t, b, 60, 5)
	good.wait(t, 65, 5*time.Second)
	good.once(t)
	time.Sleep(600 * time.Millisecond) // those that hang are given up
	began := time.Now()
	release()
	if stop(); time.Since(began) > 2*time.Second {
		t.Errorf("it took %v to stop", time.Since(began))
	}
	if followed.Load() {
		t.Error("a redirect was followed")
	}
	for id, words := range map[string]string{"a-hangs": "in time", "b-drips": "in time", "c-redirects": "307", "d-silent": "in time", "f-nobody": "refused"} {
		list, err := b.Deliveries(context.Background(), id, 0, 500)
		must(t, err)
		found, attempts := false, 0
		for _, d := range list {
			attempts += d.Attempts
			found = found || strings.Contains(d.Error, words)
			if strings.Contains(d.Error, "http://") {
				t.Errorf("%s: the URL is in the error: %s", id, d.Error)
			}
			if d.State == "done" {
				t.Errorf("%s: %+v", id, d)
			}
		}
		if !found {
			t.Errorf("%s: no delivery says %q", id, words)
		}
		// What waits behind one that hangs was not attempted.
		if id == "a-hangs" && (attempts == 0 || attempts > 20) {
			t.Errorf("%d attempts at the 65 deliveries of one that hangs", attempts)
		}
	}
}

// Nothing is sent to where a gateway could be used against its own network.
func TestWhereEventsMayNotGo(t *testing.T) {
	t.Parallel()
	b := openBooks(t)
	careful, private := hooks.New(b, hooks.Options{}), hooks.New(b, hooks.Options{Private: true})
	for _, c := range []struct {
		host               string
		openly, privateley bool
	}{
		{"203.0.113.7", true, true}, {"hooks.example.org", true, true}, {"[2600::1]", true, true},
		{"127.0.0.1", false, true}, {"[::1]", false, true}, {"10.0.0.1", false, true}, {"192.168.1.1", false, true}, {"172.31.0.1", false, true},
		{"100.64.0.1", false, true}, {"[fd12::1]", false, true}, {"[::ffff:10.0.0.1]", false, true}, {"[64:ff9b::a00:1]", false, true},
		{"169.254.169.254", false, false}, {"[fe80::1]", false, false}, {"[::ffff:169.254.169.254]", false, false}, {"[fd00:ec2::254]", false, false},
		{"0.0.0.0", false, false}, {"[::]", false, false}, {"224.0.0.1", false, false}, {"255.255.255.255", false, false}, {"[64:ff9b::a9fe:a9fe]", false, false},
		{"[2002:a9fe:a9fe::1]", false, false}, {"100.100.100.200", false, false},
	} {
		p := books.Endpoint{ID: "x", URL: "https://" + c.host + "/", Secret: secret}
		if err := careful.Check(p); (err == nil) != c.openly {
			t.Errorf("%s: %v", c.host, err)
		}
		if err := private.Check(p); (err == nil) != c.privateley {
			t.Errorf("%s, with private ones allowed: %v", c.host, err)
		}
	}
	for _, url := range []string{"", "ftp://x/", "https://", "https://user:pass@x/", "x", "https://x/" + strings.Repeat("x", 1024), "http://x\x00/"} {
		if careful.Check(books.Endpoint{ID: "x", URL: url, Secret: secret}) == nil {
			t.Errorf("%.40q is taken", url)
		}
	}
	// A name that leads to such an address is found out when it is dialled.
	r := receive(t, nil)
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(r.URL, "http://"))
	if status, err := careful.Ping(t.Context(), books.Endpoint{ID: "x", URL: "http://localhost:" + port, Secret: secret}); err == nil || status != 0 || !strings.Contains(err.Error(), "private") {
		t.Errorf("%d, %v", status, err)
	}
	if status, err := private.Ping(t.Context(), books.Endpoint{ID: "x", URL: "http://localhost:" + port, Secret: secret}); err != nil || status != 200 {
		t.Errorf("%d, %v", status, err)
	}
}

// An endpoint that is dropped or switched off gets nothing more, and a repaired one
// does not wait out its rest.
func TestChangedWhileRunning(t *testing.T) {
	t.Parallel()
	b := openBooks(t)
	bad := receive(t, func(w http.ResponseWriter, _ *http.Request, _ []byte) bool { w.WriteHeader(500); return false })
	good := receive(t, nil)
	endpoint(t, b, "ops", bad.URL)
	run(t, b, hooks.Options{Private: true, Poll: quick.Poll, Log: slog.New(slog.DiscardHandler)})
	happen(t, b, 0, 1)
	time.Sleep(300 * time.Millisecond)
	endpoint(t, b, "ops", good.URL)
	good.wait(t, 1, 5*time.Second)
	must(t, b.DropEndpoint(t.Context(), "ops"))
	happen(t, b, 1, 1)
	time.Sleep(300 * time.Millisecond)
	good.once(t)
	if len(good.seen) != 1 {
		t.Errorf("%v", good.seen)
	}
}

// Two gateways with one database: each event is sent once, by one of them.
func TestTwoGateways(t *testing.T) {
	t.Parallel()
	uri := pgtest.Start(t)
	var two []*books.Books
	for _, name := range []string{"a", "b"} {
		b, err := books.Open(t.Context(), uri, name)
		must(t, err)
		t.Cleanup(func() { b.Close() })
		two = append(two, b)
	}
	r := receive(t, nil)
	endpoint(t, two[0], "ops", r.URL)
	run(t, two[0], hooks.Options{Private: true, Concurrency: 4})
	run(t, two[1], hooks.Options{Private: true, Concurrency: 4})
	happen(t, two[0], 0, 150)
	happen(t, two[1], 0, 150)
	r.wait(t, 300, 20*time.Second)
	time.Sleep(200 * time.Millisecond)
	r.once(t)
	done(t, two[1], "ops", 300)
}
