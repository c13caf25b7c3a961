package light_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/btcutil/v2/bloom"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/light"
)

func TestBloomFindsAPaymentAndItsSpend(t *testing.T) {
	w, payment := paid(t)
	spend := bloomPay(wire.OutPoint{Hash: payment.TxHash()}, bloomScript("other", 9))
	w.mine(0, spend) // 251
	a := w.connect("a", nil)
	w.connect("b", nil)
	w.run()
	w.sees(payment, 102)
	if got := w.status(payment); got.SpendDepth != 1 || got.Spender.TxHash() != spend.TxHash() {
		t.Errorf("spend has depth %d; want 1", got.SpendDepth)
	}
	if len(a.filters) != 1 {
		t.Errorf("a was given %d filters; want 1: it adds the outputs of what it matches by itself", len(a.filters))
	}
	if len(w.bans)+len(w.drops) > 0 {
		t.Errorf("honest peers were dropped: %q %q", w.bans, w.drops)
	}
	if s := w.client.Summary(0); s.Warning != light.BloomWarning {
		t.Errorf("warning is %q", s.Warning)
	}
}

// A node forgets with the connection what its filter has learned.
func TestBloomSeesASpendOverANewConnection(t *testing.T) {
	w, payment := paid(t)
	w.connect("a", nil)
	w.run()
	w.sees(payment, 101)
	w.restart()
	w.mine(0, bloomPay(wire.OutPoint{Hash: payment.TxHash()}, bloomScript("other", 9)))
	w.connect("a", nil)
	w.run()
	w.sees(payment, 102)
	if got := w.status(payment); got.SpendDepth != 1 {
		t.Errorf("spend has depth %d; want 1", got.SpendDepth)
	}
}

func TestBloomOneOfTwoOmits(t *testing.T) {
	w, payment := paid(t)
	w.connect("liar", w.blind(payment))
	w.connect("true", nil)
	w.run()
	w.sees(payment, 101)
	w.banned("liar", "leaves transaction "+payment.TxHash().String()+" out")
}

func TestBloomOneOfTwoOmitsASpendOfTheSameRange(t *testing.T) {
	w, payment := paid(t)
	spend := bloomPay(wire.OutPoint{Hash: payment.TxHash()}, bloomScript("other", 9))
	w.blocks = w.blocks[:151]
	w.mine(0, spend)
	w.connect("liar", w.blind(spend))
	w.connect("true", nil)
	w.run()
	w.sees(payment, 2)
	if got := w.status(payment); got.SpendDepth != 1 {
		t.Errorf("spend has depth %d; want 1", got.SpendDepth)
	}
	w.banned("liar", "leaves transaction "+spend.TxHash().String()+" out")
}

// What an only peer left out is found when a second one comes, even after a
// restart.
func TestBloomTheOnlyPeerOmits(t *testing.T) {
	for _, restart := range []bool{false, true} {
		w, payment := paid(t)
		w.connect("liar", w.blind(payment))
		w.run()
		w.sees(payment, 0)
		if got := w.client.Summary(0).Warning; !strings.Contains(got, "heights 1 to 250 would not be seen") {
			t.Errorf("warning is %q", got)
		}
		if restart {
			w.restart()
			w.connect("liar", w.blind(payment))
		}
		bells := w.bells
		w.connect("true", nil)
		w.run()
		w.sees(payment, 101)
		w.banned("liar", "leaves transaction "+payment.TxHash().String()+" out")
		if w.bells == bells {
			t.Error("nobody is told that there is more")
		}
		w.connect("third", nil)
		w.run()
		if got := w.client.Summary(0).Warning; got != light.BloomWarning {
			t.Errorf("all was told by two, and the warning is %q", got)
		}
	}
}

