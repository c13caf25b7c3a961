package p2p

import (
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

var rules = &chaincfg.RegressionNetParams

// solved returns h with a nonce that makes it easy enough.
func solved(h wire.BlockHeader) *wire.BlockHeader {
	for h.Nonce = 0; number(h.BlockHash()).Cmp(rules.PowLimit) > 0; h.Nonce++ {
	}
	return &h
}

func TestCheckHeader(t *testing.T) {
	before := []wire.BlockHeader{rules.GenesisBlock.Header}
	now := rules.GenesisBlock.Header.Timestamp.Add(time.Hour)
	good := wire.BlockHeader{PrevBlock: *rules.GenesisHash, Bits: rules.PowLimitBits, Timestamp: now}
	if err := checkHeader(rules, before, solved(good), now); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(h *wire.BlockHeader){
		"follows":           func(h *wire.BlockHeader) { h.PrevBlock[0] ^= 1 },
		"difficulty bits":   func(h *wire.BlockHeader) { h.Bits-- },
		"not after the med": func(h *wire.BlockHeader) { h.Timestamp = before[0].Timestamp },
		"in the future":     func(h *wire.BlockHeader) { h.Timestamp = now.Add(maxAhead + time.Second) },
	} {
		h := good
		spoil(&h)
		if err := checkHeader(rules, before, solved(h), now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, have %v", want, err)
		}
	}
	hard := good
	for number(hard.BlockHash()).Cmp(rules.PowLimit) <= 0 {
		hard.Nonce++
	}
	if err := checkHeader(rules, before, &hard, now); err == nil || !strings.Contains(err.Error(), "too little work") {
		t.Errorf("a header without work gives %v", err)
	}
}

func txs(n int) []*wire.MsgTx {
	all := make([]*wire.MsgTx, n)
	for i := range all {
		all[i] = wire.NewMsgTx(2)
		point := wire.OutPoint{Hash: chainhash.HashH([]byte{byte(i)})}
		if i == 0 {
			point = wire.OutPoint{Index: wire.MaxPrevOutIndex}
		}
		all[i].AddTxIn(wire.NewTxIn(&point, []byte{1, 2, 3, 4}, nil))
		all[i].AddTxOut(wire.NewTxOut(int64(i), []byte{0x51}))
	}
	return all
}

func block(txs []*wire.MsgTx) *wire.MsgBlock {
	b := &wire.MsgBlock{Transactions: txs}
	ids := make([]chainhash.Hash, len(txs))
	for i, t := range txs {
		ids[i] = t.TxHash()
	}
	b.Header.MerkleRoot, _ = merkleRoot(ids)
	return b
}

func TestCheckBlock(t *testing.T) {
	for n := 1; n < 9; n++ {
		if err := checkBlock(block(txs(n))); err != nil {
			t.Errorf("%d transactions: %v", n, err)
		}
	}
	small := txs(2)
	small[1].TxIn[0].SignatureScript = make([]byte, 64-small[1].SerializeSize()+len(small[1].TxIn[0].SignatureScript))
	bare := txs(2)
	bare[1].TxIn[0].Witness = wire.TxWitness{{1}}
	changed := block(txs(3))
	changed.Transactions[2].TxOut[0].Value++
	repeated := block(txs(3))
	repeated.Transactions = append(repeated.Transactions, repeated.Transactions[2])
	for want, b := range map[string]*wire.MsgBlock{
		"without transactions": {},
		"transactions of":      changed,
		"CVE-2012-2459":        repeated,
		"coinbase is false":    block(txs(2)[1:]),
		"coinbase is true":     block(append(txs(2), txs(1)[0])),
		"could be a node":      block(small),
		"no commitment":        block(bare),
	} {
		if err := checkBlock(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, have %v", want, err)
		}
	}
}

func TestCheckWitnesses(t *testing.T) {
	check := func(spoil func(all []*wire.MsgTx)) error {
		all := txs(3)
		all[2].TxIn[0].Witness = wire.TxWitness{{7}}
		all[0].TxIn[0].Witness = wire.TxWitness{make([]byte, 32)}
		root, _ := merkleRoot([]chainhash.Hash{{}, all[1].WitnessHash(), all[2].WitnessHash()})
		commitment := chainhash.DoubleHashB(append(root[:], all[0].TxIn[0].Witness[0]...))
		all[0].AddTxOut(wire.NewTxOut(0, append(commitmentMark[:len(commitmentMark):len(commitmentMark)], commitment...)))
		b := block(all)
		spoil(all)
		return checkBlock(b)
	}
	if err := check(func([]*wire.MsgTx) {}); err != nil {
		t.Fatal(err)
	}
	if err := check(func(all []*wire.MsgTx) { all[2].TxIn[0].Witness[0][0]++ }); err == nil {
		t.Error("a changed witness was not noticed")
	}
	if err := check(func(all []*wire.MsgTx) { all[0].TxIn[0].Witness = nil }); err == nil {
		t.Error("a missing nonce was not noticed")
	}
}
