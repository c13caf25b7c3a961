package node_test

import (
	"testing"

	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/core/step"
)

// Four representatives with a quarter each cement a transfer: a send and a receive.
func TestATransfer(t *testing.T) {
	w := newWorld(t, 4)
	w.share()
	a, b := &wallet{key: w.reps[1], rep: w.reps[1].Public()}, w.wallet("b")
	account, _ := w.nodes[2].Account(a.account())
	a.frontier, a.balance = account.Frontier, account.Balance
	began := w.now
	h := w.nodes[2].must(a.send(b.account(), 1000))
	w.until("cemented everywhere", func() bool { return w.everywhere(h) })
	t.Logf("a send is cemented on four nodes after %d ms of messages that take 1 ms", w.now-began)
	h = w.nodes[3].must(b.receive(h, 1000))
	w.until("received everywhere", func() bool { return w.everywhere(h) })
	w.conserved()
	for _, e := range w.nodes {
		if c := e.Counts(); c.Backlog+c.Elections+c.Unchecked != 0 || c.Blocks != 9 {
			t.Errorf("%s has left over: %+v", e.name, c)
		}
	}
	if _, err := w.nodes[0].publish(a.make(a.balance, [32]byte{1}, workSend)); node.AsRefusal(err) != lattice.BalanceWrong {
		t.Errorf("a link that does nothing: %v", err)
	}
}

// One key signs two sends behind the same block, and gives one to either half of a
// network that is cut in two. Nothing is cemented until the halves meet, and then
// the same one everywhere.
func TestAForkAcrossAPartition(t *testing.T) {
	w := newWorld(t, 5)
	w.share()
	thief, a, b := w.genesis, w.wallet("a"), w.wallet("b")
	left := func(name string) bool { return name < "node2" }
	w.cut = func(from, to string) bool { return left(from) != left(to) }
	rest, _ := thief.balance.Sub(lattice.RawOf(1000))
	one, two := thief.make(rest, a.account(), workSend), thief.make(rest, b.account(), workSend)
	w.nodes[0].must(one)
	w.nodes[4].must(two)
	w.run(20_000)
	for _, e := range w.nodes {
		for _, h := range []lattice.Hash{one.Hash(), two.Hash()} {
			if s, _ := e.Block(h); s.Confirmed {
				t.Errorf("%s has cemented %v without a quorum", e.name, h)
			}
		}
	}
	w.cut = nil
	w.until("one of the two is cemented", func() bool { return w.everywhere(one.Hash()) || w.everywhere(two.Hash()) })
	winner := one.Hash()
	if w.everywhere(two.Hash()) {
		winner = two.Hash()
	}
	w.run(5000)
	for _, e := range w.nodes {
		account, _ := e.Account(thief.account())
		if account.Frontier != winner || e.Counts().Backlog != 0 {
			t.Errorf("%s has %v at the end, and %+v", e.name, account.Frontier, e.Counts())
		}
	}
	w.conserved()
}

// Both sides of a fork are handed to all nodes at once, in either order, again and
// again: each time exactly one stays, the same everywhere, and what followed from
// the other is gone.
func TestForksEverywhereAtOnce(t *testing.T) {
	w := newWorld(t, 5)
	w.share()
	thief := w.genesis
	for round := range 6 {
		rest, _ := thief.balance.Sub(lattice.RawOf(1000))
		a, b := w.wallet("a"), w.wallet("b")
		one, two := thief.make(rest, a.account(), workSend), thief.make(rest, b.account(), workSend)
		for i, e := range w.nodes {
			first, second := one, two
			if i%2 == round%2 {
				first, second = two, one
			}
			e.step(node.Process{ID: "1", Block: first}, node.Process{ID: "2", Block: second})
		}
		w.until("one of the two is cemented", func() bool { return w.everywhere(one.Hash()) || w.everywhere(two.Hash()) })
		w.run(3000)
		if w.everywhere(one.Hash()) == w.everywhere(two.Hash()) {
			t.Fatal("both are cemented")
		}
		thief.take(one)
		if w.everywhere(two.Hash()) {
			thief.take(two)
		}
	}
	w.conserved()
}

