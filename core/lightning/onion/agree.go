package onion

import (
	"crypto/sha256"
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"golang.org/x/crypto/chacha20"

	"coinop.dev/core/keys"
)

// agree makes the secret shared with each hop, and puts the ephemeral key that
// the first hop sees into first. A hop costs one multiplication of the base
// point and one of the hop's point: the ephemeral secret is blinded, not the key
// (BOLT 4, "Shared Secret" and "Blinding Ephemeral Keys").
func agree(session keys.Secret, hops []Hop, first *keys.Public) ([][32]byte, error) {
	secrets := make([][32]byte, len(hops))
	ephemeral := scalar(session)
	for i := range hops {
		var own secp256k1.JacobianPoint
		secp256k1.ScalarBaseMultNonConst(&ephemeral, &own)
		key, shared, err := hops[i].multiply(&ephemeral, &own)
		if err != nil {
			return nil, fmt.Errorf("node of hop %d: %w", i, err)
		}
		secrets[i] = sha256.Sum256(shared[:])
		if i == 0 {
			*first = key
		}
		if i < len(hops)-1 {
			factor := blinding(&key, &secrets[i])
			ephemeral.Mul(&factor)
		}
	}
	return secrets, nil
}

// multiply is own, and k times the key of h, compressed.
func (h *Hop) multiply(k *secp256k1.ModNScalar, own *secp256k1.JacobianPoint) (key, shared keys.Public, err error) {
	switch {
	case h.Table == nil:
		return multiplyBoth(k, &h.Node, own)
	case h.Table.node != h.Node:
		return key, shared, fmt.Errorf("table is of node %s, not %s", h.Table.node, h.Node)
	}
	both := []secp256k1.JacobianPoint{*own, h.Table.multiply(k)}
	affine(both)
	return compress(&both[0]), compress(&both[1]), nil
}

// ecdh is the hop's half of agree: the secret it shares with the holder of the
// ephemeral key.
func ecdh(node keys.Secret, ephemeral *keys.Public) (secret [32]byte, err error) {
	k := scalar(node)
	shared, err := multiply(&k, ephemeral)
	if err != nil {
		return secret, err
	}
	return sha256.Sum256(shared[:]), nil
}

// blinding is what a hop multiplies the ephemeral key by for the next one.
func blinding(key *keys.Public, secret *[32]byte) (k secp256k1.ModNScalar) {
	var b [len(key) + len(secret)]byte
	copy(b[copy(b[:], key[:]):], secret[:])
	h := sha256.Sum256(b[:])
	k.SetBytes(&h)
	return k
}

// nextKey is key blinded by the hop that shares secret.
func nextKey(key *keys.Public, secret *[32]byte) (keys.Public, error) {
	k := blinding(key, secret)
	return multiply(&k, key)
}

func scalar(s keys.Secret) (k secp256k1.ModNScalar) {
	k.SetByteSlice(s.Reveal())
	return k
}

// compress writes a point whose Z is one.
func compress(p *secp256k1.JacobianPoint) (b keys.Public) {
	b[0] = secp256k1.PubKeyFormatCompressedEven
	if p.Y.IsOdd() {
		b[0] = secp256k1.PubKeyFormatCompressedOdd
	}
	p.X.PutBytesUnchecked(b[1:])
	return b
}

// derive makes the key for one use of a secret: "rho" and "ammag" obfuscate,
// "mu" and "um" authenticate, "pad" fills (BOLT 4, "Key Generation").
func derive(use string, secret *[32]byte) [32]byte { return hmac([]byte(use), secret[:], nil) }

// hmac is HMAC-SHA256 of a and b under a key of at most a block. crypto/hmac
// makes six objects for each; an onion of one hop needs six HMACs.
func hmac(key, a, b []byte) (sum [32]byte) {
	var pad [sha256.BlockSize]byte
	xorPad := func(c byte) {
		for i := range pad {
			pad[i] ^= c
		}
	}
	const inner, outer = 0x36, 0x5c // RFC 2104, section 2
	copy(pad[:], key)
	xorPad(inner)
	h := sha256.New()
	h.Write(pad[:])
	h.Write(a)
	h.Write(b)
	h.Sum(sum[:0])
	xorPad(inner ^ outer)
	h.Reset()
	h.Write(pad[:])
	h.Write(sum[:])
	h.Sum(sum[:0])
	return sum
}

// stream is BOLT 4's pseudo-random byte stream: ChaCha20 with a nonce of zeros,
// which is safe because no key is used for two streams.
func stream(key *[32]byte) chacha20.Cipher {
	var nonce [chacha20.NonceSize]byte
	c, err := chacha20.NewUnauthenticatedCipher(key[:], nonce[:])
	if err != nil {
		panic(err) // of a wrong size, which the types rule out
	}
	return *c
}
