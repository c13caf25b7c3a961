package paywall_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/engine"
	"coinop.dev/gateway"
	"coinop.dev/gateway/paywall"
	"coinop.dev/purse"
	"coinop.dev/rail"
	"coinop.dev/rail/lnrail"
	"coinop.dev/rail/onewayrail"
	"coinop.dev/till"
	"coinop.dev/world/chain/regtest"
	"coinop.dev/world/store/bbolt"
)

// Two machines, a chain, a Lightning channel and a one-way channel between them: a
// client buys over each, in each dialect that has words for it.
func TestOverRealRails(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("opens channels")
	}
	chain, err := regtest.Open(regtest.Options{})
	must(t, err)
	t.Cleanup(func() { chain.Close() })
	ctx, stop := context.WithCancel(context.Background())
	var mining sync.WaitGroup
	mining.Go(func() {
		for ; ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
			if len(chain.MempoolTxs()) > 0 {
				chain.Mine(1)
			}
		}
	})
	t.Cleanup(func() { stop(); mining.Wait() })
	machine := func(name string) *engine.Machine {
		key, err := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte(name), 32)))
		must(t, err)
		db, err := bbolt.Open(filepath.Join(t.TempDir(), name))
		must(t, err)
		m := engine.New(ctx, engine.Options{Key: key, DB: db, Chain: chain})
		t.Cleanup(func() { m.Close(); db.Close() })
		return m
	}
	var g rail.Registry
	g.Register(onewayrail.Scheme, onewayrail.Driver{})
	g.Register(lnrail.Scheme, lnrail.Driver{})

	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("upstream sees a credential")
		}
		io.WriteString(w, "sunny")
	}))
	t.Cleanup(upstream.Close)
	seller := machine("seller")
	must(t, gateway.AddCores(ctx, seller))
	_, err = till.Open(ctx, seller, till.Options{Journal: true, Device: func(context.Context, earn.Deliver) ([]byte, error) { return nil, nil }})
	must(t, err)
	addr, err := seller.Listen("127.0.0.1:0")
	must(t, err)
	var rails []*rail.Rail
	for _, uri := range []string{"oneway:?host=" + addr.String(), "lightning:?host=" + addr.String()} {
		r, err := g.Open(ctx, uri, rail.Env{Machine: seller})
		must(t, err)
		rails = append(rails, r)
	}
	shop, err := gateway.Open(ctx, gateway.Options{
		Machine: seller, Rails: func() []*rail.Rail { return rails },
		Services: []offer.Service{{Name: "weather", Unit: "request", Price: 2 * money.Sat, From: upstream.URL}},
	})
	must(t, err)
	wall, err := paywall.New(paywall.Options{Shop: shop, Routes: []paywall.Route{{Service: "weather"}}})
	must(t, err)
	server := httptest.NewServer(wall)
	t.Cleanup(server.Close)

	buyer := machine("buyer")
	_, err = chain.Faucet(tx.P2WPKH(tx.WalletKey(buyer.Key).Public()), 3_000_000)
	must(t, err)
	p, err := purse.Open(ctx, buyer, purse.Options{})
	must(t, err)
	node := seller.Key.Public()
	for _, uri := range []string{fmt.Sprintf("oneway://%v@%s?capacity=50000sat", node, addr), fmt.Sprintf("lightning://%v@%s?capacity=1000000sat", node, addr)} {
		r, err := g.Open(ctx, uri, rail.Env{Machine: buyer})
		must(t, err)
		must(t, p.Hold(ctx, r))
	}
	for what, want := range map[string]string{
		"charge over oneway":     `method="oneway", intent="charge"`,
		"session over oneway":    `method="oneway", intent="session"`,
		"charge over Lightning":  `method="lightning", intent="charge"`,
		"session over Lightning": `method="lightning", intent="session"`,
		"L402":                   "L402 ",
		"LSAT":                   "LSAT ",
	} {
		paid := 0
		client := &http.Client{Timeout: 10 * time.Second, Transport: &paywall.Client{
			MaxCost: 10 * money.Sat, Units: 3,
			Pay: func(ctx context.Context, o money.Order) (money.Receipt, error) { paid++; return p.Pay(ctx, o) },
			Base: changing(func(r *http.Response) {
				var kept []string
				for _, v := range r.Header.Values("WWW-Authenticate") {
					if strings.Contains(v, want) {
						kept = append(kept, v)
					}
				}
				r.Header["Www-Authenticate"] = kept
			}),
		}}
		for i := range 3 {
			resp, err := client.Get(server.URL + "/weather/")
			if err != nil {
				t.Errorf("%s: %v", what, err)
				break
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if times := 1 + i*strings.Count(what, "charge"); resp.StatusCode != 200 || string(body) != "sunny" || paid != times {
				t.Errorf("%s, request %d: %d %s, paid %d times", what, i, resp.StatusCode, body, paid)
			}
		}
	}
}
