package tangle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/crypto/blake2b"
)

// A Transaction consumes outputs and makes new ones (TIP-20).
type Transaction struct {
	Essence Essence
	Unlocks []Unlock // one for each input
}

// An Essence is the part of a transaction that is signed.
type Essence struct {
	NetworkID  uint64
	Inputs     []OutputID
	Commitment Hash // InputsCommitment of what Inputs name
	Outputs    []BasicOutput
	Payload    *TaggedData // nil is none
}

// A BasicOutput is an amount of base units that the holder of a key may spend.
// TIP-18's native tokens, features and further conditions are refused.
type BasicOutput struct {
	Amount  uint64
	Address Address
}

// An Unlock is SignatureUnlock or ReferenceUnlock.
type Unlock interface{ append([]byte) []byte }

// A SignatureUnlock opens an output of the address of Public.
type SignatureUnlock struct {
	Public    [32]byte
	Signature [64]byte // of Essence.Digest
}

// A ReferenceUnlock is the index of an earlier SignatureUnlock, whose key opens
// this input too.
type ReferenceUnlock uint16

// Type bytes of a transaction's parts.
const (
	typeEssence          = 1
	typeInput            = 0
	typeBasicOutput      = 3
	typeAddressCondition = 0
	typeSignatureUnlock  = 0
	typeReferenceUnlock  = 1
	typeEd25519          = 0
)

// BasicOutputSize is the size of an encoded BasicOutput in bytes.
const BasicOutputSize = 1 + 8 + 1 + 1 + 1 + len(Address{}) + 1

// Append encodes the output.
func (o BasicOutput) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(append(b, typeBasicOutput), o.Amount)
	b = append(b, 0, 1, typeAddressCondition) // no native tokens, one condition
	return append(append(b, o.Address[:]...), 0)
}

// DecodeOutput reads exactly one output.
func DecodeOutput(raw []byte) (BasicOutput, error) {
	r := newReader(raw)
	o := r.output()
	if err := r.Close(); err != nil {
		return BasicOutput{}, fmt.Errorf("output: %w", err)
	}
	return o, o.check()
}

func (o BasicOutput) check() error {
	if o.Amount == 0 {
		return errors.New("output holds nothing")
	}
	if o.Address[0] != addressEd25519 {
		return fmt.Errorf("address has type %d; only Ed25519, %d, is known here", o.Address[0], addressEd25519)
	}
	return nil
}

func (r reader) output() (o BasicOutput) {
	r.kind(typeBasicOutput, "output")
	o.Amount = r.le64()
	r.kind(0, "list of native tokens")
	r.kind(1, "list of unlock conditions")
	r.kind(typeAddressCondition, "unlock condition")
	r.Fill(o.Address[:])
	r.kind(0, "list of features")
	return o
}

// Weights of an output's bytes (TIP-19): what a database looks up costs more.
const (
	weightKey  = 10
	weightData = 1

	outputOffset = weightKey*uint64(len(OutputID{})) + weightData*(32+4+4) // block ID, milestone's index and time
)

// StorageDeposit is the least that an output may hold, in base units, where a
// virtual byte costs so much (TIP-19).
func (o BasicOutput) StorageDeposit(costPerVByte uint64) uint64 {
	high, low := bits.Mul64(costPerVByte, outputOffset+weightData*uint64(BasicOutputSize))
	if high != 0 {
		return ^uint64(0)
	}
	return low
}

// InputsCommitment is the hash of the hashes of the outputs that a transaction
// consumes, in the order of its inputs: whoever signs it knows what it spends.
func InputsCommitment(spent []BasicOutput) Hash {
	var hashes []byte
	for _, o := range spent {
		sum := blake2b.Sum256(o.Append(nil))
		hashes = append(hashes, sum[:]...)
	}
	return blake2b.Sum256(hashes)
}

// Type is TypeTransaction.
func (*Transaction) Type() uint32 { return TypeTransaction }

// ID is the transaction's name.
func (t *Transaction) ID() TransactionID { return blake2b.Sum256(t.Append(nil)) }

// Append encodes the payload.
func (t *Transaction) Append(b []byte) []byte {
	b = t.Essence.Append(binary.LittleEndian.AppendUint32(b, TypeTransaction))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(t.Unlocks)))
	for _, u := range t.Unlocks {
		b = u.append(b)
	}
	return b
}