// A peer that is behind is a witness as far as its chain goes, and no further: who
// waits for it is not kept busy.
func TestBloomThePeerThatIsBehind(t *testing.T) {
	w, payment := paid(t)
	w.connect("liar", w.blind(payment))
	w.run()
	behind := &bloomServer{name: "behind", world: w, filter: bloom.LoadFilter(nil), height: 120}
	w.peers["behind"] = behind
	w.step(light.Hello{Peer: "behind", Services: wire.SFNodeNetwork | wire.SFNodeWitness | wire.SFNodeBloom})
	w.run()
	w.sees(payment, 0)
	if got := w.client.Summary(0).Warning; !strings.Contains(got, "heights 121 to 250 would not be seen") {
		t.Errorf("warning is %q", got)
	}
	behind.height = 0
	w.announce(121)
	w.run()
	w.sees(payment, 101)
	w.banned("liar", "leaves transaction "+payment.TxHash().String()+" out")
}

// lieAbout150 changes the filtered block of the payment.
func (w *bloomWorld) lieAbout150(change func(*wire.MsgMerkleBlock)) func(wire.Message) []wire.Message {
	return func(msg wire.Message) []wire.Message {
		if m, ok := msg.(*wire.MsgMerkleBlock); ok && m.Header.BlockHash() == w.blocks[150].BlockHash() {
			change(m)
		}
		return []wire.Message{msg}
	}
}

func TestBloomForgedProofs(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *bloomWorld, m *wire.MsgMerkleBlock)
		why    string
	}{
		"a hash is another":           {func(_ *bloomWorld, m *wire.MsgMerkleBlock) { m.Hashes[0] = &chainhash.Hash{1} }, "partial tree hashes to"},
		"the header is of no chain":   {func(_ *bloomWorld, m *wire.MsgMerkleBlock) { m.Header.Nonce++ }, "was not asked for"},
		"the header is of before":     {func(w *bloomWorld, m *wire.MsgMerkleBlock) { m.Header = w.blocks[99].Header }, "was not asked for"},
		"there are no transactions":   {func(_ *bloomWorld, m *wire.MsgMerkleBlock) { m.Transactions = 0 }, "partial tree of 0"},
		"there are very many":         {func(_ *bloomWorld, m *wire.MsgMerkleBlock) { m.Transactions = 1 << 31 }, "partial tree of 2147483648"},
		"hashes are left over":        {func(_ *bloomWorld, m *wire.MsgMerkleBlock) { m.Hashes = append(m.Hashes, &chainhash.Hash{}) }, "partial tree"},
		"flags are missing":           {func(_ *bloomWorld, m *wire.MsgMerkleBlock) { m.Flags = nil }, "partial tree"},
		"flags are too many":          {func(_ *bloomWorld, m *wire.MsgMerkleBlock) { m.Flags = append(m.Flags, 0) }, "partial tree"},
		"it is the block before once": {func(w *bloomWorld, m *wire.MsgMerkleBlock) { m.Header = w.blocks[149].Header }, "was not asked for"},
	} {
		t.Run(name, func(t *testing.T) {
			w, payment := paid(t)
			w.connect("liar", w.lieAbout150(func(m *wire.MsgMerkleBlock) { c.change(w, m) }))
			w.run()
			if w.status(payment).Depth != 0 {
				t.Error("the forged proof was believed")
			}
			w.banned("liar", c.why)
			w.connect("true", nil)
			w.run()
			w.sees(payment, 101)
		})
	}
}

// A node of the tree is 64 bytes, which may be read as a transaction: so a proof
// of a block with half as many leaves "has" a transaction that nobody made
// (CVE-2017-12842). Here the attacker has mined the block so that it pays us.
func TestBloomANodeOfTheTreeIsNoTransaction(t *testing.T) {
	w := newBloomWorld(t)
	script := []byte{0x51, 0x02, 0xaa, 0xbb} // so short that it fits
	fake := wire.NewMsgTx(2)
	fake.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: 7}, nil, nil))
	fake.AddTxOut(wire.NewTxOut(1e6, script))
	if n := fake.SerializeSizeStripped(); n != 64 {
		t.Fatalf("transaction is %d bytes; want 64", n)
	}
	w.mine(0, bloomPay(bloomPoint(1), bloomScript("other", 1)), fake)
	w.watch(script)
	w.connect("liar", nil)
	w.run()
	if w.status(fake).Depth != 0 {
		t.Error("a transaction of 64 bytes was believed")
	}
	w.banned("liar", "64")
}

