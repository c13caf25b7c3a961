package electrum_test

import (
	"testing"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/electrum"
	"coinop.dev/world/chain/regtest"
)

func benchNode(b *testing.B) (*regtest.Node, *electrum.Client) {
	n, err := regtest.Open(regtest.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { n.Close() })
	s, err := electrum.Serve(b.Context(), electrum.ServerOptions{Source: n, Limits: electrum.Limits{Work: 1e9, MaxWork: 1e9}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	c, err := electrum.Open(electrum.Options{Servers: []electrum.Address{{Host: s.Addr()}}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return n, c
}

// BenchmarkBlock is a block that changes nothing for 200 outputs that are
// watched: what a gateway pays every ten minutes.
func BenchmarkBlock(b *testing.B) {
	n, c := benchNode(b)
	var all []watch.Output
	for i := range byte(200) {
		point, err := n.Faucet(chaintest.Script(i), chaintest.Value)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, watch.Output{Point: point, Script: chaintest.Script(i)})
	}
	depth := int32(0)
	round := func() {
		if _, err := n.Mine(1); err != nil {
			b.Fatal(err)
		}
		depth++
		for _, o := range all {
			if _, err := chaintest.Await(b.Context(), c, o, func(w watch.Status) bool { return w.Depth == depth }); err != nil {
				b.Fatal(err)
			}
		}
	}
	round()
	for b.Loop() {
		round()
	}
}

// BenchmarkStatus is a question when nothing has changed.
func BenchmarkStatus(b *testing.B) {
	n, c := benchNode(b)
	point, err := n.Faucet(chaintest.Script(1), chaintest.Value)
	if err != nil {
		b.Fatal(err)
	}
	o := watch.Output{Point: point, Script: chaintest.Script(1)}
	if err := chaintest.Agree(b.Context(), c, n); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := c.Status(b.Context(), o); err != nil {
			b.Fatal(err)
		}
	}
}
