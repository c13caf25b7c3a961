package paywall_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/money"
	core "coinop.dev/core/paywall"
	"coinop.dev/gateway"
	"coinop.dev/gateway/paywall"
	"coinop.dev/rail"
)

// An upstream that fails costs nothing, one that is cut off half-way costs the
// estimate, and one that sends no byte nothing.
func TestWhatFailuresCost(t *testing.T) {
	m := newMarket(t)
	auth, tab := m.session("/tokens/", "1000")
	hijack := func(w http.ResponseWriter, say string) {
		c, _, err := http.NewResponseController(w).Hijack()
		must(t, err)
		io.WriteString(c, say)
		c.Close()
	}
	want := money.Amount(1000)
	for _, v := range []struct {
		what     string
		upstream http.HandlerFunc
		status   int
		cost     money.Amount
	}{
		{"a status of 500", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "oops", 500) }, 500, 0},
		{"a status of 503", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, 503, 0},
		{"no answer", func(w http.ResponseWriter, _ *http.Request) { hijack(w, "") }, 502, 0},
		{"nonsense", func(w http.ResponseWriter, _ *http.Request) { hijack(w, "what?\r\n\r\n") }, 502, 0},
		{"headers without a byte", func(w http.ResponseWriter, _ *http.Request) {
			hijack(w, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
		}, 0, 0},
		{"half of it", func(w http.ResponseWriter, _ *http.Request) {
			hijack(w, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
		}, 0, 100},
		{"not found", http.NotFound, 404, 100},
		{"all of it", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "all") }, 200, 100},
		{"an empty whole", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, 204, 100},
		{"what upstream says", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(paywall.HeaderUnits, "7")
			io.WriteString(w, "all")
		}, 200, 7},
		{"nothing, says upstream", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(paywall.HeaderUnits, "0")
			w.WriteHeader(404)
		}, 404, 0},
		{"what it says in the end", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", paywall.HeaderUnits)
			io.WriteString(w, "some")
			w.Header().Set(paywall.HeaderUnits, "150") // more than was reserved
		}, 200, 150},
	} {
		m.upstream = v.upstream
		r, err := http.NewRequest("GET", m.url+"/tokens/", nil)
		must(t, err)
		r.Header.Set("Authorization", auth)
		resp, err := (&http.Transport{}).RoundTrip(r)
		status := 0
		if err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			status = resp.StatusCode
		}
		if want -= v.cost; m.left(tab) != want || status != v.status {
			t.Errorf("%s: status %d, %v left; want %d and %v", v.what, status, m.left(tab), v.status, want)
			want = m.left(tab)
		}
		if v.cost == 0 && status >= 500 && resp.Header.Get("Payment-Receipt") != "" {
			t.Errorf("%s: there is a receipt", v.what)
		}
	}
}

// Bytes are drawn as they flow; when nothing is left the response breaks off, and
// has cost what was delivered.
func TestBytesAreMetered(t *testing.T) {
	m := newMarket(t)
	m.upstream = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Transfer-Encoding", "chunked")
		for range 20 {
			w.Write(make([]byte, 1000))
			w.(http.Flusher).Flush()
		}
	}
	auth, tab := m.session("/bytes/", "25")
	if a := m.do("GET", "/bytes/", "Authorization", auth); len(a.body) != 20_000 || m.left(tab) != 500 {
		t.Fatalf("%d bytes, %v left", len(a.body), m.left(tab))
	}
	if a := m.do("GET", "/bytes/", "Authorization", auth); !strings.HasSuffix(a.body, "…cut") || len(a.body) > 5100 || m.left(tab) > 100 {
		t.Errorf("%d bytes for 5 kB, %v left", len(a.body), m.left(tab))
	}
}

// Seconds are drawn as they pass, also while nothing is said.
func TestSecondsAreMetered(t *testing.T) {
	t.Parallel()
	m := newMarket(t)
	gone := make(chan struct{}, 2)
	m.upstream = func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "on")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		gone <- struct{}{}
	}
	auth, tab := m.session("/time/", "2")
	begun := time.Now()
	a := m.do("GET", "/time/", "Authorization", auth)
	if took := time.Since(begun); took < 1900*time.Millisecond || took > 3*time.Second || !strings.Contains(a.body, "on") || !strings.HasSuffix(a.body, "…cut") {
		t.Errorf("2 seconds took %v and brought %q", took, a.body)
	}
	<-gone
	if m.left(tab) != 0 {
		t.Errorf("%v left", m.left(tab))
	}
}

