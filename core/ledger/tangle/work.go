package tangle

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"golang.org/x/crypto/blake2b"

	"coinop.dev/core/ledger/ternary"
)

// The work of a block (TIP-12) is a hash that ends in zero trits: Curl-P-81 of
// the BLAKE2b-256 of all but the nonce, then the nonce, both in b1t6, then
// three zeros.
const (
	nonceTrit  = 6 * blake2b.Size256 // where the nonce begins
	tritsAByte = 6

	// MaxZeros is how many zero trits a nonce of 64 bits can hope for: 3^40 < 2^64.
	MaxZeros = 40
)

// digestOf is what the work of a serialised block is for.
func digestOf(block []byte) [32]byte { return blake2b.Sum256(block[:max(len(block)-NonceSize, 0)]) }

// Zeros counts the trailing zero trits of the work of a serialised block.
func Zeros(block []byte) int {
	if len(block) < NonceSize {
		return 0
	}
	var in [ternary.HashTrits]int8
	digest := digestOf(block)
	ternary.PutB1T6(in[:], digest[:])
	ternary.PutB1T6(in[nonceTrit:], block[len(block)-NonceSize:])
	return ternary.CurlSum(in[:]).TrailingZeros()
}

// ZerosOf is Zeros of many serialised blocks, 64 in the time of one.
func ZerosOf(blocks [][]byte) []int {
	zeros := make([]int, 0, len(blocks))
	var lanes ternary.CurlLanes
	var sum ternary.LanesSum
	for len(blocks) > 0 {
		part := blocks[:min(len(blocks), ternary.Lanes)]
		for lane, block := range part {
			putBlock(&lanes, lane, block)
		}
		lanes.Sum(&sum)
		for lane := range part {
			zeros = append(zeros, sum.TrailingZeros(lane))
		}
		blocks = blocks[len(part):]
	}
	return zeros
}

func putBlock(lanes *ternary.CurlLanes, lane int, block []byte) {
	if len(block) < NonceSize {
		block = make([]byte, NonceSize) // no block has no nonce: any work will do
	}
	digest := digestOf(block)
	lanes.PutB1T6(lane, 0, digest[:])
	lanes.PutB1T6(lane, nonceTrit, block[len(block)-NonceSize:])
}

// Score is the work of a serialised block, per byte of it, for people. Nodes
// compare zeros: see ZerosNeeded.
func Score(block []byte) float64 {
	return math.Pow(3, float64(Zeros(block))) / float64(max(len(block), 1))
}

// ZerosNeeded is how many trailing zero trits the network n wants of a block of
// so many bytes, its nonce included. Milestones need none.
func (n *Network) ZerosNeeded(size int) int {
	zeros, tries := 0, uint64(1)
	for want := uint64(n.MinScore) * uint64(max(size, 0)); tries < want; zeros++ {
		high, low := bits.Mul64(tries, 3)
		if high != 0 {
			low = math.MaxUint64
		}
		tries = low
	}
	return max(zeros, n.MinZeros)
}

// Enough reports whether a serialised block of so many trailing zero trits is
// work enough.
func (n *Network) Enough(size, zeros int) bool { return zeros >= n.ZerosNeeded(size) }

// A Search looks for a nonce, Lanes of them a step, so that a core can stop and
// go on.
type Search struct {
	lanes ternary.CurlLanes
	sum   ternary.LanesSum
	zeros int
}

// Lanes is how many nonces a step of a Search tries.
const Lanes = ternary.Lanes

// NewSearch prepares the search for a block without its nonce; zeros are at most
// MaxZeros.
func NewSearch(unworked []byte, zeros int) *Search {
	if zeros > MaxZeros {
		panic(fmt.Sprintf("no nonce gives %d zero trits; Network.Check allows %d", zeros, MaxZeros))
	}
	s := &Search{zeros: zeros}
	digest := blake2b.Sum256(unworked)
	s.lanes.PutAllB1T6(0, digest[:])
	return s
}

// Step tries the Lanes nonces that begin at from, which wrap around, and gives
// the first that will do, or else the nonce that the next step begins at.
func (s *Search) Step(from uint64) (nonce uint64, found bool) {
	s.put(from)
	s.lanes.Sum(&s.sum)
	good := s.sum.Zeros(s.zeros)
	return from + uint64(bits.TrailingZeros64(good)), good != 0
}

// put writes the nonces into the lanes: bytes that all of them have in common in
// one go.
func (s *Search) put(from uint64) {
	var first, last [NonceSize]byte
	binary.LittleEndian.PutUint64(first[:], from)
	binary.LittleEndian.PutUint64(last[:], from+Lanes-1)
	common := NonceSize
	for common > 0 && first[common-1] == last[common-1] {
		common--
	}
	s.lanes.PutAllB1T6(nonceTrit+tritsAByte*common, first[common:])
	for lane := range Lanes {
		binary.LittleEndian.PutUint64(last[:], from+uint64(lane))
		s.lanes.PutB1T6(lane, nonceTrit, last[:common])
	}
}

// MineAll is Mine of several blocks, from 0 on, each with zeros of its own. They share
// the lanes of a step, which most of would be tried for nothing if one block had them all
// and wanted little work.
func MineAll(unworked [][]byte, zeros []int) []uint64 {
	nonces := make([]uint64, len(unworked))
	var left []int // that want work
	for i := range unworked {
		if zeros[i] > 0 {
			left = append(left, i)
		}
	}
	var lanes ternary.CurlLanes
	var sum ternary.LanesSum
	for len(left) > 0 {
		part := left[:min(len(left), Lanes)]
		share := Lanes / len(part)
		for k, i := range part {
			putShare(&lanes, k*share, share, unworked[i], nonces[i])
		}
		lanes.Sum(&sum)
		again := left[:0]
		for k, i := range part {
			good := sum.Zeros(zeros[i]) >> (k * share) << (Lanes - share) // the block's own lanes, on top
			if good == 0 {
				nonces[i] += uint64(share)
				again = append(again, i)
				continue
			}
			nonces[i] += uint64(bits.TrailingZeros64(good) - (Lanes - share))
		}
		left = append(again, left[len(part):]...)
	}
	return nonces
}

// putShare puts a block with so many nonces, from one on, into the lanes from first on.
func putShare(lanes *ternary.CurlLanes, first, share int, unworked []byte, from uint64) {
	digest := blake2b.Sum256(unworked)
	for k := range share {
		var nonce [NonceSize]byte
		binary.LittleEndian.PutUint64(nonce[:], from+uint64(k))
		lanes.PutB1T6(first+k, 0, digest[:])
		lanes.PutB1T6(first+k, nonceTrit, nonce[:])
	}
}

// Mine searches a nonce, from the given one on, that gives a block so many
// trailing zero trits; unworked is the block without its nonce. It takes 3^zeros
// tries on average and has no other end, so zeros must be what a machine can
// do.
func Mine(unworked []byte, zeros int, from uint64) (nonce uint64) {
	if zeros <= 0 {
		return from
	}
	s := NewSearch(unworked, zeros)
	for ; ; from += Lanes {
		if nonce, found := s.Step(from); found {
			return nonce
		}
	}
}
