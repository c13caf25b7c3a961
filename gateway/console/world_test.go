package console_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coinop.dev"
	"coinop.dev/core/earn"
	corefleet "coinop.dev/core/fleet"
	"coinop.dev/core/journal"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
	"coinop.dev/engine"
	"coinop.dev/gateway"
	"coinop.dev/gateway/console"
	"coinop.dev/gateway/fleet"
	"coinop.dev/purse"
	"coinop.dev/rail"
	"coinop.dev/rail/fakerail"
	"coinop.dev/till"
	"coinop.dev/world/books"
	"coinop.dev/world/store/mem"
)

// A world is a real shop with its books and its fleet, which is its own customer
// with play money, behind a console.
type world struct {
	t       *testing.T
	shop    *gateway.Shop
	purse   *purse.Purse
	books   *books.Books
	file    string // of the books
	fleet   *fleet.Fleet
	host    *engine.Machine
	console *console.Console
	url     string
	acted   atomic.Int32 // by the device
	stuck   atomic.Bool  // the device does not answer

	mu      sync.Mutex
	revoked map[string]bool // tokens
}

var services = []offer.Service{
	{Name: "coffee", Title: "A cup of coffee", Unit: "cup", Fiat: offer.Fiat{Currency: "EUR", Micro: 1_200_000}, Max: 3, From: "machine", Within: 20 * step.Second},
	{Name: "energy", Title: "Charging", Unit: "Wh", Per: 1000, Min: 100, Fiat: offer.Fiat{Currency: "EUR", Micro: 300_000}, From: "device:charger-1"},
	{Name: "wash", Title: "Washing machine", Unit: "minute", Price: 40 * money.Sat, Max: 60, From: "machine"},
	{Name: "request", Title: "Weather API", Unit: "request", Price: 10, From: "http://upstream"},
	{Name: "news", Unit: "page", Price: money.Sat, Free: 2, From: "machine"},
	{Name: "trial", Title: "Air quality, on trial", Unit: "reading", Price: 5 * money.Sat, Shadow: true, From: "machine"},
}

// scopes of the tokens that the tests log in with.
var scopes = map[string][]string{"all": {"read", "sell", "admin"}, "look": {"read"}, "fire": {"read", "sell"}, "pay": {"pay"}}

func (w *world) principal(_ *http.Request, token string) (console.Principal, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	have, ok := scopes[token]
	if !ok || w.revoked[token] {
		return console.Principal{}, errors.New("no such token")
	}
	return console.Principal{Name: "operator/" + token, May: func(s string) bool { return slices.Contains(have, s) }}, nil
}

// liquid is a rail that says what it could move, and moves nothing.
type liquid struct {
	rail.Conn
	has rail.Liquidity
}

func (l liquid) Liquidity(context.Context) (rail.Liquidity, error) { return l.has, nil }

// Pay is nobody's.
func (l liquid) Pay(context.Context, money.Order) (money.Receipt, error) {
	return money.Receipt{}, &money.Error{Kind: money.Unpaid, Op: "pay", Err: errors.New("for show")}
}

type shown struct{ has rail.Liquidity }

func (s shown) Open(context.Context, *url.URL, rail.Env) (rail.Conn, error) {
	return liquid{has: s.has}, nil
}

