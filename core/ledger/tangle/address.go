package tangle

import (
	"fmt"

	"github.com/btcsuite/btcd/address/v2/bech32"
	"golang.org/x/crypto/blake2b"
)

// An Address is the kind of address, zero for Ed25519, and the BLAKE2b-256 of a
// public key (TIP-31). Other kinds belong to outputs that this package does not
// read.
type Address [33]byte

const addressEd25519 = 0

// NewAddress is the address of an Ed25519 public key.
func NewAddress(public [32]byte) (a Address) {
	sum := blake2b.Sum256(public[:])
	copy(a[1:], sum[:])
	return a
}

// Bech32 writes the address for people of a network: hrp is its human readable
// part (TIP-31).
func (a Address) Bech32(hrp string) string {
	fives, err := bech32.ConvertBits(a[:], 8, 5, true)
	if err != nil {
		panic("address to words of 5 bits: " + err.Error())
	}
	text, err := bech32.Encode(hrp, fives)
	if err != nil {
		panic("address to bech32: " + err.Error())
	}
	return text
}

// String is the address in hex, because an address does not know its network.
func (a Address) String() string { return hexText(a[:]) }

// ParseAddress reads an address of the network with the human readable part hrp.
func ParseAddress(hrp, text string) (a Address, err error) {
	prefix, fives, version, err := bech32.DecodeGeneric(text)
	if err != nil || version != bech32.Version0 {
		return a, fmt.Errorf("address %.100q is not bech32; copy it again", text)
	}
	if prefix != hrp {
		return a, fmt.Errorf("address %.100q is of network %.20q; this one is %q", text, prefix, hrp)
	}
	raw, err := bech32.ConvertBits(fives, 5, 8, false)
	if err != nil || len(raw) != len(a) || raw[0] != addressEd25519 {
		return a, fmt.Errorf("address %.100q is not of an Ed25519 key, the only kind known here", text)
	}
	return Address(raw), nil
}
