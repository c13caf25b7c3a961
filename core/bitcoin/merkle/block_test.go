package merkle_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/merkle"
)

// txs returns n transactions, the first one a coinbase.
func txs(n int) []*wire.MsgTx {
	all := make([]*wire.MsgTx, n)
	for i := range all {
		all[i] = wire.NewMsgTx(2)
		point := wire.OutPoint{Hash: chainhash.HashH([]byte{byte(i), byte(i >> 8)})}
		if i == 0 {
			point = wire.OutPoint{Index: wire.MaxPrevOutIndex}
		}
		all[i].AddTxIn(wire.NewTxIn(&point, []byte{1, 2, 3, 4}, nil))
		all[i].AddTxOut(wire.NewTxOut(int64(i), []byte{0x51}))
	}
	return all
}

func ids(txs []*wire.MsgTx) []chainhash.Hash {
	all := make([]chainhash.Hash, len(txs))
	for i, t := range txs {
		all[i] = t.TxHash()
	}
	return all
}

func block(txs []*wire.MsgTx) *wire.MsgBlock {
	b := &wire.MsgBlock{Transactions: txs}
	b.Header.MerkleRoot, _ = merkle.Root(ids(txs))
	return b
}

// small is a valid transaction of 64 bytes.
func small() *wire.MsgTx {
	t := txs(2)[1]
	t.TxIn[0].SignatureScript = make([]byte, 64-t.SerializeSize()+len(t.TxIn[0].SignatureScript))
	return t
}

// wantLie fails unless err is an *merkle.Invalid that says want.
func wantLie(t *testing.T, name string, err error, want string) {
	t.Helper()
	var lie *merkle.Invalid
	if !errors.As(err, &lie) || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: want a lie with %q, have %v", name, want, err)
	}
}

func TestBlocksOfEverySizeAreTrue(t *testing.T) {
	for n := 1; n < 40; n++ {
		if err := merkle.CheckBlock(block(txs(n))); err != nil {
			t.Errorf("%d transactions: %v", n, err)
		}
	}
}

func TestForgedBlocks(t *testing.T) {
	bare := txs(2)
	bare[1].TxIn[0].Witness = wire.TxWitness{{1}}
	changed := block(txs(3))
	changed.Transactions[2].TxOut[0].Value++
	left := block(txs(3))
	left.Transactions = left.Transactions[:2]
	repeated := block(txs(3)) // 3 and 4 have the same root
	repeated.Transactions = append(repeated.Transactions, repeated.Transactions[2])
	twice := block(txs(6)) // so have 6 and 8, a row further up
	twice.Transactions = append(twice.Transactions, twice.Transactions[4:]...)
	for _, c := range []struct {
		name string
		b    *wire.MsgBlock
		want string
	}{
		{"empty", &wire.MsgBlock{}, "without transactions"},
		{"a value changed", changed, "transactions of the block hash to"},
		{"a transaction left out", left, "transactions of the block hash to"},
		{"a transaction repeated", repeated, "CVE-2012-2459"},
		{"two transactions repeated", twice, "CVE-2012-2459"},
		{"no coinbase", block(txs(2)[1:]), "coinbase is false"},
		{"two coinbases", block(append(txs(2), txs(1)[0])), "coinbase is true"},
		{"a node for a transaction", block(append(txs(1), small())), "CVE-2017-12842"},
		{"witnesses without commitment", block(bare), "no commitment"},
	} {
		if same, _ := merkle.Root(ids(c.b.Transactions[:min(3, len(c.b.Transactions))])); c.b == repeated && same != c.b.Header.MerkleRoot {
			t.Error("the forged block has another root; the test tests nothing")
		}
		wantLie(t, c.name, merkle.CheckBlock(c.b), c.want)
	}
}

func TestForgedWitnesses(t *testing.T) {
	check := func(spoil func(all []*wire.MsgTx)) error {
		all := txs(3)
		all[2].TxIn[0].Witness = wire.TxWitness{{7}}
		all[0].TxIn[0].Witness = wire.TxWitness{make([]byte, 32)}
		root, _ := merkle.Root([]chainhash.Hash{{}, all[1].WitnessHash(), all[2].WitnessHash()})
		commitment := chainhash.DoubleHashB(append(root[:], all[0].TxIn[0].Witness[0]...))
		mark := []byte{0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed}
		decoy := slices.Concat(mark, make([]byte, 32))
		all[0].AddTxOut(wire.NewTxOut(0, decoy)) // the last one counts
		all[0].AddTxOut(wire.NewTxOut(0, slices.Concat(mark, commitment)))
		b := block(all)
		spoil(all)
		return merkle.CheckBlock(b)
	}
	if err := check(func([]*wire.MsgTx) {}); err != nil {
		t.Fatal(err)
	}
	wantLie(t, "a witness changed", check(func(all []*wire.MsgTx) { all[2].TxIn[0].Witness[0][0]++ }), "witnesses of the block hash to")
	wantLie(t, "a witness left out", check(func(all []*wire.MsgTx) { all[2].TxIn[0].Witness = nil }), "witnesses of the block hash to")
	wantLie(t, "the nonce left out", check(func(all []*wire.MsgTx) { all[0].TxIn[0].Witness = nil }), "no nonce")
	wantLie(t, "a short nonce", check(func(all []*wire.MsgTx) { all[0].TxIn[0].Witness[0] = make([]byte, 31) }), "no nonce")
}

func BenchmarkCheckBlock(b *testing.B) {
	big := block(txs(3000))
	for b.Loop() {
		if err := merkle.CheckBlock(big); err != nil {
			b.Fatal(err)
		}
	}
}
