package node_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/dag"
	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/step"
)

// A payload whose blocks do not get out is promoted and attached again, as often as
// it takes, and applied once.
func TestOrphansAreAttachedAgain(t *testing.T) {
	w := newNetwork(t, 3, 1, func(i int, c *node.Config) { c.Network.BelowMaxDepth = 5 })
	w.until(1)
	w.lose = func(from, to string, m node.Message) bool { return from == "n2" }
	tx := w.pay(2, rich, tangle.GenesisOutput(0), address(secret("bob")), 3, "")
	first := w.submit(2, tx)
	note := w.submit(2, &tangle.TaggedData{Tag: []byte("t"), Data: []byte("note")})
	w.until(12)
	info := w.machines[2].node.Info()
	if info.Own != 2 || info.Refused.Orphaned == 0 {
		t.Fatalf("alone, the node has %+v", info)
	}
	if again := w.submit(2, tx); again.Block == first.Block {
		t.Fatal("the transaction was not attached again")
	}
	w.start(w.machines[2]) // and it is not forgotten
	w.lose = nil
	w.until(w.latest() + 6)
	w.agree()
	for i, m := range w.machines {
		if _, ok := m.node.Included(tx.ID()); !ok {
			t.Fatalf("node %d: the transaction is not applied", i)
		}
	}
	if info := w.machines[2].node.Info(); info.Own != 0 {
		t.Fatalf("the node still cares for %d payloads", info.Own)
	}
	if o, ok := w.outcome(2, node.DataID(note.Payload)); !ok || o.Err != nil {
		t.Fatalf("of the note it says %+v", o)
	}
}

// A payload that never gets out is given up, and that is told.
func TestOrphansAreGivenUp(t *testing.T) {
	w := newNetwork(t, 2, 1, func(i int, c *node.Config) { c.PromoteAfter = 1 })
	w.until(1)
	w.check = false
	w.lose = func(from, to string, m node.Message) bool { return from == "n1" }
	tx := w.pay(1, rich, tangle.GenesisOutput(0), address(secret("bob")), 3, "")
	w.submit(1, tx)
	w.until(node.MaxAttach + 4)
	if o, ok := w.outcome(1, node.TxID(tx.ID())); !ok || !errors.Is(o.Err, node.ErrOrphan) {
		t.Fatalf("the node says %+v", o)
	}
}

// Frames are lost and come in any order; all nodes have the same history.
func TestLoss(t *testing.T) {
	w := newNetwork(t, 4, 3, func(i int, c *node.Config) {
		if i%2 == 1 {
			c.Tips = node.Tips{MCMC: true, Alpha: dag.DefaultAlpha}
		}
	})
	w.check = false
	r := rand.New(rand.NewPCG(1, 2))
	w.lose = func(from, to string, m node.Message) bool { return r.IntN(100) < 25 }
	w.until(1)
	for k := range 200 {
		w.submit(k%4, &tangle.TaggedData{Data: fmt.Append(nil, k)})
		if k%5 == 0 {
			w.run(step.Time(r.IntN(200)))
		}
		if k%50 == 10 {
			w.start(w.machines[k/50]) // and it loses what was lazy
		}
	}
	w.settle()
	w.lose = nil
	w.settle()
	w.settle()
	w.agree()
	for i, m := range w.machines {
		if info := m.node.Info(); info.Blocks < 190 || info.Own != 0 {
			t.Fatalf("node %d has confirmed %d blocks and waits for %d payloads", i, info.Blocks, info.Own)
		}
		w.same(m)
	}
}

// load makes some milestones with transactions in them.
func (w *network) load(milestones int) {
	w.t.Helper()
	for k := range milestones {
		in := tangle.GenesisOutput(uint16(k % 10))
		if o, ok := w.machines[0].node.Output(in); ok && o.Spent.Index == 0 {
			w.submit(0, w.pay(0, rich, in, address(secret("shop")), 7, fmt.Sprint("order ", k)))
		}
		w.submit(1, &tangle.TaggedData{Data: fmt.Append(nil, k)})
		w.until(w.latest() + 1)
	}
}

