package node_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/gossip"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/dag"
	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/step"
)

// BenchmarkTransaction is what one transaction costs one node, without disk and
// network: taken from a peer, checked, attached, relayed, and confirmed with 10,000
// others by a milestone. ns/op is of the node that receives; make is of the one that
// makes and signs it, with the submitter's signature.
func BenchmarkTransaction(b *testing.B) {
	for _, c := range []struct {
		name string
		tips node.Tips
		work int
	}{{"urts", node.Tips{}, 0}, {"mcmc", node.Tips{MCMC: true, Alpha: dag.DefaultAlpha}, 0}, {"urts with work", node.Tips{}, 2}} {
		b.Run(c.name, func(b *testing.B) { benchmark(b, c.tips, c.work) })
	}
}

// cpu is the time that this process has computed: the machine is shared.
func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchmark(b *testing.B, tips node.Tips, zeros int) {
	b.StopTimer()
	w := newNetwork(b, 2, 1, func(i int, c *node.Config) {
		c.Tips = tips
		c.Network.MinZeros = zeros
		c.Coordinator.Interval = step.Hour
	})
	w.check = false
	w.run(100)
	const accounts = 100
	var owners []eddsa.Secret
	var outs []tangle.BasicOutput
	for i := range accounts {
		owners = append(owners, secret(fmt.Sprint("owner ", i)))
		outs = append(outs, tangle.BasicOutput{Amount: 1000, Address: address(owners[i])})
	}
	e, err := tangle.NewEssence(w.net, []tangle.OutputID{tangle.GenesisOutput(0)}, w.net.Genesis[:1], outs, nil)
	if err != nil {
		b.Fatal(err)
	}
	split, err := e.Sign(w.net.Genesis[:1], rich)
	if err != nil {
		b.Fatal(err)
	}
	w.submit(0, split)
	w.now += step.Hour
	w.run(100)
	var ins []tangle.OutputID
	for i := range accounts {
		ins = append(ins, tangle.NewOutputID(split.ID(), uint16(i)))
	}
	if _, ok := w.machines[1].node.Output(ins[0]); !ok {
		b.Fatal("nothing to spend")
	}
	var received, made time.Duration
	const batch = 500 // blocks in a step
	deliver := func() {
		events := w.machines[1].inbox
		w.machines[1].inbox = nil
		for _, p := range w.wires {
			if p.to == "n1" {
				events = append(events, step.Recv{From: p.from, Msg: p.frame})
			} else {
				w.machines[0].inbox = append(w.machines[0].inbox, step.Recv{From: p.from, Msg: p.frame})
			}
		}
		w.wires = nil
		if len(events) == 0 {
			return
		}
		began := cpu()
		fx := w.machines[1].node.Step(step.Input{At: w.now, Events: events})
		received += cpu() - began
		w.machines[1].disk.apply(fx.Put)
		for _, p := range fx.Send {
			w.wires = append(w.wires, packet{w.now, "n1", p.To, p.Msg.(gossip.Frame)})
		}
		for _, a := range fx.Wake {
			if a.ID == "go" {
				w.machines[1].inbox = append(w.machines[1].inbox, step.Rang{ID: a.ID})
			}
		}
	}
	total := 0
	b.StartTimer()
	for total < b.N {
		for range min(10_000/batch, (b.N-total+batch-1)/batch) {
			b.StopTimer()
			var events []any
			for k := range batch {
				i := (total + k) % accounts
				tx := w.payFrom(owners[i], ins[i], tangle.BasicOutput{Amount: 1000, Address: address(owners[i])}, address(owners[i]), 1000, "")
				ins[i] = tangle.NewOutputID(tx.ID(), 0)
				events = append(events, node.Submit{ID: "s", Payload: tx})
			}
			total += batch
			w.now += 100
			began := cpu()
			out := w.tell(0, events...)
			made += cpu() - began
			for _, o := range out {
				if o.Err != nil {
					b.Fatal(o.Err)
				}
			}
			w.machines[0].done = nil
			b.StartTimer()
			deliver()
		}
		b.StopTimer()
		w.now += step.Hour
		for range 40 { // a milestone, in pieces
			w.machines[0].inbox = append(w.machines[0].inbox, step.Rang{ID: "go"})
			w.step(w.machines[0])
			w.machines[0].done = nil
			deliver()
		}
		b.StartTimer()
	}
	b.StopTimer()
	for _, o := range ins {
		if _, ok := w.machines[1].node.Output(o); !ok {
			b.Fatalf("not everything is confirmed: %+v", w.machines[1].node.Info())
		}
	}
	b.ReportMetric(float64(received.Nanoseconds())/float64(total), "ns/op")
	b.ReportMetric(float64(made.Nanoseconds())/float64(total), "make-ns/op")
}