func TestBloomInventedTransaction(t *testing.T) {
	w := newBloomWorld(t)
	w.watch(bloomScript("ours", 1))
	for range 3 {
		w.mine(0)
	}
	payment := bloomPay(bloomPoint(1), bloomScript("ours", 1))
	w.connect("liar", func(msg wire.Message) []wire.Message {
		if m, ok := msg.(*wire.MsgMerkleBlock); ok {
			return []wire.Message{m, payment} // not proved, but sent
		}
		return []wire.Message{msg}
	})
	w.run()
	if w.status(payment).Depth != 0 {
		t.Error("a transaction that was not proved is believed")
	}
}

// Some nodes do not send a transaction that they believe we have.
func TestBloomProofWithoutItsTransaction(t *testing.T) {
	w, payment := paid(t)
	w.connect("silent", func(msg wire.Message) []wire.Message {
		if _, ok := msg.(*wire.MsgTx); ok {
			return nil
		}
		return []wire.Message{msg}
	})
	w.run()
	w.sees(payment, 101)
}

func TestBloomWithheldTransactionsAreBounded(t *testing.T) {
	w := newBloomWorld(t)
	for h := range 100 {
		w.mine(0, bloomPay(bloomPoint(h), bloomScript("ours", 1)))
	}
	w.watch(bloomScript("ours", 1))
	s := w.connect("silent", func(msg wire.Message) []wire.Message {
		if _, ok := msg.(*wire.MsgTx); ok {
			return nil
		}
		return []wire.Message{msg}
	})
	w.run()
	if len(w.drops) != 1 || s.blocks > 0 {
		t.Errorf("dropped: %q, blocks fetched: %d", w.drops, s.blocks)
	}
}

func TestBloomMissingAnswers(t *testing.T) {
	w, payment := paid(t)
	w.connect("lazy", func(msg wire.Message) []wire.Message {
		if m, ok := msg.(*wire.MsgMerkleBlock); ok && m.Header.BlockHash() == w.blocks[200].BlockHash() {
			return nil
		}
		return []wire.Message{msg}
	})
	w.run()
	if len(w.drops) != 1 || !strings.Contains(w.drops[0], "has not answered for 1 of the 100 blocks") {
		t.Errorf("dropped: %q", w.drops)
	}
	w.connect("true", nil)
	w.run()
	w.sees(payment, 101)
}

// A peer that matches everything costs its bytes and no memory, and not for long.
func TestBloomFloodOfFalseMatches(t *testing.T) {
	w := newBloomWorld(t)
	var many []*wire.MsgTx
	for i := range 250 {
		many = append(many, bloomPay(bloomPoint(i), bloomScript("other", i)))
	}
	for range 100 {
		w.mine(0, many...)
	}
	w.watch(bloomScript("ours", 1))
	flood := w.connect("flood", nil)
	sent := 0
	flood.lie = func(msg wire.Message) []wire.Message {
		if load := flood.filter.MsgFilterLoad(); load != nil && load.Filter[0] != 0xff {
			for i := range load.Filter {
				load.Filter[i] = 0xff
			}
		}
		if _, ok := msg.(*wire.MsgTx); ok {
			sent++
		}
		return []wire.Message{msg}
	}
	w.run()
	if len(w.drops) != 1 || !strings.Contains(w.drops[0], "matches more than") {
		t.Errorf("dropped: %q", w.drops)
	}
	if got := w.client.Coins(bloomScript("ours", 1)); len(got) > 0 {
		t.Errorf("false matches have become coins: %v", got)
	}
	t.Logf("%d of 25,100 transactions were sent", sent)
}

