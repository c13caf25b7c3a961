//go:build !omit_demo && !omit_ledger

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"coinop.dev/cmd/coinop/page"
)

// A car pays a charger over a ledger that four nodes keep. Whatever is killed, cut or
// spent twice, each order is paid once, and in the end every node says the same of
// every account.
func TestLedgerThatIsBroken(t *testing.T) {
	for _, rail := range []string{"nano", "iota"} {
		t.Run(rail, func(t *testing.T) {
			t.Parallel()
			breakLedger(t, rail)
		})
	}
}

func breakLedger(t *testing.T, rail string) {
	var out bytes.Buffer
	u := &ui{out: &out, err: io.Discard, json: true}
	d := newDemo(u, demoOptions{scenario: "charger", rail: rail, rate: 10, noBrowser: true, listen: "127.0.0.1:0"})
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.run(ctx) }()
	server := httptest.NewServer(d.hub.Handler(d.actions()))
	defer server.Close()
	v := viewer{t, server.URL}
	v.until("payments", func(p page.State) bool { return p.Payments > 5 })

	v.push("double", http.StatusNoContent)
	v.until("one of two payments is there, on all nodes", func(p page.State) bool {
		d := p.Network.Last
		return d != nil && d.Wins != "" && d.Nodes == gridNodes
	})
	v.push("kill-node", http.StatusNoContent)
	v.goesOn() // without it there are votes enough
	v.until("the node is back, and has what it missed", func(p page.State) bool {
		n := p.Network.Nodes[gridNodes-1]
		return n.State == page.Running && n.Kills == 1 && n.Behind == 0
	})
	v.push("link", http.StatusNoContent)
	v.push("link", http.StatusNoContent)
	v.goesOn()

	v.push("split", http.StatusNoContent)
	v.until("nothing is final", func(p page.State) bool { return p.Network.Split && p.Network.Waiting > 0 && p.RatePerS < 10 })
	v.push("split", http.StatusNoContent)
	v.goesOn()
	if rail == "iota" {
		v.push("silence", http.StatusNoContent)
		v.until("nothing is confirmed", func(p page.State) bool { return p.Tangle.SinceMs > 3*p.Tangle.EveryMs })
		v.push("silence", http.StatusNoContent)
		v.goesOn()
	}
	v.push("kill-buyer", http.StatusNoContent)
	v.until("the car is back", func(p page.State) bool { return p.Buyer.State == page.Running && p.Buyer.Kills == 1 })
	v.goesOn()

	interrupt()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	var end struct {
		Conserved bool
		Payments  int64
		Paid      int64 `json:"paid_msat"`
		Buyer     int64 `json:"buyer_msat"`
		Seller    int64 `json:"seller_msat"`
		Held      int64 `json:"held_by_others_msat"`
		Given     int64 `json:"given_msat"`
		Agree     int   `json:"nodes_agree"`
		Doubles   int   `json:"double_spends"`
		Verifies  bool  `json:"receipt_verifies"`
	}
	if err := json.Unmarshal(out.Bytes(), &end); err != nil {
		t.Fatal(err)
	}
	if !end.Conserved || !end.Verifies || end.Agree != gridNodes || end.Doubles != 1 || end.Seller != end.Paid || end.Buyer+end.Seller+end.Held != end.Given || end.Payments == 0 {
		t.Errorf("the end: %s", out.Bytes())
	}
}
