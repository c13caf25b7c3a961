package node_test

import (
	"fmt"
	"testing"

	"coinop.dev/core/ledger/gossip"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/step"
)

// BenchmarkCement is what a block costs one node of four, of which all vote: the
// whole way from the wire to the store's door.
func BenchmarkCement(b *testing.B) {
	w := newWorld(&testing.T{}, 4)
	w.share()
	// The accounts are opened by a tree, because a chain is cemented block by block.
	const accounts = 25 * 20
	from := make([]*wallet, accounts)
	var blocks []lattice.Block
	for i := range from {
		from[i] = w.wallet(fmt.Sprint("account", i))
		root, part := w.genesis, uint64(10_000_000)
		if i >= 20 {
			root, part = from[i%20], 300_000
		}
		h := root.send(from[i].account(), part)
		blocks = append(blocks, h, from[i].receive(h.Hash(), part))
	}
	setup := len(blocks)
	for n := 0; n < b.N; n++ {
		x, y := from[n%accounts], from[(n*7+3)%accounts]
		if x == y {
			y = from[(n+1)%accounts]
		}
		s := x.send(y.account(), 1)
		blocks = append(blocks, s, y.receive(s.Hash(), 1))
	}
	feed := func(blocks []lattice.Block) {
		for len(blocks) > 0 {
			some := min(len(blocks), 60)
			var events []any
			for _, bl := range blocks[:some] {
				events = append(events, step.Recv{From: "node1", Msg: gossip.Frame{Ledger: gossip.Lattice, Raw: (&lattice.Publish{Block: bl, Originator: true}).Append(nil, w.network.Magic)}})
			}
			w.nodes[0].step(events...)
			blocks = blocks[some:]
			w.run(10)
		}
	}
	feed(blocks[:setup])
	w.run(3000)
	b.ResetTimer()
	feed(blocks[setup:])
	w.run(2000)
	b.StopTimer()
	for _, e := range w.nodes {
		if c := e.Counts(); c.Cemented < uint64(len(blocks)) {
			b.Fatalf("%s has cemented %d of %d: %+v", e.name, c.Cemented, len(blocks), c)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*2*4), "us/block/node")
}
