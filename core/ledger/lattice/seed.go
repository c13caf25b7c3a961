package lattice

import (
	"crypto/hmac"
	"crypto/sha512"
	"encoding/binary"

	"coinop.dev/core/bitcoin/mnemonic"
	"coinop.dev/core/ledger/eddsa"
)

// NewSecret expands a private key.
func NewSecret(key [32]byte) eddsa.Secret { return eddsa.NewSecret(eddsa.BLAKE2b512, key) }

// SeedKey is the private key of an account of a Nano seed.
func SeedKey(seed [32]byte, index uint32) eddsa.Secret {
	var i [4]byte
	binary.BigEndian.PutUint32(i[:], index)
	return NewSecret(sum(seed[:], i[:]))
}

const (
	hardened = 1 << 31
	purpose  = 44  // BIP 44
	coin     = 165 // SLIP-44: Nano
)

// FromMnemonic is the private key of an account of a phrase of words: SLIP-10 at
// m/44'/165'/index', index below 2^31.
func FromMnemonic(seed mnemonic.Seed, index uint32) eddsa.Secret {
	b := seed.Reveal()
	defer clear(b)
	node := extend([]byte("ed25519 seed"), b)
	for _, child := range [...]uint32{purpose, coin, index} {
		data := append([]byte{0}, node[:32]...)
		data = binary.BigEndian.AppendUint32(data, child|hardened)
		node = extend(node[32:], data)
		clear(data)
	}
	defer clear(node[:])
	return NewSecret([32]byte(node[:32]))
}

// extend gives a key and the chain code for what is derived from it.
func extend(chain, data []byte) (node [64]byte) {
	mac := hmac.New(sha512.New, chain)
	mac.Write(data)
	mac.Sum(node[:0])
	return node
}
