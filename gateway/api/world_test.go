package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coinop.dev"
	_ "coinop.dev/all"
	"coinop.dev/core/earn"
	fleetcore "coinop.dev/core/fleet"
	"coinop.dev/core/journal"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/engine"
	"coinop.dev/gateway"
	"coinop.dev/gateway/api"
	"coinop.dev/gateway/fleet"
	"coinop.dev/gateway/hooks"
	"coinop.dev/rail"
	"coinop.dev/world/books"
)

// A town is one gateway behind its API, with books, a fleet, and play money of its
// own to buy from itself.
type town struct {
	t      *testing.T
	m      *coinop.Machine
	books  *books.Books
	fleet  *fleet.Fleet
	api    *api.API
	server *httptest.Server
	token  string // the operator's
	log    *bytes.Buffer
	acted  atomic.Int32
	stuck  atomic.Bool // the device does not answer
	stop   func()
}

const config = `
version = 1
name = "corner"
public_url = "https://corner.example"
rails = ["fake:", "fake:?balance=1000000sat"]
[limits]
total = "900000 sat"
[[sell]]
item = "coffee"
title = "A cup of coffee"
unit = "cup"
price = "5 sat"
max = 3
from = "machine"
[[sell]]
item = "request"
unit = "request"
price = "10 msat"
from = "http://10.1.2.3:8080/"
[[sell]]
item = "energy"
unit = "Wh"
per = 1000
price = "0.30 EUR"
from = "machine"
[[sell]]
item = "water"
unit = "l"
price = "1 sat"
within = "300ms"
from = "machine"
[[sell]]
item = "news"
unit = "page"
price = "1 sat"
free = 2
from = "machine"
[[sell]]
item = "tap"
unit = "l"
price = "2 sat"
within = "5s"
from = "device:tap-1"
[[rate]]
currency = "EUR"
fixed = "90000"
`

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  *bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func open(t *testing.T) *town { return openIn(t, t.TempDir()) }

