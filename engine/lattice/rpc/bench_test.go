package rpc_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	nanonet "coinop.dev/engine/lattice"
	"coinop.dev/engine/lattice/rpc"
)

// benchWorld is newWorld for benchmarks.
func benchWorld(b *testing.B) (ask func(body string), bank *purse) {
	m := newMachine(b)
	n, err := nanonet.Open(b.Context(), m, nanonet.Options{
		Config: node.Config{Network: network(), ID: secretOf("id"), Reps: []eddsa.Secret{secretOf("genesis")}},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { n.Close() })
	s, err := rpc.New(rpc.Options{Node: n})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	addr, err := s.Listen("127.0.0.1:0", s)
	if err != nil {
		b.Fatal(err)
	}
	url := "http://" + addr.String()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	return func(body string) {
		r, err := client.Post(url, "application/json", strings.NewReader(body))
		if err != nil {
			b.Error(err)
			return
		}
		defer r.Body.Close()
		if answer, _ := io.ReadAll(r.Body); strings.Contains(string(answer), "error") {
			b.Errorf("%s", answer)
		}
	}, (&world{}).purse("genesis")
}

// One wallet that has its blocks processed one after another.
func BenchmarkProcess(b *testing.B) {
	ask, bank := benchWorld(b)
	to := secretOf("shop").Public()
	questions := make([]string, b.N)
	for i := range questions {
		send := bank.send(lattice.RawOf(1), to)
		questions[i] = `{"action":"process","json_block":"true","subtype":"send","block":` + said(&send) + `}`
	}
	b.ResetTimer()
	for _, q := range questions {
		ask(q)
	}
}

// Many wallets that look at their accounts.
func BenchmarkAccountInfo(b *testing.B) {
	ask, bank := benchWorld(b)
	q := fmt.Sprintf(`{"action":"account_info","account":"%s","representative":"true"}`, bank.key())
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			ask(q)
		}
	})
}