// The answer to what was asked before a reorganisation comes after it.
func TestBloomReorganisationInTheMiddle(t *testing.T) {
	w, payment := paid(t)
	w.connect("a", nil)
	w.connect("b", nil)
	for range 300 { // somewhere in the second range
		w.carry(1)
	}
	w.blocks = w.blocks[:145]
	for range 110 {
		w.mine(1)
	}
	w.mine(1, payment)
	w.announce(145)
	w.run()
	w.sees(payment, 1)
	if len(w.bans)+len(w.drops) > 0 {
		t.Errorf("honest peers were dropped: %q %q", w.bans, w.drops)
	}
}

// A node that has just left our chain has not what it is asked for.
func TestBloomANodeLeavesTheChain(t *testing.T) {
	w, payment := paid(t)
	w.connect("a", nil)
	w.connect("b", nil)
	w.run()
	w.mine(0)
	w.announce(w.tip()) // and before we ask for it, it is not there any more
	w.blocks = w.blocks[:251]
	w.mine(1)
	w.mine(1)
	w.announce(251)
	w.run()
	w.sees(payment, 103)
	if len(w.bans)+len(w.drops) > 0 {
		t.Errorf("honest peers were dropped: %q %q", w.bans, w.drops)
	}
}

// A node that says it has our chain and never has a block is of no use.
func TestBloomANodeThatHasNothing(t *testing.T) {
	w, _ := paid(t)
	w.connect("a", func(msg wire.Message) []wire.Message {
		if m, ok := msg.(*wire.MsgMerkleBlock); ok {
			no := wire.NewMsgNotFound()
			no.InvList = append(no.InvList, wire.NewInvVect(wire.InvTypeFilteredBlock, new(m.Header.BlockHash())))
			return []wire.Message{no}
		}
		return []wire.Message{msg}
	})
	w.run()
	if len(w.drops) != 1 || !strings.Contains(w.drops[0], "has not block") {
		t.Errorf("dropped: %q", w.drops)
	}
}

// A script that is new is looked for in old blocks, with a new filter.
func TestBloomNewScript(t *testing.T) {
	w, _ := paid(t)
	other := w.blocks[150].Transactions[1]
	a := w.connect("a", nil)
	w.connect("b", nil)
	w.run()
	w.watch(other.TxOut[0].PkScript)
	w.run()
	w.sees(other, 101)
	if !w.client.Looked(other.TxOut[0].PkScript, 0) || len(a.filters) != 2 {
		t.Errorf("looked for: %v; a was given %d filters, want 2", w.client.Looked(other.TxOut[0].PkScript, 0), len(a.filters))
	}
	if len(w.bans)+len(w.drops) > 0 {
		t.Errorf("honest peers were dropped: %q %q", w.bans, w.drops)
	}
}

func TestBloomNeedsItsService(t *testing.T) {
	w := newBloomWorld(t)
	w.step(light.Hello{Peer: "a", Services: wire.SFNodeNetwork | wire.SFNodeWitness | wire.SFNodeCF})
	if len(w.drops) != 1 || !strings.Contains(w.drops[0], "SFNodeBloom") {
		t.Errorf("dropped: %q", w.drops)
	}
}

// A filter that is sent once must never be made anew from something else: what
// it is made of is on disk before, and a restart makes the same one.
func TestBloomFilterIsTheSameAfterARestart(t *testing.T) {
	w, _ := paid(t)
	a := w.connect("a", nil)
	w.run()
	if len(a.filters) != 1 || len(w.records["light/tweak"]) != 36 {
		t.Fatalf("a was given %d filters, and %d bytes are on disk", len(a.filters), len(w.records["light/tweak"]))
	}
	first := a.filters[0]
	w.disconnect("a")
	w.client = nil
	for key := range w.records { // all that is lazy is lost with a crash
		if key != "light/tweak" {
			delete(w.records, key)
		}
	}
	w.restart()
	w.watch(bloomScript("ours", 1))
	a = w.connect("a", nil)
	w.run()
	if again := a.filters[0]; again.Tweak != first.Tweak || !bytes.Equal(again.Filter, first.Filter) {
		t.Error("the filter is another after a restart")
	}
}
