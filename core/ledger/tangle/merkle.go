package tangle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/crypto/blake2b"
)

// MerkleRoot is TIP-4's hash of a list of blocks in white-flag order.
func MerkleRoot(ids []BlockID) Hash {
	switch len(ids) {
	case 0:
		return blake2b.Sum256(nil)
	case 1:
		return leafHash(ids[0])
	}
	k := split(len(ids))
	return nodeHash(MerkleRoot(ids[:k]), MerkleRoot(ids[k:]))
}

// split is the largest power of two below n, which is at least 2.
func split(n int) int { return 1 << (bits.Len(uint(n-1)) - 1) }

// Leaves and nodes begin differently, so that neither passes for the other.
func leafHash(id BlockID) Hash {
	b := [33]byte{0: 0}
	copy(b[1:], id[:])
	return blake2b.Sum256(b[:])
}

func nodeHash(left, right Hash) Hash {
	b := [65]byte{0: 1}
	copy(b[1:], left[:])
	copy(b[33:], right[:])
	return blake2b.Sum256(b[:])
}

// MaxPath bounds the path of an Inclusion: a list of 2^32 blocks.
const MaxPath = 32

// An Inclusion proves that a block is in a list of which only the root is known
// (TIP-4, with the shape of RFC 9162 section 2.1.3).
type Inclusion struct {
	Block BlockID
	Index uint32 // the block's place in the list
	Count uint32 // how long the list is
	Path  []Hash // siblings from the leaf up
}

// NewInclusion proves that ids[index] is in ids. Who proves more of them makes a Tree.
func NewInclusion(ids []BlockID, index int) (Inclusion, error) {
	return NewTree(ids).Inclusion(index)
}

// A Tree is MerkleRoot with all that is between it and the blocks, so that an Inclusion
// costs no more than its length.
type Tree struct {
	ids  []BlockID
	rows [][]Hash // leaves first; the last one is the root
}

// NewTree hashes a list of blocks, which is not copied. TIP-4's tree, which splits at
// powers of two, is the same as one that is built from below and lets the last of an odd
// row rise.
func NewTree(ids []BlockID) *Tree {
	t := &Tree{ids: ids}
	row := make([]Hash, len(ids))
	for i := range ids {
		row[i] = leafHash(ids[i])
	}
	for t.rows = append(t.rows, row); len(row) > 1; t.rows = append(t.rows, row) {
		next := make([]Hash, 0, (len(row)+1)/2)
		for i := 0; i+1 < len(row); i += 2 {
			next = append(next, nodeHash(row[i], row[i+1]))
		}
		if len(row)%2 == 1 {
			next = append(next, row[len(row)-1])
		}
		row = next
	}
	return t
}

// Root is MerkleRoot's.
func (t *Tree) Root() Hash {
	if len(t.ids) == 0 {
		return MerkleRoot(nil)
	}
	return t.rows[len(t.rows)-1][0]
}

// Inclusion proves that a block is in the list, by its place.
func (t *Tree) Inclusion(index int) (Inclusion, error) {
	if index < 0 || index >= len(t.ids) {
		return Inclusion{}, fmt.Errorf("no block %d in a list of %d", index, len(t.ids))
	}
	in := Inclusion{Block: t.ids[index], Index: uint32(index), Count: uint32(len(t.ids))}
	for _, row := range t.rows[:len(t.rows)-1] {
		if sibling := index ^ 1; sibling < len(row) {
			in.Path = append(in.Path, row[sibling])
		}
		index /= 2
	}
	return in, nil
}

// Root is the root that the proof leads to; it proves something if that is the
// one a milestone has.
func (p Inclusion) Root() (Hash, error) {
	if p.Index >= p.Count {
		return Hash{}, fmt.Errorf("no block %d in a list of %d", p.Index, p.Count)
	}
	sum := leafHash(p.Block)
	at, last := p.Index, p.Count-1
	for _, sibling := range p.Path {
		if last == 0 {
			return Hash{}, errors.New("the path to the root is too long")
		}
		if at&1 == 1 || at == last {
			sum = nodeHash(sibling, sum)
			// The last of an odd row has no sibling until a row above.
			for at&1 == 0 && at != 0 {
				at, last = at>>1, last>>1
			}
		} else {
			sum = nodeHash(sum, sibling)
		}
		at, last = at>>1, last>>1
	}
	if last != 0 {
		return Hash{}, errors.New("the path to the root is too short")
	}
	return sum, nil
}

// Verify checks that the proof leads to root.
func (p Inclusion) Verify(root Hash) error {
	got, err := p.Root()
	if err != nil {
		return fmt.Errorf("block %s: %w", p.Block, err)
	}
	if got != root {
		return fmt.Errorf("block %s leads to root %s; the milestone has %s", p.Block, got, root)
	}
	return nil
}

// Append encodes the proof: ours, no network has a format for it.
func (p Inclusion) Append(b []byte) []byte {
	b = append(b, p.Block[:]...)
	b = binary.LittleEndian.AppendUint32(b, p.Index)
	b = binary.LittleEndian.AppendUint32(b, p.Count)
	b = append(b, byte(len(p.Path)))
	for _, h := range p.Path {
		b = append(b, h[:]...)
	}
	return b
}

// DecodeInclusion reads exactly one proof.
func DecodeInclusion(raw []byte) (p Inclusion, err error) {
	r := newReader(raw)
	r.Fill(p.Block[:])
	p.Index, p.Count = r.le32(), r.le32()
	p.Path = make([]Hash, r.count(int(r.U8()), MaxPath, "steps to the root"))
	for i := range p.Path {
		r.Fill(p.Path[i][:])
	}
	if err := r.Close(); err != nil {
		return Inclusion{}, fmt.Errorf("inclusion: %w", err)
	}
	return p, nil
}
