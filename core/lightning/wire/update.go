package wire

import (
	"errors"
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
)

// MaxHTLCs is how many HTLCs one side may offer: with as many of the other side,
// the signatures still fit a message (BOLT 2).
const MaxHTLCs = 483

// MaxSignatures is how many HTLC signatures a CommitmentSigned carries at most,
// for the HTLCs of both sides.
const MaxSignatures = 2 * MaxHTLCs

// OnionSize is the size of an onion packet in bytes (BOLT 4).
const OnionSize = 1366

// UpdateAddHTLC offers an HTLC (BOLT 2).
type UpdateAddHTLC struct {
	ChannelID          ChannelID
	ID                 uint64
	AmountMsat         money.Amount
	PaymentHash        [32]byte
	CLTVExpiry         uint32 // block height
	OnionRoutingPacket [OnionSize]byte
	PathKey            keys.Public // of a blinded path; zero: none
}

var errPathKey = errors.New("path_key is not a compressed point")

func (m *UpdateAddHTLC) Core() string { return Core }

func (m *UpdateAddHTLC) Append(b []byte) []byte {
	b = append(head(b, typeUpdateAddHTLC), m.ChannelID[:]...)
	b = be.AppendUint64(b, m.ID)
	b = be.AppendUint64(b, uint64(m.AmountMsat))
	b = append(b, m.PaymentHash[:]...)
	b = be.AppendUint32(b, m.CLTVExpiry)
	b = append(b, m.OnionRoutingPacket[:]...)
	if m.PathKey != (keys.Public{}) {
		b = codec.AppendTLV(b, 0, m.PathKey[:])
	}
	return b
}

func (m *UpdateAddHTLC) read(r *codec.Reader) Message {
	r.Fill(m.ChannelID[:])
	m.ID = r.U64()
	m.AmountMsat = takeMsat(r, "amount_msat")
	r.Fill(m.PaymentHash[:])
	m.CLTVExpiry = r.U32()
	r.Fill(m.OnionRoutingPacket[:])
	extension(r, func(typ uint64, value *codec.Reader) bool {
		if typ != 0 {
			return false
		}
		value.Fill(m.PathKey[:])
		if m.PathKey[0]|1 != 3 {
			value.Fail(errPathKey) // zeros would pass for no key
		}
		return true
	})
	return m
}

// UpdateFulfillHTLC settles an HTLC.
type UpdateFulfillHTLC struct {
	ChannelID       ChannelID
	ID              uint64
	PaymentPreimage [32]byte
}

func (m *UpdateFulfillHTLC) Core() string { return Core }

func (m *UpdateFulfillHTLC) Append(b []byte) []byte {
	b = append(head(b, typeUpdateFulfillHTLC), m.ChannelID[:]...)
	b = be.AppendUint64(b, m.ID)
	return append(b, m.PaymentPreimage[:]...)
}

func (m *UpdateFulfillHTLC) read(r *codec.Reader) Message {
	r.Fill(m.ChannelID[:])
	m.ID = r.U64()
	r.Fill(m.PaymentPreimage[:])
	extension(r, nil)
	return m
}

// UpdateFailHTLC gives an HTLC back, with an onion that says why (BOLT 4).
type UpdateFailHTLC struct {
	ChannelID ChannelID
	ID        uint64
	Reason    []byte
}

func (m *UpdateFailHTLC) Core() string { return Core }

func (m *UpdateFailHTLC) Append(b []byte) []byte {
	b = append(head(b, typeUpdateFailHTLC), m.ChannelID[:]...)
	b = be.AppendUint64(b, m.ID)
	return appendSized(b, m.Reason)
}

func (m *UpdateFailHTLC) read(r *codec.Reader) Message {
	r.Fill(m.ChannelID[:])
	m.ID = r.U64()
	m.Reason = takeSized(r)
	extension(r, nil)
	return m
}

// UpdateFailMalformedHTLC gives an HTLC back whose onion could not be read.
type UpdateFailMalformedHTLC struct {
	ChannelID     ChannelID
	ID            uint64
	SHA256OfOnion [32]byte
	FailureCode   uint16
}

func (m *UpdateFailMalformedHTLC) Core() string { return Core }

func (m *UpdateFailMalformedHTLC) Append(b []byte) []byte {
	b = append(head(b, typeUpdateFailMalformedHTLC), m.ChannelID[:]...)
	b = be.AppendUint64(b, m.ID)
	b = append(b, m.SHA256OfOnion[:]...)
	return be.AppendUint16(b, m.FailureCode)
}