// openIn opens the gateway whose data is in a folder, for the first time or again.
func openIn(t *testing.T, dir string) *town {
	t.Helper()
	w := &town{t: t, log: &bytes.Buffer{}}
	c, err := coinop.ParseConfig([]byte(config))
	must(t, err)
	c.Data = dir
	logger := slog.New(slog.NewTextHandler(&lockedBuffer{b: w.log}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	deliver := func(ctx context.Context, d earn.Deliver) ([]byte, error) {
		if w.stuck.Load() {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		w.acted.Add(1)
		return []byte("a cup of secret coffee"), nil
	}
	var root keys.Secret
	ctx, cancel := context.WithCancel(context.Background())
	cores := func(ctx context.Context, m *engine.Machine) (err error) {
		root = m.Key.Derive("gateway/fleet")
		w.fleet, err = fleet.Open(m.Context(), m.Host, m.DB, fleet.Options{Config: fleetcore.Config{Root: root, Node: m.Key}})
		return err
	}
	w.m, err = coinop.Open(ctx, c, coinop.Log(logger), coinop.AsGateway(cores, nil), coinop.Deliver("machine", deliver))
	must(t, err)
	w.books, err = books.Open(ctx, "sqlite://"+filepath.Join(dir, "books.sqlite"), "corner")
	must(t, err)
	var running sync.WaitGroup
	running.Go(func() { w.books.Follow(ctx, w.m.Engine.Host, nil) })
	w.token, err = api.Token(w.m.Shop, "first", api.Admin)
	must(t, err)
	h := hooks.New(w.books, hooks.Options{Private: true, Log: logger})
	w.api = api.New(api.Options{Machine: w.m, Books: w.books, Fleet: w.fleet, FleetRoot: root, Hooks: h, Paths: map[string]string{"request": "/weather/"}})
	running.Go(func() { h.Run(ctx) })
	w.server = httptest.NewServer(w.api)
	w.stop = sync.OnceFunc(func() {
		w.api.Close()
		w.server.CloseClientConnections()
		w.server.Close()
		cancel()
		running.Wait()
		w.m.Close()
		w.books.Close()
	})
	t.Cleanup(w.stop)
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A reply is what came back.
type reply struct {
	*http.Response
	text string
}

// problem reads the reply as one.
func (r reply) problem(t *testing.T) (p api.Problem) {
	t.Helper()
	if got := r.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("%s is %s and no problem: %s", r.Status, got, r.text)
	}
	must(t, json.Unmarshal([]byte(r.text), &p))
	if p.Status != r.StatusCode || p.Title == "" || p.Code == "" || p.Detail == "" {
		t.Fatalf("%d is answered with %s", r.StatusCode, r.text)
	}
	return p
}

// do asks with a token ("" for none) and headers in pairs. A body that is no text is
// sent as JSON.
func (w *town) do(token, method, path string, body any, headers ...string) reply {
	w.t.Helper()
	var r io.Reader
	switch v := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(v)
	default:
		raw, err := json.Marshal(v)
		must(w.t, err)
		r = bytes.NewReader(raw)
	}
	req, err := http.NewRequest(method, w.server.URL+path, r)
	must(w.t, err)
	if r != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	must(w.t, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	must(w.t, err)
	return reply{res, string(raw)}
}

// get asks and wants 200 or 204.
func want[T any](w *town, token, method, path string, body any, headers ...string) (v T) {
	w.t.Helper()
	r := w.do(token, method, path, body, headers...)
	if r.StatusCode != http.StatusOK && r.StatusCode != http.StatusNoContent {
		w.t.Fatalf("%s %s: %s %s", method, path, r.Status, r.text)
	}
	if r.text != "" {
		if err := json.Unmarshal([]byte(r.text), &v); err != nil {
			w.t.Fatalf("%s %s: %v in %s", method, path, err, r.text)
		}
	}
	return v
}

// refused asks and wants a problem of a status.
func (w *town) refused(status int, token, method, path string, body any, headers ...string) api.Problem {
	w.t.Helper()
	r := w.do(token, method, path, body, headers...)
	if r.StatusCode != status {
		w.t.Fatalf("%s %s: %s %s; want %d", method, path, r.Status, r.text, status)
	}
	return r.problem(w.t)
}

type object = map[string]any

// buy asks for an offer and pays it with the machine's own purse.
func (w *town) buy(service string, units int) (gateway.Offer, object) {
	w.t.Helper()
	return w.pay(want[gateway.Offer](w, "", "POST", "/v1/quotes", object{"service": service, "units": units}))
}

func (w *town) pay(o gateway.Offer) (gateway.Offer, object) {
	w.t.Helper()
	r, err := w.m.Purse.Pay(w.t.Context(), money.Order{ID: o.Order, To: rail.Payee(o.Ways[0].Pay), Amount: o.Due})
	must(w.t, err)
	return o, object{"token": o.Token, "receipt": r}
}

func (w *town) settled(id money.OrderID) earn.Order {
	w.t.Helper()
	o := want[earn.Order](w, w.token, "GET", fmt.Sprintf("/v1/orders/%v?wait=10s", id), nil)
	if o.State != "settled" {
		w.t.Fatalf("order %+v", o)
	}
	return o
}

// filed waits until the books have so many events.
func (w *town) filed(least int) []books.Event {
	w.t.Helper()
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		list, _, err := w.books.Events(w.t.Context(), 0, 500, nil)
		must(w.t, err)
		if len(list) >= least {
			return list
		}
		if time.Now().After(until) {
			w.t.Fatalf("%d events are filed; want %d", len(list), least)
		}
	}
}

// flood files events as a busy gateway beside this one would.
func (w *town) flood(n int, data string) {
	w.t.Helper()
	other, err := books.Open(w.t.Context(), "sqlite://"+filepath.Join(w.m.Config.Data, "books.sqlite"), "busy")
	must(w.t, err)
	defer other.Close()
	for at := 0; at < n; {
		var batch []journal.Event
		for ; len(batch) < books.MaxBatch && at < n; at++ {
			batch = append(batch, journal.Event{N: uint64(at + 1), At: w.m.Engine.Host.Now(), Type: journal.DeviceFault, Subject: "tap-1", Data: []byte(data)})
		}
		_, err := other.Apply(w.t.Context(), batch)
		must(w.t, err)
	}
}

func TestMain(m *testing.M) {
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 64
	os.Exit(m.Run())
}