// A client that goes away pays for what it took.
func TestAClientGoesAway(t *testing.T) {
	m := newMarket(t)
	m.upstream = func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 100)); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			time.Sleep(5 * time.Millisecond)
		}
	}
	auth, tab := m.session("/tokens/", "1000")
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", m.url+"/tokens/", nil)
	must(t, err)
	r.Header.Set("Authorization", auth)
	resp, err := http.DefaultClient.Do(r)
	must(t, err)
	io.ReadFull(resp.Body, make([]byte, 300))
	cancel()
	resp.Body.Close()
	if got := m.left(tab); got != 900 {
		t.Errorf("%v left of 1000, at an estimate of 100", got)
	}
}

// A receiver that stops reading and a sender that stops sending are let go.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	m := newMarket(t)
	m.wall.SetIdle(100 * time.Millisecond)
	ended := make(chan error, 2)
	m.upstream = func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			_, err := io.Copy(io.Discard, r.Body)
			ended <- err
			return
		}
		var err error
		for err == nil {
			_, err = w.Write(make([]byte, 64<<10))
		}
		ended <- err
	}
	auth, tab := m.session("/tokens/", "1000")
	for _, say := range []string{
		"GET /tokens/ HTTP/1.1\r\nHost: x\r\nAuthorization: " + auth + "\r\n\r\n",
		"POST /tokens/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nAuthorization: " + auth + "\r\n\r\nonly this",
	} {
		c, err := net.Dial("tcp", strings.TrimPrefix(m.url, "http://"))
		must(t, err)
		defer c.Close()
		io.WriteString(c, say)
		select {
		case err := <-ended:
			if err == nil {
				t.Error("it ended well")
			}
		case <-time.After(5 * time.Second):
			t.Fatal("it is still waited for")
		}
	}
	if got := m.left(tab); got != 900 { // the one that took something
		t.Errorf("%v left of 1000", got)
	}
	// And a stream that lasts longer than any of that is not cut.
	m.upstream = func(w http.ResponseWriter, _ *http.Request) {
		for range 6 {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			time.Sleep(50 * time.Millisecond)
		}
	}
	if a := m.do("GET", "/tokens/", "Authorization", auth); a.body != "xxxxxx" {
		t.Errorf("%q", a.body)
	}
	time.Sleep(150 * time.Millisecond) // no deadline stays on the connection
	if a := m.do("GET", "/weather/"); a.StatusCode != 402 {
		t.Errorf("%d", a.StatusCode)
	}
}

