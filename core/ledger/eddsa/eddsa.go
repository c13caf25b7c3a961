// Package eddsa signs with Ed25519 whose hash is a parameter (Nano's is
// BLAKE2b-512, IOTA's SHA-512), and checks many signatures at once.
//
// What is a good signature is not one question. Verify answers as Nano's node
// does: it compares R byte by byte. VerifyCofactored answers as ZIP-215 does, the
// only rule that a Batch can agree with: where all parties of a ledger must agree,
// and some check in batches, all of them use that one. Honest signatures are good
// by both.
package eddsa

import (
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"
	"golang.org/x/crypto/blake2b"
)

// Sizes in bytes.
const (
	KeySize       = 32 // a private or a public key
	SignatureSize = 64
)

// A Hash is the hash of the parts one after another: BLAKE2b512 or SHA512.
type Hash func(parts ...[]byte) [64]byte

// BLAKE2b512 is Nano's hash.
func BLAKE2b512(parts ...[]byte) (sum [64]byte) {
	var short [256]byte // R, key and a hash fit, and need no state
	b := short[:0]
	for _, part := range parts {
		b = append(b, part...)
	}
	return blake2b.Sum512(b)
}

// SHA512 is RFC 8032's hash.
func SHA512(parts ...[]byte) (sum [64]byte) {
	var short [256]byte
	b := short[:0]
	for _, part := range parts {
		b = append(b, part...)
	}
	return sha512.Sum512(b)
}

// A Secret is a private key, ready to sign. It prints as "secret" whatever the
// verb, and does not marshal. Two pointers, as in keys.Secret: fmt follows one.
type Secret struct{ s *hidden }

type hidden struct{ e *expanded }

type expanded struct {
	hash   Hash
	key    [KeySize]byte
	public [KeySize]byte
	scalar scalar.Scalar
	prefix [32]byte // what makes the nonce of a message (RFC 8032 section 5.1.6)
}

// NewSecret expands a private key, which may be any 32 bytes (RFC 8032 section
// 5.1.5).
func NewSecret(h Hash, key [KeySize]byte) Secret {
	e := &expanded{hash: h, key: key}
	sum := h(key[:])
	copy(e.prefix[:], sum[32:])
	sum[0] &= 0xf8
	sum[31] = sum[31]&0x7f | 0x40
	must(e.scalar.SetBits(sum[:32]))
	e.public = multiply(&e.scalar)
	clear(sum[:])
	return Secret{&hidden{e}}
}

// multiply is s times the base point, in constant time.
func multiply(s *scalar.Scalar) [32]byte {
	var p curve.EdwardsPoint
	var compressed curve.CompressedEdwardsY
	p.MulBasepoint(curve.ED25519_BASEPOINT_TABLE, s)
	return *compressed.SetEdwardsPoint(&p)
}

// must takes what only fails when the length of its argument is wrong.
func must(s *scalar.Scalar, err error) *scalar.Scalar {
	if err != nil {
		panic(err)
	}
	return s
}

// Public is the public key.
func (s Secret) Public() [KeySize]byte { return s.s.e.public }

// Sign signs a message. The nonce is derived from the message (RFC 8032 section
// 5.1.6), so the same message always has the same signature.
func (s Secret) Sign(msg []byte) (sig [SignatureSize]byte) {
	e := s.s.e
	wide := e.hash(e.prefix[:], msg)
	var nonce, k, answer scalar.Scalar
	must(nonce.SetBytesModOrderWide(wide[:]))
	r := multiply(&nonce)
	wide = e.hash(r[:], e.public[:], msg)
	must(k.SetBytesModOrderWide(wide[:]))
	answer.Mul(&k, &e.scalar)
	answer.Add(&answer, &nonce)
	copy(sig[:], r[:])
	if err := answer.ToBytes(sig[32:]); err != nil {
		panic(err) // it is 32 bytes
	}
	return sig
}

// Format prints "secret" for every verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, "secret") }

// MarshalText refuses: a secret leaves through Reveal or not at all.
func (s Secret) MarshalText() ([]byte, error) { return nil, errors.New("a secret does not marshal") }

// Reveal returns the private key, for world/secret to keep and for tests of
// vectors.
func (s Secret) Reveal() [KeySize]byte { return s.s.e.key }

// IsZero reports whether s was never set.
func (s Secret) IsZero() bool { return s.s == nil }

// Verify is the rule of Nano's node: S may be any number below 2^253 and counts
// modulo the group's order, a key may be written in any way that names a point,
// and R must be the very bytes that come out.
func Verify(h Hash, public [KeySize]byte, msg []byte, sig [SignatureSize]byte) bool {
	if sig[63]&0xe0 != 0 {
		return false
	}
	var s, k scalar.Scalar
	must(s.SetBytesModOrder(sig[32:]))
	var negA, r curve.EdwardsPoint
	if !decompress(&negA, public[:]) {
		return false
	}
	negA.Neg(&negA)
	wide := h(sig[:32], public[:], msg)
	must(k.SetBytesModOrderWide(wide[:]))
	r.DoubleScalarMulBasepointVartime(&k, &negA, &s)
	var compressed curve.CompressedEdwardsY
	return [32]byte(*compressed.SetEdwardsPoint(&r)) == [32]byte(sig[:32])
}

// VerifyCofactored is ZIP-215's rule, a batch of one: S must be below the group's
// order, key and R may be written in any way that names a point, and both sides of
// the equation are multiplied by 8 before they are compared.
func VerifyCofactored(h Hash, public [KeySize]byte, msg []byte, sig [SignatureSize]byte) bool {
	var e entry
	var negA curve.EdwardsPoint
	if !decompress(&negA, public[:]) || !e.open(h, public, msg, sig) || !decompress(&e.r, sig[:32]) {
		return false
	}
	negA.Neg(&negA)
	var difference curve.EdwardsPoint
	return difference.TripleScalarMulBasepointVartime(&e.k, &negA, &e.s, &e.r).IsSmallOrder()
}

// SmallOrder reports whether a key is a point of small order, however it is
// written. By ZIP-215 everybody can sign for such a key, and by Nano's rule too,
// with a few tries; all zero bytes are one. Nobody's honest key is.
func SmallOrder(public [KeySize]byte) bool {
	public[31] &= 0x7f
	return slices.Contains(small[:], public)
}

// small are the coordinates of the points of small order, and what else is read as
// them, without the sign.
var small = func() (all [7][KeySize]byte) {
	for i, p := range curve.EIGHT_TORSION[:5] { // the others differ in sign
		var compressed curve.CompressedEdwardsY
		all[i] = *compressed.SetEdwardsPoint(p)
		all[i][31] &= 0x7f
	}
	prime := [KeySize]byte{0: 0xed, 31: 0x7f}
	for i := 1; i < KeySize-1; i++ {
		prime[i] = 0xff
	}
	all[5] = prime // zero
	all[6] = prime
	all[6][0]++ // one
	return all
}()

func decompress(p *curve.EdwardsPoint, b []byte) bool {
	var compressed curve.CompressedEdwardsY
	copy(compressed[:], b)
	_, err := p.SetCompressedY(&compressed)
	return err == nil
}
