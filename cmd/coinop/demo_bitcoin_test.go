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
	"coinop.dev/core/keys"
	"coinop.dev/world/store/mem"
)

// A meter pays through a gateway that has no keys. Every lie of the gateway is
// refused for what it is; whatever is cut, killed or undone, each order is paid
// once and every satoshi is found again in the chain.
func TestGatewayThatLiesGetsNoSignature(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	u := &ui{out: &out, err: io.Discard, json: true}
	d := newDemo(u, demoOptions{scenario: "charger", rail: "bitcoin", chain: "regtest", rate: 5, noBrowser: true, listen: "127.0.0.1:0"})
	d.course.(*custody).every = 300 * time.Millisecond
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.run(ctx) }()
	server := httptest.NewServer(d.hub.Handler(d.actions()))
	defer server.Close()
	v := viewer{t, server.URL}
	v.until("payments", func(p page.State) bool { return p.Payments > 3 && len(p.Custody.Txs) > 0 })

	for _, l := range lies {
		v.push("lie", http.StatusNoContent)
		v.until("an answer to: "+l.name, func(p page.State) bool { return p.Custody.Last != nil && p.Custody.Last.Lie == l.name })
		if r := v.look().Custody.Last; r.Reason != l.why.String() {
			t.Errorf("%s: refused as %q, because %s", l.name, r.Reason, r.Text)
		}
	}
	v.goesOn()

	v.push("slow", http.StatusNoContent)
	v.until("a bump that is mined", func(p page.State) bool { return p.Custody.Bumps > 0 && p.Custody.FullMsatPerVB == 0 })
	v.goesOn()

	v.push("link", http.StatusNoContent)
	v.push("link", http.StatusNoContent)
	v.push("kill-gateway", http.StatusNoContent)
	v.until("the gateway is back", func(p page.State) bool {
		return p.Custody.Gateway.State == page.Running && p.Custody.Gateway.Kills == 1
	})
	v.goesOn()
	v.push("kill-buyer", http.StatusNoContent)
	v.until("the meter is back", func(p page.State) bool { return p.Buyer.State == page.Running && p.Buyer.Kills == 1 })
	v.push("reorg", http.StatusNoContent)
	v.goesOn()

	interrupt()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	var end struct {
		Conserved bool
		Payments  int64
		Paid      int64 `json:"paid_msat"`
		Buyer     int64 `json:"buyer_onchain_sat"`
		Seller    int64 `json:"seller_onchain_sat"`
		Fees      int64 `json:"fees_sat"`
		Verifies  bool  `json:"receipt_verifies"`
		Txs       int64
		PerTx     float64 `json:"payments_per_tx"`
		Consents  int64
		Bumps     int64
		Refusals  map[string]int
		Signed    *int `json:"lies_signed"`
		Private   *int `json:"gateway_private_records"`
		Records   int  `json:"gateway_records"`
	}
	if err := json.Unmarshal(out.Bytes(), &end); err != nil {
		t.Fatal(err)
	}
	if !end.Conserved || end.Buyer+end.Seller+end.Fees != custodyFunds || end.Seller*1000 != end.Paid {
		t.Errorf("sums: %s", out.Bytes())
	}
	if end.Signed == nil || *end.Signed != 0 || len(end.Refusals) != len(lies) {
		t.Errorf("lies: %v signed, %v refused", end.Signed, end.Refusals)
	}
	if end.Private == nil || *end.Private != 0 || end.Records == 0 {
		t.Errorf("of %d records of the gateway %v are private", end.Records, end.Private)
	}
	if end.Consents < end.Txs+1 || end.Bumps < 1 || end.PerTx <= 1 || !end.Verifies {
		t.Errorf("the end: %s", out.Bytes())
	}
}

// The search for secrets finds them where there are some.
func TestSearchFindsAKey(t *testing.T) {
	key, err := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte{7}, 64)))
	if err != nil {
		t.Fatal(err)
	}
	needles, err := private(key, 2)
	if err != nil {
		t.Fatal(err)
	}
	a, err := accountOf(key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := a.Secret(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	db, err := mem.New(map[string][]byte{"public": []byte(a.Descriptor().String()), "leaf": append([]byte("x"), leaf.Reveal()...), "key": key.Reveal()})
	if err != nil {
		t.Fatal(err)
	}
	if records, found, err := search(db, needles); records != 3 || found != 2 || err != nil {
		t.Errorf("%d of %d records are private, %v; want 2 of 3", found, records, err)
	}
}
