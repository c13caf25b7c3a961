package paywall_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"coinop.dev/core/money"
	"coinop.dev/gateway/paywall"
)

func (m *market) client(c *paywall.Client) *http.Client {
	c.Pay = m.pay
	return &http.Client{Transport: c}
}

// A client that pays is a client like any other; it buys a session once and uses
// it until it is empty.
func TestAClientPays(t *testing.T) {
	m := newMarket(t)
	var bodies []string
	var mu sync.Mutex
	m.upstream = func(w http.ResponseWriter, r *http.Request) {
		b := make([]byte, 100)
		n, _ := r.Body.Read(b)
		mu.Lock()
		defer mu.Unlock()
		bodies = append(bodies, string(b[:n]))
	}
	c := m.client(&paywall.Client{MaxCost: money.Sat})
	for range 3 { // charges, each paid
		if a := m.send(c, "POST", "/weather/", []byte("hello")); a.StatusCode != 200 {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
	}
	if m.paid.Load() != 3 || strings.Join(bodies, " ") != "hello hello hello" {
		t.Errorf("paid %d times for %q", m.paid.Load(), bodies)
	}
	m.paid.Store(0)
	lightningOnly := func(r *http.Response) {
		var kept []string
		for _, v := range r.Header.Values("WWW-Authenticate") {
			if strings.HasPrefix(v, "L402") {
				kept = append(kept, v)
			}
		}
		r.Header["Www-Authenticate"] = kept
	}
	c = m.client(&paywall.Client{MaxCost: money.Sat, Base: changing(lightningOnly)})
	var all sync.WaitGroup
	for range 50 { // one session of 50, whoever of them is first
		all.Go(func() {
			if a := m.send(c, "GET", "/weather/", nil); a.StatusCode != 200 {
				t.Errorf("%d %s", a.StatusCode, a.body)
			}
		})
	}
	all.Wait()
	if m.paid.Load() != 1 {
		t.Errorf("50 requests of a session of 50 were paid %d times", m.paid.Load())
	}
	if a := m.send(c, "GET", "/weather/", nil); a.StatusCode != 200 || m.paid.Load() != 2 {
		t.Errorf("the 51st: %d, paid %d times", a.StatusCode, m.paid.Load())
	}
}

type changing func(*http.Response)

func (c changing) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		c(resp)
	}
	return resp, err
}

// What it may not, cannot or should not pay it does not pay.
func TestAClientIsCareful(t *testing.T) {
	m := newMarket(t)
	get := func(c *http.Client, url string) error {
		resp, err := c.Get(url)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	c := m.client(&paywall.Client{MaxCost: price - 1})
	if err := get(c, m.url+"/weather/"); !errors.Is(err, money.Refused) || m.paid.Load() != 0 {
		t.Errorf("too dear: %v, paid %d times", err, m.paid.Load())
	}
	remote := strings.Replace(m.url, "127.0.0.1", "shop.example", 1)
	there := roundTrip(func(r *http.Request) (*http.Response, error) {
		r.URL.Host = strings.TrimPrefix(m.url, "http://")
		return http.DefaultTransport.RoundTrip(r)
	})
	c = m.client(&paywall.Client{MaxCost: money.Sat, Base: there})
	if err := get(c, remote+"/weather/"); !errors.Is(err, money.Refused) || m.paid.Load() != 0 {
		t.Errorf("without TLS: %v, paid %d times", err, m.paid.Load())
	}
	// A server that takes the money and still says 402 is paid once.
	greedy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := m.do("GET", "/weather/")
		w.Header()["Www-Authenticate"] = a.Header.Values("WWW-Authenticate")
		w.WriteHeader(402)
	}))
	defer greedy.Close()
	c = m.client(&paywall.Client{MaxCost: money.Sat})
	resp, err := c.Get(greedy.URL)
	must(t, err)
	if resp.Body.Close(); resp.StatusCode != 402 || m.paid.Load() != 1 {
		t.Errorf("%d, paid %d times", resp.StatusCode, m.paid.Load())
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A payment of which nobody knows whether it went through is asked for again, and
// nothing else is paid until that is known; one that failed for certain may go
// another way.
func TestAClientNeverPaysTwice(t *testing.T) {
	m := newMarket(t)
	var ids []money.OrderID
	var fail error
	c := &http.Client{Transport: &paywall.Client{MaxCost: money.Sat, Pay: func(ctx context.Context, o money.Order) (money.Receipt, error) {
		ids = append(ids, o.ID)
		if fail != nil {
			return money.Receipt{}, fail
		}
		return m.pay(ctx, o)
	}}}
	fail = &money.Error{Kind: money.Pending, Op: "pay", Err: errors.New("no answer")}
	for range 3 {
		if _, err := c.Get(m.url + "/weather/"); !errors.Is(err, money.Pending) {
			t.Fatal(err)
		}
	}
	fail = nil
	resp, err := c.Get(m.url + "/weather/")
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != 200 || len(ids) != 4 || ids[0] != ids[1] || ids[0] != ids[3] || m.paid.Load() != 1 {
		t.Errorf("%d, orders %v, paid %d times", resp.StatusCode, ids, m.paid.Load())
	}
	ids, fail = nil, &money.Error{Kind: money.Unpaid, Op: "pay", Err: errors.New("no route")}
	if _, err := c.Get(m.url + "/weather/"); !errors.Is(err, money.Unpaid) || len(ids) != 4 { // charge, session, L402, LSAT
		t.Errorf("%v, tried %d", err, len(ids))
	}
}

// Whatever a server writes into WWW-Authenticate, a client does not fall over, and
// what it would pay is what the invoice itself says.
func FuzzChallenges(f *testing.F) {
	f.Add(`Payment id="a", realm="r", method="lightning", intent="charge", request="eyJhbW91bnQiOiIxMCIsImN1cnJlbmN5Ijoic2F0In0"`)
	f.Add(`Payment id="a", realm="r", method="oneway", intent="session", request="eyJhbW91bnQiOiIxMCIsImN1cnJlbmN5IjoibXNhdCIsImV4dGVybmFsSWQiOiIwMCJ9"`)
	f.Add(`L402 version="0", token="AAAA", invoice="lnbcrt1"`)
	f.Fuzz(func(t *testing.T, header string) {
		for _, o := range paywall.Orders(http.Header{"Www-Authenticate": {header}}) {
			if o.To == "" {
				t.Errorf("%+v is paid to nobody", o)
			}
		}
	})
}