func (m *UpdateFailMalformedHTLC) read(r *codec.Reader) Message {
	r.Fill(m.ChannelID[:])
	m.ID = r.U64()
	r.Fill(m.SHA256OfOnion[:])
	m.FailureCode = r.U16()
	extension(r, nil)
	return m
}

// CommitmentSigned signs the receiver's next commitment and each HTLC in it, in
// output order.
type CommitmentSigned struct {
	ChannelID      ChannelID
	Signature      keys.Signature
	HTLCSignatures []keys.Signature
}

func (m *CommitmentSigned) Core() string { return Core }

func (m *CommitmentSigned) Append(b []byte) []byte {
	b = append(head(b, typeCommitmentSigned), m.ChannelID[:]...)
	b = append(b, m.Signature[:]...)
	b = be.AppendUint16(b, uint16(len(m.HTLCSignatures)))
	for i := range m.HTLCSignatures {
		b = append(b, m.HTLCSignatures[i][:]...)
	}
	return b
}

func (m *CommitmentSigned) read(r *codec.Reader) Message {
	r.Fill(m.ChannelID[:])
	r.Fill(m.Signature[:])
	n := int(r.U16())
	if n > MaxSignatures {
		r.Fail(fmt.Errorf("num_htlcs is %d; the limit is %d", n, MaxSignatures))
	}
	raw := r.Take(n * len(m.Signature))
	if len(raw) > 0 {
		m.HTLCSignatures = make([]keys.Signature, n)
	}
	for i := range m.HTLCSignatures {
		copy(m.HTLCSignatures[i][:], raw[i*len(m.Signature):])
	}
	extension(r, nil)
	return m
}

// RevokeAndAck gives up the sender's commitment before this one.
type RevokeAndAck struct {
	ChannelID              ChannelID
	PerCommitmentSecret    [32]byte
	NextPerCommitmentPoint keys.Public
}

func (m *RevokeAndAck) Core() string { return Core }

func (m *RevokeAndAck) Append(b []byte) []byte {
	b = append(head(b, typeRevokeAndAck), m.ChannelID[:]...)
	b = append(b, m.PerCommitmentSecret[:]...)
	return append(b, m.NextPerCommitmentPoint[:]...)
}

func (m *RevokeAndAck) read(r *codec.Reader) Message {
	r.Fill(m.ChannelID[:])
	r.Fill(m.PerCommitmentSecret[:])
	r.Fill(m.NextPerCommitmentPoint[:])
	extension(r, nil)
	return m
}

// UpdateFee changes the fee rate of the commitments.
type UpdateFee struct {
	ChannelID    ChannelID
	FeeratePerKW uint32 // sat per 1,000 weight
}

func (m *UpdateFee) Core() string { return Core }

func (m *UpdateFee) Append(b []byte) []byte {
	b = append(head(b, typeUpdateFee), m.ChannelID[:]...)
	return be.AppendUint32(b, m.FeeratePerKW)
}

func (m *UpdateFee) read(r *codec.Reader) Message {
	r.Fill(m.ChannelID[:])
	m.FeeratePerKW = r.U32()
	extension(r, nil)
	return m
}

// ChannelReestablish says, first on every connection, how far a channel had
// come.
type ChannelReestablish struct {
	ChannelID                   ChannelID
	NextCommitmentNumber        uint64
	NextRevocationNumber        uint64
	YourLastPerCommitmentSecret [32]byte
	MyCurrentPerCommitmentPoint keys.Public
}

func (m *ChannelReestablish) Core() string { return Core }

func (m *ChannelReestablish) Append(b []byte) []byte {
	b = append(head(b, typeChannelReestablish), m.ChannelID[:]...)
	b = be.AppendUint64(b, m.NextCommitmentNumber)
	b = be.AppendUint64(b, m.NextRevocationNumber)
	b = append(b, m.YourLastPerCommitmentSecret[:]...)
	return append(b, m.MyCurrentPerCommitmentPoint[:]...)
}

func (m *ChannelReestablish) read(r *codec.Reader) Message {
	r.Fill(m.ChannelID[:])
	m.NextCommitmentNumber = r.U64()
	m.NextRevocationNumber = r.U64()
	r.Fill(m.YourLastPerCommitmentSecret[:])
	r.Fill(m.MyCurrentPerCommitmentPoint[:])
	extension(r, nil)
	return m
}
