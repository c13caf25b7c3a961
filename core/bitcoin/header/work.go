package header

import (
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"math/bits"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// Work is how many hashes a chain has cost on average: an unsigned number of
// 256 bits, least significant word first. Targets have the same shape.
type Work [4]uint64

// Cmp is negative if w is less than v, positive if it is more, 0 if they are
// the same.
func (w Work) Cmp(v Work) int {
	for i := 3; i >= 0; i-- {
		switch {
		case w[i] < v[i]:
			return -1
		case w[i] > v[i]:
			return 1
		}
	}
	return 0
}

// Add returns w + v. Nobody has done the work that would make it overflow.
func (w Work) Add(v Work) Work {
	var carry uint64
	for i := range w {
		w[i], carry = bits.Add64(w[i], v[i], carry)
	}
	return w
}

// Sub returns w - v.
func (w Work) Sub(v Work) Work {
	var borrow uint64
	for i := range w {
		w[i], borrow = bits.Sub64(w[i], v[i], borrow)
	}
	return w
}

// String is w in 64 hexadecimal digits, as Bitcoin Core's chainwork.
func (w Work) String() string {
	b := w.bytes()
	return hex.EncodeToString(b[:])
}

// Big is w as a number of any size.
func (w Work) Big() *big.Int {
	b := w.bytes()
	return new(big.Int).SetBytes(b[:])
}

// Claimed is the work that a header says it has, by its bits; ok is false if those
// are no target of a network with that limit. Met tells whether its hash has it.
func Claimed(h *wire.BlockHeader, limit *big.Int) (work Work, met, ok bool) {
	target, ok := expand(h.Bits)
	if most := fromBig(limit); !ok || target.Cmp(most) > 0 {
		return Work{}, false, false
	}
	hash := Hash(h)
	return cost(target), meets(&hash, &target), true
}

func (w Work) bytes() (b [32]byte) { // big-endian
	for i := range w {
		binary.BigEndian.PutUint64(b[24-8*i:], w[i])
	}
	return b
}

func number(b [32]byte) (w Work) { // big-endian
	for i := range w {
		w[i] = binary.BigEndian.Uint64(b[24-8*i:])
	}
	return w
}

// fromBig takes a network's limit, which has at most 256 bits.
func fromBig(n *big.Int) Work {
	var b [32]byte
	n.FillBytes(b[:])
	return number(b)
}

// meets reports whether hash, a little-endian number, is at most target.
func meets(hash *chainhash.Hash, target *Work) bool {
	for i := 3; i >= 0; i-- {
		if v := binary.LittleEndian.Uint64(hash[8*i:]); v != target[i] {
			return v < target[i]
		}
	}
	return true
}

// expand is the target that bits stand for: a mantissa of 23 bits and a sign,
// and an exponent to base 256 (Bitcoin Core's SetCompact). It is false if that
// is no number from 1 to 2^256-1.
func expand(compact uint32) (target Work, ok bool) {
	size, mantissa := compact>>24, uint64(compact&0x7fffff)
	if size <= 3 {
		mantissa >>= 8 * (3 - size)
		return Work{mantissa}, mantissa != 0 && compact&0x800000 == 0
	}
	shift := 8 * (size - 3)
	if mantissa == 0 || compact&0x800000 != 0 || int(shift)+bits.Len64(mantissa) > 256 {
		return Work{}, false
	}
	word, bit := shift/64, shift%64
	target[word] = mantissa << bit
	if word < 3 {
		target[word+1] = mantissa >> (64 - bit) // 0 if bit is 0
	}
	return target, true
}

// compact is the bits that stand for target, which may round it down (Bitcoin
// Core's GetCompact).
func compact(target Work) uint32 {
	b, size := target.bytes(), 32
	for size > 0 && b[32-size] == 0 {
		size--
	}
	var m [3]byte
	copy(m[:], b[32-size:])
	mantissa := uint32(m[0])<<16 | uint32(m[1])<<8 | uint32(m[2])
	if mantissa&0x800000 != 0 { // it would read as a sign
		mantissa >>= 8
		size++
	}
	return uint32(size)<<24 | mantissa
}

// cost is the work of one header: 2^256 / (target + 1), rounded down.
func cost(target Work) Work {
	divisor := target.Add(Work{1})
	if divisor == (Work{}) {
		return Work{1}
	}
	// 2^256 does not fit: (2^256 - divisor) / divisor is one less than wanted.
	// Bit by bit, as this runs once for each change of difficulty.
	rest, quotient := Work{}, Work{}
	dividend := Work{}.Sub(divisor)
	for i := 255; i >= 0; i-- {
		over := rest[3]>>63 != 0
		rest = rest.Add(rest)
		rest[0] |= dividend[i/64] >> (i % 64) & 1
		if over || rest.Cmp(divisor) >= 0 {
			rest = rest.Sub(divisor)
			quotient[i/64] |= 1 << (i % 64)
		}
	}
	return quotient.Add(Work{1})
}

// scale returns target * by / per, rounded down, or limit if that is less.
func scale(target Work, by, per uint64, limit Work) Work {
	var product [5]uint64
	var carry uint64
	for i := range target {
		high, low := bits.Mul64(target[i], by)
		var c uint64
		product[i], c = bits.Add64(low, carry, 0)
		carry = high + c
	}
	product[4] = carry
	var scaled Work
	rest := product[4] % per
	over := product[4] >= per
	for i := 3; i >= 0; i-- {
		scaled[i], rest = bits.Div64(rest, product[i], per)
	}
	if over || scaled.Cmp(limit) > 0 {
		return limit
	}
	return scaled
}
