package tangle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/blake2b"

	"coinop.dev/core/codec"
)

// A Milestone says which blocks are part of the ledger, and in which order: all
// that its parents reach and no earlier milestone did (TIP-29).
type Milestone struct {
	Index         uint32
	Timestamp     uint32 // Unix time, seconds
	Protocol      uint8
	Previous      MilestoneID // zero for the first
	Parents       []BlockID
	InclusionRoot Hash                // MerkleRoot of all blocks that it includes
	AppliedRoot   Hash                // MerkleRoot of those that changed the ledger
	Metadata      []byte              // at most MaxMetadata bytes, for its issuer alone
	Options       *ProtocolParameters // nil is none
	Signatures    []Signature         // ascending by key
}

// ProtocolParameters announce other rules from a milestone on. What the bytes
// mean is not read here.
type ProtocolParameters struct {
	Target   uint32 // index of the milestone from which they hold
	Protocol uint8
	Params   []byte // at most MaxMetadata bytes
}

// maxNotice is how many milestones ahead parameters may be announced.
const maxNotice = 30

const typeParameters = 1

// A Signature is one coordinator's, of Milestone.Digest.
type Signature struct {
	Public    [32]byte
	Signature [64]byte
}

// Type is TypeMilestone.
func (*Milestone) Type() uint32 { return TypeMilestone }

// ID is the milestone's name, which its signatures do not change.
func (m *Milestone) ID() MilestoneID { return blake2b.Sum256(m.AppendEssence(nil)) }

// Digest is what coordinators sign: the same hash.
func (m *Milestone) Digest() [32]byte { return m.ID() }

// Append encodes the payload.
func (m *Milestone) Append(b []byte) []byte {
	b = m.AppendEssence(binary.LittleEndian.AppendUint32(b, TypeMilestone))
	b = append(b, byte(len(m.Signatures)))
	for _, s := range m.Signatures {
		b = append(append(append(b, typeEd25519), s.Public[:]...), s.Signature[:]...)
	}
	return b
}

// AppendEssence encodes the part that is signed.
func (m *Milestone) AppendEssence(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, m.Index)
	b = binary.LittleEndian.AppendUint32(b, m.Timestamp)
	b = append(append(b, m.Protocol), m.Previous[:]...)
	b = appendParents(b, m.Parents)
	b = append(append(b, m.InclusionRoot[:]...), m.AppliedRoot[:]...)
	b = append(binary.LittleEndian.AppendUint16(b, uint16(len(m.Metadata))), m.Metadata...)
	o := m.Options
	if o == nil {
		return append(b, 0)
	}
	b = binary.LittleEndian.AppendUint32(append(b, 1, typeParameters), o.Target)
	b = binary.LittleEndian.AppendUint16(append(b, o.Protocol), uint16(len(o.Params)))
	return append(b, o.Params...)
}

// DecodeMilestone reads exactly one milestone payload and checks all that can
// be without knowing the network.
func DecodeMilestone(raw []byte) (*Milestone, error) {
	p, err := decodePayload(raw)
	if err != nil {
		return nil, err
	}
	if m, ok := p.(*Milestone); ok {
		return m, nil
	}
	return nil, fmt.Errorf("payload has type %d; a milestone has %d", p.Type(), TypeMilestone)
}

func (r reader) milestone() *Milestone {
	m := &Milestone{Index: r.le32(), Timestamp: r.le32(), Protocol: r.U8()}
	r.Fill(m.Previous[:])
	m.Parents = r.parents()
	r.Fill(m.InclusionRoot[:])
	r.Fill(m.AppliedRoot[:])
	m.Metadata = r.bytes(uint32(r.le16()), MaxMetadata, "metadata")
	if r.count(int(r.U8()), 1, "milestone options") == 1 {
		r.kind(typeParameters, "milestone option")
		o := &ProtocolParameters{Target: r.le32(), Protocol: r.U8()}
		o.Params = r.bytes(uint32(r.le16()), MaxMetadata, "protocol parameters")
		m.Options = o
	}
	for range int(r.U8()) { // at most MaxSignatures
		if r.Err() != nil {
			break
		}
		r.kind(typeEd25519, "signature")
		var s Signature
		r.Fill(s.Public[:])
		r.Fill(s.Signature[:])
		m.Signatures = append(m.Signatures, s)
	}
	return m
}

