// Package noise is BOLT 8: the Noise_XK_secp256k1_ChaChaPoly_SHA256 handshake
// and the session it leaves behind, as values. The caller moves the bytes.
//
//	initiator                          responder
//	Initiate  ──── act one, 50 B ───▶  Respond
//	Finish   ◀──── act two, 50 B ────
//	          ─── act three, 66 B ──▶  Finish
//	Session                            Session
//
// Any error is final: BOLT 8 wants the connection closed without a word.
package noise

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"

	"coinop.dev/core/keys"
)

// Sizes in bytes, from BOLT 8, "Authenticated Key Exchange Handshake
// Specification".
const (
	ActOneSize   = 50
	ActTwoSize   = 50
	ActThreeSize = 66

	// TagSize is what sealing adds to anything: the Poly1305 tag.
	TagSize = chacha20poly1305.Overhead
)

// version is the only handshake version there is (BOLT 8, "Handshake
// Versioning").
const version = 0

const keySize = len(keys.Public{})

var errTag = errors.New("tag does not match: a byte was changed, or the other side does not hold the key it should")

// An Initiator has sent act one and waits for act two.
type Initiator struct {
	hidden
	state     state
	self      keys.Secret
	peer      keys.Public
	ephemeral keys.Secret
}

// Initiate writes act one to the holder of peer (BOLT 8, "Act One", sender
// actions). The ephemeral secret must be random and used for this handshake
// only.
func Initiate(self keys.Secret, peer keys.Public, ephemeral keys.Secret) (Initiator, [ActOneSize]byte, error) {
	s := begin(peer)
	shared, err := ephemeral.ECDH(peer)
	if err != nil {
		return Initiator{}, [ActOneSize]byte{}, fmt.Errorf("act one: %w", err)
	}
	act := s.offer(ephemeral.Public(), shared)
	return Initiator{state: s, self: self, peer: peer, ephemeral: ephemeral}, act, nil
}

// Finish reads act two and writes act three (BOLT 8, "Act Two", receiver
// actions, and "Act Three", sender actions). The session holds once the
// responder has read act three, which only its first message shows.
func (i Initiator) Finish(actTwo []byte) (Session, [ActThreeSize]byte, error) {
	var act [ActThreeSize]byte
	s := i.state
	theirs, err := s.accept(actTwo, i.ephemeral)
	if err != nil {
		return Session{}, act, fmt.Errorf("act two: %w", err)
	}
	public := i.self.Public()
	sealed := s.seal(1, public[:])
	shared, err := i.self.ECDH(theirs)
	if err != nil {
		return Session{}, act, fmt.Errorf("act three: %w", err)
	}
	s.mixKey(shared)
	act[0] = version
	copy(act[1:], sealed)
	copy(act[1+len(sealed):], s.seal(0, nil))
	ours, other := s.split()
	return Session{Peer: i.peer, Sealer: &Sealer{cipher: ours}, Opener: &Opener{cipher: other}}, act, nil
}

// A Responder has answered act one with act two and waits for act three.
type Responder struct {
	hidden
	state     state
	ephemeral keys.Secret
}

// Respond reads act one and writes act two (BOLT 8, "Act One", receiver
// actions, and "Act Two", sender actions). The ephemeral secret must be random
// and used for this handshake only.
func Respond(self, ephemeral keys.Secret, actOne []byte) (Responder, [ActTwoSize]byte, error) {
	s := begin(self.Public())
	theirs, err := s.accept(actOne, self)
	if err != nil {
		return Responder{}, [ActTwoSize]byte{}, fmt.Errorf("act one: %w", err)
	}
	shared, err := ephemeral.ECDH(theirs)
	if err != nil {
		return Responder{}, [ActTwoSize]byte{}, fmt.Errorf("act two: %w", err)
	}
	act := s.offer(ephemeral.Public(), shared)
	return Responder{state: s, ephemeral: ephemeral}, act, nil
}

// Finish reads act three, and with it learns who the initiator is (BOLT 8,
// "Act Three", receiver actions).
func (r Responder) Finish(actThree []byte) (Session, error) {
	s := r.state
	peer, err := s.identify(actThree, r.ephemeral)
	if err != nil {
		return Session{}, fmt.Errorf("act three: %w", err)
	}
	other, ours := s.split()
	return Session{Peer: peer, Sealer: &Sealer{cipher: ours}, Opener: &Opener{cipher: other}}, nil
}

