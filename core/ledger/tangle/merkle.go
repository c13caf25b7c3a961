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

// NewInclusion proves that ids[index] is in ids.
func NewInclusion(ids []BlockID, index int) (Inclusion, error) {
	if index < 0 || index >= len(ids) {
		return Inclusion{}, fmt.Errorf("no block %d in a list of %d", index, len(ids))
	}
	return Inclusion{ids[index], uint32(index), uint32(len(ids)), auditPath(ids, index)}, nil
}

func auditPath(ids []BlockID, index int) []Hash {
	if len(ids) == 1 {
		return nil
	}
	k := split(len(ids))
	if index < k {
		return append(auditPath(ids[:k], index), MerkleRoot(ids[k:]))
	}
	return append(auditPath(ids[k:], index-k), MerkleRoot(ids[:k]))
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