func open(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, revoked: map[string]bool{}}
	ctx := t.Context()
	seed := keys.Digest("coinop/test", []byte(t.Name()))
	key, err := keys.SecretFromBytes(seed[:])
	must(t, err)
	db, err := mem.New(nil)
	must(t, err)
	m := engine.New(ctx, engine.Options{Key: key, DB: db})
	w.host = m
	w.purse, err = purse.Open(ctx, m, purse.Options{})
	must(t, err)
	must(t, gateway.AddCores(ctx, m))
	w.fleet, err = fleet.Open(m.Context(), m.Host, db, fleet.Options{Config: corefleet.Config{Root: key.Derive("fleet"), Node: key}})
	must(t, err)
	device := func(ctx context.Context, d earn.Deliver) ([]byte, error) {
		if w.stuck.Load() {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		w.acted.Add(1)
		return []byte("Take your " + d.Item), nil
	}
	tl, err := till.Open(ctx, m, till.Options{Device: device, Journal: true})
	must(t, err)
	var g rail.Registry
	g.Register(fakerail.Scheme, fakerail.Driver{})
	g.Register("lightning", shown{rail.Liquidity{Channels: 3, Receivable: 467_000 * money.Sat, Spendable: 133_000 * money.Sat, InFlight: 2_150 * money.Sat, AtRisk: 150 * money.Sat}})
	g.Register("oneway", shown{})
	var rails []*rail.Rail
	for _, uri := range []string{"fake:?balance=10000000sat", "fake:", "lightning:", "oneway:"} {
		r, err := g.Open(ctx, uri, rail.Env{Machine: m, Rail: func(string) *rail.Rail { return nil }})
		must(t, err)
		rails = append(rails, r)
	}
	must(t, w.purse.Hold(ctx, rails[0]))
	w.shop, err = gateway.Open(ctx, gateway.Options{
		Machine: m, Purse: w.purse, Services: services, Rails: func() []*rail.Rail { return rails },
		Rates: []*gateway.RateSource{{Currency: "EUR", Fixed: "90000"}},
	})
	must(t, err)
	w.file = "sqlite://" + filepath.Join(t.TempDir(), "books")
	w.books, err = books.Open(ctx, w.file, "gate")
	must(t, err)
	following := make(chan struct{})
	go func() {
		defer close(following)
		w.books.Follow(m.Context(), m.Host, nil)
	}()
	machine := &coinop.Machine{
		Config: coinop.Config{Name: "Kiosk 7", Rates: []coinop.Rate{{Currency: "EUR", Fixed: "90000"}}},
		Key:    key, DB: db, Engine: m, Purse: w.purse, Till: tl, Shop: w.shop,
	}
	w.console = console.New(console.Options{Machine: machine, Books: w.books, Fleet: w.fleet, Principal: w.principal})
	server := httptest.NewServer(w.console)
	w.url = server.URL
	t.Cleanup(func() {
		w.console.Close()
		server.Close()
		m.Close()
		<-following
		w.books.Close()
	})
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// buy pays for a service as a customer at another door would, and waits until the
// books have the order in a state.
func (w *world) buy(service string, units uint64, buyer, state string) money.OrderID {
	w.t.Helper()
	ctx := w.t.Context()
	o, err := w.shop.Quote(ctx, gateway.Ask{Service: service, Units: units, Buyer: buyer})
	must(w.t, err)
	proof := gateway.Proof{Token: o.Token, Buyer: buyer}
	if !o.Free {
		r := w.pay(o.Order, o.Ways[0].Pay, o.Due)
		proof.Receipt = &r
	}
	_, err = w.shop.Claim(ctx, proof)
	must(w.t, err)
	w.filed(o.Order, state)
	return o.Order
}

func (w *world) pay(id money.OrderID, uri string, due money.Amount) money.Receipt {
	w.t.Helper()
	r, err := w.purse.Pay(w.t.Context(), money.Order{ID: id, To: rail.Payee(uri), Amount: due})
	must(w.t, err)
	return r
}

// session pays ahead.
func (w *world) session(service string, units uint64) money.OrderID {
	w.t.Helper()
	ctx := w.t.Context()
	o, err := w.shop.Quote(ctx, gateway.Ask{Service: service, Units: units, Tab: true, Buyer: "http/198.51.100.7"})
	must(w.t, err)
	r := w.pay(o.Order, o.Ways[0].Pay, o.Due)
	_, err = w.shop.Session(ctx, gateway.Proof{Token: o.Token, Receipt: &r, Buyer: "http/198.51.100.7"})
	must(w.t, err)
	w.filed(o.Order, "settled")
	return o.Order
}

func (w *world) filed(id money.OrderID, state string) {
	w.t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		o, err := w.books.Order(w.t.Context(), id)
		if err == nil && o.State == state {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("the books have order %v as %q, %v; it should be %s", id, o.State, err, state)
		}
	}
}

// A browser keeps cookies and follows no redirect.
type browser struct {
	w    *world
	jar  map[string]string
	form string
}

// get loads a page.
func (b *browser) get(path string) (*http.Response, string) {
	b.w.t.Helper()
	return b.do(httptest.NewRequest("GET", "http://gate"+path, nil))
}

