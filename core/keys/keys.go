// Package keys signs, derives and hashes, deterministically. Its secrets do
// not print.
//
// Two curves, for two jobs. secp256k1 is what Bitcoin's scripts and BOLT 8
// check, so node and channel keys are on it. Ed25519 costs a third as much to
// sign and verify, so what only coinop machines check (acknowledgements) is on
// that (docs/adr/0008).
package keys

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// A Secret is 32 bytes that must not be seen. It prints as "secret" whatever
// the verb, and does not marshal. The bytes are behind two pointers because fmt
// does not call Format on an unexported field of somebody's struct: there it
// follows one pointer and prints the address in the second.
type Secret struct{ b *scalar }

// SecretSize is the size of a secret in bytes.
const SecretSize = 32

type scalar struct{ b *[32]byte }

// NewSecret reads 32 bytes from random, which must be a cryptographic source.
func NewSecret(random io.Reader) (s Secret, err error) {
	s.b = &scalar{new([32]byte)}
	for {
		if _, err := io.ReadFull(random, s.bytes()[:]); err != nil {
			return Secret{}, fmt.Errorf("read randomness: %w", err)
		}
		if s.valid() {
			return s, nil
		}
	}
}

// SecretFromBytes takes 32 bytes that are a valid secp256k1 scalar.
func SecretFromBytes(b []byte) (s Secret, err error) {
	if len(b) != SecretSize {
		return s, fmt.Errorf("secret is %d bytes; it must be %d", len(b), SecretSize)
	}
	s.b = &scalar{(*[32]byte)(append([]byte(nil), b...))}
	if !s.valid() {
		return Secret{}, errors.New("secret is not a valid secp256k1 key")
	}
	return s, nil
}

func (s Secret) bytes() *[32]byte { return s.b.b }

func (s Secret) valid() bool {
	var k secp256k1.ModNScalar
	overflow := k.SetBytes(s.bytes())
	return overflow == 0 && !k.IsZero()
}

// Derive returns the child secret for a purpose: HMAC-SHA256 of the purpose
// under s. Different purposes give unrelated secrets.
func (s Secret) Derive(purpose string) Secret {
	mac := hmac.New(sha256.New, s.bytes()[:])
	for i := byte(0); ; i++ {
		mac.Reset()
		mac.Write([]byte("coinop/derive/"))
		mac.Write([]byte(purpose))
		mac.Write([]byte{i}) // only to step over the 2^-128 invalid scalars
		child := Secret{&scalar{new([32]byte)}}
		mac.Sum(child.bytes()[:0])
		if child.valid() {
			return child
		}
	}
}

// MAC is HMAC-SHA256 under s of a purpose and data of a fixed length.
func (s Secret) MAC(purpose string, data []byte) (sum [32]byte) {
	mac := hmac.New(sha256.New, s.bytes()[:])
	mac.Write([]byte("coinop/mac/"))
	mac.Write([]byte(purpose))
	mac.Write([]byte{0})
	mac.Write(data)
	mac.Sum(sum[:0])
	return sum
}

// Format prints "secret" for every verb, so no log line can leak a key.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, "secret") }

// MarshalText refuses: a secret leaves through Reveal or not at all.
func (s Secret) MarshalText() ([]byte, error) { return nil, errors.New("a secret does not marshal") }

// Reveal returns the bytes, for world/secret to keep and for tests of vectors.
func (s Secret) Reveal() []byte { return append([]byte(nil), s.bytes()[:]...) }

// IsZero reports whether s was never set.
func (s Secret) IsZero() bool { return s.b == nil }

func (s Secret) private() *secp256k1.PrivateKey { return secp256k1.PrivKeyFromBytes(s.bytes()[:]) }

// Public is the public key of s.
func (s Secret) Public() (p Public) {
	copy(p[:], s.private().PubKey().SerializeCompressed())
	return p
}

// ECDH is BOLT 8's: SHA256 of the compressed shared point.
func (s Secret) ECDH(peer Public) ([32]byte, error) {
	pub, err := peer.parse()
	if err != nil {
		return [32]byte{}, err
	}
	var point, shared secp256k1.JacobianPoint
	pub.AsJacobian(&point)
	secp256k1.ScalarMultNonConst(&s.private().Key, &point, &shared)
	shared.ToAffine()
	compressed := secp256k1.NewPublicKey(&shared.X, &shared.Y).SerializeCompressed()
	return sha256.Sum256(compressed), nil
}

