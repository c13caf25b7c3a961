package filter

import (
	"encoding/binary"
	"math/bits"
)

// appendWords cuts a script into the words that SipHash takes: 8 bytes each,
// little-endian, the last one with the length, mod 256, as its highest byte.
// That is done once per script, not once per block.
func appendWords(words []uint64, script []byte) []uint64 {
	last := uint64(len(script)) << 56
	for ; len(script) >= 8; script = script[8:] {
		words = append(words, binary.LittleEndian.Uint64(script))
	}
	for i, b := range script {
		last |= uint64(b) << (8 * i)
	}
	return append(words, last)
}

// sipHash is SipHash-2-4 of Aumasson and Bernstein.
func sipHash(k0, k1 uint64, words []uint64) uint64 {
	v0 := k0 ^ 0x736f6d6570736575
	v1 := k1 ^ 0x646f72616e646f6d
	v2 := k0 ^ 0x6c7967656e657261
	v3 := k1 ^ 0x7465646279746573
	for _, w := range words {
		v3 ^= w
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
		v0 ^= w
	}
	v2 ^= 0xff
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	return v0 ^ v1 ^ v2 ^ v3
}

func sipRound(v0, v1, v2, v3 uint64) (uint64, uint64, uint64, uint64) {
	v0 += v1
	v2 += v3
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	v3 = bits.RotateLeft64(v3, 16) ^ v2
	v0 = bits.RotateLeft64(v0, 32)
	v2 += v1
	v0 += v3
	v1 = bits.RotateLeft64(v1, 17) ^ v2
	v3 = bits.RotateLeft64(v3, 21) ^ v0
	v2 = bits.RotateLeft64(v2, 32)
	return v0, v1, v2, v3
}
