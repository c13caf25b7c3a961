package onion

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"coinop.dev/core/keys"
)

// This file multiplies points a quarter faster than secp256k1 does, which is
// what an onion costs. Field, scalars, doubling and addition are secp256k1's;
// ours are three shortcuts around them:
//
//   - No formula of a curve y² = x³ + b uses b. So a compressed key (x, y?) with
//     c = x³ + 7 becomes the point (xc, c²) of y² = x³ + 7c³, without a root. The
//     way back takes x by c and y by c√c, and a single power gives that root and
//     the inverse of Z together.
//   - The multiples of the point stand in a window of five bits, all with the same
//     Z, which by the same reasoning may be taken for one until the end.
//   - k = k1 + k2·λ as in secp256k1 (Guide to Elliptic Curve Cryptography, 3.5).
//
// Like secp256k1's it takes a time that depends on the scalar. Ephemeral scalars
// serve once; a node's own meets points that others choose, but so it does in
// the handshake of BOLT 8.

// multiply is k·p, compressed.
func multiply(k *secp256k1.ModNScalar, p *keys.Public) (product keys.Public, err error) {
	_, product, err = multiplyBoth(k, p, nil)
	return product, err
}

// multiplyBoth is k·p and, to share an inversion, also with, compressed.
func multiplyBoth(k *secp256k1.ModNScalar, p *keys.Public, with *secp256k1.JacobianPoint) (other, product keys.Public, err error) {
	var x, c, w, withZ secp256k1.FieldVal
	odd := p[0] == secp256k1.PubKeyFormatCompressedOdd
	if !odd && p[0] != secp256k1.PubKeyFormatCompressedEven || x.SetByteSlice(p[1:]) {
		return other, product, errPoint(*p)
	}
	c.SquareVal(&x).Mul(&x).AddInt(7).Normalize()
	var lifted secp256k1.JacobianPoint
	lifted.X.Mul2(&x, &c).Normalize()
	lifted.Y.SquareVal(&c).Normalize()
	lifted.Z.SetInt(1)
	q := windowed(k, &lifted)

	// w = Z²c, times the square of the other Z; s = 1/√w, if w has a root.
	withZ.SetInt(1)
	if with != nil {
		withZ.Set(&with.Z)
	}
	var zzc, s, ss secp256k1.FieldVal
	zzc.SquareVal(&q.Z).Mul(&c)
	w.SquareVal(&withZ).Mul(&zzc)
	s = inverseRoot(&w)
	ss.SquareVal(&s)
	if one := new(secp256k1.FieldVal).Mul2(&w, &ss); !one.Normalize().IsOne() {
		return other, product, errPoint(*p) // c has no root: no such x on the curve
	}
	if with != nil {
		var inverse secp256k1.FieldVal // of the square of withZ
		inverse.Mul2(&ss, &zzc)
		with.X.Mul(&inverse).Normalize()
		with.Y.Mul(&withZ).Mul(inverse.Square()).Normalize()
		other = compress(with)
	}
	// s is 1/(Z·y) up to the sign, and p says which y it means.
	s.Mul(&withZ)
	ss.SquareVal(&s)
	var y secp256k1.FieldVal
	if y.Mul2(&c, &s).Mul(&q.Z).Normalize().IsOdd() != odd {
		s.Negate(1)
	}
	q.X.Mul(&ss).Normalize()
	q.Y.Mul(&ss).Mul(&s).Normalize()
	return other, compress(&q), nil
}

func errPoint(p keys.Public) error { return fmt.Errorf("public key %s is not on the curve", p) }

// window is the width of a digit: it is odd and below 2^(window-1) in size, or
// zero, and no two that are not zero stand within window bits.
const window = 5

// multiples are 1, 3, 5 ... 15 times a point.
type multiples [1 << (window - 2)]secp256k1.JacobianPoint

