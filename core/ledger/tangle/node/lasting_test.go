package node_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/step"
)

// Coordinators that are far from each other, and whose frames overtake others, keep
// the interval: a proposal that comes before the last milestone is not lost.
func TestMilestonesKeepTheirInterval(t *testing.T) {
	const interval = 200 * step.Millisecond
	w := newNetwork(t, 4, 4, func(i int, c *node.Config) { c.Coordinator.Interval = interval })
	r := rand.New(rand.NewPCG(3, 4))
	w.delay = func(from, to string, m node.Message) step.Time { return step.Time(1 + r.IntN(80)) }
	w.until(1)
	var at []step.Time
	for end := w.now + 10*step.Second; w.now < end; w.run(1) {
		if int(w.machines[0].node.Info().Latest.Index) > len(at)+1 {
			at = append(at, w.now)
			w.submit(len(at)%4, &tangle.TaggedData{Data: fmt.Append(nil, len(at))})
		}
	}
	longest := step.Time(0)
	for i := range at[1:] {
		longest = max(longest, at[i+1]-at[i])
	}
	t.Logf("%d milestones in 10 s, the longest pause was %d ms", len(at), longest)
	if len(at) < 45 || longest > 3*interval {
		t.Fatalf("%d milestones in 10 s, and between two of them %d ms", len(at), longest)
	}
	w.agree()
}

// Busy nodes hear a milestone and the next proposal in one step. And when signing takes
// longer than the interval, the next milestone is that much later, and not a second.
func TestMilestonesOfBusyNodes(t *testing.T) {
	const interval = 200 * step.Millisecond
	for way, least := range map[step.Time]uint32{10: 38, 90: 25, 120: 18} {
		w := newNetwork(t, 4, 4, func(i int, c *node.Config) { c.Coordinator.Interval = interval })
		w.check = false
		w.delay = func(from, to string, m node.Message) step.Time { // in steps of 50 ms
			return (w.now+way)/50*50 + 50 - w.now
		}
		w.until(1)
		before := w.latest()
		w.run(10 * step.Second)
		n := w.latest() - before
		t.Logf("%d milestones in 10 s over %d ms", n, way)
		if n < least {
			t.Errorf("over %d ms there are %d milestones in 10 s; there should be %d", way, n, least)
		}
		w.agree()
	}
}

// A transaction whose output is gone, as pruning takes it, is not told that somebody
// else has spent its input: it has done that itself.
func TestATransactionIsNotItsOwnRival(t *testing.T) {
	w := newNetwork(t, 1, 1)
	w.check = false
	w.until(1)
	tx := w.pay(0, rich, tangle.GenesisOutput(0), address(secret("bob")), 250, "")
	w.submit(0, tx)
	w.settle()
	out := tangle.NewOutputID(tx.ID(), 0)
	delete(w.machines[0].disk, "tangle/o/"+string(out[:]))
	w.start(w.machines[0])
	w.run(10)
	w.tell(0, step.Recv{From: "transfer", Msg: tangle.Submit{Transaction: tx}})
	told := w.machines[0].told
	if m, ok := told[len(told)-1].Msg.(tangle.Rejected); !ok || m.Why != tangle.Pruned {
		t.Fatalf("the wallet is told %+v", told)
	}
	if o := w.tell(0, node.Submit{ID: "s", Payload: tx}); !errors.Is(o[0].Err, node.ErrPruned) {
		t.Fatalf("a submission of what is applied says %+v", o)
	}
}