// Append encodes the essence.
func (e *Essence) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(append(b, typeEssence), e.NetworkID)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(e.Inputs)))
	for _, in := range e.Inputs {
		b = append(append(b, typeInput), in[:]...)
	}
	b = append(b, e.Commitment[:]...)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(e.Outputs)))
	for _, o := range e.Outputs {
		b = o.Append(b)
	}
	if e.Payload == nil {
		return binary.LittleEndian.AppendUint32(b, 0)
	}
	return appendSized(b, e.Payload)
}

// Digest is what unlocks sign.
func (e *Essence) Digest() [32]byte { return blake2b.Sum256(e.Append(nil)) }

func (u SignatureUnlock) append(b []byte) []byte {
	b = append(append(b, typeSignatureUnlock, typeEd25519), u.Public[:]...)
	return append(b, u.Signature[:]...)
}

func (u ReferenceUnlock) append(b []byte) []byte {
	return binary.LittleEndian.AppendUint16(append(b, typeReferenceUnlock), uint16(u))
}

// DecodeTransaction reads exactly one transaction payload and checks all that
// can be without knowing the network or what it spends.
func DecodeTransaction(raw []byte) (*Transaction, error) {
	p, err := decodePayload(raw)
	if err != nil {
		return nil, err
	}
	if t, ok := p.(*Transaction); ok {
		return t, nil
	}
	return nil, fmt.Errorf("payload has type %d; a transaction has %d", p.Type(), TypeTransaction)
}

func (r reader) transaction() *Transaction {
	t := &Transaction{Essence: r.essence()}
	t.Unlocks = make([]Unlock, r.count(int(r.le16()), MaxInputs, "unlocks"))
	for i := range t.Unlocks {
		t.Unlocks[i] = r.unlock()
	}
	return t
}

func (r reader) essence() (e Essence) {
	r.kind(typeEssence, "transaction")
	e.NetworkID = r.le64()
	e.Inputs = make([]OutputID, r.count(int(r.le16()), MaxInputs, "inputs"))
	for i := range e.Inputs {
		r.kind(typeInput, "input")
		r.Fill(e.Inputs[i][:])
	}
	r.Fill(e.Commitment[:])
	e.Outputs = make([]BasicOutput, r.count(int(r.le16()), MaxOutputs, "outputs"))
	for i := range e.Outputs {
		e.Outputs[i] = r.output()
	}
	n := r.le32()
	if n == 0 {
		return e
	}
	before := r.Len()
	if typ := r.le32(); typ != TypeTaggedData {
		r.Fail(fmt.Errorf("payload of a transaction has type %d; only %d may stand there", typ, TypeTaggedData))
	}
	e.Payload = r.taggedData()
	if used := before - r.Len(); r.Err() == nil && used != int(n) {
		r.Fail(fmt.Errorf("payload of a transaction is %d bytes and says %d", used, n))
	}
	return e
}

func (r reader) unlock() Unlock {
	switch typ := r.U8(); typ {
	case typeSignatureUnlock:
		r.kind(typeEd25519, "signature")
		var u SignatureUnlock
		r.Fill(u.Public[:])
		r.Fill(u.Signature[:])
		return u
	case typeReferenceUnlock:
		return ReferenceUnlock(r.le16())
	default:
		r.Fail(fmt.Errorf("unlock has type %d; 0 and 1 are known here", typ))
		return ReferenceUnlock(0)
	}
}

// check is TIP-20's syntactic validation but for the network.
func (t *Transaction) check() error {
	if err := t.Essence.check(); err != nil {
		return fmt.Errorf("transaction: %w", err)
	}
	if len(t.Unlocks) != len(t.Essence.Inputs) {
		return fmt.Errorf("transaction: %d inputs have %d unlocks", len(t.Essence.Inputs), len(t.Unlocks))
	}
	seen := make(map[SignatureUnlock]bool, len(t.Unlocks))
	for i, unlock := range t.Unlocks {
		switch u := unlock.(type) {
		case SignatureUnlock:
			if seen[u] {
				return fmt.Errorf("transaction: unlock %d repeats a signature; refer to it", i)
			}
			seen[u] = true
		case ReferenceUnlock:
			if int(u) >= i {
				return fmt.Errorf("transaction: unlock %d refers to %d, which does not come before", i, u)
			}
			if _, ok := t.Unlocks[u].(SignatureUnlock); !ok {
				return fmt.Errorf("transaction: unlock %d refers to %d, which is no signature", i, u)
			}
		default:
			return fmt.Errorf("transaction: unlock %d is none", i)
		}
	}
	return nil
}

