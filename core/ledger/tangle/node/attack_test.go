package node_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/gossip"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/step"
)

// milestone signs a block of the network's next milestone over one parent, without
// asking whether it is right.
func (w *network) milestone(index uint32, previous tangle.MilestoneID, time uint32, parent tangle.BlockID, signers ...eddsa.Secret) *tangle.Block {
	m := &tangle.Milestone{
		Index: index, Timestamp: time, Protocol: tangle.Protocol, Previous: previous, Parents: []tangle.BlockID{parent},
		InclusionRoot: tangle.MerkleRoot(nil), AppliedRoot: tangle.MerkleRoot(nil),
	}
	for _, s := range signers {
		m.Sign(s)
	}
	return &tangle.Block{Protocol: tangle.Protocol, Parents: m.Parents, Payload: m}
}

func frame(m node.Message) gossip.Frame { return node.Frame(m) }

func (w *network) hear(i int, from string, m node.Message) []step.Outcome {
	w.t.Helper()
	return w.tell(i, step.Recv{From: from, Msg: frame(m)})
}

// Coordinators that sign two milestones of one index stop the network: every node
// keeps both, says so once, and confirms nothing any more, also after a restart.
func TestEquivocatingCoordinators(t *testing.T) {
	w := newNetwork(t, 4, 3)
	w.until(3)
	n := w.machines[3].node
	real, _, ok := n.Milestone(2)
	if !ok {
		t.Fatal("no milestone 2")
	}
	other := w.milestone(2, real.Previous, real.Timestamp+1, tangle.BlockID{}, secret("coordinator 0"), secret("coordinator 1"))
	w.hear(3, "n0", node.Blocks{Raw: [][]byte{other.Append(nil)}})
	w.run(100)
	stopped := w.latest()
	w.run(5 * step.Second)
	if w.latest() != stopped {
		t.Fatalf("milestone %d was confirmed after two of index 2", w.latest())
	}
	for i, m := range w.machines {
		if o, ok := w.outcome(i, node.HaltID); !ok || !errors.Is(o.Err, node.ErrHalted) {
			t.Fatalf("node %d says %+v", i, o)
		}
		if list := m.node.Witnesses(); len(list) != 2 {
			t.Fatalf("node %d has %d witnesses", i, len(list))
		}
		w.start(m)
	}
	w.run(3 * step.Second)
	if w.latest() != stopped {
		t.Fatal("a restart makes nodes forget the fraud")
	}
	out := w.tell(1, node.Submit{ID: "s", Payload: &tangle.TaggedData{Data: []byte("x")}})
	if !errors.Is(out[0].Err, node.ErrHalted) {
		t.Fatalf("a halted node takes a payload: %+v", out)
	}
	w.agree()
}

// One coordinator that signs twice is told of, and changes nothing: the others sign
// what they come to themselves.
func TestOneDoubleSigner(t *testing.T) {
	w := newNetwork(t, 4, 3)
	w.until(2)
	w.machines[0].down = true // the primary's key is abused meanwhile
	w.run(500)
	info := w.machines[3].node.Info()
	next := info.Latest.Index + 1
	var parent tangle.BlockID
	ids, _ := w.machines[3].node.Order(info.Latest.Index)
	parent = ids[len(ids)-1]
	for k := range 2 {
		b := w.milestone(next, info.Milestone, info.Latest.Time+uint32(k), parent, secret("coordinator 0"))
		w.hear(3, "n0", node.Propose{Milestone: b.Payload.(*tangle.Milestone)})
		w.run(3 * step.Second)
	}
	o, ok := w.outcome(3, node.DoubleID)
	if d, _ := o.Value.(node.Double); !ok || d.Index != next || d.Public != secret("coordinator 0").Public() {
		t.Fatalf("nobody tells of it: %+v", o)
	}
	if latest := w.machines[3].node.Info().Latest.Index; latest >= next {
		// The first essence was right: an empty cone with the right roots may be signed.
		t.Logf("milestone %d was signed by the others", latest)
	}
	w.start(w.machines[0])
	w.run(5 * step.Second)
	w.agree()
	for i := range w.machines {
		if _, ok := w.outcome(i, node.HaltID); ok {
			t.Fatalf("node %d stops because of one of three", i)
		}
	}
}

// A proposal with roots that are not a member's own is not signed.
func TestWrongRootsAreNotSigned(t *testing.T) {
	w := newNetwork(t, 3, 3)
	w.until(2)
	w.machines[0].down = true
	w.run(500)
	info := w.machines[1].node.Info()
	b := w.milestone(info.Latest.Index+1, info.Milestone, info.Latest.Time, w.machines[1].node.Tips()[0], secret("coordinator 0"))
	b.Payload.(*tangle.Milestone).AppliedRoot[0] ^= 1
	b.Payload.(*tangle.Milestone).Signatures = nil
	b.Payload.(*tangle.Milestone).Sign(secret("coordinator 0"))
	w.hear(1, "n0", node.Propose{Milestone: b.Payload.(*tangle.Milestone)})
	w.run(3 * step.Second)
	if got := w.machines[1].node.Info(); got.Refused.Refused == 0 || got.Latest != info.Latest {
		t.Fatalf("after a false proposal: %+v", got)
	}
}

