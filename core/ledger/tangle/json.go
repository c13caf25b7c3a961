package tangle

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// The JSON of Stardust's REST (TIP-25): bytes are 0x and hex, 64-bit numbers are
// decimal strings. What is read is checked as its binary form would be; how much
// is read, the caller must bound: a block in JSON is at most MaxJSON bytes.

// MaxJSON bounds a block in JSON, in bytes: hex doubles it, names add to it.
const MaxJSON = 4 * MaxBlockSize

// hexBytes are bytes of any length as 0x and hex.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hexText(h)), nil }

func (h *hexBytes) UnmarshalText(text []byte) error {
	if len(text) > 2*MaxBlockSize+2 {
		return fmt.Errorf("%d characters of hex; a block has at most %d bytes", len(text), MaxBlockSize)
	}
	if len(text) < 2 || text[0] != '0' || text[1] != 'x' {
		return fmt.Errorf("bytes %.20q do not begin with 0x", text)
	}
	raw, err := hex.DecodeString(string(text[2:]))
	if err != nil {
		return fmt.Errorf("bytes %.20q are not hex", text)
	}
	*h = nil
	if len(raw) > 0 {
		*h = raw
	}
	return nil
}

// hexKey and hexSignature are bytes of a fixed length.
type (
	hexKey       [32]byte
	hexSignature [64]byte
)

func (h hexKey) MarshalText() ([]byte, error)           { return []byte(hexText(h[:])), nil }
func (h hexSignature) MarshalText() ([]byte, error)     { return []byte(hexText(h[:])), nil }
func (h *hexKey) UnmarshalText(text []byte) error       { return parseHex(h[:], text, "key") }
func (h *hexSignature) UnmarshalText(text []byte) error { return parseHex(h[:], text, "signature") }

// decimal is a uint64 as a string.
type decimal uint64

func (d decimal) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(d), 10), nil }

func (d *decimal) UnmarshalText(text []byte) error {
	v, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return fmt.Errorf("%.30q is no number of 64 bits in a string", text)
	}
	*d = decimal(v)
	return nil
}

// typeOf reads the type of an object.
func typeOf(raw []byte) (uint32, error) {
	var t struct{ Type *uint32 }
	if err := json.Unmarshal(raw, &t); err != nil {
		return 0, err
	}
	if t.Type == nil {
		return 0, errors.New("an object has no type")
	}
	return *t.Type, nil
}

// only fails unless a type is the one that is known.
func only(got, want uint32, what string) error {
	if got != want {
		return fmt.Errorf("%s has type %d; only %d is known here", what, got, want)
	}
	return nil
}

type jsonBlock struct {
	Protocol uint8           `json:"protocolVersion"`
	Parents  []BlockID       `json:"parents"`
	Payload  json.RawMessage `json:"payload,omitempty"`
	Nonce    decimal         `json:"nonce"`
}

// MarshalJSON writes the block as REST has it.
func (b *Block) MarshalJSON() ([]byte, error) {
	j := jsonBlock{Protocol: b.Protocol, Parents: b.Parents, Nonce: decimal(b.Nonce)}
	if b.Payload != nil {
		raw, err := json.Marshal(b.Payload)
		if err != nil {
			return nil, err
		}
		j.Payload = raw
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads the block and checks it as DecodeBlock does.
func (b *Block) UnmarshalJSON(raw []byte) error {
	var j jsonBlock
	if err := json.Unmarshal(raw, &j); err != nil {
		return fmt.Errorf("block: %w", err)
	}
	read := Block{Protocol: j.Protocol, Parents: j.Parents, Nonce: uint64(j.Nonce)}
	if len(j.Payload) > 0 && string(j.Payload) != "null" {
		p, err := unmarshalPayload(j.Payload)
		if err != nil {
			return fmt.Errorf("block: %w", err)
		}
		read.Payload = p
	}
	if err := read.check(); err != nil {
		return fmt.Errorf("block: %w", err)
	}
	if size := len(read.Append(nil)); size > MaxBlockSize {
		return fmt.Errorf("block is %d bytes; the limit is %d", size, MaxBlockSize)
	}
	*b = read
	return nil
}

func unmarshalPayload(raw []byte) (p Payload, err error) {
	typ, err := typeOf(raw)
	if err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	switch typ {
	case TypeTaggedData:
		p = new(TaggedData)
	case TypeTransaction:
		p = new(Transaction)
	case TypeMilestone:
		p = new(Milestone)
	default:
		return nil, fmt.Errorf("payload has type %d; 5, 6 and 7 are known here", typ)
	}
	return p, json.Unmarshal(raw, p)
}

type jsonTaggedData struct {
	Type uint32   `json:"type"`
	Tag  hexBytes `json:"tag,omitempty"`
	Data hexBytes `json:"data,omitempty"`
}

// MarshalJSON writes the payload as REST has it.
func (d *TaggedData) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonTaggedData{TypeTaggedData, d.Tag, d.Data})
}

