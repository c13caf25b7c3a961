package node_test

import (
	"fmt"
	"testing"
	"time"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/world/store/pebble"

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

// BenchmarkPipeline is what a block costs a node that alone decides, from the wire to
// the disk, beside what its signature costs in a batch.
func BenchmarkPipeline(b *testing.B) {
	for _, store := range []string{"mem", "pebble"} {
		b.Run(store, func(b *testing.B) { pipeline(b, store) })
	}
}

func pipeline(b *testing.B, store string) {
	const accounts, batch = 1000, 1000
	network := lattice.NewNetwork("bench", secret("genesis"), lattice.RawOf(1<<50), workSend, workReceive)
	genesis := &wallet{key: secret("genesis"), rep: network.Genesis.Representative, frontier: network.Genesis.Hash(), balance: network.Supply()}
	var db interface {
		step.Reader
		Commit([]step.Record) error
	} = newStore(&testing.T{})
	if store == "pebble" {
		p, err := pebble.Open(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		defer p.Close()
		db = p
	}
	n, err := node.Load(db, node.Config{Network: network, ID: secret("id"), Reps: []eddsa.Secret{genesis.key}, Peers: []string{"peer"}})
	if err != nil {
		b.Fatal(err)
	}
	now := step.Time(1_700_000_000_000)
	feed := func(blocks []lattice.Block) {
		for len(blocks) > 0 {
			some := min(len(blocks), batch)
			events := make([]any, some)
			for i := range events {
				events[i] = step.Recv{From: "peer", Msg: gossip.Frame{Ledger: gossip.Lattice, Raw: (&lattice.Publish{Block: blocks[i]}).Append(nil, network.Magic)}}
			}
			now += 20
			if err := db.Commit(n.Step(step.Input{At: now, Events: events}).Put); err != nil {
				b.Fatal(err)
			}
			blocks = blocks[some:]
		}
	}
	from := make([]*wallet, accounts)
	var setup, blocks []lattice.Block
	for i := range from {
		from[i] = &wallet{key: secret(fmt.Sprint("account", i)), rep: genesis.rep}
		h := genesis.send(from[i].account(), 1<<30)
		setup = append(setup, h, from[i].receive(h.Hash(), 1<<30))
	}
	for k := 0; k < b.N; k += 2 {
		x, y := from[(k/2)%accounts], from[(k/2+accounts/2)%accounts]
		s := x.send(y.account(), 1)
		blocks = append(blocks, s, y.receive(s.Hash(), 1))
	}
	for len(setup) > 0 {
		feed(setup[:min(500, len(setup))])
		setup = setup[min(500, len(setup)):]
	}
	for range 50 {
		now += 20
		db.Commit(n.Step(step.Input{At: now, Events: []any{step.Rang{ID: "tick"}}}).Put)
	}
	check := lattice.NewBatch(eddsa.NewCache(4096))
	began := time.Now()
	for rest := blocks; len(rest) > 0; {
		some := min(len(rest), batch)
		for i := range rest[:some] {
			h := rest[i].Hash()
			check.Add(rest[i].Account, h[:], rest[i].Signature)
		}
		if all, _ := check.Verify(); !all {
			b.Fatal("a signature is bad")
		}
		check.Reset()
		rest = rest[some:]
	}
	raw := time.Since(began)
	b.ResetTimer()
	feed(blocks)
	b.StopTimer()
	if c := n.Counts(); c.Backlog > 0 {
		b.Fatalf("%+v", c)
	}
	b.ReportMetric(float64(raw.Nanoseconds())/float64(len(blocks)), "ns-raw-verify/op")
	b.ReportMetric(100*raw.Seconds()/b.Elapsed().Seconds(), "%-of-raw-rate")
}
