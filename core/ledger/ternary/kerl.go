package ternary

import "math/big"

// A Kerl is a sponge of Keccak-384 whose input and output are trits: a block of
// 243 is a number of 48 bytes, two's complement, big-endian. The last trit of
// every block is taken for zero, because 48 bytes do not hold it. The zero value
// is ready.
type Kerl struct{ k keccak }

// Absorb takes hashes.
func (k *Kerl) Absorb(blocks ...Hash) {
	for _, h := range blocks {
		b := bytesOf(h)
		k.k.write(b[:])
	}
}

// Squeeze gives the next hash.
func (k *Kerl) Squeeze() Hash {
	sum := k.k.sum(keccakPad)
	h := tritsOf(sum)
	for i := range sum {
		sum[i] = ^sum[i]
	}
	k.k = keccak{}
	k.k.write(sum[:])
	return h
}

// KerlSum is the hash of blocks.
func KerlSum(blocks ...Hash) Hash {
	var k Kerl
	k.Absorb(blocks...)
	return k.Squeeze()
}

// Numbers are converted 39 trits at a time, which fit a word.
const wordTrits = 39

var (
	three39 = new(big.Int).Exp(big.NewInt(3), big.NewInt(wordTrits), nil)
	two384  = new(big.Int).Lsh(big.NewInt(1), 8*sumSize)

	// allOnes is the number of 243 trits of 1: added, it leaves digits 0 to 2.
	allOnes = func() *big.Int {
		n := new(big.Int).Exp(big.NewInt(3), big.NewInt(HashTrits), nil)
		return n.Rsh(n.Sub(n, big.NewInt(1)), 1)
	}()
)

func bytesOf(h Hash) (out [sumSize]byte) {
	h[HashTrits-1] = 0
	n := new(big.Int)
	for end := HashTrits; end > 0; end -= wordTrits {
		word, err := Int(h[max(end-wordTrits, 0):end])
		if err != nil {
			panic("39 trits: " + err.Error())
		}
		width := three39
		if end < wordTrits {
			width = new(big.Int).Exp(big.NewInt(3), big.NewInt(int64(end)), nil)
		}
		n.Add(n.Mul(n, width), big.NewInt(word))
	}
	if n.Sign() < 0 {
		n.Add(n, two384)
	}
	n.FillBytes(out[:])
	return out
}

func tritsOf(b [sumSize]byte) (h Hash) {
	n := new(big.Int).SetBytes(b[:])
	if b[0]&0x80 != 0 {
		n.Sub(n, two384)
	}
	n.Add(n, allOnes)
	var rest big.Int
	for at := 0; at < HashTrits; at += wordTrits {
		n.QuoRem(n, three39, &rest)
		word := rest.Uint64()
		for i := at; i < min(at+wordTrits, HashTrits); i++ {
			h[i] = int8(word%3) - 1
			word /= 3
		}
	}
	h[HashTrits-1] = 0
	return h
}
