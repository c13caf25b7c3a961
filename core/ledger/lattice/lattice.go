// Package lattice has the formats of Nano's block lattice: keys and addresses,
// state blocks and their work, payment URIs, votes, the messages of network
// protocol 21, and a network of one's own. What a node does with them is in
// lattice/node.
//
// Every account has a chain of its own, which only its owner extends, so a
// transfer is two blocks: a send on the payer's chain, a receive on the payee's.
// Representatives vote on which block is the next of a chain.
//
// Text is as in Nano's RPC: hashes and keys in upper-case hex, amounts in raw as
// decimal digits. A Certificate and its Weights are an extension of ours, which
// other Nano software does not know.
package lattice

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/blake2b"

	"coinop.dev/core/ledger/eddsa"
)

// A Key is the public key of an account, a representative or a node.
type Key [32]byte

// A Hash is a block's (BLAKE2b-256).
type Hash [32]byte

// Burn is the account whose key nobody has.
var Burn Key

// Verify checks a signature by the rule that all nodes of our networks share, one
// at a time or in a batch: ZIP-215's, and that a key of small order signs nothing.
// Burn is such a key, for which everybody could sign otherwise, and vote with what
// is delegated to it.
func Verify(key Key, msg []byte, sig [64]byte) bool {
	return !eddsa.SmallOrder(key) && eddsa.VerifyCofactored(eddsa.BLAKE2b512, key, msg, sig)
}

// NewBatch checks many signatures by Verify's rule. The cache may be nil.
func NewBatch(c *eddsa.Cache) *eddsa.Batch {
	return eddsa.NewBatch(eddsa.BLAKE2b512).Strict().Use(c)
}

// sum is the BLAKE2b-256 of the parts one after another.
func sum(parts ...[]byte) [32]byte {
	var short [256]byte // a block's
	b := short[:0]
	for _, part := range parts {
		b = append(b, part...)
	}
	return blake2b.Sum256(b)
}

// String is upper-case hex.
func (h Hash) String() string { return upper(h[:]) }

// IsZero reports whether there is no hash.
func (h Hash) IsZero() bool { return h == Hash{} }

// MarshalText is String.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText is ParseHash.
func (h *Hash) UnmarshalText(b []byte) (err error) {
	*h, err = ParseHash(string(b))
	return err
}

// ParseHash reads 64 hex digits.
func ParseHash(text string) (h Hash, err error) {
	return h, parseHex(h[:], text, "hash")
}

func upper(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

func parseHex(dst []byte, text, what string) error {
	if len(text) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("%s is %d characters; it must be %d hex digits", what, len(text), hex.EncodedLen(len(dst)))
	}
	if _, err := hex.Decode(dst, []byte(text)); err != nil {
		return fmt.Errorf("%s is not hex digits only", what)
	}
	return nil
}

// Text of a key: a prefix, 52 characters for four zero bits and the key, and 8 for
// a checksum, each of five bits.
const (
	alphabet    = "13456789abcdefghijkmnopqrstuwxyz"
	keyChars    = 52
	checkSize   = 5 // bytes
	accountText = "nano_"
	olderText   = "xrb_"
	nodeText    = "node_"
)

// values undoes alphabet; 0xff is no character of it.
var values = func() (v [256]byte) {
	for i := range v {
		v[i] = 0xff
	}
	for i, c := range []byte(alphabet) {
		v[c] = byte(i)
	}
	return v
}()

// String is the account's address, nano_ and 60 characters.
func (k Key) String() string { return k.text(accountText) }

// Node is the key as a node's ID, node_ and 60 characters.
func (k Key) Node() string { return k.text(nodeText) }

// Hex is the key in upper-case hex.
func (k Key) Hex() string { return upper(k[:]) }

// IsZero reports whether the key is Burn, which also stands for none.
func (k Key) IsZero() bool { return k == Burn }

// MarshalText is String.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText is ParseAccount.
func (k *Key) UnmarshalText(b []byte) (err error) {
	*k, err = ParseAccount(string(b))
	return err
}

func (k Key) text(prefix string) string {
	b := append(make([]byte, 0, len(prefix)+keyChars+8), prefix...)
	check := k.check()
	return string(appendFives(appendFives(b, 4, k[:]), 0, check[:]))
}

// check is the five-byte BLAKE2b of the key, last byte first.
func (k Key) check() (c [checkSize]byte) {
	h, err := blake2b.New(checkSize, nil)
	if err != nil {
		panic(err) // five bytes is a size it has
	}
	h.Write(k[:])
	for i, b := range h.Sum(nil) {
		c[checkSize-1-i] = b
	}
	return c
}

// appendFives writes zero bits and then b, five bits a character.
func appendFives(text []byte, zeros int, b []byte) []byte {
	acc, bits := uint(0), zeros
	for _, c := range b {
		acc, bits = acc<<8|uint(c), bits+8
		for bits >= 5 {
			bits -= 5
			text = append(text, alphabet[acc>>bits&31])
		}
	}
	return text
}

// readFives undoes appendFives.
func readFives(b []byte, zeros int, text string) error {
	acc, bits, at := uint(0), -zeros, 0
	for i := range len(text) {
		v := values[text[i]]
		if v == 0xff {
			return fmt.Errorf("character %q is not one of %s", text[i], alphabet)
		}
		acc, bits = acc<<5|uint(v), bits+5
		if i == 0 && acc>>(5-zeros) != 0 {
			return errors.New("the first character after the prefix must be 1 or 3")
		}
		if bits >= 8 {
			bits -= 8
			b[at], at = byte(acc>>bits), at+1
		}
	}
	return nil
}

// ParseAccount reads an address: nano_ or the older xrb_, and 60 characters.
func ParseAccount(text string) (Key, error) {
	rest, ok := strings.CutPrefix(text, accountText)
	if !ok {
		rest, ok = strings.CutPrefix(text, olderText)
	}
	if !ok {
		return Key{}, fmt.Errorf("account %.70q does not begin with %s", text, accountText)
	}
	k, err := parseKey(rest)
	if err != nil {
		return Key{}, fmt.Errorf("account %.70q: %w", text, err)
	}
	return k, nil
}

// ParseNode reads a node's ID: node_ and 60 characters.
func ParseNode(text string) (Key, error) {
	rest, ok := strings.CutPrefix(text, nodeText)
	if !ok {
		return Key{}, fmt.Errorf("node ID %.70q does not begin with %s", text, nodeText)
	}
	k, err := parseKey(rest)
	if err != nil {
		return Key{}, fmt.Errorf("node ID %.70q: %w", text, err)
	}
	return k, nil
}

// ParseKey reads 64 hex digits.
func ParseKey(text string) (k Key, err error) {
	return k, parseHex(k[:], text, "key")
}

func parseKey(text string) (k Key, err error) {
	if len(text) != keyChars+8 {
		return k, fmt.Errorf("it has %d characters after the prefix; it must have %d", len(text), keyChars+8)
	}
	if err := readFives(k[:], 4, text[:keyChars]); err != nil {
		return Key{}, err
	}
	var check [checkSize]byte
	if err := readFives(check[:], 0, text[keyChars:]); err != nil {
		return Key{}, err
	}
	if check != k.check() {
		return Key{}, errors.New("its checksum is wrong; a character is mistaken for another")
	}
	return k, nil
}
