package node_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
	"coinop.dev/world/store/pebble"
)

// BenchmarkNetwork is four nodes in one process, each with its host and a durable
// store, that hand each other frames without a network between: how many
// transactions a second all of them attach and confirm, and how long each of them
// computes for one, the disk's part and that of making the block included. Signing
// transactions is not counted.
func BenchmarkNetwork(b *testing.B) {
	for _, zeros := range []int{0, 1} {
		b.Run(fmt.Sprint("zeros=", zeros), func(b *testing.B) { benchmarkNetwork(b, zeros) })
	}
}

func benchmarkNetwork(b *testing.B, zeros int) {
	const nodes, accounts, window = 4, 2000, 4000
	w := newNetwork(b, 0, 3)
	w.net.MinZeros = zeros
	clock := func() step.Time { return step.Time(time.Now().UnixMilli()) }
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	hosts := make([]*drive.Host, nodes)
	stores := make([]*pebble.DB, nodes)
	for i := range nodes {
		db, err := pebble.Open(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		stores[i], hosts[i] = db, drive.NewHost(db, clock)
		defer db.Close()
	}
	for i, h := range hosts {
		c := node.Config{Network: w.net}
		if i < 3 {
			c.Coordinator = node.Coordinator{Secret: secret(fmt.Sprint("coordinator ", i)), Primary: i == 0, Interval: 2 * step.Second}
		}
		for k := range nodes {
			if k == i {
				continue
			}
			name := fmt.Sprint("n", k)
			c.Peers = append(c.Peers, name)
			wire := make(chan step.Recv, 1<<16)
			h.Outlet(name, func(p step.Packet) { wire <- step.Recv{From: fmt.Sprint("n", i), Msg: p.Msg} })
			go func() {
				for ctx.Err() == nil {
					hosts[k].Tell(ctx, node.Core, <-wire)
				}
			}()
		}
		go h.Run(ctx)
		n, err := node.Load(stores[i], c)
		if err != nil {
			b.Fatal(err)
		}
		if err := h.Add(ctx, node.Core, n); err != nil {
			b.Fatal(err)
		}
	}
	settled := make(chan time.Time, 1<<20)
	hosts[3].Hear(func(o step.Outcome) {
		if _, ok := o.Value.(node.Settled); ok {
			settled <- time.Now()
		}
	})
	await := func(n int) {
		for range n {
			select {
			case <-settled:
			case <-time.After(30 * time.Second):
				b.Fatal("not confirmed")
			}
		}
	}
	// Everybody gets an output, by a chain of splits.
	owners := make([]eddsa.Secret, accounts)
	ins := make([]tangle.OutputID, accounts)
	in, spent := tangle.GenesisOutput(0), w.net.Genesis[0]
	for from := 0; from < accounts; from += 100 {
		var outs []tangle.BasicOutput
		for k := range 100 {
			owners[from+k] = secret(fmt.Sprint("owner ", from+k))
			outs = append(outs, tangle.BasicOutput{Amount: 10, Address: address(owners[from+k])})
		}
		outs = append(outs, tangle.BasicOutput{Amount: spent.Amount - 1000, Address: address(rich)})
		e, err := tangle.NewEssence(w.net, []tangle.OutputID{in}, []tangle.BasicOutput{spent}, outs, nil)
		if err != nil {
			b.Fatal(err)
		}
		tx, err := e.Sign([]tangle.BasicOutput{spent}, rich)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := hosts[0].Ask(ctx, node.Core, tx.ID().String(), node.Submit{ID: tx.ID().String(), Payload: tx}); err != nil {
			b.Fatal(err)
		}
		for k := range 100 {
			ins[from+k] = tangle.NewOutputID(tx.ID(), uint16(k))
		}
		in, spent = tangle.NewOutputID(tx.ID(), 100), outs[100]
	}
	await(accounts / 100)
	txs := make([]*tangle.Transaction, b.N)
	for k := range txs {
		i := k % accounts
		txs[k] = w.payFrom(owners[i], ins[i], tangle.BasicOutput{Amount: 10, Address: address(owners[i])}, address(owners[i]), 10, "")
		ins[i] = tangle.NewOutputID(txs[k].ID(), 0)
	}
	b.ResetTimer()
	began, used := time.Now(), cpu()
	// Each account stays with one node, or a transaction could come before what it
	// spends; that many are on their way.
	flying := 0
	for k, tx := range txs {
		if flying == window {
			await(window / 4)
			flying -= window / 4
		}
		flying++
		if err := hosts[k%accounts%nodes].Tell(ctx, node.Core, node.Submit{ID: "s", Payload: tx}); err != nil {
			b.Fatal(err)
		}
	}
	attached := time.Since(began)
	await(flying)
	took := time.Since(began)
	b.ReportMetric(float64(b.N)/took.Seconds(), "tx/s")
	b.ReportMetric(float64(b.N)/attached.Seconds(), "submitted/s")
	b.ReportMetric(float64((cpu()-used).Nanoseconds())/float64(b.N)/nodes, "cpu-ns/tx/node")
	var infos []node.Info
	for _, h := range hosts {
		h.Do(ctx, func(m *drive.Machine) { infos = append(infos, m.Core(node.Core).(*node.Node).Info()) })
	}
	if i := slices.IndexFunc(infos, func(i node.Info) bool { return i.Halted != nil }); i >= 0 {
		b.Fatal(infos[i].Halted)
	}
	b.Logf("%d transactions, refused %+v", infos[3].Txs, infos[3].Refused)
}
