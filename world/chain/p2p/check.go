package p2p

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

const (
	// maxAhead is how far a header may be in the future (Bitcoin Core's
	// MAX_FUTURE_BLOCK_TIME).
	maxAhead = 2 * time.Hour

	// medianSpan is how many headers' median time a new one must be after.
	medianSpan = 11

	// nodeSize is the size of two hashes. A transaction of that size could pass
	// for an inner node of a Merkle tree (CVE-2017-12842).
	nodeSize = 2 * chainhash.HashSize
)

// checkHeader judges a header by those before it, oldest first, of which it
// needs the last eleven. All blocks of a chain without retargeting have the same
// work, so the chain with the most work is the longest.
func checkHeader(rules *chaincfg.Params, before []wire.BlockHeader, h *wire.BlockHeader, now time.Time) error {
	last := before[len(before)-1].BlockHash()
	hash := h.BlockHash()
	switch {
	case h.PrevBlock != last:
		return fmt.Errorf("header %v follows %v, not %v", hash, h.PrevBlock, last)
	case h.Bits != rules.PowLimitBits:
		return fmt.Errorf("header %v has difficulty bits %08x; %s wants %08x", hash, h.Bits, rules.Name, rules.PowLimitBits)
	case number(hash).Cmp(rules.PowLimit) > 0:
		return fmt.Errorf("header %v has too little work", hash)
	case !h.Timestamp.After(medianTime(before)):
		return fmt.Errorf("header %v is not after the median of the %d before it", hash, medianSpan)
	case h.Timestamp.After(now.Add(maxAhead)):
		return fmt.Errorf("header %v is %v in the future", hash, h.Timestamp.Sub(now).Round(time.Second))
	}
	return nil
}

func number(hash chainhash.Hash) *big.Int {
	slices.Reverse(hash[:]) // a hash is a little-endian number
	return new(big.Int).SetBytes(hash[:])
}

func medianTime(headers []wire.BlockHeader) time.Time {
	headers = headers[max(0, len(headers)-medianSpan):]
	times := make([]time.Time, len(headers))
	for i, h := range headers {
		times[i] = h.Timestamp
	}
	slices.SortFunc(times, time.Time.Compare)
	return times[len(times)/2]
}

// checkBlock proves that the transactions, witnesses included, are those that
// the header commits to. Whether they are valid is for the miners to say.
func checkBlock(b *wire.MsgBlock) error {
	if len(b.Transactions) == 0 {
		return errors.New("block without transactions")
	}
	ids := make([]chainhash.Hash, len(b.Transactions))
	for i, t := range b.Transactions {
		if coinbase := isCoinbase(t); coinbase != (i == 0) {
			return fmt.Errorf("transaction %d of the block: coinbase is %v", i, coinbase)
		}
		if t.SerializeSizeStripped() == nodeSize {
			return fmt.Errorf("transaction %d of the block could be a node of its Merkle tree", i)
		}
		ids[i] = t.TxHash()
	}
	root, err := merkleRoot(ids)
	if err != nil {
		return err
	}
	if root != b.Header.MerkleRoot {
		return fmt.Errorf("transactions of the block hash to %v; the header says %v", root, b.Header.MerkleRoot)
	}
	return checkWitnesses(b)
}

func isCoinbase(t *wire.MsgTx) bool {
	return len(t.TxIn) == 1 && t.TxIn[0].PreviousOutPoint == wire.OutPoint{Index: wire.MaxPrevOutIndex}
}

// merkleRoot is Bitcoin's, which repeats the last node of an odd row. Two equal
// neighbours are refused, because the same root would then stand for a list with
// transactions repeated (CVE-2012-2459).
func merkleRoot(row []chainhash.Hash) (chainhash.Hash, error) {
	row = slices.Clone(row)
	for len(row) > 1 {
		for i := 0; i+1 < len(row); i += 2 {
			if row[i] == row[i+1] {
				return chainhash.Hash{}, errors.New("block repeats transactions (CVE-2012-2459)")
			}
		}
		if len(row)%2 == 1 {
			row = append(row, row[len(row)-1])
		}
		for i := range len(row) / 2 {
			row[i] = chainhash.DoubleHashH(append(row[2*i][:], row[2*i+1][:]...))
		}
		row = row[:len(row)/2]
	}
	return row[0], nil
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
			return errors.New("block has witnesses and no commitment to them (BIP 141)")
		}
		return nil
	}
	nonce := coinbase.TxIn[0].Witness
	if len(nonce) != 1 || len(nonce[0]) != sha256.Size {
		return errors.New("block commits to witnesses without a nonce (BIP 141)")
	}
	ids := make([]chainhash.Hash, len(b.Transactions)) // the coinbase's is zero
	for i, t := range b.Transactions[1:] {
		ids[i+1] = t.WitnessHash()
	}
	root, err := merkleRoot(ids)
	if err != nil {
		return err
	}
	if got := chainhash.DoubleHashB(append(root[:], nonce[0]...)); !bytes.Equal(got, commitment) {
		return fmt.Errorf("witnesses of the block hash to %x; its coinbase says %x", got, commitment)
	}
	return nil
}
