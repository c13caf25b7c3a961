package tangle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/blake2b"
)

// Limits of protocol version 2 (TIP-20, 23, 24, 29 and iota.go v3).
const (
	Protocol       = 2      // the version that blocks and milestones carry
	MaxBlockSize   = 32_768 // bytes
	MaxParents     = 8
	MaxInputs      = 128
	MaxOutputs     = 128
	MaxTagSize     = 64    // bytes
	MaxMetadata    = 8_192 // bytes of a milestone's metadata, and of its parameters
	MaxSignatures  = 255   // of a milestone
	MaxCoordinator = 32    // keys of a network; ours, so that a check is bounded
)

// A Network is what all its machines must agree on.
type Network struct {
	Name string // its BLAKE2b-256 begins with ID
	HRP  string // human readable part of its addresses: iota, smr, tst
	ID   uint64 // NetworkID(Name): what binds a transaction to it

	Coordinators [][32]byte // Ed25519 keys of milestones, ascending
	Threshold    int        // signatures that a milestone needs

	MinScore      uint32 // TIP-12: 3^zeros per byte of a block; 0 is no work
	MinZeros      int    // trailing zero trits at least, whatever the size: the old minimum weight magnitude
	BelowMaxDepth uint32 // milestones after which a tip is too old (TIP-3)

	Supply      uint64        // base units; the sum of Genesis
	Genesis     []BasicOutput // outputs of the transaction with the zero ID
	StorageCost uint64        // base units per virtual byte of an output (TIP-19); 0 is off
}

// BelowMaxDepth is what main networks have (TIP-3).
const BelowMaxDepth = 15

// NewNetwork makes a network of ours: no work, no storage deposit.
func NewNetwork(name, hrp string, threshold int, coordinators [][32]byte, genesis []BasicOutput) (*Network, error) {
	n := &Network{
		Name: name, HRP: hrp, ID: NetworkID(name), BelowMaxDepth: BelowMaxDepth,
		Coordinators: slices.SortedFunc(slices.Values(coordinators), func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) }),
		Threshold:    threshold,
		Genesis:      genesis,
	}
	for _, out := range genesis {
		n.Supply += out.Amount
	}
	return n, n.Check()
}

// NetworkID is the first eight bytes of the BLAKE2b-256 of a network's name.
func NetworkID(name string) uint64 {
	sum := blake2b.Sum256([]byte(name))
	return binary.LittleEndian.Uint64(sum[:])
}

// GenesisOutput names one of n.Genesis.
func GenesisOutput(index uint16) OutputID { return NewOutputID(TransactionID{}, index) }

// Check says what is wrong with a network's own numbers.
func (n *Network) Check() error {
	if n.Name == "" || n.ID != NetworkID(n.Name) {
		return fmt.Errorf("network %q has ID %d; its name gives %d", n.Name, n.ID, NetworkID(n.Name))
	}
	if n.HRP == "" || len(n.HRP) > 20 {
		return fmt.Errorf("network %s: the prefix of addresses has %d characters; it must have 1 to 20", n.Name, len(n.HRP))
	}
	if k := len(n.Coordinators); n.Threshold < 1 || n.Threshold > k || k > MaxCoordinator {
		return fmt.Errorf("network %s: %d of %d coordinator keys must sign; at least 1 must and at most %d keys may exist", n.Name, n.Threshold, k, MaxCoordinator)
	}
	for i, key := range n.Coordinators[1:] {
		if bytes.Compare(n.Coordinators[i][:], key[:]) >= 0 {
			return fmt.Errorf("network %s: coordinator keys must ascend and differ", n.Name)
		}
	}
	if len(n.Genesis) == 0 || len(n.Genesis) > MaxOutputs {
		return fmt.Errorf("network %s has %d genesis outputs; it must have 1 to %d", n.Name, len(n.Genesis), MaxOutputs)
	}
	sum, err := sumOf(n.Genesis)
	if err != nil {
		return fmt.Errorf("network %s: genesis: %w", n.Name, err)
	}
	if sum != n.Supply {
		return fmt.Errorf("network %s: the genesis outputs are %d together; the supply is %d", n.Name, sum, n.Supply)
	}
	if n.MinZeros < 0 || n.MinZeros > MaxZeros {
		return errors.New("network " + n.Name + ": no hash has so many zero trits")
	}
	return nil
}