// windowed is k·p for a p with a Z of one.
func windowed(k *secp256k1.ModNScalar, p *secp256k1.JacobianPoint) (q secp256k1.JacobianPoint) {
	k1, k2 := split(k)
	d1, n1 := digits(&k1)
	d2, n2 := digits(&k2)
	table, z := tabulate(p)
	turned := table // λ times as much
	for i := range turned {
		turned[i].X.Mul(&beta).Normalize()
	}
	for i := max(n1, n2) - 1; i >= 0; i-- {
		secp256k1.DoubleNonConst(&q, &q)
		table.add(&q, d1[i])
		turned.add(&q, d2[i])
	}
	q.Z.Mul(&z).Normalize()
	return q
}

// add adds digit times the point to q.
func (m *multiples) add(q *secp256k1.JacobianPoint, digit int8) {
	switch {
	case digit > 0:
		secp256k1.AddNonConst(q, &m[digit/2], q)
	case digit < 0:
		p := m[-digit/2]
		p.Y.Negate(1).Normalize()
		secp256k1.AddNonConst(q, &p, q)
	}
}

// tabulate makes the multiples of p, which has a Z of one. They have a common Z,
// which stands beside them; in the table it says one, as addition is cheapest so.
func tabulate(p *secp256k1.JacobianPoint) (m multiples, z secp256k1.FieldVal) {
	var twice secp256k1.JacobianPoint
	secp256k1.DoubleNonConst(p, &twice)
	z.Set(&twice.Z)
	twice.Z.SetInt(1)
	m[0] = *p
	rescale(&m[0], &z) // to where the Z of twice p is one
	var ratios [len(m)]secp256k1.FieldVal
	for i := 1; i < len(m); i++ {
		// Addition makes Z grow by 2(x·Z² - X), x that of twice p.
		ratio := &ratios[i]
		ratio.SquareVal(&m[i-1].Z).Mul(&twice.X)
		ratio.Add(new(secp256k1.FieldVal).NegateVal(&m[i-1].X, 1)).MulInt(2).Normalize()
		secp256k1.AddNonConst(&m[i-1], &twice, &m[i])
	}
	last := len(m) - 1
	z.Mul(&m[last].Z).Normalize()
	var grow secp256k1.FieldVal
	grow.SetInt(1)
	for i := last; i >= 0; i-- {
		rescale(&m[i], &grow)
		grow.Mul(&ratios[i])
	}
	return m, z
}

// rescale takes p to the curve where its coordinates are as if Z were by
// times larger, and says that Z is one.
func rescale(p *secp256k1.JacobianPoint, by *secp256k1.FieldVal) {
	var square secp256k1.FieldVal
	square.SquareVal(by)
	p.X.Mul(&square).Normalize()
	p.Y.Mul(square.Mul(by)).Normalize()
	p.Z.SetInt(1)
}

// digits writes a k below 2^130 in digits of the window, the lowest first.
func digits(k *half) (d [132]int8, n int) {
	lo, hi, top := k.lo, k.hi, uint64(0)
	for n = 0; lo|hi|top != 0; n++ {
		if lo&1 == 1 {
			digit := int8(lo & (1<<window - 1))
			lo &^= 1<<window - 1
			if digit >= 1<<(window-1) {
				digit -= 1 << window
				var carry uint64
				lo, carry = bits.Add64(lo, 1<<window, 0)
				hi, carry = bits.Add64(hi, 0, carry)
				top += carry
			}
			d[n] = digit
			if k.negative {
				d[n] = -digit
			}
		}
		lo, hi, top = lo>>1|hi<<63, hi>>1|top<<63, top>>1
	}
	return d, n
}

// A half is one part of a split scalar: below 2^128 in size.
type half struct {
	lo, hi   uint64
	negative bool
}

// The endomorphism of the curve: λ·(x, y) = (βx, y), with a basis of the lattice
// of pairs (a, b) for which a + bλ is zero (Guide to Elliptic Curve Cryptography,
// 3.5): v1 = (a1, b1), v2 = (a2, b2). g1 and g2 are b2 and -b1 by 2^320 over the
// order, rounded down.
var (
	beta        = fieldOf("7ae96a2b657c07106e64479eac3434e99cf0497512f58995c1396c28719501ee")
	minusLambda = minus("5363ad4cc05c30e0a5261c028812645a122e22ea20816678df02967c1b23bd72")
	minusB1     = scalarOf("00000000000000000000000000000000e4437ed6010e88286f547fa90abfe4c3")
	minusB2     = minus("000000000000000000000000000000003086d221a7d46bcde86c90e49284eb15")

	g1 = [3]uint64{0x3daa8a1471e8ca7f, 0xe86c90e49284eb15, 0x3086d221a7d46bcd}
	g2 = [3]uint64{0x221208ac9df506c6, 0x6f547fa90abfe4c4, 0xe4437ed6010e8828}
)