// A flood of blocks whose parents nobody has costs its sender its own share, and
// takes nothing from others.
func TestUnsolidFloodIsBounded(t *testing.T) {
	w := newNetwork(t, 2, 1)
	w.check = false
	w.until(1)
	// An honest peer's block waits for a parent that is late.
	late := &tangle.Block{Protocol: tangle.Protocol, Parents: []tangle.BlockID{{}}, Payload: &tangle.TaggedData{Data: []byte("late")}}
	child := &tangle.Block{Protocol: tangle.Protocol, Parents: []tangle.BlockID{late.ID()}, Payload: &tangle.TaggedData{Data: []byte("child")}}
	w.hear(1, "honest", node.Greet{Network: w.net.ID})
	w.hear(1, "honest", node.Blocks{Raw: [][]byte{child.Append(nil)}})
	const flood = 10_000
	for k := 0; k < flood; k += 100 {
		var m node.Blocks
		for i := range 100 {
			var parent tangle.BlockID
			binary.BigEndian.PutUint32(parent[:], uint32(k+i+1))
			b := &tangle.Block{Protocol: tangle.Protocol, Parents: []tangle.BlockID{parent}}
			m.Raw = append(m.Raw, b.Append(nil))
		}
		w.hear(1, "evil", m)
	}
	info := w.machines[1].node.Info()
	if info.Unsolid > node.MaxUnsolid+1 {
		t.Fatalf("%d unsolid blocks are kept", info.Unsolid)
	}
	for _, p := range info.Peers {
		if p.Name == "honest" && (p.Unsolid != 1 || p.Dropped != 0) {
			t.Fatalf("the honest peer's block was dropped: %+v", p)
		}
		if p.Name == "evil" && p.Dropped < flood-node.MaxUnsolid {
			t.Fatalf("the flood: %+v", p)
		}
	}
	w.hear(1, "honest", node.Blocks{Raw: [][]byte{late.Append(nil)}})
	if m, ok := w.machines[1].node.Metadata(child.ID()); !ok || !m.Solid {
		t.Fatalf("the honest peer's block is %+v", m)
	}
	// What nobody has is given up, and forgotten.
	w.run(30 * step.Second)
	if info := w.machines[1].node.Info(); info.Unsolid != 0 {
		t.Fatalf("%d blocks still wait", info.Unsolid)
	}
	if asks := w.sent["node.Ask"]; asks > 1000 {
		t.Fatalf("%d requests were sent for the flood", asks)
	}
}

// Blocks against the rules are refused and remembered, and those on top of them too.
func TestBadBlocks(t *testing.T) {
	w := newNetwork(t, 2, 1)
	w.until(1)
	w.hear(1, "evil", node.Greet{Network: w.net.ID})
	tx := w.pay(0, rich, tangle.GenesisOutput(0), address(secret("b")), 1, "")
	u := tx.Unlocks[0].(tangle.SignatureUnlock)
	u.Signature[7] ^= 1
	tx.Unlocks[0] = u
	forged := &tangle.Block{Protocol: tangle.Protocol, Parents: []tangle.BlockID{{}}, Payload: tx}
	onTop := &tangle.Block{Protocol: tangle.Protocol, Parents: []tangle.BlockID{forged.ID()}}
	good := &tangle.Block{Protocol: tangle.Protocol, Parents: []tangle.BlockID{{}}, Payload: &tangle.TaggedData{Data: []byte("good")}}
	unsigned := w.milestone(9, tangle.MilestoneID{}, 0, tangle.BlockID{}, secret("nobody"))
	w.hear(1, "evil", node.Blocks{Raw: [][]byte{onTop.Append(nil), forged.Append(nil), unsigned.Append(nil), good.Append(nil)}})
	n := w.machines[1].node
	for _, b := range []*tangle.Block{forged, onTop, unsigned} {
		if _, ok := n.Metadata(b.ID()); ok {
			t.Fatalf("block %v was taken", b.ID())
		}
	}
	if m, ok := n.Metadata(good.ID()); !ok || !m.Solid {
		t.Fatal("a good block beside bad ones was not taken")
	}
	if info := n.Info(); info.Refused.Invalid < 2 {
		t.Fatalf("counts: %+v", info.Refused)
	}
	if w.hear(1, "evil", node.Blocks{Raw: [][]byte{onTop.Append(nil)}}); n.Info().Unsolid != 0 {
		t.Fatal("a block on top of a bad one waits")
	}
	out := w.tell(1, node.Submit{ID: "s", Block: forged.Append(nil)}, node.Submit{ID: "t", Payload: tx},
		node.Submit{ID: "u", Payload: &tangle.TaggedData{Data: []byte("beside")}})
	if out[0].Err == nil || out[1].Err == nil || out[2].Err != nil {
		t.Fatalf("submitted: %+v", out)
	}
}

