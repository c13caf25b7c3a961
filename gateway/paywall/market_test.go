package paywall_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/invoice"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	core "coinop.dev/core/paywall"
	"coinop.dev/engine"
	"coinop.dev/gateway"
	"coinop.dev/gateway/paywall"
	"coinop.dev/purse"
	"coinop.dev/rail"
	"coinop.dev/rail/fakerail"
	"coinop.dev/till"
	"coinop.dev/world/store/bbolt"
)

// market is a shop on one machine with an upstream behind it, and a customer with
// a purse. Play money moves between the two ends of a fake rail; invoices are real
// ones, whose payment is play money too.
type market struct {
	t        testing.TB
	shop     *gateway.Shop
	wall     *paywall.Wall
	upstream http.HandlerFunc
	url      string // of the wall
	asked    atomic.Int32
	paid     atomic.Int32 // by the customer
	fail     atomic.Pointer[error]

	purse *purse.Purse
	seal  *sealing
}

const price = 10 * money.Msat

func newMarket(t testing.TB, change ...func(*paywall.Options)) *market {
	t.Helper()
	m := &market{t: t, upstream: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "sunny") }}
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.asked.Add(1)
		m.upstream(w, r)
	}))
	t.Cleanup(up.Close)
	m.openShop([]offer.Service{
		{Name: "weather", Title: "The weather", Unit: "request", Price: price, From: up.URL},
		{Name: "report", Unit: "request", Price: 2 * money.Sat, From: up.URL + "/base"},
		{Name: "bytes", Unit: "kB", Price: 100, From: up.URL},
		{Name: "time", Unit: "second", Price: 1000, From: up.URL},
		{Name: "tokens", Unit: "token", Price: 1, From: up.URL},
		{Name: "news", Unit: "page", Price: price, Free: 2, From: up.URL},
		{Name: "trial", Unit: "page", Price: price, Shadow: true, From: up.URL},
	})
	o := paywall.Options{Shop: m.shop, Challenges: 1000, Routes: []paywall.Route{
		{Service: "weather", Bundle: 50}, {Service: "report", Pattern: "GET /api/report/{id}"}, {Service: "bytes", Units: 2}, {Service: "time"},
		{Service: "tokens", Units: 100}, {Service: "news"}, {Service: "trial"},
	}}
	for _, c := range change {
		c(&o)
	}
	var err error
	m.wall, err = paywall.New(o)
	must(t, err)
	server := httptest.NewUnstartedServer(m.wall)
	server.Config = paywall.Server(m.wall)
	server.Start()
	t.Cleanup(server.Close)
	m.url = server.URL
	return m
}

