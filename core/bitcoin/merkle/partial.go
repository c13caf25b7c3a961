package merkle

import (
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// MaxTxs is how many transactions fit into a block: 4,000,000 weight units, of
// which the smallest one takes 240.
const MaxTxs = 4_000_000 / 240

// A Match is a transaction that a merkleblock message proves to be in its block.
type Match struct {
	Index uint32 // its place in the block
	ID    chainhash.Hash
}

// Partial returns the matches of a merkleblock message (BIP 37) in the order of
// the block, proven against the root in its header. The header itself is for the
// caller to judge; that the message has every match, and how many transactions
// the block has, is not proven. The error is an *Invalid: the tree of a block of at most
// maxTxs transactions must use every hash and every bit, fill the last byte with
// zeros, and repeat no node where it has two (CVE-2012-2459).
func Partial(m *wire.MsgMerkleBlock, maxTxs uint32) ([]Match, error) {
	bits := 8 * len(m.Flags)
	switch hashes := len(m.Hashes); {
	case m.Transactions == 0 || m.Transactions > maxTxs:
		return nil, invalid(fmt.Sprintf("a block has 1 to %d", maxTxs), "partial tree of %d transactions", m.Transactions)
	case uint64(hashes) > uint64(m.Transactions):
		return nil, invalid(fmt.Sprintf("it is of %d transactions", m.Transactions), "partial tree has %d hashes", hashes)
	case bits < hashes:
		return nil, invalid(fmt.Sprintf("it has %d bits", bits), "partial tree has %d hashes", hashes)
	}
	w := walk{m: m}
	for w.width(w.rows) > 1 {
		w.rows++
	}
	root, err := w.node(w.rows, 0)
	if err != nil {
		return nil, err
	}
	if len(m.Hashes) != w.hash {
		return nil, invalid(fmt.Sprintf("its bits ask for %d", w.hash), "partial tree has %d hashes", len(m.Hashes))
	}
	if len(m.Flags) != (w.bit+7)/8 {
		return nil, invalid(fmt.Sprintf("its nodes ask for %d bits", w.bit), "partial tree has %d bytes of bits", len(m.Flags))
	}
	if pad := m.Flags[len(m.Flags)-1] >> (1 + (w.bit-1)%8); pad != 0 {
		return nil, invalid("bits that fill the last byte are 0", "partial tree ends in bits %b", pad)
	}
	if root != m.Header.MerkleRoot {
		return nil, invalid("the header says "+m.Header.MerkleRoot.String(), "partial tree hashes to %v", root)
	}
	return w.matches, nil
}

// walk goes through a partial tree, depth first, left before right.
type walk struct {
	m         *wire.MsgMerkleBlock
	rows      uint // above the leaves
	bit, hash int  // next one of each
	matches   []Match
}

// width is how many nodes a row has; row 0 are the leaves.
func (w *walk) width(row uint) uint64 {
	return (uint64(w.m.Transactions) + 1<<row - 1) >> row
}

// node is the hash of a node. A bit says whether it is above a match, and so is
// computed from those below, or given.
func (w *walk) node(row uint, place uint64) (chainhash.Hash, error) {
	if w.bit == 8*len(w.m.Flags) {
		return chainhash.Hash{}, invalid("its nodes ask for more", "partial tree has %d bits", w.bit)
	}
	marked := w.m.Flags[w.bit/8]>>(w.bit%8)&1 == 1
	w.bit++
	if row > 0 && marked {
		return w.inner(row, place)
	}
	if w.hash == len(w.m.Hashes) {
		return chainhash.Hash{}, invalid("its bits ask for more", "partial tree has %d hashes", w.hash)
	}
	given := *w.m.Hashes[w.hash]
	w.hash++
	if marked {
		w.matches = append(w.matches, Match{Index: uint32(place), ID: given})
	}
	return given, nil
}

func (w *walk) inner(row uint, place uint64) (chainhash.Hash, error) {
	left, err := w.node(row-1, 2*place)
	if err != nil {
		return left, err
	}
	if 2*place+1 == w.width(row-1) {
		return prove(left, left)
	}
	right, err := w.node(row-1, 2*place+1)
	if err != nil {
		return right, err
	}
	if left == right {
		return right, invalid("they are two (CVE-2012-2459)", "partial tree repeats a node in row %d", row-1)
	}
	return prove(left, right)
}