// A node that starts again has the ledger, and keeps to the final votes it gave.
func TestANodeStartsAgain(t *testing.T) {
	w := newWorld(t, 4)
	w.share()
	a, b := w.genesis, w.wallet("b")
	one := a.send(b.account(), 1000)
	// Only normal votes arrive: everybody gives a final vote, and nobody hears it.
	heard := false
	w.cut = func(string, string) bool { return heard }
	w.seen = func(_ *end, m lattice.Message) {
		if v, ok := m.(*lattice.ConfirmAck); ok && v.Vote.Final() {
			heard = true
		}
	}
	w.nodes[0].must(one)
	w.until("a final vote is given", func() bool { return heard })
	w.run(50)
	w.wire, w.seen = nil, nil
	for _, e := range w.nodes {
		e.start()
	}
	w.cut = nil
	w.until("what was voted on finally is cemented, though nobody says it again", func() bool { return w.everywhere(one.Hash()) })
	w.conserved()
}

// A new node fetches the ledger, also when the one that had all weight at first is
// gone, because the network's table says whom to believe.
func TestBootstrap(t *testing.T) {
	var table lattice.Weights
	w := newWorld(t, 5, func(c *node.Config) {})
	w.share()
	a := w.genesis
	var last lattice.Hash
	for i := range 300 {
		to := w.wallet(string(rune('a' + i%26)))
		last = w.nodes[0].must(a.send(to.account(), 1))
		if i%10 == 9 {
			w.until("it is cemented", func() bool { return w.everywhere(last) })
		}
	}
	h := w.nodes[0].must(a.change(w.reps[1].Public()))
	w.until("the genesis account has another representative", func() bool { return w.everywhere(h) })
	for _, r := range w.nodes[1].Representatives() {
		table = append(table, lattice.Weight{Rep: r.Key, Weight: r.Weight})
	}
	late := w.nodes[0]
	late.config.Network.Reps, late.config.Reps = table, nil
	late.db = newStore(t)
	late.start()
	w.until("the new node has the ledger", func() bool {
		return late.Counts().Cemented == w.nodes[1].Counts().Cemented
	})
	if a, b := late.Quorum(), w.nodes[1].Quorum(); a.Delta != b.Delta {
		t.Errorf("quorums are %v and %v", a.Delta, b.Delta)
	}
	w.conserved()
}

// A wallet that has no ledger is given a certificate that a block is final.
func TestACertificate(t *testing.T) {
	w := newWorld(t, 4)
	w.share()
	var table lattice.Weights
	for _, r := range w.nodes[1].Representatives() {
		table = append(table, lattice.Weight{Rep: r.Key, Weight: r.Weight})
	}
	for _, e := range w.nodes {
		e.config.Network.Reps = table
		e.start()
	}
	w.run(10)
	a, b := w.genesis, w.wallet("b")
	one := a.send(b.account(), 1000)
	one.Work = 0 // the node does it
	e := w.nodes[2]
	e.step(step.Recv{From: "nano", Msg: lattice.Follow{Account: b.account()}}, step.Recv{From: "nano", Msg: lattice.Submit{Block: one}})
	var final *lattice.Final
	var state lattice.State
	w.until("the wallet is told", func() bool {
		for _, p := range e.told {
			switch m := p.Msg.(type) {
			case lattice.Final:
				final = &m
			case lattice.State:
				state = m
			}
		}
		return final != nil
	})
	if final.Block.Hash() != one.Hash() || final.Previous.Hash() != one.Previous {
		t.Errorf("it is told %+v", final)
	}
	if err := final.Proof.Verify(table); err != nil {
		t.Error(err)
	}
	if n := len(final.Proof.Append(nil)); n > 32+2+4*(3+104+32) {
		t.Errorf("the certificate is %d bytes", n)
	}
	if len(state.Receivable) != 1 || state.Receivable[0].Source != one.Hash() || state.Height != 0 {
		t.Errorf("the payee is told %+v", state)
	}
	final.Proof.Votes = final.Proof.Votes[:2]
	if err := final.Proof.Verify(table); err == nil {
		t.Error("two of four are a quorum")
	}
}

// What is older than the newest blocks of an account can be forgotten, and what it
// has sent is received all the same.
func TestPruning(t *testing.T) {
	w := newWorld(t, 3, func(c *node.Config) { c.Keep = 2 })
	w.share()
	a, b := w.genesis, w.wallet("b")
	first := a.send(b.account(), 1000)
	for _, bl := range []lattice.Block{first, a.send(b.account(), 1), a.send(b.account(), 1), a.send(b.account(), 1)} {
		h := w.nodes[0].must(bl)
		w.until("it is cemented", func() bool { return w.everywhere(h) })
	}
	if _, known := w.nodes[0].Block(first.Hash()); known {
		t.Error("the first of four is still there")
	}
	h := w.nodes[1].must(b.receive(first.Hash(), 1000))
	w.until("a pruned send is received", func() bool { return w.everywhere(h) })
	w.conserved()
}