// Outputs of an address are listed in pages. Each page costs little more than its
// length, however many there are before it.
func TestPagesOfOutputs(t *testing.T) {
	w := newNetwork(t, 1, 1)
	w.check = false
	w.until(1)
	shop := address(secret("shop"))
	in, spent := tangle.GenesisOutput(0), w.net.Genesis[0]
	const txs, each = 25, 100
	for range txs {
		var outs []tangle.BasicOutput
		for range each {
			outs = append(outs, tangle.BasicOutput{Amount: 1, Address: shop})
		}
		outs = append(outs, tangle.BasicOutput{Amount: spent.Amount - each, Address: address(rich)})
		e, err := tangle.NewEssence(w.net, []tangle.OutputID{in}, []tangle.BasicOutput{spent}, outs, nil)
		if err != nil {
			t.Fatal(err)
		}
		tx, err := e.Sign([]tangle.BasicOutput{spent}, rich)
		if err != nil {
			t.Fatal(err)
		}
		w.submit(0, tx)
		in, spent = tangle.NewOutputID(tx.ID(), each), outs[each]
	}
	w.settle()
	m := w.machines[0]
	var after tangle.OutputID
	seen, most := 0, 0
	for {
		m.reader.walked = 0
		list := m.node.OutputsOf(shop, after, 50)
		most = max(most, m.reader.walked)
		for _, o := range list {
			if string(o.ID[:]) <= string(after[:]) && seen > 0 {
				t.Fatalf("output %v comes after %v", o.ID, after)
			}
			seen, after = seen+1, o.ID
		}
		if len(list) < 50 {
			break
		}
	}
	if seen != txs*each || most > 1500 {
		t.Fatalf("%d outputs of %d, and a page walks over %d", seen, txs*each, most)
	}
	if _, err := m.node.Snapshot(); err != nil {
		t.Fatal(err)
	}
}

