package sealed

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"
)

// A Key opens something sealed, and is worth what it was sold for: the preimage of
// a Lightning payment, or a link of a chain. It prints as "secret", also from inside
// somebody's struct, and does not marshal (see keys.Secret).
type Key struct{ b *pointer }

type pointer struct{ b *[32]byte }

// NewKey makes a key of 32 bytes.
func NewKey(b [32]byte) Key { return Key{&pointer{&b}} }

// Reveal returns the bytes, for whoever has been paid.
func (k Key) Reveal() (b [32]byte) {
	if k.b != nil {
		b = *k.b.b
	}
	return b
}

// IsZero reports whether k was never set.
func (k Key) IsZero() bool { return k.b == nil }

// Hash is what a key is known by before it is sold: as a preimage, its payment hash.
func (k Key) Hash() [32]byte {
	b := k.Reveal()
	return sha256.Sum256(b[:])
}

// Format prints "secret" for every verb.
func (k Key) Format(f fmt.State, _ rune) { io.WriteString(f, "secret") }

// MarshalText refuses: a key leaves through Reveal or not at all.
func (k Key) MarshalText() ([]byte, error) { return nil, errors.New("a key does not marshal") }

// overhead is what sealing adds to a plaintext: a nonce and a tag.
const overhead = chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead

// seal encrypts with XChaCha20-Poly1305 under a key derived from k. The nonce is a
// MAC of what is sealed, so that two plaintexts under one key, which a seller's
// mistake could make, do not undress each other; and the same one twice is the same
// bytes.
func (k Key) seal(purpose string, about, plain []byte) []byte {
	secret, salt := k.keys(purpose)
	mac := hmac.New(sha256.New, salt)
	sum := sha256.Sum256(about)
	mac.Write(sum[:])
	mac.Write(plain)
	nonce := mac.Sum(nil)[:chacha20poly1305.NonceSizeX]
	aead, err := chacha20poly1305.NewX(secret)
	if err != nil {
		panic(err) // a key of 32 bytes
	}
	return aead.Seal(nonce, nonce, plain, about)
}

var errCipher = errors.New("the key does not open it")

func (k Key) open(purpose string, about, cipher []byte) ([]byte, error) {
	if len(cipher) < overhead {
		return nil, errCipher
	}
	secret, _ := k.keys(purpose)
	aead, err := chacha20poly1305.NewX(secret)
	if err != nil {
		panic(err)
	}
	nonce, rest := cipher[:chacha20poly1305.NonceSizeX], cipher[chacha20poly1305.NonceSizeX:]
	plain, err := aead.Open(nil, nonce, rest, about)
	if err != nil {
		return nil, errCipher
	}
	return plain, nil
}

func (k Key) keys(purpose string) (secret, salt []byte) {
	b := k.Reveal()
	out, err := hkdf.Key(sha256.New, b[:], nil, purpose, 64)
	if err != nil {
		panic(err) // 64 bytes are not too many
	}
	return out[:32], out[32:]
}
