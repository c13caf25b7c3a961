package data_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/engine"
	"coinop.dev/gateway"
	"coinop.dev/gateway/data"
	"coinop.dev/purse"
	"coinop.dev/rail"
	"coinop.dev/rail/lnrail"
	"coinop.dev/rail/onewayrail"
	"coinop.dev/rail/paywordrail"
	"coinop.dev/rail/railtest"
	"coinop.dev/till"
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/regtest"
	"coinop.dev/world/store"
	"coinop.dev/world/store/bbolt"
)

const price = 2 * money.Sat

// needle is in every reading, and nowhere else.
const needle = "degrees-in-the-clear"

func reading(i int) string { return fmt.Sprintf("%d: 21.%d %s", i, i, needle) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func secret(name string) keys.Secret {
	key, err := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte(name), 32)))
	if err != nil {
		panic(err)
	}
	return key
}

// newChain is a chain of blocks that come when somebody waits for one.
func newChain(t testing.TB) *regtest.Node {
	node, err := regtest.Open(regtest.Options{})
	must(t, err)
	t.Cleanup(func() { node.Close() })
	ctx, stop := context.WithCancel(context.Background())
	var mining sync.WaitGroup
	mining.Go(func() {
		for ; ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
			if len(node.MempoolTxs()) > 0 {
				node.Mine(1)
			}
		}
	})
	t.Cleanup(func() { stop(); mining.Wait() })
	return node
}

func registry() *rail.Registry {
	var g rail.Registry
	g.Register(onewayrail.Scheme, onewayrail.Driver{})
	g.Register(lnrail.Scheme, lnrail.Driver{})
	g.Register(paywordrail.Scheme, paywordrail.Driver{})
	return &g
}

// A seller is a whole machine that sells temperatures.
type seller struct {
	m     *engine.Machine
	shop  *gateway.Shop
	data  *data.Seller
	rails []*rail.Rail
}

// openSeller starts one, with the rails of these URIs.
func openSeller(ctx context.Context, key keys.Secret, db store.DB, c chain.Source, listen string, from data.Source, uris func(addr string) []string) (*seller, error) {
	s := &seller{m: engine.New(ctx, engine.Options{Key: key, DB: db, Chain: c})}
	if err := gateway.AddCores(ctx, s.m); err != nil {
		return nil, err
	}
	if _, err := till.Open(ctx, s.m, till.Options{Journal: true}); err != nil {
		return nil, err
	}
	var err error
	s.shop, err = gateway.Open(ctx, gateway.Options{
		Machine: s.m, Rails: func() []*rail.Rail { return s.rails },
		Services: []offer.Service{
			{Name: "temperature", Title: "In the shade", Unit: "reading", Price: price, From: "data:thermometer"},
			{Name: "hints", Unit: "reading", Price: price, Shadow: true, From: "data:thermometer"},
			{Name: "humidity", Unit: "reading", Price: price, From: "data:broken"},
			{Name: "coffee", Unit: "cup", Price: price},
		},
	})
	if err != nil {
		return nil, err
	}
	s.data, err = data.Open(ctx, data.Options{
		Shop: s.shop, Rails: func() []*rail.Rail { return s.rails },
		Sources: map[string]data.Source{"thermometer": from, "broken": &data.Feed{}},
	})
	if err != nil {
		return nil, err
	}
	addr, err := s.m.Listen(listen)
	if err != nil {
		return nil, err
	}
	g := registry()
	for _, uri := range uris(addr.String()) {
		r, err := g.Open(ctx, uri, rail.Env{Machine: s.m})
		if err != nil {
			return nil, err
		}
		s.rails = append(s.rails, r)
	}
	return s, nil
}

// A buyer is a machine with a purse that counts.
type buyer struct {
	*purse.Purse
	m    *engine.Machine
	paid atomic.Int32
}

func (b *buyer) Pay(ctx context.Context, o money.Order) (money.Receipt, error) {
	b.paid.Add(1)
	return b.Purse.Pay(ctx, o)
}