// check is TIP-29's syntactic validation but for the keys of the network and
// what the milestone reaches.
func (m *Milestone) check() error {
	if err := checkParents(m.Parents); err != nil {
		return fmt.Errorf("milestone: %w", err)
	}
	if m.Protocol != Protocol {
		return fmt.Errorf("milestone: protocol version is %d; only %d is spoken here", m.Protocol, Protocol)
	}
	if len(m.Metadata) > MaxMetadata {
		return fmt.Errorf("milestone: metadata is %d bytes; the limit is %d", len(m.Metadata), MaxMetadata)
	}
	if o := m.Options; o != nil {
		if len(o.Params) > MaxMetadata {
			return fmt.Errorf("milestone: protocol parameters are %d bytes; the limit is %d", len(o.Params), MaxMetadata)
		}
		if o.Target <= m.Index || o.Target-m.Index > maxNotice {
			return fmt.Errorf("milestone %d announces parameters from %d on; it may be 1 to %d ahead", m.Index, o.Target, maxNotice)
		}
	}
	if n := len(m.Signatures); n < 1 || n > MaxSignatures {
		return fmt.Errorf("milestone: %d signatures; there must be 1 to %d", n, MaxSignatures)
	}
	for i := range m.Signatures[1:] {
		if bytes.Compare(m.Signatures[i].Public[:], m.Signatures[i+1].Public[:]) >= 0 {
			return errors.New("milestone: keys of signatures must ascend and differ")
		}
	}
	return nil
}

// Check is that enough coordinators of the network n signed, and nobody else.
// It does not check the signatures themselves: see Checks.
func (m *Milestone) Check(n *Network) error {
	if err := m.check(); err != nil {
		return err
	}
	if len(m.Signatures) < n.Threshold {
		return fmt.Errorf("milestone %d has %d signatures; %s wants %d", m.Index, len(m.Signatures), n.Name, n.Threshold)
	}
	for _, s := range m.Signatures {
		if !slices.Contains(n.Coordinators, s.Public) {
			return fmt.Errorf("milestone %d is signed by %x, which is no coordinator of %s", m.Index, s.Public, n.Name)
		}
	}
	return nil
}

// Checks lists the signatures of a milestone. All of them must hold.
func (m *Milestone) Checks() []Check {
	digest := m.Digest()
	all := make([]Check, len(m.Signatures))
	for i, s := range m.Signatures {
		all[i] = Check{s.Public, digest, s.Signature}
	}
	return all
}

// Verify is Check, and that the signatures hold.
func (m *Milestone) Verify(n *Network) error {
	if err := m.Check(n); err != nil {
		return err
	}
	return verified(m.Checks())
}

// Sign adds or replaces the signatures of some coordinators.
func (m *Milestone) Sign(signers ...Signer) {
	digest := m.Digest()
	for _, s := range signers {
		mine := Signature{s.Public(), s.Sign(digest[:])}
		at, found := slices.BinarySearchFunc(m.Signatures, mine, func(a, b Signature) int {
			return bytes.Compare(a.Public[:], b.Public[:])
		})
		if found {
			m.Signatures[at] = mine
			continue
		}
		m.Signatures = slices.Insert(m.Signatures, at, mine)
	}
}

// decodePayload reads exactly one payload.
func decodePayload(raw []byte) (Payload, error) {
	if len(raw) > MaxBlockSize {
		return nil, fmt.Errorf("payload is %d bytes; a block has at most %d", len(raw), MaxBlockSize)
	}
	r := newReader(raw)
	p := r.payload(uint32(len(raw)))
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	return p, p.check()
}

func newReader(raw []byte) reader { return reader{codec.NewReader(raw)} }