// UnmarshalJSON reads the payload.
func (d *TaggedData) UnmarshalJSON(raw []byte) error {
	var j jsonTaggedData
	if err := json.Unmarshal(raw, &j); err != nil {
		return err
	}
	*d = TaggedData{Tag: j.Tag, Data: j.Data}
	return errors.Join(only(j.Type, TypeTaggedData, "tagged data"), d.check())
}

type jsonAddress struct {
	Type uint32 `json:"type"`
	Hash Hash   `json:"pubKeyHash"`
}

type jsonCondition struct {
	Type    uint32      `json:"type"`
	Address jsonAddress `json:"address"`
}

type jsonOutput struct {
	Type       uint32            `json:"type"`
	Amount     decimal           `json:"amount"`
	Tokens     []json.RawMessage `json:"nativeTokens,omitempty"`
	Conditions []jsonCondition   `json:"unlockConditions"`
	Features   []json.RawMessage `json:"features,omitempty"`
}

// MarshalJSON writes the output as REST has it.
func (o BasicOutput) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonOutput{
		Type: typeBasicOutput, Amount: decimal(o.Amount),
		Conditions: []jsonCondition{{typeAddressCondition, jsonAddress{uint32(o.Address[0]), Hash(o.Address[1:])}}},
	})
}

// UnmarshalJSON reads the output, and refuses what BasicOutput does not have.
func (o *BasicOutput) UnmarshalJSON(raw []byte) error {
	var j jsonOutput
	if err := json.Unmarshal(raw, &j); err != nil {
		return err
	}
	if err := only(j.Type, typeBasicOutput, "output"); err != nil {
		return err
	}
	if len(j.Tokens) != 0 || len(j.Features) != 0 || len(j.Conditions) != 1 {
		return errors.New("output has native tokens, features or other than one unlock condition; only an address is known here")
	}
	c := j.Conditions[0]
	if err := errors.Join(only(c.Type, typeAddressCondition, "unlock condition"), only(c.Address.Type, addressEd25519, "address")); err != nil {
		return err
	}
	*o = BasicOutput{Amount: uint64(j.Amount)}
	copy(o.Address[1:], c.Address.Hash[:])
	return o.check()
}

type jsonInput struct {
	Type        uint32        `json:"type"`
	Transaction TransactionID `json:"transactionId"`
	Index       uint16        `json:"transactionOutputIndex"`
}

type jsonEssence struct {
	Type       uint32        `json:"type"`
	NetworkID  decimal       `json:"networkId"`
	Inputs     []jsonInput   `json:"inputs"`
	Commitment Hash          `json:"inputsCommitment"`
	Outputs    []BasicOutput `json:"outputs"`
	Payload    *TaggedData   `json:"payload,omitempty"`
}

type jsonUnlock struct {
	Type      uint32         `json:"type"`
	Signature *jsonSignature `json:"signature,omitempty"`
	Reference *uint16        `json:"reference,omitempty"`
}

type jsonSignature struct {
	Type      uint32       `json:"type"`
	Public    hexKey       `json:"publicKey"`
	Signature hexSignature `json:"signature"`
}

type jsonTransaction struct {
	Type    uint32       `json:"type"`
	Essence jsonEssence  `json:"essence"`
	Unlocks []jsonUnlock `json:"unlocks"`
}