// Old blocks and spent outputs go, unspent ones stay. A node that begins with nothing
// learns everything from one that keeps all.
func TestPruningAndBootstrap(t *testing.T) {
	w := newNetwork(t, 3, 1, func(i int, c *node.Config) {
		c.Network.BelowMaxDepth = 5
		if i != 1 {
			c.Keep = node.MinKeep(c.Network)
		}
	})
	w.check = false
	w.load(25)
	w.settle()
	info := w.machines[2].node.Info()
	if want := info.Latest.Index - w.machines[2].c.Keep; info.Oldest < want || info.Oldest > want+1 {
		t.Fatalf("the oldest milestone is %d of %d", info.Oldest, info.Latest.Index)
	}
	if _, ok := w.machines[2].node.Output(tangle.GenesisOutput(0)); ok {
		t.Fatal("a spent output is still there")
	}
	if a, b := len(w.machines[2].disk), len(w.machines[1].disk); a > b/2 {
		t.Fatalf("a pruned node has %d records, a full one %d", a, b)
	}
	if _, _, ok := w.machines[2].node.Milestone(2); ok {
		t.Fatal("a pruned milestone is still there")
	}
	w.agree()
	w.add("new", node.Config{Network: w.net, Peers: []string{"n0", "n1", "n2"}})
	w.check = true
	w.until(w.latest()+2, 3)
	w.agree()
	if _, _, ok := w.machines[3].node.Milestone(1); !ok {
		t.Fatal("the new node has not begun with the first milestone")
	}
	// It may spend what it has learned.
	list := w.machines[3].node.OutputsOf(address(secret("shop")), tangle.OutputID{}, 1)
	tx := w.pay(3, secret("shop"), list[0].ID, address(rich), 7, "")
	w.submit(3, tx)
	w.settle()
	w.agree()
	if _, ok := w.machines[0].node.Included(tx.ID()); !ok {
		t.Fatal("the new node's transaction is not applied")
	}
}

// A node that begins with a snapshot, from a file or from peers, needs nothing older,
// and ends with the same ledger. One with another digest, or of a ledger with more
// money, does not begin.
func TestSnapshot(t *testing.T) {
	w := newNetwork(t, 3, 1, func(i int, c *node.Config) {
		c.Network.BelowMaxDepth = 5
		c.Keep = node.MinKeep(c.Network)
	})
	w.check = false
	w.load(15)
	out := w.tell(1, node.Export{ID: "e"})
	if out[0].Err != nil {
		t.Fatal(out[0].Err)
	}
	s := out[0].Value.(*node.Snapshot)
	w.load(3)
	peers := []string{"n0", "n1", "n2"}
	w.check = true
	file := w.add("file", node.Config{Network: w.net, Peers: peers, Trust: &node.Trust{Digest: s.Digest, Raw: s.Raw}})
	w.add("peers", node.Config{Network: w.net, Peers: peers, Trust: &node.Trust{Digest: s.Digest}})
	forged := append([]byte(nil), s.Raw...)
	forged[len(forged)-100] ^= 1
	w.add("lie", node.Config{Network: w.net, Peers: peers, Trust: &node.Trust{Digest: s.Digest, Raw: forged}})
	more := append([]byte(nil), s.Raw...)
	more[len(more)-81+7]++ // amount of the last output
	w.add("rich", node.Config{Network: w.net, Peers: peers, Trust: &node.Trust{Digest: tangle.Hash(tangle.IDOf(more)), Raw: more}})
	w.until(w.latest()+2, 3, 4)
	for _, i := range []int{5, 6} {
		if o, ok := w.outcome(i, node.HaltID); !ok || o.Err == nil || w.machines[i].node.Info().Latest.Index != 0 {
			t.Fatalf("%s begins with a false snapshot: %+v", w.machines[i].name, o)
		}
	}
	w.machines = w.machines[:5]
	if oldest := file.node.Info().Oldest; oldest != s.Index+1 {
		t.Fatalf("the node has milestones from %d on; the snapshot is of %d", oldest, s.Index)
	}
	w.agree()
	w.start(file)
	w.load(8)
	w.settle()
	w.agree()
	if a, b := file.node.Info().Latest.Index, w.machines[0].node.Info().Latest.Index; a+1 < b {
		t.Fatalf("the node is at %d of %d", a, b)
	}
}

