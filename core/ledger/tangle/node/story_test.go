package node_test

import (
	"errors"
	"fmt"
	"testing"

	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/step"
)

// Money that is submitted at one node is in the ledgers of all of them, a milestone
// later, and anybody can be shown that it is.
func TestAPaymentIsConfirmedEverywhere(t *testing.T) {
	w := newNetwork(t, 4, 3)
	w.until(1)
	bob := secret("bob")
	tx := w.pay(0, rich, tangle.GenesisOutput(0), address(bob), 250, "order 7")
	got := w.submit(1, tx)
	if again := w.submit(1, tx); again != got {
		t.Fatalf("a second submission is attached as %v", again)
	}
	w.settle()
	w.agree()
	for i, m := range w.machines {
		list := m.node.OutputsOf(address(bob), tangle.OutputID{}, 10)
		if len(list) != 1 || list[0].Amount != 250 {
			t.Fatalf("node %d: bob has %+v", i, list)
		}
		o, ok := w.outcome(i, node.TxID(tx.ID()))
		if !ok || o.Err != nil || o.Value.(node.Settled).Block != got.Block {
			t.Fatalf("node %d says %+v", i, o)
		}
		proof, err := m.node.Proof(tx.ID())
		if err != nil {
			t.Fatal(err)
		}
		shown, err := proof.Verify(w.net.Trust())
		if err != nil || shown.ID() != tx.ID() {
			t.Fatalf("node %d proves %v, %v", i, shown, err)
		}
		meta, ok := m.node.Metadata(got.Block)
		if !ok || meta.State != node.Applied {
			t.Fatalf("node %d: the block is %+v", i, meta)
		}
		if block, ok := m.node.Included(tx.ID()); !ok || block != got.Block {
			t.Fatalf("node %d: the transaction is in %v", i, block)
		}
	}
}

// Two transactions that spend the same output, submitted at two nodes at once, end in
// the same state everywhere: one of them is applied.
func TestConflictsEndTheSameEverywhere(t *testing.T) {
	w := newNetwork(t, 4, 3)
	w.until(1)
	var txs []*tangle.Transaction
	for k := range 10 {
		a := w.pay(0, rich, tangle.GenesisOutput(uint16(k)), address(secret("a")), 10, "")
		b := w.pay(0, rich, tangle.GenesisOutput(uint16(k)), address(secret("b")), 10, "")
		w.submit(k%4, a)
		w.submit((k+1)%4, b)
		txs = append(txs, a, b)
	}
	w.settle()
	w.agree()
	for i, m := range w.machines {
		for k := 0; k < len(txs); k += 2 {
			_, a := m.node.Included(txs[k].ID())
			_, b := m.node.Included(txs[k+1].ID())
			if a == b {
				t.Fatalf("node %d: of two that exclude each other %t and %t are applied", i, a, b)
			}
			loser := txs[k]
			if a {
				loser = txs[k+1]
			}
			o, ok := w.outcome(i, node.TxID(loser.ID()))
			var c node.Conflict
			if !ok || !errors.As(o.Err, &c) || c != node.SpentBefore {
				t.Fatalf("node %d says of the loser %+v", i, o)
			}
		}
	}
	// A loser is refused when it is tried again.
	_, a := w.machines[0].node.Included(txs[0].ID())
	loser := txs[0]
	if a {
		loser = txs[1]
	}
	out := w.tell(2, node.Submit{ID: "again", Payload: loser})
	if !errors.Is(out[0].Err, node.AlreadySpent) {
		t.Fatalf("tried again: %+v", out)
	}
}

// A chain of transactions, each spending the one before, is applied by one milestone.
func TestAChainIsAppliedAtOnce(t *testing.T) {
	w := newNetwork(t, 3, 1)
	w.until(1)
	in, spent := tangle.GenesisOutput(0), w.net.Genesis[0]
	var last *tangle.Transaction
	for range 20 {
		last = w.payFrom(rich, in, spent, address(secret("shop")), 5, "")
		w.submit(1, last)
		in, spent = tangle.NewOutputID(last.ID(), 1), last.Essence.Outputs[1]
	}
	w.settle()
	w.agree()
	if list := w.machines[2].node.OutputsOf(address(secret("shop")), tangle.OutputID{}, 100); len(list) != 20 {
		t.Fatalf("the shop has %d outputs", len(list))
	}
}

// All blocks are included, also when there are many tips.
func TestNothingIsLeftOut(t *testing.T) {
	w := newNetwork(t, 4, 1)
	w.check = false
	w.until(1)
	for k := range 300 {
		w.submit(k%4, &tangle.TaggedData{Tag: []byte("t"), Data: fmt.Append(nil, k)})
		if k%50 == 0 {
			w.run(20)
		}
	}
	w.settle()
	w.settle()
	w.agree()
	for i, m := range w.machines {
		if n := m.node.Info().Unconfirmed; n > 5 {
			t.Fatalf("node %d has %d blocks left", i, n)
		}
	}
}

