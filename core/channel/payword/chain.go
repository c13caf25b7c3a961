package payword

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"coinop.dev/core/keys"
	"coinop.dev/core/step"
)

// A Word is one link of a chain.
type Word [32]byte

// wordTag keeps a word from being a hash of anything else. It is 16 bytes, so
// that tag, word and SHA-256's padding fill one block.
const wordTag = "coinop/payword/1"

// Hash is the word before w: words are handed out in the order that hashing
// cannot follow.
func (w Word) Hash() Word { return w.Back(1) }

// Back hashes w n times.
func (w Word) Back(n uint64) Word {
	var b [len(wordTag) + len(w)]byte
	copy(b[:], wordTag)
	for ; n > 0; n-- {
		copy(b[len(wordTag):], w[:])
		w = sha256.Sum256(b[:])
	}
	return w
}

// Seed is the last word of a channel's chain. All others follow from it, so it is
// as secret as node.
func Seed(node keys.Secret, id ID, epoch uint64) Word {
	secret := node.Derive("payword/chain").Reveal()
	return keys.Digest("coinop/payword/seed", secret, id[:], binary.BigEndian.AppendUint64(nil, epoch))
}

// maxLevels is log2 of MaxLength.
const maxLevels = 24

// A Chain hands out the words w_1 to w_n of w_{i-1} = H(w_i), of which it knows
// w_n. It remembers log2(n) words on the way, as Jakobsson's "Fractal hash
// sequence representation and traversal" (2002) does: the pebble of level j
// stands at the next odd multiple of 2^j. When that word is handed out, the
// pebble leaps to the place of a higher one, 3*2^j on, and walks down 2^j to
// its own next place, two words for each word handed out. So it arrives in
// time, and no word costs more than log2(n) hashes.
//
// Where every pebble stands follows from the index alone, so a chain can move
// to any later index at once.
type Chain struct {
	length  int
	levels  int // log2 of length
	index   int
	word    Word // w_index
	pebbles [maxLevels + 1]pebble
	hashes  uint64 // done in all, for tests and the curious

	// Until down is 0 the chain is being laid out, and has no word 0.
	down int
	walk Word // w_down
}

// A pebble remembers w_at. One at 0 is off the chain.
type pebble struct {
	at   int
	word Word
}

// NewChain lays out the chain of length words that ends in seed: length hashes.
func NewChain(seed Word, length uint64) *Chain {
	c := startChain(seed, length)
	c.layOut(0)
	return c
}

// startChain returns a chain of which only the last word is known.
func startChain(seed Word, length uint64) *Chain {
	step.Assert(validLength(length), "payword: chain of %d words", length)
	n := int(length)
	c := &Chain{length: n, levels: bits.TrailingZeros64(length), down: n, walk: seed}
	c.pebbles[c.levels] = pebble{n, seed}
	return c
}

func validLength(n uint64) bool { return n >= MinLength && n <= MaxLength && n&(n-1) == 0 }

// layOut hashes down to word to, and leaves the pebbles of index 0 on the way.
// It may be called bit by bit, so that the next chain costs each coin of this
// one a hash, and none of them a wait.
func (c *Chain) layOut(to int) {
	if c.down <= to {
		return
	}
	c.hashes += uint64(c.down - to)
	for c.down > to {
		c.down--
		c.walk = c.walk.Hash()
		if c.down > 1 && c.down&(c.down-1) == 0 {
			c.pebbles[bits.TrailingZeros(uint(c.down))] = pebble{c.down, c.walk}
		}
	}
	if c.down == 0 {
		c.word = c.walk
	}
}

// loadChain returns the chain at index: length-index hashes.
func loadChain(seed Word, length, index uint64) *Chain {
	c := startChain(seed, length)
	c.down = 0
	c.moveTo(int(index))
	return c
}

// Format hides the words to come, whatever the verb.
func (c *Chain) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "chain at %d of %d", c.index, c.length) }

// Index is how many words have been handed out.
func (c *Chain) Index() uint64 { return uint64(c.index) }

// Left is how many words there are still.
func (c *Chain) Left() uint64 { return uint64(c.length - c.index) }

// Word is the word last handed out, or w_0.
func (c *Chain) Word() Word { return c.word }

// Jump moves k words on and returns the word there. It costs about
// log2(n/k)/2+1 hashes a word; there must be k words left.
func (c *Chain) Jump(k uint64) Word {
	step.Assert(c.down == 0, "payword: chain is laid out to word %d", c.down)
	step.Assert(k <= c.Left(), "payword: jump by %d of %d words", k, c.Left())
	if k > 0 {
		c.moveTo(c.index + int(k))
	}
	return c.word
}

// place is where the pebble of a level stands once word index is handed out, or
// 0 if it is not needed any more.
func (c *Chain) place(level, index int) int {
	m := index>>level + 1
	m |= 1 // the next odd multiple of 2^level
	own := m << level
	if own > c.length {
		return 0
	}
	since := index - (own - 2<<level) // the pebble's leap
	return own + max(0, 1<<level-2*since)
}

// moveTo makes the pebbles stand where they do at index, from the highest down:
// each starts from the nearest word known above it.
func (c *Chain) moveTo(index int) {
	var moves [maxLevels + 1]int // levels, by falling place
	n, old := 0, c.pebbles
	for level := 1; level <= c.levels; level++ {
		at := c.place(level, index)
		if at == c.pebbles[level].at {
			continue
		}
		c.pebbles[level].at = 0
		if at == 0 {
			continue
		}
		k := n
		for ; k > 0 && c.place(moves[k-1], index) < at; k-- {
			moves[k] = moves[k-1]
		}
		moves[k] = level
		n++
	}
	for _, level := range moves[:n] {
		at := c.place(level, index)
		c.pebbles[level] = pebble{at, c.find(at, &old)}
	}
	c.word = c.find(index, &old)
	c.index = index
}

// find hashes down to a place from the nearest pebble above it, old or new.
func (c *Chain) find(at int, old *[maxLevels + 1]pebble) Word {
	var from *pebble
	for level := 1; level <= c.levels; level++ {
		for _, p := range [...]*pebble{&old[level], &c.pebbles[level]} {
			if p.at > 0 && p.at >= at && (from == nil || p.at < from.at) {
				from = p
			}
		}
	}
	step.Assert(from != nil, "payword: no word is known above %d of %d", at, c.length)
	c.hashes += uint64(from.at - at)
	return from.word.Back(uint64(from.at - at))
}

// known lists the words the chain remembers, for tests.
func (c *Chain) known() (at []int) {
	for _, p := range c.pebbles {
		if p.at != 0 {
			at = append(at, p.at)
		}
	}
	slices.Sort(at)
	return at
}
