package node_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"coinop.dev/core/ledger/gossip"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
)

// Rules without a node: what a block wants to know, and what comes of it.
func TestJudge(t *testing.T) {
	w := newNetwork(t, 1, 1)
	w.run(10) // its disk has the genesis
	tx := w.pay(0, rich, tangle.GenesisOutput(0), address(secret("bob")), 7, "")
	block := func(p tangle.Payload) *node.Block {
		b := &tangle.Block{Protocol: tangle.Protocol, Parents: []tangle.BlockID{{}}, Payload: p}
		read, err := node.ReadBlock(b.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		return read
	}
	facts := func(b *node.Block, disk memory) node.Facts {
		f := node.Facts{}
		for _, key := range node.Wants(b) {
			f[key] = disk[key]
		}
		return f
	}
	if keys := node.Wants(block(&tangle.TaggedData{})); keys != nil {
		t.Fatalf("data wants %q", keys)
	}
	if r, err := node.Judge(block(nil), node.Mark{Index: 1}, nil); r != nil || err != nil {
		t.Fatalf("an empty block gives %v, %v", r, err)
	}
	disk := w.machines[0].disk
	b := block(tx)
	records, err := node.Judge(b, node.Mark{Index: 5, Time: 50}, facts(b, disk))
	if err != nil || len(records) != 6 {
		t.Fatalf("one input and two outputs give %d records, %v", len(records), err)
	}
	disk.apply(records)
	again := w.payFrom(rich, tangle.GenesisOutput(0), w.net.Genesis[0], address(secret("eve")), 9, "")
	wrongKey := w.payFrom(rich, tangle.GenesisOutput(1), w.net.Genesis[1], address(secret("eve")), 9, "")
	wrongKey.Unlocks[0] = tangle.SignatureUnlock{Public: secret("eve").Public()}
	more := w.payFrom(rich, tangle.GenesisOutput(1), w.net.Genesis[1], address(secret("eve")), 9, "")
	more.Essence.Outputs[0].Amount++
	other := w.payFrom(rich, tangle.GenesisOutput(1), w.net.Genesis[1], address(secret("eve")), 9, "")
	other.Essence.Commitment[0] ^= 1
	for _, c := range []struct {
		name  string
		tx    *tangle.Transaction
		index uint32
		want  node.Conflict
	}{
		{"spent in the same milestone", again, 5, node.SpentBefore},
		{"spent earlier", again, 6, node.AlreadySpent},
		{"of nothing", w.payFrom(rich, tangle.NewOutputID(tangle.TransactionID{9}, 0), w.net.Genesis[0], address(rich), 1, ""), 6, node.NotFound},
		{"with another's key", wrongKey, 6, node.WrongUnlock},
		{"of more than goes in", more, 6, node.SumMismatch},
		{"of other outputs", other, 6, node.WrongCommitment},
	} {
		b := block(c.tx)
		records, err := node.Judge(b, node.Mark{Index: c.index}, facts(b, disk))
		var got node.Conflict
		if !errors.As(err, &got) || got != c.want || records != nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a fact that nobody asked for is missed silently")
		}
	}()
	node.Judge(b, node.Mark{Index: 7}, node.Facts{})
}

func messages(t testing.TB) []node.Message {
	m := (&network{t: t}).milestone(4, tangle.MilestoneID{1}, 5, tangle.BlockID{2}, secret("a"), secret("b"))
	id := tangle.BlockID{7, 8}
	return []node.Message{
		node.Greet{Network: 1, Latest: 2, Oldest: 3, Tips: []tangle.BlockID{id, {}}},
		node.Blocks{Raw: [][]byte{m.Append(nil), m.Append(nil)}},
		node.Ask{Blocks: []tangle.BlockID{id}},
		node.AskMilestone{Index: 9, Piece: 3},
		node.Cone{Index: 1, Pieces: 2, Piece: 1, Block: m.Append(nil), IDs: []tangle.BlockID{id}},
		node.Propose{Milestone: m.Payload.(*tangle.Milestone)},
		node.Sign{Index: 4, Milestone: tangle.MilestoneID{5}, Signature: tangle.Signature{Public: [32]byte{6}, Signature: [64]byte{7}}},
		node.AskSnapshot{Digest: tangle.Hash{1}, Piece: 2},
		node.Piece{Digest: tangle.Hash{1}, Pieces: 4, Piece: 2, Data: []byte("data")},
	}
}

func TestMessages(t *testing.T) {
	for _, m := range messages(t) {
		raw := node.Frame(m).Raw
		got, err := node.Decode(raw)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%T: %+v is read as %+v, %v", m, m, got, err)
		}
		for n := range raw {
			if got, err := node.Decode(raw[:n]); err == nil && len(node.Frame(got).Raw) != n {
				t.Errorf("%T: %d of %d bytes are read", m, n, len(raw))
			}
		}
	}
	big := node.Cone{Block: make([]byte, tangle.MaxBlockSize), IDs: make([]tangle.BlockID, node.MaxConePiece)}
	if n := len(node.Frame(big).Raw); n > gossip.MaxFrame {
		t.Errorf("the largest list is %d bytes; a frame holds %d", n, gossip.MaxFrame)
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range messages(f) {
		f.Add(node.Frame(m).Raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := node.Decode(raw)
		if err != nil {
			return
		}
		if again := node.Frame(m).Raw; !bytes.Equal(again, raw) {
			t.Fatalf("%x is written as %x", raw, again)
		}
	})
}

// FuzzFrames hands a node whatever a peer may send.
func FuzzFrames(f *testing.F) {
	for _, m := range messages(f) {
		f.Add(node.Frame(m).Raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		w := newNetwork(t, 1, 1)
		w.run(10)
		w.hear(0, "p", node.Greet{Network: w.net.ID, Latest: 3})
		w.run(2000)
		for from := 0; from < len(raw); from += 200 {
			w.tell(0, recvFrame("p", raw[from:]))
		}
		w.run(1500)
		w.agree()
	})
}
