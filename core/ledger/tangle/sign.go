package tangle

import (
	"fmt"

	"coinop.dev/core/ledger/eddsa"
)

// A Signer holds an Ed25519 key: eddsa.Secret with SHA512, or a chip.
type Signer interface {
	Public() [32]byte
	Sign(msg []byte) [64]byte
}

// A Check is one signature that must hold under ZIP-215, for eddsa.Batch to
// decide with many others.
type Check struct {
	Public    [32]byte
	Message   [32]byte
	Signature [64]byte
}

// Verify decides one check alone.
func (c Check) Verify() bool {
	return eddsa.VerifyCofactored(eddsa.SHA512, c.Public, c.Message[:], c.Signature)
}

func verified(checks []Check) error {
	for i, c := range checks {
		if !c.Verify() {
			return fmt.Errorf("signature %d of key %x does not hold", i, c.Public)
		}
	}
	return nil
}

// Checks lists the signatures of a transaction.
func (t *Transaction) Checks() (all []Check) {
	digest := t.Essence.Digest()
	for _, unlock := range t.Unlocks {
		if u, ok := unlock.(SignatureUnlock); ok {
			all = append(all, Check{u.Public, digest, u.Signature})
		}
	}
	return all
}

// Verify checks the signatures of a transaction alone.
func (t *Transaction) Verify() error { return verified(t.Checks()) }

// NewEssence spends outputs: spent has what inputs name, in their order. Nothing
// may be left over, because there are no fees.
func NewEssence(n *Network, inputs []OutputID, spent, outputs []BasicOutput, payload *TaggedData) (Essence, error) {
	e := Essence{NetworkID: n.ID, Inputs: inputs, Commitment: InputsCommitment(spent), Outputs: outputs, Payload: payload}
	if len(inputs) != len(spent) {
		return Essence{}, fmt.Errorf("%d inputs name %d outputs", len(inputs), len(spent))
	}
	if err := e.check(); err != nil {
		return Essence{}, err
	}
	in, err := sumOf(spent)
	if err != nil {
		return Essence{}, err
	}
	if out, err := sumOf(outputs); err != nil || in != out {
		return Essence{}, fmt.Errorf("%d base units go in and %d come out; they must be equal", in, out)
	}
	return e, nil
}

// Sign unlocks every input with the signer of its address: by its signature the
// first time, by a reference after.
func (e Essence) Sign(spent []BasicOutput, signers ...Signer) (*Transaction, error) {
	if len(spent) != len(e.Inputs) {
		return nil, fmt.Errorf("%d inputs name %d outputs", len(e.Inputs), len(spent))
	}
	byAddress := make(map[Address]Signer, len(signers))
	for _, s := range signers {
		byAddress[NewAddress(s.Public())] = s
	}
	t := &Transaction{Essence: e}
	digest := e.Digest()
	first := make(map[Address]int, len(signers))
	for i, o := range spent {
		if at, ok := first[o.Address]; ok {
			t.Unlocks = append(t.Unlocks, ReferenceUnlock(at))
			continue
		}
		s := byAddress[o.Address]
		if s == nil {
			return nil, fmt.Errorf("input %d is of address %s, whose key is not here", i, o.Address)
		}
		first[o.Address] = i
		t.Unlocks = append(t.Unlocks, SignatureUnlock{s.Public(), s.Sign(digest[:])})
	}
	return t, t.CheckSpent(spent)
}