// Clients that ask for proofs of different milestones in turn do not have the node read
// these again and again.
func TestProofsOfManyMilestones(t *testing.T) {
	w := newNetwork(t, 1, 1)
	w.check = false
	w.until(1)
	var txs []*tangle.Transaction
	in, spent := tangle.GenesisOutput(0), w.net.Genesis[0]
	for range 4 {
		tx := w.payFrom(rich, in, spent, address(secret("shop")), 1, "")
		w.submit(0, tx)
		w.settle()
		txs = append(txs, tx)
		in, spent = tangle.NewOutputID(tx.ID(), 1), tx.Essence.Outputs[1]
	}
	w.until(w.latest() + node.MaxTrees)
	m := w.machines[0]
	m.reader.pieces = 0
	for range 50 {
		for _, tx := range txs {
			if _, err := m.node.Proof(tx.ID()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if m.reader.pieces > len(txs) {
		t.Fatalf("%d pieces of milestones were read for proofs of %d", m.reader.pieces, len(txs))
	}
}

// A peer whose link is gone is asked for nothing, also if the configuration names it.
func TestADeadPeerIsNotAsked(t *testing.T) {
	w := newNetwork(t, 3, 1)
	w.until(2)
	w.tell(1, step.Unlinked{Peer: "n2", Link: 1})
	for _, p := range w.machines[1].node.Info().Peers {
		if p.Speaks != (p.Name == "n0") {
			t.Fatalf("after n2 has gone its peers are %+v", w.machines[1].node.Info().Peers)
		}
	}
	asked := 0
	w.lose = func(from, to string, m node.Message) bool {
		if _, greet := m.(node.Greet); from == "n1" && to == "n2" && !greet {
			asked++
		}
		return from == "n2" && to == "n1"
	}
	w.load(3)
	if asked != 0 {
		t.Fatalf("%d frames to a peer that is gone", asked)
	}
	w.lose = nil
	w.settle()
	if peers := w.machines[1].node.Info().Peers; !peers[1].Speaks {
		t.Fatalf("it is back, and the peers are %+v", peers)
	}
}

// A node that was cut off and catches up does not give up what it could not tell
// anybody.
func TestCatchingUpIsNoFailure(t *testing.T) {
	w := newNetwork(t, 3, 1, func(i int, c *node.Config) { c.PromoteAfter = 1 })
	w.check = false
	w.until(1)
	cut := true
	w.lose = func(from, to string, m node.Message) bool { return cut && (from == "n2" || to == "n2") }
	tx := w.pay(2, rich, tangle.GenesisOutput(0), address(secret("bob")), 3, "")
	w.submit(2, tx)
	w.until(3*node.MaxAttach, 0, 1)
	cut = false
	w.until(w.latest()+5, 0, 1, 2)
	for _, o := range w.machines[2].done {
		if o.ID == node.TxID(tx.ID()) && o.Err != nil {
			t.Fatalf("the node says %+v", o)
		}
	}
	if _, ok := w.machines[2].node.Included(tx.ID()); !ok {
		t.Fatal("the transaction is not applied")
	}
	w.agree()
}

// What an error means to a wallet: only what can never be applied is for ever.
func TestRefusals(t *testing.T) {
	for err, want := range map[error]tangle.Refusal{
		node.AlreadySpent: tangle.SpentInput, node.SpentBefore: tangle.SpentInput, node.NotFound: tangle.NoInput,
		node.WrongUnlock: tangle.BadTransaction, node.ErrOrphan: tangle.NoInput, node.ErrPruned: tangle.Pruned,
		node.ErrInvalid: tangle.BadTransaction, node.ErrFull: tangle.Busy, node.ErrHalted: tangle.Busy,
		node.ErrUnsolid: "", node.ErrBlock: "", errors.New("the disk is full"): tangle.Busy,
	} {
		if got := node.RefusalOf(fmt.Errorf("submit: %w", err)); got != want {
			t.Errorf("%v is %q, not %q", err, got, want)
		}
	}
	w := newNetwork(t, 1, 1)
	w.until(1)
	tx := w.pay(0, rich, tangle.GenesisOutput(0), address(secret("bob")), 3, "")
	forged := *tx
	u := tx.Unlocks[0].(tangle.SignatureUnlock)
	u.Signature[3] ^= 1
	forged.Unlocks = []tangle.Unlock{u}
	other := *tx
	other.Essence.NetworkID++
	for _, bad := range []*tangle.Transaction{&forged, &other} {
		if o := w.tell(0, node.Submit{ID: "s", Payload: bad}); node.RefusalOf(o[0].Err) != tangle.BadTransaction {
			t.Errorf("a bad transaction: %v", o[0].Err)
		}
	}
}

// Who wants to hear of blocks hears of each once, before a milestone does anything with
// it; who does not want to hears nothing.
func TestWatch(t *testing.T) {
	w := newNetwork(t, 2, 1)
	w.until(1)
	w.tell(1, node.Watch{Blocks: true})
	got := w.submit(0, &tangle.TaggedData{Data: []byte("hello")})
	w.run(10)
	count := func(i int) (n int) {
		for _, o := range w.machines[i].done {
			if came, ok := o.Value.(node.Came); ok && o.ID == node.CameID {
				for _, raw := range came.Raw {
					if tangle.IDOf(raw) == got.Block {
						n++
					}
				}
			}
		}
		return n
	}
	if m, ok := w.machines[1].node.Metadata(got.Block); !ok || m.State != node.Pending || count(1) != 1 {
		t.Fatalf("the block is %+v and was told %d times", m, count(1))
	}
	w.settle()
	if count(0) != 0 || count(1) != 1 {
		t.Fatalf("told %d times to who does not watch, and %d to who does", count(0), count(1))
	}
	w.tell(1, node.Watch{})
	got = w.submit(0, &tangle.TaggedData{Data: []byte("good bye")})
	w.run(10)
	if count(1) != 0 {
		t.Fatal("told to who does not watch any more")
	}
}

// Payloads that are submitted at once, and whose blocks want work, share it: each has an
// answer, none is attached twice, those that spend from another approve it, and the other
// nodes find the work good.
func TestSubmissionsTogether(t *testing.T) {
	w := newNetwork(t, 2, 1, func(i int, c *node.Config) { c.Network.MinZeros = 1 + i%2 })
	w.check = false
	w.until(1)
	in, spent := tangle.GenesisOutput(0), w.net.Genesis[0]
	var events []any
	var last *tangle.Transaction
	for k := range 60 {
		events = append(events, node.Submit{ID: fmt.Sprint("note ", k), Payload: &tangle.TaggedData{Data: fmt.Append(nil, k/2)}})
		if k%10 == 0 {
			last = w.payFrom(rich, in, spent, address(secret("shop")), 5, "")
			in, spent = tangle.NewOutputID(last.ID(), 1), last.Essence.Outputs[1]
			events = append(events, node.Submit{ID: fmt.Sprint("tx ", k), Payload: last})
		}
	}
	blocks := map[tangle.BlockID]int{}
	for _, o := range w.tell(0, events...) {
		if o.Err != nil {
			t.Fatalf("%s: %v", o.ID, o.Err)
		}
		blocks[o.Value.(node.Attached).Block]++
	}
	if len(blocks) != 36 {
		t.Fatalf("30 notes, each twice, and 6 transactions are in %d blocks", len(blocks))
	}
	w.settle()
	w.agree()
	if info := w.machines[1].node.Info(); info.Refused.Invalid != 0 || info.Txs != 6 {
		t.Fatalf("the other node has %+v", info)
	}
	order, _ := w.machines[1].node.Order(2)
	for id := range blocks {
		if !slices.Contains(order, id) {
			t.Fatalf("block %v is not in the next milestone", id)
		}
	}
}