// Work is wanted of blocks from outside, and done for submitters up to a limit.
func TestWork(t *testing.T) {
	w := newNetwork(t, 2, 1, func(i int, c *node.Config) {
		if i == 1 {
			c.MaxWork = 4
		}
		c.Network.MinZeros = 4
	})
	w.until(1)
	w.submit(1, &tangle.TaggedData{Data: []byte("worked")})
	w.settle()
	lazy := &tangle.Block{Protocol: tangle.Protocol, Parents: []tangle.BlockID{{}}}
	for tangle.Zeros(lazy.Append(nil)) >= 4 {
		lazy.Nonce++
	}
	w.hear(1, "n0", node.Blocks{Raw: [][]byte{lazy.Append(nil)}})
	if _, ok := w.machines[1].node.Metadata(lazy.ID()); ok {
		t.Fatal("a block without work was taken")
	}
	w.net.MinZeros = 5
	out := w.tell(1, node.Submit{ID: "s", Payload: &tangle.TaggedData{Data: []byte("more")}})
	if !errors.Is(out[0].Err, node.ErrWork) {
		t.Fatalf("a node that works for 4 zeros says %+v", out)
	}
}

// Frames that make no sense are counted and cost nothing else.
func TestNonsense(t *testing.T) {
	w := newNetwork(t, 2, 1)
	w.until(1)
	for _, raw := range [][]byte{nil, {99}, {2, 200}, {3, 255, 255, 255, 255, 15}, {1, 9}} {
		w.tell(1, step.Recv{From: "n0", Msg: gossip.Frame{Ledger: gossip.Tangle, Raw: raw}})
	}
	w.hear(1, "stranger", node.Greet{Network: 5})
	info := w.machines[1].node.Info()
	if info.Refused.Malformed != 6 {
		t.Fatalf("counts: %+v", info.Refused)
	}
	i := slices.IndexFunc(info.Peers, func(p node.Peer) bool { return p.Name == "stranger" })
	if info.Peers[i].Speaks {
		t.Fatal("a peer of another network is taken for one")
	}
	for k := range node.MaxPeers + 10 {
		w.hear(1, string(rune('A'+k)), node.Ask{})
	}
	if n := len(w.machines[1].node.Info().Peers); n != node.MaxPeers {
		t.Fatalf("%d peers", n)
	}
}

// What is old stays as it is: a block that was included long ago is not attached
// again, and one on top of it is not attached at all.
func TestOldBlocks(t *testing.T) {
	w := newNetwork(t, 2, 1, func(i int, c *node.Config) { c.Network.BelowMaxDepth = 4 })
	w.check = false
	w.until(1)
	first := w.submit(1, w.pay(0, rich, tangle.GenesisOutput(0), address(secret("bob")), 3, ""))
	w.until(15)
	n := w.machines[0].node
	before, _ := n.Metadata(first.Block)
	raw := n.Block(first.Block)
	late := &tangle.Block{Protocol: tangle.Protocol, Parents: []tangle.BlockID{first.Block}}
	w.hear(0, "n1", node.Blocks{Raw: [][]byte{raw, late.Append(nil)}})
	out := w.tell(0, node.Submit{ID: "s", Block: late.Append(nil)})
	if !errors.Is(out[0].Err, node.ErrTooOld) {
		t.Fatalf("a block on old ones: %+v", out)
	}
	w.settle()
	after, ok := n.Metadata(first.Block)
	if !ok || after.Included != before.Included || after.State != node.Applied || n.Block(first.Block) == nil {
		t.Fatalf("the old block is %+v, and was %+v", after, before)
	}
	if _, ok := n.Metadata(late.ID()); ok {
		t.Fatal("a block on top of an old one is attached")
	}
	w.agree()
}

// A node with more unconfirmed blocks than it has room for takes those that the next
// milestone includes, and so makes room.
func TestAFullNodeGoesOn(t *testing.T) {
	w := newNetwork(t, 2, 1, func(i int, c *node.Config) {
		if i == 1 {
			c.MaxUnconfirmed = 20
		}
	})
	w.check = false
	w.until(1)
	w.hear(1, "evil", node.Greet{Network: w.net.ID})
	for k := range 30 { // told to this node alone
		b := &tangle.Block{Protocol: tangle.Protocol, Parents: []tangle.BlockID{{}}, Payload: &tangle.TaggedData{Data: []byte{byte(k)}}}
		w.lose = func(from, to string, m node.Message) bool { return from == "n1" }
		w.hear(1, "evil", node.Blocks{Raw: [][]byte{b.Append(nil)}})
	}
	if n := w.machines[1].node.Info().Unconfirmed; n > 22 {
		t.Fatalf("%d unconfirmed blocks", n)
	}
	out := w.tell(1, node.Submit{ID: "s", Payload: &tangle.TaggedData{Data: []byte("x")}})
	if !errors.Is(out[0].Err, node.ErrFull) {
		t.Fatalf("a full node says %+v", out)
	}
	for k := range 100 {
		w.submit(0, &tangle.TaggedData{Data: []byte{byte(k), 1}})
	}
	w.lose = func(from, to string, m node.Message) bool {
		_, blocks := m.(node.Blocks)
		return from == "n1" && blocks
	}
	w.until(w.latest() + 3)
	w.agree()
}