// A milestone of many blocks is judged and written in pieces, and a crash between two
// of them changes nothing.
func TestALargeMilestone(t *testing.T) {
	w := newNetwork(t, 2, 1)
	w.check = false
	w.until(1)
	w.lose = func(string, string, node.Message) bool { return true }
	var events []any
	for k := range 5000 {
		events = append(events, node.Submit{ID: "s", Payload: &tangle.TaggedData{Data: fmt.Append(nil, k)}})
		if len(events) == 1000 {
			w.tell(0, events...)
			events = nil
		}
	}
	tx := w.pay(0, rich, tangle.GenesisOutput(3), address(secret("bob")), 9, "")
	w.submit(0, tx)
	before := w.machines[0].node.Info().Latest.Index
	crashes := 0
	w.crash = func(m *machine, after bool) bool {
		if after && crashes < 3 && m.disk["tangle/n/"+string([]byte{0, 0, 0, byte(before + 1)})] != nil && m.name == "n0" && m.node.Info().Latest.Index == before {
			crashes++
			return true
		}
		return false
	}
	w.until(before+1, 0)
	if crashes != 3 {
		t.Fatalf("%d crashes", crashes)
	}
	if _, ok := w.machines[0].node.Included(tx.ID()); !ok {
		t.Fatal("not applied")
	}
	w.lose = nil
	w.settle()
	w.settle()
	w.agree()
	for _, m := range w.machines { // of what is confirmed no page stays
		w.start(m)
	}
	w.settle()
	for _, m := range w.machines {
		if pages := len(dump(m, "tangle/a/")); pages > 3 {
			t.Fatalf("%s has %d pages of %d unconfirmed blocks", m.name, pages, m.node.Info().Unconfirmed)
		}
	}
	order, _ := w.machines[1].node.Order(before + 1)
	if len(order) < 5001 {
		t.Fatalf("the milestone includes %d blocks", len(order))
	}
}

// Wallets of the machine follow addresses, submit, and are told with a proof.
func TestWallet(t *testing.T) {
	w := newNetwork(t, 2, 1)
	w.until(1)
	shop := address(secret("shop"))
	w.tell(1, step.Recv{From: "transfer", Msg: tangle.Follow{Address: shop}})
	tx := w.pay(1, rich, tangle.GenesisOutput(0), shop, 12, "order 1")
	rival := w.pay(1, rich, tangle.GenesisOutput(0), shop, 13, "order 2")
	w.tell(1, step.Recv{From: "transfer", Msg: tangle.Submit{Transaction: tx}})
	w.settle()
	w.run(100)
	w.tell(1, step.Recv{From: "transfer", Msg: tangle.Submit{Transaction: tx}}, step.Recv{From: "transfer", Msg: tangle.Submit{Transaction: rival}})
	var states, finals, rejected int
	for _, p := range w.machines[1].told {
		switch m := p.Msg.(type) {
		case tangle.State:
			states++
			if states == 1 && len(m.Unspent) != 0 {
				t.Fatalf("at first the shop has %+v", m)
			}
			if states == 2 && (len(m.Unspent) != 1 || m.Unspent[0].Amount != 12 || string(m.Unspent[0].Note.Data) != "order 1") {
				t.Fatalf("then the shop has %+v", m)
			}
		case tangle.Final:
			finals++
			if got, err := m.Proof.Verify(w.net.Trust()); err != nil || got.ID() != tx.ID() {
				t.Fatalf("the proof: %v", err)
			}
		case tangle.Rejected:
			rejected++
			if m.Transaction != rival.ID() || !m.Why.Forever() {
				t.Fatalf("rejected: %+v", m)
			}
		}
	}
	if states != 2 || finals != 2 || rejected != 1 {
		t.Fatalf("%d states, %d finals, %d rejections", states, finals, rejected)
	}
}

// All proofs of a milestone lead to its root, whatever the number of its blocks.
func TestProofs(t *testing.T) {
	w := newNetwork(t, 1, 1)
	w.check = false
	w.until(1)
	in, spent := tangle.GenesisOutput(0), w.net.Genesis[0]
	for count := 1; count < 20; count += 3 {
		var txs []*tangle.Transaction
		for range count {
			tx := w.payFrom(rich, in, spent, address(secret("shop")), 1, "")
			w.submit(0, tx)
			txs = append(txs, tx)
			in, spent = tangle.NewOutputID(tx.ID(), 1), tx.Essence.Outputs[1]
		}
		w.settle()
		for _, tx := range txs {
			p, err := w.machines[0].node.Proof(tx.ID())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Verify(w.net.Trust()); err != nil {
				t.Fatalf("%d transactions: %v", count, err)
			}
		}
	}
}

// Under a steady load neither memory nor disk grow, once old milestones are pruned.
func TestNothingGrows(t *testing.T) {
	w := newNetwork(t, 3, 2, func(i int, c *node.Config) { c.Keep = node.MinKeep(c.Network) })
	w.check = false
	w.until(1)
	var disk, size []int
	for k := range 90 {
		for j := range 10 {
			w.submit((k+j)%3, &tangle.TaggedData{Data: fmt.Append(nil, k, j)})
		}
		w.until(w.latest() + 1)
		if k%30 == 29 {
			disk = append(disk, len(w.machines[2].disk))
			size = append(size, w.machines[2].node.Size())
		}
	}
	t.Logf("records %v, entries in memory %v", disk, size)
	for i := range 2 {
		if disk[i+1] > disk[0]*11/10 || size[i+1] > size[0]*11/10 {
			t.Fatalf("records %v, entries in memory %v", disk, size)
		}
	}
}
