package ternary

import (
	"encoding/binary"
	"math/bits"
)

// Keccak-384 as it was submitted, before the standard changed its padding: Kerl
// is made of it, and no library that a core may use has it.

// keccakRate is how many bytes of the state a block fills: 200 less twice 48.
const keccakRate = 104

const (
	keccakPad = 0x01 // SHA3-384 has 0x06
	sumSize   = 48
)

// rho has the distances by which step rho turns the 25 lanes, x + 5y.
var rho = func() (turns [25]int) {
	x, y := 1, 0
	for t := range 24 {
		turns[x+5*y] = (t + 1) * (t + 2) / 2 % 64
		x, y = y, (2*x+3*y)%5
	}
	return turns
}()

// iota24 has the round constants, from the linear feedback register of FIPS 202,
// section 3.2.5.
var iota24 = func() (constants [24]uint64) {
	lfsr := byte(1)
	for round := range constants {
		for j := range 7 {
			if lfsr&1 == 1 {
				constants[round] |= 1 << (1<<j - 1)
			}
			high := lfsr >> 7
			lfsr = lfsr<<1 ^ high*0x71
		}
	}
	return constants
}()

// permute is Keccak-f[1600].
func permute(a *[25]uint64) {
	for _, constant := range iota24 {
		var c [5]uint64
		for x := range c {
			c[x] = a[x] ^ a[x+5] ^ a[x+10] ^ a[x+15] ^ a[x+20]
		}
		for x := range c {
			d := c[(x+4)%5] ^ bits.RotateLeft64(c[(x+1)%5], 1)
			for y := 0; y < 25; y += 5 {
				a[x+y] ^= d
			}
		}
		var b [25]uint64
		for y := range 5 {
			for x := range 5 {
				b[y+5*((2*x+3*y)%5)] = bits.RotateLeft64(a[x+5*y], rho[x+5*y])
			}
		}
		for y := 0; y < 25; y += 5 {
			for x := range 5 {
				a[x+y] = b[x+y] ^ b[(x+2)%5+y]&^b[(x+1)%5+y]
			}
		}
		a[0] ^= constant
	}
}

// keccak is the sponge. The zero value is ready.
type keccak struct {
	state [25]uint64
	block [keccakRate]byte
	used  int
}

func (k *keccak) write(b []byte) {
	for len(b) > 0 {
		n := copy(k.block[k.used:], b)
		k.used += n
		b = b[n:]
		if k.used == keccakRate {
			k.absorb()
		}
	}
}

func (k *keccak) absorb() {
	for i := range keccakRate / 8 {
		k.state[i] ^= binary.LittleEndian.Uint64(k.block[8*i:])
	}
	permute(&k.state)
	k.used = 0
}

// sum pads and gives the hash; the sponge is at its end after it.
func (k *keccak) sum(pad byte) (out [sumSize]byte) {
	clear(k.block[k.used:])
	k.block[k.used] = pad
	k.block[keccakRate-1] |= 0x80
	k.absorb()
	for i := range sumSize / 8 {
		binary.LittleEndian.PutUint64(out[8*i:], k.state[i])
	}
	return out
}