// Sign signs a 32-byte digest: RFC 6979 ECDSA, low S.
func (s Secret) Sign(digest [32]byte) (sig Signature) {
	raw := ecdsa.Sign(s.private(), digest[:])
	r, v := raw.R(), raw.S()
	r.PutBytesUnchecked(sig[:32])
	v.PutBytesUnchecked(sig[32:])
	return sig
}

// A Public is a compressed secp256k1 public key.
type Public [33]byte

// ParsePublic reads 33 bytes and checks that they are a point on the curve.
func ParsePublic(b []byte) (p Public, err error) {
	if len(b) != len(p) {
		return p, fmt.Errorf("public key is %d bytes; it must be %d", len(b), len(p))
	}
	copy(p[:], b)
	_, err = p.parse()
	return p, err
}

// ParsePublicHex reads 66 hex digits.
func ParsePublicHex(text string) (Public, error) {
	b, err := hex.DecodeString(text)
	if err != nil {
		return Public{}, fmt.Errorf("public key %.70q is not hex", text)
	}
	return ParsePublic(b)
}

func (p Public) parse() (*secp256k1.PublicKey, error) {
	k, err := secp256k1.ParsePubKey(p[:])
	if err != nil {
		return nil, fmt.Errorf("public key %s is not on the curve", p)
	}
	return k, nil
}

// String is the key in hex.
func (p Public) String() string { return hex.EncodeToString(p[:]) }

// PeerName is what packets to the machine that holds p are addressed to.
func (p Public) PeerName() string { return "peer/" + p.String() }

// MarshalText is String, for JSON and config.
func (p Public) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what ParsePublicHex reads.
func (p *Public) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePublicHex(string(text))
	return err
}

// Verify checks an ECDSA signature with low S.
func (p Public) Verify(digest [32]byte, sig Signature) bool {
	pub, err := p.parse()
	if err != nil {
		return false
	}
	var r, s secp256k1.ModNScalar
	if r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:]) || s.IsOverHalfOrder() {
		return false
	}
	return ecdsa.NewSignature(&r, &s).Verify(digest[:], pub)
}

// A Signature is ECDSA's r and s, 32 bytes each, big-endian.
type Signature [64]byte

// DER is the encoding that Bitcoin's script wants, without the sighash byte.
func (sig Signature) DER() []byte {
	var r, s secp256k1.ModNScalar
	r.SetByteSlice(sig[:32])
	s.SetByteSlice(sig[32:])
	return ecdsa.NewSignature(&r, &s).Serialize()
}

// A Stamp is a secret Ed25519 key that acknowledges: it says "I have this",
// never "I pay this".
type Stamp struct{ key *stampKey }

type stampKey struct{ b *ed25519.PrivateKey }

// Stamp derives the acknowledging key that belongs to s.
func (s Secret) Stamp(purpose string) Stamp {
	seed := s.Derive("stamp/" + purpose)
	key := ed25519.NewKeyFromSeed(seed.bytes()[:])
	return Stamp{&stampKey{&key}}
}

// Format prints "stamp" for every verb.
func (s Stamp) Format(f fmt.State, _ rune) { io.WriteString(f, "stamp") }

// Public is the key that checks what s acknowledges.
func (s Stamp) Public() (p StampPublic) {
	copy(p[:], s.key.b.Public().(ed25519.PublicKey))
	return p
}

// Sign signs msg (RFC 8032, pure Ed25519).
func (s Stamp) Sign(msg []byte) (sig [64]byte) {
	copy(sig[:], ed25519.Sign(*s.key.b, msg))
	return sig
}

// A StampPublic is an Ed25519 public key.
type StampPublic [32]byte

// Verify checks an Ed25519 signature.
func (p StampPublic) Verify(msg []byte, sig [64]byte) bool {
	return ed25519.Verify(p[:], msg, sig[:])
}

// Digest is SHA256 over a tag and parts, BIP 340 style: the tag keeps a
// signature made for one purpose from being used for another. Parts must have
// fixed lengths or carry their own.
func Digest(tag string, parts ...[]byte) (d [32]byte) {
	t := sha256.Sum256([]byte(tag))
	h := sha256.New()
	h.Write(t[:])
	h.Write(t[:])
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(d[:0])
	return d
}
