// Package secret gives the one secret of a machine a home, by URI: the machine's
// key or a wallet's BIP 39 seed.
//
//	file:/var/lib/coinop/key                    encrypted with a passphrase (age)
//	file:/var/lib/coinop/key?plain=1            bare, for the owner's eyes only
//	env:COINOP_SEED                             hex or base64, put there by others
//	tpm:/dev/tpmrm0?file=/var/lib/coinop/key    sealed to a TPM 2.0 and its boot state
//	pkcs11:token=site;object=coinop?...         wrapped by a key in a token
//
// Some homes also keep a counter that does not come back with an old disk image.
// It is generation.Counter: whoever starts a machine passes it to generation.Begin
// before anything is signed.
package secret

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"coinop.dev/core/keys"
	"coinop.dev/world/generation"
)

// A Home keeps one secret. It may be used from several goroutines.
type Home interface {
	// Load returns the secret, or an error that is ErrEmpty if none was stored.
	// The caller wipes it.
	Load() (Seed, error)
	// Store keeps s, durably when it returns. It never writes over a secret: a
	// home that has one answers ErrFull, one that cannot write ErrReadOnly.
	Store(s Seed) error
	// Counter is the home's counter of starts for the machine with the key node,
	// or nil if there is none. It is good after Load or Store, until Close.
	Counter(node keys.Public) generation.Counter
	// Close lets go of the device, if there is one.
	Close() error
}

var (
	// ErrEmpty means that a home has no secret yet.
	ErrEmpty = fmt.Errorf("there is no secret: %w", fs.ErrNotExist)
	// ErrFull means that a home has a secret already.
	ErrFull = fmt.Errorf("there is a secret already, and it may hold money; choose another place, or move that one away first: %w", fs.ErrExist)
	// ErrReadOnly means that others put the secret into a home.
	ErrReadOnly = errors.New("coinop only reads it")
)

// The size of a secret in bytes: from a key to a BIP 39 seed.
const (
	MinSize = 32
	MaxSize = 64
)

// A Seed is a secret of MinSize to MaxSize bytes. It prints as "secret" whatever
// the verb, and does not marshal. The two pointers are there for the reason that
// keys.Secret has.
type Seed struct{ b *held }

type held struct{ b *[]byte }

// NewSeed copies b; the caller clears it.
func NewSeed(b []byte) (Seed, error) {
	if len(b) < MinSize || len(b) > MaxSize {
		return Seed{}, fmt.Errorf("a secret of %d bytes; it must have %d to %d", len(b), MinSize, MaxSize)
	}
	kept := bytes.Clone(b)
	return Seed{&held{&kept}}, nil
}

// Reveal returns a copy of the bytes, for homes and for who derives keys. The
// caller clears it.
func (s Seed) Reveal() []byte {
	if s.b == nil {
		return nil
	}
	return bytes.Clone(*s.b.b)
}

// Key is the seed as a machine's key: keys.SecretSize bytes, a secp256k1 scalar.
func (s Seed) Key() (keys.Secret, error) {
	b := s.Reveal()
	defer clear(b)
	return keys.SecretFromBytes(b)
}

// Wipe overwrites the bytes. The seed, and every copy of the value, is zero after it.
func (s Seed) Wipe() {
	if s.b != nil {
		clear(*s.b.b)
		*s.b.b = nil
	}
}

// IsZero reports whether s was never set, or wiped.
func (s Seed) IsZero() bool { return s.b == nil || len(*s.b.b) == 0 }

// Equal compares in constant time.
func (s Seed) Equal(o Seed) bool {
	if s.IsZero() || o.IsZero() {
		return s.IsZero() == o.IsZero()
	}
	return subtle.ConstantTimeCompare(*s.b.b, *o.b.b) == 1
}

// Format prints "secret" for every verb.
func (s Seed) Format(f fmt.State, _ rune) { io.WriteString(f, "secret") }

// MarshalText refuses.
func (s Seed) MarshalText() ([]byte, error) { return nil, errors.New("a secret does not marshal") }

// MachineKey loads the machine's key from h. Into an empty home it first stores a
// new one: a key that is used and then forgotten is money lost.
func MachineKey(h Home, random io.Reader) (keys.Secret, error) {
	seed, err := h.Load()
	if err == nil {
		defer seed.Wipe()
		return seed.Key()
	}
	if !errors.Is(err, ErrEmpty) {
		return keys.Secret{}, err
	}
	key, err := keys.NewSecret(random)
	if err != nil {
		return key, err
	}
	b := key.Reveal()
	defer clear(b)
	if seed, err = NewSeed(b); err == nil {
		defer seed.Wipe()
		err = h.Store(seed)
	}
	if err != nil {
		return keys.Secret{}, err
	}
	return key, nil
}

// Copy stores the secret of from in to, and reads it back. It is how a key moves to
// a safer home, or is sealed again before the boot state changes. from keeps it.
func Copy(to, from Home) error {
	s, err := from.Load()
	if err != nil {
		return err
	}
	defer s.Wipe()
	if err := to.Store(s); err != nil {
		return err
	}
	again, err := to.Load()
	if err != nil {
		return err
	}
	defer again.Wipe()
	if !s.Equal(again) {
		return errors.New("secret: the new home gives back another secret than it was given; keep the old home and do not use the new one")
	}
	return nil
}