func (e *Essence) check() error {
	if n := len(e.Inputs); n < 1 || n > MaxInputs {
		return fmt.Errorf("%d inputs; there must be 1 to %d", n, MaxInputs)
	}
	if n := len(e.Outputs); n < 1 || n > MaxOutputs {
		return fmt.Errorf("%d outputs; there must be 1 to %d", n, MaxOutputs)
	}
	seen := make(map[OutputID]bool, len(e.Inputs))
	for i, in := range e.Inputs {
		if in.Index() >= MaxOutputs {
			return fmt.Errorf("input %d has index %d; a transaction has at most %d outputs", i, in.Index(), MaxOutputs)
		}
		if seen[in] {
			return fmt.Errorf("input %d names an output again", i)
		}
		seen[in] = true
	}
	if _, err := sumOf(e.Outputs); err != nil {
		return err
	}
	if e.Payload == nil {
		return nil
	}
	return e.Payload.check()
}

// sumOf adds up outputs that are each well formed.
func sumOf(outs []BasicOutput) (sum uint64, err error) {
	for i, o := range outs {
		if err := o.check(); err != nil {
			return 0, fmt.Errorf("output %d: %w", i, err)
		}
		var carry uint64
		if sum, carry = bits.Add64(sum, o.Amount, 0); carry != 0 {
			return 0, errors.New("the outputs together are more than a uint64 holds")
		}
	}
	return sum, nil
}

// Check is the rest of TIP-20's syntactic validation: the transaction is one of
// the network n, and its outputs hold what that demands.
func (t *Transaction) Check(n *Network) error {
	if err := t.check(); err != nil {
		return err
	}
	if t.Essence.NetworkID != n.ID {
		return fmt.Errorf("transaction is of network %d; %s is %d", t.Essence.NetworkID, n.Name, n.ID)
	}
	sum, err := sumOf(t.Essence.Outputs)
	if err != nil {
		return err
	}
	if sum > n.Supply {
		return fmt.Errorf("transaction makes %d base units; only %d exist", sum, n.Supply)
	}
	for i, o := range t.Essence.Outputs {
		if least := o.StorageDeposit(n.StorageCost); o.Amount < least {
			return fmt.Errorf("output %d holds %d base units; its storage deposit is %d (TIP-19)", i, o.Amount, least)
		}
	}
	return nil
}

// CheckSpent is TIP-20's semantic validation, given the outputs that the inputs
// name, in their order: the commitment, the sums and whose the outputs are. It
// does not check the signatures themselves: see Checks.
func (t *Transaction) CheckSpent(spent []BasicOutput) error {
	if len(spent) != len(t.Essence.Inputs) || len(spent) != len(t.Unlocks) {
		return fmt.Errorf("transaction has %d inputs and %d unlocks, and spends %d outputs", len(t.Essence.Inputs), len(t.Unlocks), len(spent))
	}
	if InputsCommitment(spent) != t.Essence.Commitment {
		return errors.New("transaction commits to other outputs than its inputs name")
	}
	in, err := sumOf(spent)
	if err != nil {
		return err
	}
	out, err := sumOf(t.Essence.Outputs)
	if err != nil {
		return err
	}
	if in != out {
		return fmt.Errorf("transaction spends %d base units and makes %d", in, out)
	}
	for i := range t.Unlocks {
		key, ok := t.key(i)
		if a := NewAddress(key); !ok || !bytes.Equal(a[:], spent[i].Address[:]) {
			return fmt.Errorf("input %d is not unlocked by the key of its address", i)
		}
	}
	return nil
}

// key is the public key that unlocks an input.
func (t *Transaction) key(input int) (public [32]byte, ok bool) {
	unlock := t.Unlocks[input]
	if ref, is := unlock.(ReferenceUnlock); is && int(ref) < input {
		unlock = t.Unlocks[ref]
	}
	u, ok := unlock.(SignatureUnlock)
	return u.Public, ok
}
