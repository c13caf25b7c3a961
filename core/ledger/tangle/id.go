// Package tangle has the formats of a Tangle: blocks, transactions, milestones,
// addresses, Merkle proofs and work, as IOTA's Stardust protocol, version 2,
// writes them (TIP-4, 12, 20, 21, 23, 24, 25, 29, 31). All numbers are
// little-endian and all hashes are BLAKE2b-256.
//
// No public network speaks this any more (IOTA's runs on other software since
// May 2025), so a network is one of ours, or a private one of HORNET's. Of
// TIP-18's outputs only the basic one with an address is known; a block with
// any other is refused as malformed, so a node here cannot follow a network
// that has them.
//
// A block is checked in four steps, because their costs differ: DecodeBlock
// checks the form, Block.Check what the network demands, ZerosOf the work of
// many blocks, and Checks the signatures, for eddsa.Batch. CheckSpent is for
// when a milestone puts a transaction in order.
package tangle

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"golang.org/x/crypto/blake2b"
)

// A BlockID is the BLAKE2b-256 of a whole block. Zero is the genesis, which no
// block has: the only solid entry point of a new network.
type BlockID [32]byte

// A TransactionID is the BLAKE2b-256 of a transaction payload with its unlocks.
type TransactionID [32]byte

// A MilestoneID is the BLAKE2b-256 of a milestone's essence: signatures do not
// change it.
type MilestoneID [32]byte

// A Hash is any other BLAKE2b-256: a Merkle root, an inputs commitment.
type Hash [32]byte

// An OutputID names an output: its transaction and its index there, two bytes.
type OutputID [34]byte

// NewOutputID names the output of a transaction.
func NewOutputID(t TransactionID, index uint16) (id OutputID) {
	binary.LittleEndian.PutUint16(id[copy(id[:], t[:]):], index)
	return id
}

// Transaction is the one that made the output.
func (id OutputID) Transaction() TransactionID { return TransactionID(id[:32]) }

// Index is the output's place in its transaction.
func (id OutputID) Index() uint16 { return binary.LittleEndian.Uint16(id[32:]) }

// IDOf is the ID of a block in its serialised form.
func IDOf(block []byte) BlockID { return blake2b.Sum256(block) }

func (id BlockID) String() string       { return hexText(id[:]) }
func (id TransactionID) String() string { return hexText(id[:]) }
func (id MilestoneID) String() string   { return hexText(id[:]) }
func (h Hash) String() string           { return hexText(h[:]) }
func (id OutputID) String() string      { return hexText(id[:]) }

// MarshalText is String, as REST and JSON want it.
func (id BlockID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// MarshalText is String, as REST and JSON want it.
func (id TransactionID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// MarshalText is String, as REST and JSON want it.
func (id MilestoneID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// MarshalText is String, as REST and JSON want it.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// MarshalText is String, as REST and JSON want it.
func (id OutputID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads 0x and 64 hex digits.
func (id *BlockID) UnmarshalText(text []byte) error { return parseHex(id[:], text, "block ID") }

// UnmarshalText reads 0x and 64 hex digits.
func (id *TransactionID) UnmarshalText(text []byte) error {
	return parseHex(id[:], text, "transaction ID")
}

// UnmarshalText reads 0x and 64 hex digits.
func (id *MilestoneID) UnmarshalText(text []byte) error {
	return parseHex(id[:], text, "milestone ID")
}

// UnmarshalText reads 0x and 64 hex digits.
func (h *Hash) UnmarshalText(text []byte) error { return parseHex(h[:], text, "hash") }

// UnmarshalText reads 0x and 68 hex digits.
func (id *OutputID) UnmarshalText(text []byte) error { return parseHex(id[:], text, "output ID") }

func hexText(b []byte) string { return "0x" + hex.EncodeToString(b) }

// parseHex fills dst from 0x and exactly as many digits as it takes.
func parseHex(dst, text []byte, what string) error {
	if len(text) != 2+2*len(dst) || text[0] != '0' || text[1] != 'x' {
		return fmt.Errorf("%s %.80q is not 0x and %d hex digits", what, text, 2*len(dst))
	}
	if _, err := hex.Decode(dst, text[2:]); err != nil {
		return fmt.Errorf("%s %.80q is not 0x and %d hex digits", what, text, 2*len(dst))
	}
	return nil
}
