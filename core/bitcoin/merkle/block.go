package merkle

import (
	"bytes"
	"crypto/sha256"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// CheckBlock proves that the transactions of a block, witnesses included, are
// those that its header commits to. Whether they are valid is for the miners to
// say. The error is an *Invalid.
func CheckBlock(b *wire.MsgBlock) error {
	ids := make([]chainhash.Hash, len(b.Transactions))
	for i, t := range b.Transactions {
		if coinbase := isCoinbase(t); coinbase != (i == 0) {
			return invalid("the first one is, and no other", "transaction %d of the block: coinbase is %v", i, coinbase)
		}
		var err error
		if ids[i], err = leaf(t); err != nil {
			return err
		}
	}
	root, err := Root(ids)
	if err != nil {
		return err
	}
	if root != b.Header.MerkleRoot {
		return invalid("the header says "+b.Header.MerkleRoot.String(), "transactions of the block hash to %v", root)
	}
	return checkWitnesses(b)
}

func isCoinbase(t *wire.MsgTx) bool {
	return len(t.TxIn) == 1 && t.TxIn[0].PreviousOutPoint == wire.OutPoint{Index: wire.MaxPrevOutIndex}
}

// commitmentMark starts the output script of a coinbase that commits to the
// witnesses: OP_RETURN, a push of 36 bytes, and 4 bytes (BIP 141).
var commitmentMark = []byte{0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed}

// checkWitnesses proves the witnesses, from which cores read preimages.
func checkWitnesses(b *wire.MsgBlock) error {
	coinbase := b.Transactions[0]
	var commitment []byte
	for _, out := range coinbase.TxOut { // the last one counts
		if bytes.HasPrefix(out.PkScript, commitmentMark) && len(out.PkScript) >= len(commitmentMark)+sha256.Size {
			commitment = out.PkScript[len(commitmentMark):][:sha256.Size]
		}
	}
	if commitment == nil {
		if slices.ContainsFunc(b.Transactions, (*wire.MsgTx).HasWitness) {
			return invalid("its coinbase has no commitment to them (BIP 141)", "block has witnesses")
		}
		return nil
	}
	nonce := coinbase.TxIn[0].Witness
	if len(nonce) != 1 || len(nonce[0]) != sha256.Size {
		return invalid("its coinbase has no nonce of 32 bytes (BIP 141)", "block commits to witnesses")
	}
	ids := make([]chainhash.Hash, len(b.Transactions)) // the coinbase's is zero
	for i, t := range b.Transactions[1:] {
		ids[i+1] = t.WitnessHash()
	}
	root, err := Root(ids)
	if err != nil {
		return err
	}
	got := parent(root, chainhash.Hash(nonce[0]))
	if !bytes.Equal(got[:], commitment) {
		return invalid("its coinbase commits to other ones (BIP 141)", "witnesses of the block hash to %x, not %x", got[:], commitment)
	}
	return nil
}
