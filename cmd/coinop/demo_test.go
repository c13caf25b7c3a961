//go:build !omit_demo

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"coinop.dev/cmd/coinop/page"
)

// A viewer looks at the demo's page, and pushes its buttons.
type viewer struct {
	*testing.T
	url string
}

func (v viewer) look() (p page.State) {
	v.Helper()
	res, err := http.Get(v.url + "/state")
	if err != nil {
		v.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusServiceUnavailable {
		return p // it has not begun
	}
	if err := json.NewDecoder(res.Body).Decode(&p); err != nil {
		v.Fatal(err)
	}
	return p
}

func (v viewer) until(what string, ok func(p page.State) bool) {
	v.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		p := v.look()
		if ok(p) {
			return
		}
		if time.Now().After(end) {
			v.Fatalf("never: %s; it shows %+v, route %+v", what, p, p.Route)
		}
	}
}

func (v viewer) push(button string, status int) {
	v.Helper()
	res, err := http.Post(v.url+"/do/"+button, "", nil)
	if err != nil {
		v.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); res.StatusCode != status {
		v.Fatalf("%s: %d %s", button, res.StatusCode, body)
	}
}

func (v viewer) goesOn() {
	v.Helper()
	n := v.look().Payments
	v.until("more payments", func(p page.State) bool { return p.Payments > n+5 })
}

// A car pays a charger through a router. Whatever is cut or killed, nothing is
// lost; then the router publishes a state that it has revoked, loses its whole
// channel to the charger, and has to fund another.
func TestRouterThatCheatsLosesItsChannel(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	u := &ui{out: &out, err: io.Discard, json: true}
	d := newDemo(u, demoOptions{scenario: "charger", rail: "lightning", rate: 20, noBrowser: true, listen: "127.0.0.1:0"})
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.run(ctx) }()
	server := httptest.NewServer(d.hub.Handler(d.actions()))
	defer server.Close()
	v := viewer{t, server.URL}
	v.until("payments", func(p page.State) bool { return p.Payments > 5 })

	v.push("link", http.StatusNoContent)
	v.push("link", http.StatusNoContent)
	v.goesOn()
	v.push("kill-router", http.StatusNoContent)
	v.until("the router is back", func(p page.State) bool { return p.Route.Router.State == page.Running && p.Route.Router.Kills == 1 })
	v.goesOn()
	v.push("reorg", http.StatusNoContent)
	v.goesOn()

	v.push("cheat", http.StatusNoContent)
	v.until("a penalty", func(p page.State) bool { return p.Route.Cheat != nil && p.Route.Cheat.PenaltyTxid != "" })
	c := *v.look().Route.Cheat
	if c.RouterSat != 0 || c.SellerSat < c.CapacitySat-2000 || c.SellerSat+c.FeesSat+c.LeftSat != c.CapacitySat {
		t.Errorf("of a revoked channel: %+v", c)
	}
	v.goesOn()

	interrupt()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	var end struct {
		Conserved bool
		Payments  uint64
		Fees      uint64 `json:"router_fees_msat"`
		Seller    int64  `json:"seller_onchain_sat"`
		Verifies  bool   `json:"receipt_verifies"`
		Hops      int
	}
	if err := json.Unmarshal(out.Bytes(), &end); err != nil {
		t.Fatal(err)
	}
	// 20 payments a second of 102 mWh at 500 msat; the router keeps 100 msat of
	// each and a thousandth.
	if fees := end.Payments * (100 + 51_000/1000); end.Fees != fees {
		t.Errorf("%d payments: the router has earned %d msat; want %d", end.Payments, end.Fees, fees)
	}
	if !end.Conserved || !end.Verifies || end.Hops != 2 || end.Seller < c.SellerSat {
		t.Errorf("the end: %s", out.Bytes())
	}
}
