// Package header judges block headers by every rule of Bitcoin and keeps the
// chain with the most work in a few hundred kilobytes, however long it is.
//
// A Chain holds the last headers (at least Tail), the work of all of them, and
// the hash of every Interval-th one: the commitment to the rest. Headers below
// the tail are fetched again by whoever needs them, and proved by Verify.
//
// The invariants:
//
//  1. tail[0] is at height base, each header of the tail follows the one before,
//     and the last is the tip.
//  2. base is 0 or a multiple of the retarget period, so that every branch from
//     base+MedianSpan-1 on can be judged by what the tail holds.
//  3. marks[i] is the hash at height i*Interval, for all such heights up to the
//     tip.
//  4. A header that is refused changes nothing, and nothing of a branch with
//     less work than ours is kept: a flood costs us time, never memory.
package header

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/step"
)

const (
	// Tail is how many headers a chain keeps at least, and so how deep a
	// reorganisation it can follow. It keeps up to a period more. After one that
	// made the chain shorter it may keep fewer, by the difference.
	Tail = 2016

	// Interval is how far apart the heights are whose hash is kept for ever.
	Interval = 1000
)

// ErrOrphan means that the parent of a branch is unknown or below the tail: not
// provably a lie.
var ErrOrphan = errors.New("header follows nothing in the tail of this chain")

// A Chain is the chain with the most work of all it has been shown. It is not
// safe for concurrent use.
type Chain struct {
	law   *law
	base  int32
	tail  []entry
	prev  chainhash.Hash // the parent of tail[0]
	marks []chainhash.Hash
	work  Work
	disk  disk
}

// An entry is a header in the tail. Its parent's hash stands in the entry before.
type entry struct {
	hash, merkle      chainhash.Hash
	version           int32
	time, bits, nonce uint32
}

func newEntry(h *wire.BlockHeader, hash chainhash.Hash) entry {
	return entry{
		hash: hash, merkle: h.MerkleRoot,
		version: h.Version, time: uint32(h.Timestamp.Unix()), bits: h.Bits, nonce: h.Nonce,
	}
}

// New is a chain of a network's first block.
func New(p *chaincfg.Params) *Chain {
	first := p.GenesisBlock.Header
	hash := Hash(&first)
	step.Assert(hash == *p.GenesisHash, "first block of %s hashes to %v; its parameters say %v", p.Name, hash, p.GenesisHash)
	target, ok := expand(first.Bits)
	step.Assert(ok, "first block of %s has difficulty bits %08x", p.Name, first.Bits)
	return &Chain{
		law:   newLaw(p),
		tail:  []entry{newEntry(&first, hash)},
		marks: []chainhash.Hash{hash},
		work:  cost(target),
		disk:  disk{tip: -1},
	}
}

// Tip is the last header.
func (c *Chain) Tip() (height int32, hash chainhash.Hash) {
	return c.tip(), c.tail[len(c.tail)-1].hash
}

func (c *Chain) tip() int32 { return c.base + int32(len(c.tail)) - 1 }

// Work is the work of the whole chain.
func (c *Chain) Work() Work { return c.work }

// Base is the lowest height that At knows.
func (c *Chain) Base() int32 { return c.base }

// At returns the header at height if it is in the tail.
func (c *Chain) At(height int32) (wire.BlockHeader, bool) {
	if height < c.base || height > c.tip() {
		return wire.BlockHeader{}, false
	}
	raw := c.raw(height)
	var h wire.BlockHeader
	err := h.Deserialize(bytes.NewReader(raw[:]))
	step.Assert(err == nil, "%d bytes are no header: %v", Size, err)
	return h, true
}

// raw is the header at a height of the tail, as on the wire.
func (c *Chain) raw(height int32) (b [Size]byte) {
	e, prev := &c.tail[height-c.base], c.prev
	if height > c.base {
		prev = c.tail[height-c.base-1].hash
	}
	binary.LittleEndian.PutUint32(b[0:], uint32(e.version))
	copy(b[4:], prev[:])
	copy(b[36:], e.merkle[:])
	binary.LittleEndian.PutUint32(b[68:], e.time)
	binary.LittleEndian.PutUint32(b[72:], e.bits)
	binary.LittleEndian.PutUint32(b[76:], e.nonce)
	return b
}

// Hash returns the hash at height if it is in the tail or a multiple of Interval.
func (c *Chain) Hash(height int32) (chainhash.Hash, bool) {
	switch {
	case height < 0 || height > c.tip():
		return chainhash.Hash{}, false
	case height >= c.base:
		return c.tail[height-c.base].hash, true
	case height%Interval == 0:
		return c.marks[height/Interval], true
	}
	return chainhash.Hash{}, false
}

// Height is the height of the block with that hash, if Hash knows it. It looks
// from the tip down: finding nothing costs some microseconds, an index of all
// hashes would cost as much memory as they do.
func (c *Chain) Height(hash chainhash.Hash) (int32, bool) {
	for i := len(c.tail) - 1; i >= 0; i-- {
		if c.tail[i].hash == hash {
			return c.base + int32(i), true
		}
	}
	for i := len(c.marks) - 1; i >= 0; i-- {
		if c.marks[i] == hash {
			return int32(i) * Interval, true
		}
	}
	return 0, false
}

// Locator is hashes of this chain, newest first, ever further apart, down to the
// first block's: some forty for any length.
func (c *Chain) Locator() []chainhash.Hash {
	var hashes []chainhash.Hash
	height, back := c.tip(), int32(1)
	for ; height > 0; height -= back {
		if height < c.base {
			height -= height % Interval
			if height == 0 {
				break
			}
		}
		hash, _ := c.Hash(height)
		hashes = append(hashes, hash)
		if len(hashes) >= 10 {
			back *= 2
		}
	}
	return append(hashes, c.marks[0])
}

// Clone is a chain that goes its own way from here on.
func (c *Chain) Clone() *Chain {
	clone := *c
	clone.tail = slices.Clone(c.tail)
	clone.marks = slices.Clone(c.marks)
	return &clone
}

// Verify proves headers of this chain that are not in the tail any more. They
// start at height from, each follows the one before, and the last must be one
// that Hash knows: in the tail or at a multiple of Interval. The error is
// *Invalid if they are not of this chain.
func (c *Chain) Verify(headers []wire.BlockHeader, from int32) error {
	end := from + int32(len(headers)) - 1
	if from < 0 || len(headers) == 0 || end < from || end > c.tip() {
		return fmt.Errorf("%d headers from height %d are not within this chain of %d", len(headers), from, c.tip())
	}
	want, known := c.Hash(end)
	if !known {
		return fmt.Errorf("headers end at height %d, whose hash is not kept; ask for them up to %d", end, min(c.base, end-end%Interval+Interval))
	}
	// From the last to the first: a header is proved by the one that follows it.
	for i := len(headers) - 1; i >= 0; i-- {
		if hash := Hash(&headers[i]); hash != want {
			return &Invalid{Height: from + int32(i), Hash: hash, Rule: RuleLink, Got: hash.String(), Want: want.String()}
		}
		want = headers[i].PrevBlock
	}
	return nil
}