// state is what both sides keep through the handshake: hash is h, chain is ck
// and key the newest temp_k (BOLT 8, "Handshake State").
type state struct{ hash, chain, key [32]byte }

// begin is BOLT 8, "Handshake State Initialization".
func begin(responder keys.Public) (s state) {
	s.hash = sha256.Sum256([]byte("Noise_XK_secp256k1_ChaChaPoly_SHA256"))
	s.chain = s.hash
	s.mixHash([]byte("lightning"))
	s.mixHash(responder[:])
	return s
}

// offer writes acts one and two, which differ only in what is shared.
func (s *state) offer(ephemeral keys.Public, shared [32]byte) (act [ActOneSize]byte) {
	act[0] = version
	copy(act[1:], ephemeral[:])
	s.mixHash(ephemeral[:])
	s.mixKey(shared)
	copy(act[1+keySize:], s.seal(0, nil))
	return act
}

// accept reads acts one and two and returns the ephemeral key they carry.
func (s *state) accept(act []byte, secret keys.Secret) (theirs keys.Public, err error) {
	if err := check(act, ActOneSize); err != nil {
		return theirs, err
	}
	if theirs, err = keys.ParsePublic(act[1 : 1+keySize]); err != nil {
		return theirs, fmt.Errorf("ephemeral key: %w", err)
	}
	s.mixHash(theirs[:])
	shared, err := secret.ECDH(theirs)
	if err != nil {
		return theirs, err
	}
	s.mixKey(shared)
	_, err = s.open(0, act[1+keySize:])
	return theirs, err
}

// identify reads act three and returns the static key it proves.
func (s *state) identify(act []byte, ephemeral keys.Secret) (peer keys.Public, err error) {
	if err := check(act, ActThreeSize); err != nil {
		return peer, err
	}
	const end = 1 + keySize + TagSize
	raw, err := s.open(1, act[1:end])
	if err != nil {
		return peer, fmt.Errorf("static key: %w", err)
	}
	if peer, err = keys.ParsePublic(raw); err != nil {
		return peer, fmt.Errorf("static key: %w", err)
	}
	shared, err := ephemeral.ECDH(peer)
	if err != nil {
		return peer, err
	}
	s.mixKey(shared)
	_, err = s.open(0, act[end:])
	return peer, err
}

func check(act []byte, size int) error {
	if len(act) != size {
		return fmt.Errorf("%d bytes; it must be %d", len(act), size)
	}
	if act[0] != version {
		return fmt.Errorf("version %d; only %d is known", act[0], version)
	}
	return nil
}

func (s *state) mixHash(b []byte) {
	h := sha256.New()
	h.Write(s.hash[:])
	h.Write(b)
	h.Sum(s.hash[:0])
}

func (s *state) mixKey(shared [32]byte) { s.chain, s.key = derive(s.chain, shared[:]) }

// seal is encryptWithAD over the handshake hash, which then takes in the result.
func (s *state) seal(n uint64, plain []byte) []byte {
	c := newCipher(s.chain, s.key)
	c.seek(n)
	sealed := c.aead.Seal(nil, c.nonce[:], plain, s.hash[:])
	s.mixHash(sealed)
	return sealed
}

// open is decryptWithAD over the handshake hash, which then takes in sealed.
func (s *state) open(n uint64, sealed []byte) ([]byte, error) {
	c := newCipher(s.chain, s.key)
	c.seek(n)
	plain, err := c.aead.Open(nil, c.nonce[:], sealed, s.hash[:])
	if err != nil {
		return nil, errTag
	}
	s.mixHash(sealed)
	return plain, nil
}

// split gives the key of what the initiator sends, then of what it receives.
func (s *state) split() (out, in cipher) {
	first, second := derive(s.chain, nil)
	return newCipher(s.chain, first), newCipher(s.chain, second)
}

// derive is BOLT 8's HKDF: RFC 5869 over SHA-256 with no info, cut in two.
func derive(salt [32]byte, secret []byte) (first, second [32]byte) {
	both, err := hkdf.Key(sha256.New, secret, salt[:], "", len(first)+len(second))
	if err != nil {
		panic("assert: HKDF of 64 bytes cannot fail: " + err.Error())
	}
	return [32]byte(both[:32]), [32]byte(both[32:])
}

// hidden keeps keys out of logs: what embeds it prints as "noise", whatever
// the verb.
type hidden struct{}

// Format prints "noise" for every verb.
func (hidden) Format(f fmt.State, _ rune) { io.WriteString(f, "noise") }
