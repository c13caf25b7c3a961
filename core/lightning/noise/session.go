package noise

import (
	stdcipher "crypto/cipher"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"coinop.dev/core/keys"
)

const (
	// MaxMessage is the longest message in bytes (BOLT 8, "Lightning Message
	// Specification"): its length is sent in two bytes.
	MaxMessage = 65535

	// HeaderSize is a sealed length in bytes (BOLT 8, "Encrypting and Sending
	// Messages").
	HeaderSize = 2 + TagSize

	// MaxPacket is the longest message on the wire, in bytes.
	MaxPacket = HeaderSize + MaxMessage + TagSize

	// RotateAfter is how often one key is used (BOLT 8, "Lightning Message Key
	// Rotation"). A message uses it twice, so a key lasts for 500 messages.
	RotateAfter = 1000
)

// A Session is a finished handshake. Its two halves share nothing, so one
// goroutine may seal while another opens.
type Session struct {
	Peer keys.Public // the static key the peer has proved to hold
	*Sealer
	*Opener
}

// Format prints the peer and nothing else, for every verb.
func (s Session) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "noise session with %s", s.Peer) }

// A Sealer encrypts what we send. Never copy one: two that are alike would use
// a nonce twice, which gives the messages away.
type Sealer struct {
	hidden
	cipher cipher
}

// Seal appends the sealed length and the sealed msg to dst (BOLT 8,
// "Encrypting and Sending Messages"). It allocates only if dst has no room for
// HeaderSize+len(msg)+TagSize bytes. msg and dst must not overlap.
func (s *Sealer) Seal(dst, msg []byte) ([]byte, error) {
	if len(msg) > MaxMessage {
		return dst, fmt.Errorf("message is %d bytes; it must be at most %d", len(msg), MaxMessage)
	}
	header := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(msg)))
	dst = s.cipher.seal(dst[:header], dst[header:])
	return s.cipher.seal(dst, msg), nil
}

// An Opener decrypts what we receive: Length and Open, in turns.
type Opener struct {
	hidden
	cipher cipher
	length [2]byte // room for Length to decrypt into
}

// Length opens a header of HeaderSize bytes (BOLT 8, "Receiving and Decrypting
// Messages") and returns how long the message is; the body that follows is
// TagSize bytes longer.
func (o *Opener) Length(header []byte) (int, error) {
	if len(header) != HeaderSize {
		return 0, fmt.Errorf("header is %d bytes; it must be %d", len(header), HeaderSize)
	}
	length, err := o.cipher.open(o.length[:0], header)
	if err != nil {
		return 0, fmt.Errorf("header: %w", err)
	}
	return int(binary.BigEndian.Uint16(length)), nil
}

// Open appends the message in body to dst; body[:0] is a good dst.
func (o *Opener) Open(dst, body []byte) ([]byte, error) {
	dst, err := o.cipher.open(dst, body)
	if err != nil {
		return dst, fmt.Errorf("body: %w", err)
	}
	return dst, nil
}

// cipher is one direction of a session: chain is ck, which each direction
// moves on by itself from the end of act three.
type cipher struct {
	aead       stdcipher.AEAD
	chain, key [32]byte
	n          uint64
	nonce      [chacha20poly1305.NonceSize]byte
}

func newCipher(chain, key [32]byte) cipher {
	aead, err := chacha20poly1305.New(key[:])
	if err != nil {
		panic("assert: a ChaCha20-Poly1305 key is 32 bytes: " + err.Error())
	}
	return cipher{aead: aead, chain: chain, key: key}
}

func (c *cipher) seal(dst, plain []byte) []byte {
	dst = c.aead.Seal(dst, c.nonce[:], plain, nil)
	c.advance()
	return dst
}

func (c *cipher) open(dst, sealed []byte) ([]byte, error) {
	opened, err := c.aead.Open(dst, c.nonce[:], sealed, nil)
	if err != nil {
		return dst, errTag
	}
	c.advance()
	return opened, nil
}

// advance rotates the key as soon as it is used up, so that a key that leaks
// later opens nothing that was sent before.
func (c *cipher) advance() {
	c.seek(c.n + 1)
	if c.n == RotateAfter {
		*c = newCipher(derive(c.chain, c.key[:]))
	}
}

// seek sets the nonce: 32 zero bits, then n in little-endian.
func (c *cipher) seek(n uint64) {
	c.n = n
	binary.LittleEndian.PutUint64(c.nonce[4:], n)
}
