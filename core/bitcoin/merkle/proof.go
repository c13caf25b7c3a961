package merkle

import (
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/codec"
)

// MaxBranch bounds the hashes of a branch: 2^24 transactions, far more than the
// 16,666 that fit into a block.
const MaxBranch = 24

// A Branch leads from a transaction to the root of its block.
type Branch struct {
	Index  uint32           // the transaction's place in the block
	Hashes []chainhash.Hash // siblings, from the leaf up
}

// Prove makes the branch of one of a block's transactions. It panics if there is
// no transaction of that index.
func Prove(ids []chainhash.Hash, index int) Branch {
	_ = ids[index]
	b := Branch{Index: uint32(index)}
	row := slices.Clone(ids)
	for i := index; len(row) > 1; i /= 2 {
		b.Hashes = append(b.Hashes, row[min(i^1, len(row)-1)])
		row = above(row)
	}
	return b
}

// Root is the root that the branch leads to from t; who asks compares it with a
// header. A branch that no block can have is an *Invalid: an index that needs
// more hashes, a transaction that could be a node or a node that is a
// transaction (CVE-2017-12842), and a place among the repeated nodes that fill
// an odd row (CVE-2012-2459).
func (p Branch) Root(t *wire.MsgTx) (chainhash.Hash, error) {
	if len(p.Hashes) > MaxBranch {
		return chainhash.Hash{}, invalid(fmt.Sprintf("the limit is %d", MaxBranch), "branch has %d hashes", len(p.Hashes))
	}
	if p.Index>>len(p.Hashes) != 0 {
		return chainhash.Hash{}, invalid(fmt.Sprintf("its %d hashes reach %d", len(p.Hashes), 1<<len(p.Hashes)-1), "branch is of transaction %d", p.Index)
	}
	node, err := leaf(t)
	if err != nil {
		return chainhash.Hash{}, err
	}
	last := false // node is the last one of its row
	for i, sibling := range p.Hashes {
		left, right := node, sibling
		onRight := p.Index>>i&1 == 1
		if onRight {
			left, right = sibling, node
		}
		switch same := left == right; {
		case onRight && same:
			return chainhash.Hash{}, invalid("only the left one of them is in the block (CVE-2012-2459)", "branch repeats a node in row %d", i)
		case !onRight && last && !same:
			return chainhash.Hash{}, invalid("its node is the last one of the row", "branch has a right neighbour in row %d", i)
		case !onRight && same:
			last = true
		}
		if node, err = prove(left, right); err != nil {
			return chainhash.Hash{}, err
		}
	}
	return node, nil
}

// A Proof says that a transaction is in the block at Height of the best chain.
type Proof struct {
	Height int32
	Branch Branch
}

// Append writes what ReadProof reads: height, number of hashes, index as base-128
// varints, and the hashes.
func (p Proof) Append(b []byte) []byte {
	b = codec.AppendUint(b, p.Height)
	b = codec.AppendUint(b, len(p.Branch.Hashes))
	b = codec.AppendUint(b, p.Branch.Index)
	for i := range p.Branch.Hashes {
		b = append(b, p.Branch.Hashes[i][:]...)
	}
	return b
}

// ReadProof reads a proof of at most MaxBranch hashes. That it can be read says
// nothing of its truth.
func ReadProof(r *codec.Reader) Proof {
	p := Proof{Height: r.Height()}
	n := r.Int(MaxBranch, "length of a Merkle branch")
	p.Branch.Index = uint32(r.Uint(1<<n-1, "index of a Merkle branch"))
	if r.Len() < n*chainhash.HashSize {
		r.Fail(codec.ErrShort)
	}
	if r.Err() != nil {
		return Proof{}
	}
	for range n {
		p.Branch.Hashes = append(p.Branch.Hashes, chainhash.Hash(r.Take(chainhash.HashSize)))
	}
	return p
}