func (m *market) openShop(services []offer.Service) {
	t, ctx := m.t, m.t.Context()
	store, err := bbolt.Open(filepath.Join(t.TempDir(), "state"))
	must(t, err)
	key, err := keys.NewSecret(rand.Reader)
	must(t, err)
	machine := engine.New(ctx, engine.Options{Key: key, DB: store})
	t.Cleanup(sync.OnceFunc(func() { machine.Close(); store.Close() }))
	m.purse, err = purse.Open(ctx, machine, purse.Options{})
	must(t, err)
	must(t, gateway.AddCores(ctx, machine))
	_, err = till.Open(ctx, machine, till.Options{Journal: true, Device: func(context.Context, earn.Deliver) ([]byte, error) { return nil, errors.New("there is none") }})
	must(t, err)
	m.seal = &sealing{key: key, orders: map[[32]byte]money.OrderID{}}
	var g rail.Registry
	g.Register(fakerail.Scheme, fakerail.Driver{})
	g.Register("seal", m.seal)
	env := rail.Env{Machine: machine, Rail: func(string) *rail.Rail { return nil }}
	pays, err := g.Open(ctx, "fake:?balance=10000sat", env)
	must(t, err)
	must(t, m.purse.Hold(ctx, pays))
	earns, err := g.Open(ctx, "fake:", env)
	must(t, err)
	seals, err := g.Open(ctx, "seal:", env)
	must(t, err)
	m.shop, err = gateway.Open(ctx, gateway.Options{
		Machine: machine, Purse: m.purse, Services: services, Rails: func() []*rail.Rail { return []*rail.Rail{pays, earns, seals} },
	})
	must(t, err)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sealing makes invoices as a Lightning node does.
type sealing struct {
	key    keys.Secret
	mu     sync.Mutex
	orders map[[32]byte]money.OrderID // by payment hash
}

type sealer struct {
	rail.Conn
	*sealing
}

func (s *sealing) Open(ctx context.Context, _ *url.URL, env rail.Env) (rail.Conn, error) {
	c, err := fakerail.Driver{}.Open(ctx, &url.URL{Scheme: fakerail.Scheme}, env)
	return sealer{c, s}, err
}

func (s *sealing) preimage(id money.OrderID) [32]byte { return s.key.MAC("test", id[:]) }

func (s *sealing) Seal(_ context.Context, b money.Bill) (rail.Sale, error) {
	p := s.preimage(b.ID)
	hash := sha256.Sum256(p[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orders[hash] = b.ID
	text, err := invoice.Invoice{
		Network: invoice.Regtest, Amount: b.Amount, At: time.Now().Unix(), Hash: hash, Secret: p, Description: b.For,
		Features: invoice.NewFeatures(invoice.VarOnion, invoice.PaymentSecret),
	}.Sign(s.key)
	return rail.Sale{Pay: "lightning:" + text, Hash: hash}, err
}

// pay is what the customer's purse does, over either rail.
func (m *market) pay(ctx context.Context, o money.Order) (money.Receipt, error) {
	m.paid.Add(1)
	if err := m.fail.Load(); err != nil {
		return money.Receipt{}, *err
	}
	inv, err := invoice.Parse(o.To)
	if err != nil {
		return m.purse.Pay(ctx, o)
	}
	m.seal.mu.Lock()
	id := m.seal.orders[inv.Hash]
	m.seal.mu.Unlock()
	to := "fake://" + m.shop.Machine().Key.Public().String()
	if _, err := m.purse.Pay(ctx, money.Order{ID: id, To: to, Amount: inv.Amount}); err != nil {
		return money.Receipt{}, err
	}
	p := m.seal.preimage(id)
	return money.Receipt{Order: o.ID, Amount: inv.Amount, To: o.To, Proof: p[:]}, nil
}

type answer struct {
	*http.Response
	body string
}

func (m *market) do(method, path string, headers ...string) answer {
	m.t.Helper()
	return m.send(http.DefaultClient, method, path, nil, headers...)
}

func (m *market) send(c *http.Client, method, path string, body []byte, headers ...string) answer {
	m.t.Helper()
	r, err := http.NewRequestWithContext(m.t.Context(), method, m.url+path, bytes.NewReader(body))
	must(m.t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	resp, err := c.Do(r)
	must(m.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		text = append(text, " …cut"...)
	}
	return answer{resp, string(text)}
}

// offers are the challenges of a 402.
func (a answer) offers() (charge, session core.Challenge, lightning, lightningSession core.Challenge, l402 core.L402) {
	for _, o := range core.ReadOffers(a.Header.Values("WWW-Authenticate")) {
		if c, ok := o.Payment(); ok {
			switch c.Method + " " + c.Intent {
			case "fake charge":
				charge = c
			case "fake session":
				session = c
			case "lightning charge":
				lightning = c
			case "lightning session":
				lightningSession = c
			}
		}
		if c, ok := o.L402(); ok && o.Scheme == "l402" {
			l402 = c
		}
	}
	return
}

// buy pays a challenge of the fake rail and returns the credential.
func (m *market) buy(c core.Challenge) core.Credential {
	m.t.Helper()
	req, err := c.ReadRequest()
	must(m.t, err)
	var id money.OrderID
	must(m.t, id.UnmarshalText([]byte(req.ExternalID)))
	text := req.Amount
	if req.DepositAmount != "" {
		text = req.DepositAmount
	}
	amount, err := money.ParseAmount(text + " " + req.Currency)
	must(m.t, err)
	r, err := m.pay(m.t.Context(), money.Order{ID: id, To: rail.Payee(req.Details.Pay), Amount: amount})
	must(m.t, err)
	return core.Credential{Challenge: c, Payload: core.Payload{Receipt: &r}}
}

// charge buys one request at a path.
func (m *market) charge(path string) core.Credential {
	m.t.Helper()
	c, _, _, _, _ := m.do("GET", path).offers()
	return m.buy(c)
}

// session buys units of what is at a path.
func (m *market) session(path, units string) (auth string, tab money.OrderID) {
	m.t.Helper()
	_, s, _, _, _ := m.do("GET", path, paywall.HeaderUnits, units).offers()
	req, err := s.ReadRequest()
	must(m.t, err)
	must(m.t, tab.UnmarshalText([]byte(req.ExternalID)))
	return m.buy(s).Header(), tab
}

// left waits until nothing of a session is reserved, and says what it has left.
func (m *market) left(tab money.OrderID) money.Amount {
	m.t.Helper()
	for range 200 {
		b, ok, err := m.shop.Balance(m.t.Context(), tab)
		must(m.t, err)
		if !ok {
			return 0
		}
		if b.Held == 0 {
			return b.Left
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.t.Fatal("something stays reserved")
	return 0
}