// split finds k1 and k2 of half the size with k = k1 + k2·λ.
func split(k *secp256k1.ModNScalar) (k1, k2 half) {
	c1, c2 := timesOver320(k, &g1), timesOver320(k, &g2)
	var s1, s2 secp256k1.ModNScalar
	s2.Add2(c1.Mul(&minusB1), c2.Mul(&minusB2))
	s1.Mul2(&s2, &minusLambda).Add(k)
	return halve(s1), halve(s2)
}

func halve(k secp256k1.ModNScalar) (h half) {
	if h.negative = k.IsOverHalfOrder(); h.negative {
		k.Negate()
	}
	b := k.Bytes()
	h.hi, h.lo = binary.BigEndian.Uint64(b[16:]), binary.BigEndian.Uint64(b[24:])
	return h
}

// timesOver320 is k·g / 2^320, rounded.
func timesOver320(k *secp256k1.ModNScalar, g *[3]uint64) (c secp256k1.ModNScalar) {
	b := k.Bytes()
	var p [7]uint64
	for i := range 4 {
		word := binary.BigEndian.Uint64(b[24-8*i:])
		var over uint64
		for j := range g {
			hi, lo := bits.Mul64(word, g[j])
			var carry uint64
			lo, carry = bits.Add64(lo, p[i+j], 0)
			hi += carry
			p[i+j], carry = bits.Add64(lo, over, 0)
			over = hi + carry
		}
		p[i+3] = over
	}
	lo, carry := bits.Add64(p[5], p[4]>>63, 0)
	clear(b[:])
	binary.BigEndian.PutUint64(b[16:], p[6]+carry)
	binary.BigEndian.PutUint64(b[24:], lo)
	c.SetBytes(&b)
	return c
}

// inverseRoot is a to the power of (p-3)/4, where p is the order of the field: a
// root of 1/a if there is one. The power is 223 ones, a zero, 22 ones and
// 00001011 in binary.
func inverseRoot(a *secp256k1.FieldVal) secp256k1.FieldVal {
	a2 := raise(a, 1, a) // a2 is a to the power of two ones
	a3 := raise(&a2, 1, a)
	a6 := raise(&a3, 3, &a3)
	a9 := raise(&a6, 3, &a3)
	a11 := raise(&a9, 2, &a2)
	a22 := raise(&a11, 11, &a11)
	a44 := raise(&a22, 22, &a22)
	a88 := raise(&a44, 44, &a44)
	a176 := raise(&a88, 88, &a88)
	a220 := raise(&a176, 44, &a44)
	a223 := raise(&a220, 3, &a3)
	r := raise(&a223, 23, &a22)
	r = raise(&r, 5, a)
	return raise(&r, 3, &a2)
}

// raise appends n binary digits to the power, those of by.
func raise(a *secp256k1.FieldVal, n int, by *secp256k1.FieldVal) (r secp256k1.FieldVal) {
	r.SquareVal(a)
	for range n - 1 {
		r.Square()
	}
	return *r.Mul(by)
}

func constant(digits string) []byte {
	b, err := hex.DecodeString(digits)
	if err != nil {
		panic(err)
	}
	return b
}

func fieldOf(digits string) (f secp256k1.FieldVal) {
	f.SetByteSlice(constant(digits))
	return f
}

func scalarOf(digits string) (k secp256k1.ModNScalar) {
	k.SetByteSlice(constant(digits))
	return k
}

func minus(digits string) secp256k1.ModNScalar {
	k := scalarOf(digits)
	return *k.Negate()
}