// post sends a form with the form's token.
func (b *browser) post(path string, fields ...string) (*http.Response, string) {
	b.w.t.Helper()
	values := url.Values{"form": {b.form}}
	for i := 0; i < len(fields); i += 2 {
		values.Set(fields[i], fields[i+1])
	}
	r := httptest.NewRequest("POST", "http://gate"+path, strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.do(r)
}

func (b *browser) do(r *http.Request) (*http.Response, string) {
	b.w.t.Helper()
	for name, value := range b.jar {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	rec := httptest.NewRecorder()
	b.w.console.ServeHTTP(rec, r)
	res := rec.Result()
	for _, k := range res.Cookies() {
		b.jar[k.Name] = k.Value
		if k.MaxAge < 0 {
			delete(b.jar, k.Name)
		}
	}
	return res, rec.Body.String()
}

func (w *world) browser() *browser { return &browser{w: w, jar: map[string]string{}} }

// login returns a browser that is logged in.
func (w *world) login(token string) *browser {
	w.t.Helper()
	b := w.browser()
	if res, body := b.post("/console/login", "token", token); res.StatusCode != http.StatusSeeOther {
		w.t.Fatalf("login with %s: %s\n%s", token, res.Status, body)
	}
	_, body := b.get("/console/")
	_, after, ok := strings.Cut(body, `name="form" value="`)
	if !ok {
		w.t.Fatalf("the page has no form token:\n%s", body)
	}
	b.form, _, _ = strings.Cut(after, `"`)
	return b
}

func (w *world) device(name string, key byte, budget money.Amount) {
	w.t.Helper()
	seed := keys.Digest("coinop/test/device", []byte{key})
	secret, err := keys.SecretFromBytes(seed[:])
	must(w.t, err)
	daily, err := spend.ParsePeriod("daily")
	must(w.t, err)
	must(w.t, w.fleet.Add(w.t.Context(), corefleet.Profile{
		Name: name, Tenant: "north", Tags: []string{"hall-2"}, Key: secret.Public(), Limits: corefleet.Limits{Total: budget, Order: budget / 5, Period: daily},
	}))
}

// past writes a month of orders and payments into the books, as another gateway of
// the same fleet.
func (w *world) past(orders int) {
	w.t.Helper()
	ctx := w.t.Context()
	other, err := books.Open(ctx, w.file, "gate-2")
	must(w.t, err)
	defer other.Close()
	now := w.host.Host.Now()
	items := []string{"coffee", "wash", "wash", "energy", "news"}
	devices := []string{"coffee-hall", "wash-3", "", "charger-1", ""}
	states := []string{"settled", "settled", "settled", "settled", "settled", "settled", "refunded", "failed", "settled", "delivered"}
	var events []journal.Event
	file := func(at step.Time, typ, subject string, v any) {
		data, err := json.Marshal(v)
		must(w.t, err)
		events = append(events, journal.Event{N: uint64(len(events) + 1), At: at, Type: typ, Subject: subject, Data: data})
	}
	for i := range orders {
		at := now - 29*step.Day + step.Time(i)*29*step.Day/step.Time(orders)
		paid := money.Amount(40+(i*i*31)%1900) * money.Sat
		if hour := at / step.Hour % 24; hour < 6 {
			paid /= 8
		}
		sum := sha256.Sum256([]byte{byte(i), byte(i >> 8), byte(i >> 16)})
		var id money.OrderID
		copy(id[:], sum[:])
		k := int(sum[0]) % len(items)
		o := earn.Order{
			ID: id, State: states[int(sum[1])%len(states)], Due: paid, Paid: paid, Item: items[k], Units: uint64(1 + sum[2]%9), Device: devices[k],
			Buyer: fmt.Sprintf("http/203.0.113.%d", sum[3]), At: at + 900, Rate: offer.Rate{Currency: "EUR", Micro: 90_000_000_000, Source: "fixed", At: at},
		}
		switch o.State {
		case "refunded":
			o.Back, o.How, o.Why = paid, "credit", "no acknowledgement by the deadline"
		case "failed":
			o.Why = "the device refused"
		}
		file(at, "order."+o.State, id.String(), o)
		if i%9 == 0 {
			id[0]++
			file(at, journal.PaymentSettled, id.String(), books.Payment{ID: id, State: "settled", To: "oneway://02ab", Amount: paid / 3, Fee: 200, For: "energy"})
		}
	}
	for batch := range slices.Chunk(events, books.MaxBatch) {
		_, err := other.Apply(ctx, batch)
		must(w.t, err)
	}
}

func contains(t *testing.T, body string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(body, word) {
			t.Errorf("the page does not say %q:\n%s", word, short(body))
		}
	}
}

func short(body string) string {
	_, main, ok := strings.Cut(body, "<main")
	if !ok {
		main = body
	}
	return fmt.Sprintf("%.3000s", main)
}
