package node_test

import (
	"testing"

	"coinop.dev/core/ledger/gossip"
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

// Somebody makes a hundred times as many blocks as there is room for, from accounts
// with next to nothing. They wait for each other; a payment of somebody with more is
// cemented about as fast as on a quiet day, and the backlog keeps its bound.
func TestSpam(t *testing.T) {
	const backlog, poor = 100, 10_000
	w := newWorld(t, 4, func(c *node.Config) { c.MaxBacklog = backlog })
	w.share()
	spammer := w.wallet("spammer")
	h := w.nodes[0].must(w.genesis.send(spammer.account(), poor))
	w.until("the spammer is paid", func() bool { return w.everywhere(h) })
	h = w.nodes[0].must(spammer.receive(h, poor))
	w.until("the spammer has it", func() bool { return w.everywhere(h) })
	pay := func() (took step.Time) {
		began := w.now
		h := w.nodes[1].must(w.genesis.send(w.reps[2].Public(), 1000))
		w.until("the payment is cemented", func() bool { return w.everywhere(h) })
		return w.now - began
	}
	quiet := pay()
	// A chain of sends as long as may be, and blocks behind blocks that nobody has.
	var flood []any
	for i := range poor {
		b := spammer.send(w.genesis.account(), 1)
		if i%2 == 0 {
			b = w.wallet(string(rune('a'+i%26))).make(lattice.RawOf(1), [32]byte{byte(i), byte(i >> 8), 7}, workSend)
		}
		flood = append(flood, step.Recv{From: "node3", Msg: gossip.Frame{Ledger: gossip.Lattice, Raw: (&lattice.Publish{Block: b}).Append(nil, w.network.Magic)}})
	}
	for len(flood) > 0 {
		w.nodes[0].step(flood[:1000]...)
		flood = flood[1000:]
		if took := pay(); took > 3*quiet+50 {
			t.Errorf("a payment takes %d ms; on a quiet day %d", took, quiet)
		}
		for _, e := range w.nodes {
			if c := e.Counts(); c.Backlog > backlog || c.Unchecked > node.MaxUnchecked {
				t.Fatalf("%s keeps %+v", e.name, c)
			}
		}
	}
	w.conserved()
}

// A vote that is said again, and one whose time is older than what its representative
// said since, count for nothing.
func TestVotesAreReplayed(t *testing.T) {
	w := newWorld(t, 4)
	w.share()
	var votes [][]byte
	w.seen = func(_ *end, m lattice.Message) {
		if v, ok := m.(*lattice.ConfirmAck); ok {
			votes = append(votes, v.Append(nil, w.network.Magic))
		}
	}
	h := w.nodes[0].must(w.genesis.send(w.reps[2].Public(), 1000))
	w.until("it is cemented", func() bool { return w.everywhere(h) })
	w.seen = nil
	before := w.nodes[1].Counts()
	for range 20 {
		for _, raw := range votes {
			w.nodes[1].step(step.Recv{From: "node2", Msg: gossip.Frame{Ledger: gossip.Lattice, Raw: raw}})
		}
	}
	if after := w.nodes[1].Counts(); after.Cemented != before.Cemented || after.Elections != 0 || after.Checked > before.Checked+uint64(len(votes)) {
		t.Errorf("%d votes said 20 times: %+v, and before %+v", len(votes), after, before)
	}
}

// Judge knows what Wants names, and nothing else.
func TestWants(t *testing.T) {
	w := newWorld(t, 3)
	w.share()
	e := w.nodes[0]
	b := w.genesis.make(w.genesis.balance, w.reps[1].Public(), workSend)
	send := w.genesis.send(w.wallet("b").account(), 5)
	other := w.wallet("c").receive(send.Hash(), 5)
	for name, c := range map[string]struct {
		block lattice.Block
		want  lattice.Refusal
	}{
		"a send":               {send, ""},
		"a link for nothing":   {b, lattice.BalanceWrong},
		"an open of nothing":   {other, lattice.GapSource},
		"behind nothing":       {func() lattice.Block { x := send; x.Previous[3] ^= 1; return x }(), lattice.GapPrevious},
		"behind the genesis":   {func() lattice.Block { x := send; x.Previous = w.network.Genesis.Hash(); return x }(), lattice.Fork},
		"the burn account's":   {func() lattice.Block { x := send; x.Account = lattice.Burn; return x }(), lattice.OpenedBurn},
		"more from what is no": {func() lattice.Block { x := send; x.Balance = w.network.Supply(); return x }(), lattice.GapSource},
	} {
		var records [][]byte
		for _, key := range node.Wants(&c.block) {
			v, err := e.db.Get(key)
			if err != nil {
				t.Fatal(err)
			}
			records = append(records, v)
		}
		f, err := node.FactsOf(&c.block, records)
		if err != nil {
			t.Fatal(err)
		}
		if _, why := node.Judge(&c.block, f); why != c.want {
			t.Errorf("%s: %q, want %q", name, why, c.want)
		}
	}
}