// MarshalJSON writes the payload as REST has it.
func (t *Transaction) MarshalJSON() ([]byte, error) {
	e := &t.Essence
	j := jsonTransaction{Type: TypeTransaction, Essence: jsonEssence{
		Type: typeEssence, NetworkID: decimal(e.NetworkID), Inputs: []jsonInput{},
		Commitment: e.Commitment, Outputs: e.Outputs, Payload: e.Payload,
	}, Unlocks: []jsonUnlock{}}
	for _, in := range e.Inputs {
		j.Essence.Inputs = append(j.Essence.Inputs, jsonInput{typeInput, in.Transaction(), in.Index()})
	}
	for _, unlock := range t.Unlocks {
		switch u := unlock.(type) {
		case SignatureUnlock:
			s := jsonSignature{typeEd25519, u.Public, u.Signature}
			j.Unlocks = append(j.Unlocks, jsonUnlock{Type: typeSignatureUnlock, Signature: &s})
		case ReferenceUnlock:
			j.Unlocks = append(j.Unlocks, jsonUnlock{Type: typeReferenceUnlock, Reference: (*uint16)(&u)})
		}
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads the payload.
func (t *Transaction) UnmarshalJSON(raw []byte) error {
	var j jsonTransaction
	if err := json.Unmarshal(raw, &j); err != nil {
		return err
	}
	if err := errors.Join(only(j.Type, TypeTransaction, "transaction"), only(j.Essence.Type, typeEssence, "essence")); err != nil {
		return err
	}
	read := Transaction{Essence: Essence{
		NetworkID: uint64(j.Essence.NetworkID), Commitment: j.Essence.Commitment,
		Outputs: j.Essence.Outputs, Payload: j.Essence.Payload,
	}}
	for _, in := range j.Essence.Inputs {
		if err := only(in.Type, typeInput, "input"); err != nil {
			return err
		}
		read.Essence.Inputs = append(read.Essence.Inputs, NewOutputID(in.Transaction, in.Index))
	}
	for i, u := range j.Unlocks {
		switch {
		case u.Type == typeSignatureUnlock && u.Signature != nil && u.Signature.Type == typeEd25519:
			read.Unlocks = append(read.Unlocks, SignatureUnlock{u.Signature.Public, u.Signature.Signature})
		case u.Type == typeReferenceUnlock && u.Reference != nil:
			read.Unlocks = append(read.Unlocks, ReferenceUnlock(*u.Reference))
		default:
			return fmt.Errorf("unlock %d is neither an Ed25519 signature nor a reference to one", i)
		}
	}
	*t = read
	return t.check()
}

type jsonOption struct {
	Type     uint32   `json:"type"`
	Target   uint32   `json:"targetMilestoneIndex"`
	Protocol uint8    `json:"protocolVersion"`
	Params   hexBytes `json:"params"`
}

type jsonMilestone struct {
	Type          uint32          `json:"type"`
	Index         uint32          `json:"index"`
	Timestamp     uint32          `json:"timestamp"`
	Protocol      uint8           `json:"protocolVersion"`
	Previous      MilestoneID     `json:"previousMilestoneId"`
	Parents       []BlockID       `json:"parents"`
	InclusionRoot Hash            `json:"inclusionMerkleRoot"`
	AppliedRoot   Hash            `json:"appliedMerkleRoot"`
	Options       []jsonOption    `json:"options,omitempty"`
	Metadata      hexBytes        `json:"metadata,omitempty"`
	Signatures    []jsonSignature `json:"signatures"`
}

// MarshalJSON writes the payload as REST has it.
func (m *Milestone) MarshalJSON() ([]byte, error) {
	j := jsonMilestone{
		Type: TypeMilestone, Index: m.Index, Timestamp: m.Timestamp, Protocol: m.Protocol,
		Previous: m.Previous, Parents: m.Parents, InclusionRoot: m.InclusionRoot, AppliedRoot: m.AppliedRoot,
		Metadata: m.Metadata, Signatures: []jsonSignature{},
	}
	if o := m.Options; o != nil {
		j.Options = []jsonOption{{typeParameters, o.Target, o.Protocol, o.Params}}
	}
	for _, s := range m.Signatures {
		j.Signatures = append(j.Signatures, jsonSignature{typeEd25519, s.Public, s.Signature})
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads the payload.
func (m *Milestone) UnmarshalJSON(raw []byte) error {
	var j jsonMilestone
	if err := json.Unmarshal(raw, &j); err != nil {
		return err
	}
	if err := only(j.Type, TypeMilestone, "milestone"); err != nil {
		return err
	}
	read := Milestone{
		Index: j.Index, Timestamp: j.Timestamp, Protocol: j.Protocol,
		Previous: j.Previous, Parents: j.Parents, InclusionRoot: j.InclusionRoot, AppliedRoot: j.AppliedRoot,
		Metadata: j.Metadata,
	}
	if len(j.Options) > 1 {
		return fmt.Errorf("milestone has %d options; 1 is known here", len(j.Options))
	}
	for _, o := range j.Options {
		if err := only(o.Type, typeParameters, "milestone option"); err != nil {
			return err
		}
		read.Options = &ProtocolParameters{o.Target, o.Protocol, o.Params}
	}
	for _, s := range j.Signatures {
		if err := only(s.Type, typeEd25519, "signature"); err != nil {
			return err
		}
		read.Signatures = append(read.Signatures, Signature{s.Public, s.Signature})
	}
	*m = read
	return m.check()
}