// Without its primary, and with fewer coordinators than must sign, nothing is
// confirmed; with them again, everything that waited is.
func TestASilentCoordinator(t *testing.T) {
	w := newNetwork(t, 4, 3)
	w.until(2)
	w.machines[0].down = true
	tx := w.pay(1, rich, tangle.GenesisOutput(0), address(secret("bob")), 1, "")
	w.submit(3, tx)
	w.run(10 * step.Second)
	before := w.machines[1].node.Info().Latest.Index
	if _, ok := w.machines[3].node.Included(tx.ID()); ok {
		t.Fatal("something was confirmed without a primary")
	}
	w.start(w.machines[0])
	w.until(before + 2)
	w.agree()
	if _, ok := w.machines[3].node.Included(tx.ID()); !ok {
		t.Fatal("what waited was not confirmed")
	}
	// One of three may be missing, two not.
	w.machines[1].down = true
	w.until(w.latest()+2, 0, 2, 3)
	w.machines[2].down = true
	w.run(3 * step.Second)
	stuck := w.latest()
	w.run(5 * step.Second)
	if now := w.latest(); now != stuck {
		t.Fatalf("milestone %d was signed by one of three", now)
	}
	w.start(w.machines[1])
	w.start(w.machines[2])
	w.settle()
	w.agree()
}

// Every commit is a place where a node may stop; it goes on from there.
func TestCrashesAtEveryCommit(t *testing.T) {
	w := newNetwork(t, 3, 2)
	w.until(1)
	seed := uint32(1)
	w.crash = func(m *machine, after bool) bool {
		seed = seed*1664525 + 1013904223
		return seed>>24 < 20
	}
	k := 0
	for ; k < 10; k++ {
		tx := w.pay(0, rich, tangle.GenesisOutput(uint16(k)), address(secret("bob")), 10, "")
		w.tell(k%3, node.Submit{ID: "s", Payload: tx})
		w.run(700)
	}
	w.crash = nil
	w.settle()
	w.settle()
	w.agree()
	if w.latest() < 5 {
		t.Fatalf("only %d milestones", w.latest())
	}
}

// Nodes that are named nowhere find each other by their links, and pass on what
// others say: coordinators need not be linked to each other.
func TestALine(t *testing.T) {
	w := newNetwork(t, 3, 2, func(i int, c *node.Config) {
		c.Peers = nil
		switch i {
		case 1:
			c.Coordinator = node.Coordinator{}
		case 2:
			c.Coordinator = node.Coordinator{Secret: secret("coordinator 1"), Follows: secret("coordinator 0").Public()}
		}
	})
	for _, link := range [][2]int{{0, 1}, {1, 2}} {
		a, b := w.machines[link[0]], w.machines[link[1]]
		w.tell(link[0], step.Linked{Peer: b.name, Link: 1})
		w.tell(link[1], step.Linked{Peer: a.name, Link: 1})
	}
	w.tell(1, step.Linked{Peer: "a thermometer", Link: 9})
	w.until(2)
	tx := w.pay(2, rich, tangle.GenesisOutput(0), address(secret("bob")), 250, "")
	w.submit(2, tx)
	w.settle()
	w.agree()
	if _, ok := w.machines[0].node.Included(tx.ID()); !ok {
		t.Fatal("what one end submits is not applied at the other")
	}
	if peers := w.machines[1].node.Info().Peers; len(peers) != 2 || !peers[0].Speaks {
		t.Fatalf("peers are %+v", peers)
	}
	w.tell(1, step.Unlinked{Peer: "n2", Link: 1})
	if peers := w.machines[1].node.Info().Peers; len(peers) != 1 {
		t.Fatalf("peers are %+v", peers)
	}
}

// A coordinator that follows a primary signs nobody else's proposals.
func TestOnlyThePrimaryIsFollowed(t *testing.T) {
	w := newNetwork(t, 3, 3, func(i int, c *node.Config) {
		c.Coordinator.Follows = secret("coordinator 0").Public()
	})
	w.until(1)
	w.machines[0].down = true
	w.run(500)
	n := w.machines[1].node
	info := n.Info()
	m := w.milestone(info.Latest.Index+1, info.Milestone, info.Latest.Time, n.Tips()[0], secret("coordinator 2"))
	w.hear(1, "n2", node.Propose{Milestone: m.Payload.(*tangle.Milestone)})
	before := w.sent["node.Sign"]
	w.run(2 * step.Second)
	if w.sent["node.Sign"] != before || n.Info().Refused.Refused != 0 {
		t.Fatal("another coordinator's proposal was considered")
	}
}
