// Package merkle proves that transactions are in a block whose header is known:
// whole blocks, branches of one transaction, and the partial trees of BIP 37.
//
// Bitcoin's tree has two holes that every proof here closes. A row of odd length
// repeats its last node, so lists with repeated ends share a root
// (CVE-2012-2459); and an inner node hashes 64 bytes as a transaction of 64
// bytes is hashed, so one can pass for the other (CVE-2017-12842).
package merkle

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// nodeSize is what an inner node hashes: two hashes.
const nodeSize = 2 * chainhash.HashSize

// maxSatoshi is all the money there will be.
const maxSatoshi = 21_000_000 * 100_000_000

// An Invalid is a block or a proof that cannot be true: who showed it lied or is
// broken.
type Invalid struct {
	Claim string // what was shown
	Truth string // what it contradicts
}

func (e *Invalid) Error() string { return e.Claim + "; " + e.Truth }

func invalid(truth, claim string, args ...any) *Invalid {
	return &Invalid{Claim: fmt.Sprintf(claim, args...), Truth: truth}
}

// Root is the root of the tree over the transaction ids of a block, in order. It
// refuses two equal neighbours, because the same root then stands for a list
// with transactions repeated (CVE-2012-2459), and an empty list.
func Root(ids []chainhash.Hash) (chainhash.Hash, error) {
	if len(ids) == 0 {
		return chainhash.Hash{}, invalid("a block has one at least", "block without transactions")
	}
	row := slices.Clone(ids)
	for len(row) > 1 {
		for i := 0; i+1 < len(row); i += 2 {
			if row[i] == row[i+1] {
				return chainhash.Hash{}, invalid("no block does (CVE-2012-2459)", "block repeats transactions")
			}
		}
		row = above(row)
	}
	return row[0], nil
}

// above replaces a row, of more than one node, by the next one.
func above(row []chainhash.Hash) []chainhash.Hash {
	n := (len(row) + 1) / 2
	for i := range n {
		row[i] = parent(row[2*i], row[min(2*i+1, len(row)-1)])
	}
	return row[:n]
}

func parent(left, right chainhash.Hash) chainhash.Hash {
	node := join(left, right)
	return chainhash.DoubleHashH(node[:])
}

func join(left, right chainhash.Hash) (node [nodeSize]byte) {
	copy(node[:], left[:])
	copy(node[chainhash.HashSize:], right[:])
	return node
}

// prove is parent for proofs, where the leaves are not all at hand: the node
// must not be a transaction that a miner could have put into a block, or what
// hangs below it is forged. Two honest hashes look like one with a chance of
// about 2^-42.
func prove(left, right chainhash.Hash) (chainhash.Hash, error) {
	node := join(left, right)
	if isTransaction(&node) {
		return chainhash.Hash{}, invalid("then what hangs below it is forged (CVE-2017-12842)",
			"node %x of the tree is a transaction", node)
	}
	return chainhash.DoubleHashH(node[:]), nil
}

// isTransaction tells the only shape of a valid transaction of 64 bytes: version,
// one input and one output, whose scripts have 4 bytes together, lock time.
func isTransaction(b *[nodeSize]byte) bool {
	const outPoint, sequence, value = 36, 4, 8
	in := 4
	scriptSig := in + 1 + outPoint
	size := int(b[scriptSig])
	if b[in] != 1 || size > 4 {
		return false
	}
	out := scriptSig + 1 + size + sequence
	return b[out] == 1 && binary.LittleEndian.Uint64(b[out+1:]) <= maxSatoshi && int(b[out+1+value]) == 4-size
}

// leaf is the id of a transaction that a proof is about.
func leaf(t *wire.MsgTx) (chainhash.Hash, error) {
	if t.SerializeSizeStripped() == nodeSize {
		return chainhash.Hash{}, invalid("no proof holds for one (CVE-2017-12842)",
			"transaction %v of %d bytes could be a node of a Merkle tree", t.TxHash(), nodeSize)
	}
	return t.TxHash(), nil
}