func TestOversizedRequests(t *testing.T) {
	t.Parallel()
	m := newMarket(t, func(o *paywall.Options) { o.MaxBody = 1000 })
	m.upstream = func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }
	auth, tab := m.session("/tokens/", "1000")
	if a := m.send(http.DefaultClient, "POST", "/tokens/", make([]byte, 1001), "Authorization", auth); a.StatusCode != 413 {
		t.Errorf("a large body: %d", a.StatusCode)
	}
	r, err := http.NewRequest("POST", m.url+"/tokens/", io.LimitReader(zeros{}, 100_000)) // its length is not told
	must(t, err)
	r.Header.Set("Authorization", auth)
	resp, err := http.DefaultClient.Do(r)
	if err == nil {
		if resp.Body.Close(); resp.StatusCode < 400 {
			t.Errorf("an endless body: %d", resp.StatusCode)
		}
	}
	if got := m.left(tab); got != 1000 {
		t.Errorf("%v left of 1000", got)
	}
	c, err := net.Dial("tcp", strings.TrimPrefix(m.url, "http://"))
	must(t, err)
	defer c.Close()
	fmt.Fprintf(c, "GET /tokens/ HTTP/1.1\r\nHost: x\r\nAuthorization: L402 %s\r\n\r\n", strings.Repeat("a", 100_000))
	resp, err = http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 431 {
		t.Errorf("large headers: %v, %v", resp, err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// A flood of requests that nobody pays is bounded for each client and for all, and
// leaves nothing behind, in memory or on disk.
func TestAFlood(t *testing.T) {
	m := newMarket(t, func(o *paywall.Options) {
		o.Challenges = 5
		o.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	})
	ask := func(from string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/weather/", nil)
		r.RemoteAddr = "127.0.0.1:1"
		r.Header.Set("X-Forwarded-For", "9.9.9.9, "+from)
		w := httptest.NewRecorder()
		m.wall.ServeHTTP(w, r)
		return w
	}
	for i := range 10 {
		if w := ask("2001:db8::" + fmt.Sprint(i+1)); (w.Code == 402) != (i < 5) || w.Code == 429 && (w.Header().Get("Retry-After") == "" || w.Header().Get("WWW-Authenticate") != "") {
			t.Errorf("request %d of a network: %d", i, w.Code)
		}
	}
	if w := ask("192.0.2.1"); w.Code != 402 {
		t.Errorf("another client: %d", w.Code)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	given := 0
	for i := range 3 * paywall.MaxClients {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if i%64 == 0 {
			ask(addr.String())
		} else if m.wall.Take(addr) {
			given++
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if m.wall.Remembered() > paywall.MaxClients {
		t.Errorf("%d clients are remembered", m.wall.Remembered())
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	if given == 0 || given > 20_000 {
		t.Errorf("%d of %d addresses would be given offers", given, 3*paywall.MaxClients)
	}
	if m.asked.Load() != 0 {
		t.Error("upstream was asked")
	}
}

// A handler of the same program is sold like an upstream, and one that panics
// costs nothing.
func TestMiddleware(t *testing.T) {
	m := newMarket(t)
	sell, err := paywall.Middleware(m.shop, "weather")
	must(t, err)
	s := httptest.NewServer(sell(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, can := w.(http.Hijacker); can {
			t.Error("a handler can go past the meter")
		}
		if r.Header.Get("Authorization") != "" {
			t.Error("a handler sees the credential")
		}
		if r.URL.Path == "/panic" {
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, "rain")
	})))
	defer s.Close()
	m.url = s.URL
	auth, tab := m.session("/", "2")
	if a := m.do("GET", "/", "Authorization", auth); a.body != "rain" || a.Header.Get(paywall.HeaderLeft) != "10" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	r, err := http.NewRequest("GET", m.url+"/panic", nil)
	must(t, err)
	r.Header.Set("Authorization", auth)
	if resp, err := (&http.Transport{}).RoundTrip(r); err == nil {
		t.Errorf("%d", resp.StatusCode)
	}
	if got := m.left(tab); got != 10 {
		t.Errorf("%v left", got)
	}
}

// Without an EVM rail x402 is not offered; with one it is.
func TestTheEVMSeam(t *testing.T) {
	m := newMarket(t)
	if a := m.do("GET", "/weather/"); a.Header.Get(core.X402Required) != "" {
		t.Error("x402 is offered, and cannot be taken")
	}
	evm := &coins{}
	m = newMarket(t, func(o *paywall.Options) { o.EVM = evm })
	evm.market = m
	a := m.do("GET", "/weather/")
	if a.Header.Get(core.X402Required) == "" {
		t.Fatal("x402 is not offered")
	}
	pay := core.X402Payment{Version: 2, Accepted: evm.offered, Payload: []byte(`{}`)}
	if a := m.do("GET", "/weather/", core.X402Signature, pay.Header()); a.StatusCode != 200 || a.Header.Get(core.X402Response) == "" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	pay.Accepted.Extra = nil
	if a := m.do("GET", "/weather/", core.X402Signature, pay.Header()); a.StatusCode != 402 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// coins is the rail that there is not yet, as far as the paywall can tell.
type coins struct {
	*market
	offer   gateway.Offer
	offered core.X402Requirement
}

func (c *coins) Requirements(_ context.Context, o gateway.Offer) ([]core.X402Requirement, error) {
	c.offer = o
	c.offered = core.X402Requirement{Scheme: "exact", Network: "eip155:84532", Amount: "1", Asset: "0x", PayTo: "0x", Extra: map[string]string{}}
	return []core.X402Requirement{c.offered}, nil
}

func (c *coins) Settle(ctx context.Context, _ core.X402Payment) (money.Receipt, core.X402Settlement, error) {
	r, err := c.pay(ctx, money.Order{ID: c.offer.Order, To: rail.Payee(c.offer.Ways[0].Pay), Amount: c.offer.Due})
	return r, core.X402Settlement{Success: err == nil, Network: "eip155:84532"}, err
}