func newBuyer(t testing.TB, node *regtest.Node, db store.DB, uris ...string) *buyer {
	b := &buyer{m: engine.New(t.Context(), engine.Options{Key: secret("buyer"), DB: db, Chain: node})}
	t.Cleanup(func() { b.m.Close() })
	script := tx.P2WPKH(tx.WalletKey(b.m.Key).Public())
	_, err := node.Faucet(script, 3_000_000)
	must(t, err)
	for coins := []watch.Coin(nil); len(coins) == 0 || coins[0].Depth == 0; time.Sleep(time.Millisecond) {
		coins, err = node.Coins(t.Context(), script)
		must(t, err)
	}
	b.Purse, err = purse.Open(t.Context(), b.m, purse.Options{})
	must(t, err)
	g, open := registry(), map[string]*rail.Rail{}
	for _, uri := range uris {
		r, err := g.Open(t.Context(), uri, rail.Env{Machine: b.m, Rail: func(scheme string) *rail.Rail { return open[scheme] }})
		must(t, err)
		must(t, b.Hold(t.Context(), r))
		open[r.Scheme()] = r
	}
	return b
}

func newDB(t testing.TB) *bbolt.DB {
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "store"))
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

// A wire records every byte between a buyer and what it connects to.
type wire struct {
	addr string
	mu   sync.Mutex
	all  bytes.Buffer
}

func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.Write(b)
}

// shows reports whether a text went over the wire, as it is, in hex or in base64 at
// any place in it, and how many bytes did.
func (w *wire) shows(text string) (bool, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	forms := []string{text, hex.EncodeToString([]byte(text)), strings.ToUpper(hex.EncodeToString([]byte(text)))}
	for before := range 3 {
		for _, code := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			// The digits at both ends have bits of what stands beside it.
			coded := code.EncodeToString([]byte("xx"[:before] + text))
			forms = append(forms, coded[before*2:len(coded)-2])
		}
	}
	for _, form := range forms {
		if bytes.Contains(w.all.Bytes(), []byte(form)) {
			return true, w.all.Len()
		}
	}
	return false, w.all.Len()
}

func tap(t testing.TB, to string) *wire {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	w := &wire{addr: l.Addr().String()}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			carry := func(to, from net.Conn) {
				io.Copy(io.MultiWriter(to, w), from)
				to.Close()
				from.Close()
			}
			go carry(far, near)
			go carry(near, far)
		}
	}()
	return w
}

// A market is a seller and a buyer with all rails between them, and everything
// recorded that passes.
type market struct {
	*seller
	buyer  *buyer
	feed   *data.Feed
	client data.Client
	http   *wire // between their HTTP
	link   *wire // between the machines
	db     *bbolt.DB
}

func newMarket(t testing.TB) *market {
	if testing.Short() {
		t.Skip("opens channels")
	}
	node := newChain(t)
	m := &market{feed: &data.Feed{}, db: newDB(t)}
	for i := 1; i <= 5; i++ {
		must(t, m.feed.Put(data.Reading{At: 1000, Data: []byte(reading(i))}))
	}
	listen := railtest.FreeAddr()
	m.link = tap(t, listen)
	var err error
	m.seller, err = openSeller(t.Context(), secret("seller"), m.db, node, listen, m.feed, func(string) []string {
		return []string{"oneway:?host=" + m.link.addr, "payword:?host=" + m.link.addr, "lightning:?host=" + m.link.addr}
	})
	must(t, err)
	t.Cleanup(func() { m.m.Close() })
	server := httptest.NewServer(m.data.Handler())
	t.Cleanup(server.Close)
	m.http = tap(t, server.Listener.Addr().String())
	m.client = data.Client{URL: "http://" + m.http.addr, HTTP: &http.Client{Timeout: 10 * time.Second}}
	to := m.m.Key.Public().String() + "@" + m.link.addr
	m.buyer = newBuyer(t, node, newDB(t), "oneway://"+to+"?capacity=50000sat", "payword://"+to+"?settle=oneway", "lightning://"+to+"?capacity=1000000sat")
	return m
}

func (m *market) terms(t testing.TB) data.Terms {
	return data.Terms{Seller: m.m.Key.Public(), Most: price, Evidence: t.TempDir()}
}

// silent fails if a reading was ever in the clear on any wire.
func (m *market) silent(t *testing.T) {
	t.Helper()
	for name, w := range map[string]*wire{"HTTP": m.http, "link": m.link} {
		if shown, n := w.shows(needle); shown || n < 1000 {
			t.Errorf("of %d bytes over %s, the reading is in the clear: %v", n, name, shown)
		}
	}
}

func (m *market) order(t *testing.T, id money.OrderID, is func(earn.Order) bool) earn.Order {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	o, err := m.shop.Wait(ctx, id, is)
	if err != nil {
		t.Fatalf("order %v stays %+v: %v", id, o, err)
	}
	return o
}
