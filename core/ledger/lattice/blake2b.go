package lattice

import "math/bits"

// blake2b8 is the eight-byte BLAKE2b (RFC 7693) of 40 bytes, as words: one
// compression, of which most of the message is zero and only one word of the
// result is wanted. A general BLAKE2b takes half as long again, and work is
// nothing but this.
func blake2b8(m0 uint64, root [4]uint64) uint64 {
	const (
		iv0 = 0x6a09e667f3bcc908
		iv1 = 0xbb67ae8584caa73b
		iv2 = 0x3c6ef372fe94f82b
		iv3 = 0xa54ff53a5f1d36f1
		iv4 = 0x510e527fade682d1
		iv5 = 0x9b05688c2b3e6c1f
		iv6 = 0x1f83d9abfb41bd6b
		iv7 = 0x5be0cd19137e2179

		h0 = iv0 ^ 0x01010008 // no key, eight bytes of result
	)
	m1, m2, m3, m4 := root[0], root[1], root[2], root[3]
	v0, v1, v2, v3 := uint64(h0), uint64(iv1), uint64(iv2), uint64(iv3)
	v4, v5, v6, v7 := uint64(iv4), uint64(iv5), uint64(iv6), uint64(iv7)
	v8, v9, v10, v11 := uint64(iv0), uint64(iv1), uint64(iv2), uint64(iv3)
	v12, v13, v14, v15 := uint64(iv4^40), uint64(iv5), ^uint64(iv6), uint64(iv7)

	v0, v4, v8, v12 = mix(v0, v4, v8, v12, m0, m1)
	v1, v5, v9, v13 = mix(v1, v5, v9, v13, m2, m3)
	v2, v6, v10, v14 = mix(v2, v6, v10, v14, m4, 0)
	v3, v7, v11, v15 = mix(v3, v7, v11, v15, 0, 0)
	v0, v5, v10, v15 = mix(v0, v5, v10, v15, 0, 0)
	v1, v6, v11, v12 = mix(v1, v6, v11, v12, 0, 0)
	v2, v7, v8, v13 = mix(v2, v7, v8, v13, 0, 0)
	v3, v4, v9, v14 = mix(v3, v4, v9, v14, 0, 0)

	v0, v4, v8, v12 = mix(v0, v4, v8, v12, 0, 0)
	v1, v5, v9, v13 = mix(v1, v5, v9, v13, m4, 0)
	v2, v6, v10, v14 = mix(v2, v6, v10, v14, 0, 0)
	v3, v7, v11, v15 = mix(v3, v7, v11, v15, 0, 0)
	v0, v5, v10, v15 = mix(v0, v5, v10, v15, m1, 0)
	v1, v6, v11, v12 = mix(v1, v6, v11, v12, m0, m2)
	v2, v7, v8, v13 = mix(v2, v7, v8, v13, 0, 0)
	v3, v4, v9, v14 = mix(v3, v4, v9, v14, 0, m3)

	v0, v4, v8, v12 = mix(v0, v4, v8, v12, 0, 0)
	v1, v5, v9, v13 = mix(v1, v5, v9, v13, 0, m0)
	v2, v6, v10, v14 = mix(v2, v6, v10, v14, 0, m2)
	v3, v7, v11, v15 = mix(v3, v7, v11, v15, 0, 0)
	v0, v5, v10, v15 = mix(v0, v5, v10, v15, 0, 0)
	v1, v6, v11, v12 = mix(v1, v6, v11, v12, m3, 0)
	v2, v7, v8, v13 = mix(v2, v7, v8, v13, 0, m1)
	v3, v4, v9, v14 = mix(v3, v4, v9, v14, 0, m4)

	v0, v4, v8, v12 = mix(v0, v4, v8, v12, 0, 0)
	v1, v5, v9, v13 = mix(v1, v5, v9, v13, m3, m1)
	v2, v6, v10, v14 = mix(v2, v6, v10, v14, 0, 0)
	v3, v7, v11, v15 = mix(v3, v7, v11, v15, 0, 0)
	v0, v5, v10, v15 = mix(v0, v5, v10, v15, m2, 0)
	v1, v6, v11, v12 = mix(v1, v6, v11, v12, 0, 0)
	v2, v7, v8, v13 = mix(v2, v7, v8, v13, m4, m0)
	v3, v4, v9, v14 = mix(v3, v4, v9, v14, 0, 0)

	v0, v4, v8, v12 = mix(v0, v4, v8, v12, 0, m0)
	v1, v5, v9, v13 = mix(v1, v5, v9, v13, 0, 0)
	v2, v6, v10, v14 = mix(v2, v6, v10, v14, m2, m4)
	v3, v7, v11, v15 = mix(v3, v7, v11, v15, 0, 0)
	v0, v5, v10, v15 = mix(v0, v5, v10, v15, 0, m1)
	v1, v6, v11, v12 = mix(v1, v6, v11, v12, 0, 0)
	v2, v7, v8, v13 = mix(v2, v7, v8, v13, 0, 0)
	v3, v4, v9, v14 = mix(v3, v4, v9, v14, m3, 0)

	v0, v4, v8, v12 = mix(v0, v4, v8, v12, m2, 0)
	v1, v5, v9, v13 = mix(v1, v5, v9, v13, 0, 0)
	v2, v6, v10, v14 = mix(v2, v6, v10, v14, m0, 0)
	v3, v7, v11, v15 = mix(v3, v7, v11, v15, 0, m3)
	v0, v5, v10, v15 = mix(v0, v5, v10, v15, m4, 0)
	v1, v6, v11, v12 = mix(v1, v6, v11, v12, 0, 0)
	v2, v7, v8, v13 = mix(v2, v7, v8, v13, 0, 0)
	v3, v4, v9, v14 = mix(v3, v4, v9, v14, m1, 0)

	v0, v4, v8, v12 = mix(v0, v4, v8, v12, 0, 0)
	v1, v5, v9, v13 = mix(v1, v5, v9, v13, m1, 0)
	v2, v6, v10, v14 = mix(v2, v6, v10, v14, 0, 0)
	v3, v7, v11, v15 = mix(v3, v7, v11, v15, m4, 0)
	v0, v5, v10, v15 = mix(v0, v5, v10, v15, m0, 0)
	v1, v6, v11, v12 = mix(v1, v6, v11, v12, 0, m3)
	v2, v7, v8, v13 = mix(v2, v7, v8, v13, 0, m2)
	v3, v4, v9, v14 = mix(v3, v4, v9, v14, 0, 0)

	v0, v4, v8, v12 = mix(v0, v4, v8, v12, 0, 0)
	v1, v5, v9, v13 = mix(v1, v5, v9, v13, 0, 0)
	v2, v6, v10, v14 = mix(v2, v6, v10, v14, 0, m1)
	v3, v7, v11, v15 = mix(v3, v7, v11, v15, m3, 0)
	v0, v5, v10, v15 = mix(v0, v5, v10, v15, 0, m0)
	v1, v6, v11, v12 = mix(v1, v6, v11, v12, 0, m4)
	v2, v7, v8, v13 = mix(v2, v7, v8, v13, 0, 0)
	v3, v4, v9, v14 = mix(v3, v4, v9, v14, m2, 0)

	v0, v4, v8, v12 = mix(v0, v4, v8, v12, 0, 0)
	v1, v5, v9, v13 = mix(v1, v5, v9, v13, 0, 0)
	v2, v6, v10, v14 = mix(v2, v6, v10, v14, 0, m3)
	v3, v7, v11, v15 = mix(v3, v7, v11, v15, m0, 0)
	v0, v5, v10, v15 = mix(v0, v5, v10, v15, 0, m2)
	v1, v6, v11, v12 = mix(v1, v6, v11, v12, 0, 0)
	v2, v7, v8, v13 = mix(v2, v7, v8, v13, m1, m4)
	v3, v4, v9, v14 = mix(v3, v4, v9, v14, 0, 0)

	v0, v4, v8, v12 = mix(v0, v4, v8, v12, 0, m2)
	v1, v5, v9, v13 = mix(v1, v5, v9, v13, 0, m4)
	v2, v6, v10, v14 = mix(v2, v6, v10, v14, 0, 0)
	v3, v7, v11, v15 = mix(v3, v7, v11, v15, m1, 0)
	v0, v5, v10, v15 = mix(v0, v5, v10, v15, 0, 0)
	v1, v6, v11, v12 = mix(v1, v6, v11, v12, 0, 0)
	v2, v7, v8, v13 = mix(v2, v7, v8, v13, m3, 0)
	v3, v4, v9, v14 = mix(v3, v4, v9, v14, 0, m0)

	v0, v4, v8, v12 = mix(v0, v4, v8, v12, m0, m1)
	v1, v5, v9, v13 = mix(v1, v5, v9, v13, m2, m3)
	v2, v6, v10, v14 = mix(v2, v6, v10, v14, m4, 0)
	v3, v7, v11, v15 = mix(v3, v7, v11, v15, 0, 0)
	v0, v5, v10, v15 = mix(v0, v5, v10, v15, 0, 0)
	v1, v6, v11, v12 = mix(v1, v6, v11, v12, 0, 0)
	v2, v7, v8, v13 = mix(v2, v7, v8, v13, 0, 0)
	v3, v4, v9, v14 = mix(v3, v4, v9, v14, 0, 0)

	// Of the last round, what v0 and v8 come of.
	v0, _, v8, _ = mix(v0, v4, v8, v12, 0, 0)
	_, v5, _, v13 = mix(v1, v5, v9, v13, m4, 0)
	v2, _, v10, _ = mix(v2, v6, v10, v14, 0, 0)
	_, v7, _, v15 = mix(v3, v7, v11, v15, 0, 0)
	v0, _, _, _ = mix(v0, v5, v10, v15, m1, 0)
	_, _, v8, _ = mix(v2, v7, v8, v13, 0, 0)
	return h0 ^ v0 ^ v8
}

// mix is RFC 7693's G.
func mix(a, b, c, d, x, y uint64) (uint64, uint64, uint64, uint64) {
	a += b + x
	d = bits.RotateLeft64(d^a, -32)
	c += d
	b = bits.RotateLeft64(b^c, -24)
	a += b + y
	d = bits.RotateLeft64(d^a, -16)
	c += d
	b = bits.RotateLeft64(b^c, -63)
	return a, b, c, d
}
