package wire

import (
	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
)

// AnnounceChannel is the bit of ChannelFlags that asks for a public channel.
const AnnounceChannel = 1

// OpenChannel proposes a channel (BOLT 2). The limits in msat may be more than
// money.MaxAmount, which says that there is none.
type OpenChannel struct {
	ChainHash                chainhash.Hash
	TemporaryChannelID       ChannelID
	FundingSatoshis          int64
	PushMsat                 money.Amount
	DustLimitSatoshis        int64
	MaxHTLCValueInFlightMsat money.Amount
	ChannelReserveSatoshis   int64
	HTLCMinimumMsat          money.Amount
	FeeratePerKW             uint32 // sat per 1,000 weight
	ToSelfDelay              uint16 // blocks
	MaxAcceptedHTLCs         uint16
	FundingPubkey            keys.Public
	RevocationBasepoint      keys.Public
	PaymentBasepoint         keys.Public
	DelayedPaymentBasepoint  keys.Public
	HTLCBasepoint            keys.Public
	FirstPerCommitmentPoint  keys.Public
	ChannelFlags             uint8
	// UpfrontShutdownScript is where a cooperative close must pay. Empty: to be
	// said later. Nil: the record is missing.
	UpfrontShutdownScript []byte
	ChannelType           Features // empty: not said
}

func appendOpenTLVs(b, upfrontShutdownScript []byte, channelType Features) []byte {
	if upfrontShutdownScript != nil {
		b = codec.AppendTLV(b, 0, upfrontShutdownScript)
	}
	if channelType != "" {
		b = codec.AppendTLV(b, 1, channelType)
	}
	return b
}

func takeOpenTLVs(r *codec.Reader) (upfrontShutdownScript []byte, channelType Features) {
	extension(r, func(typ uint64, value *codec.Reader) bool {
		switch typ {
		case 0:
			upfrontShutdownScript = take(value, value.Len())
		case 1:
			channelType = Features(value.Take(value.Len()))
		default:
			return false
		}
		return true
	})
	return upfrontShutdownScript, channelType
}

func (m *OpenChannel) Core() string { return Core }

func (m *OpenChannel) Append(b []byte) []byte {
	b = append(head(b, typeOpenChannel), m.ChainHash[:]...)
	b = append(b, m.TemporaryChannelID[:]...)
	b = be.AppendUint64(b, uint64(m.FundingSatoshis))
	b = be.AppendUint64(b, uint64(m.PushMsat))
	b = be.AppendUint64(b, uint64(m.DustLimitSatoshis))
	b = be.AppendUint64(b, uint64(m.MaxHTLCValueInFlightMsat))
	b = be.AppendUint64(b, uint64(m.ChannelReserveSatoshis))
	b = be.AppendUint64(b, uint64(m.HTLCMinimumMsat))
	b = be.AppendUint32(b, m.FeeratePerKW)
	b = be.AppendUint16(b, m.ToSelfDelay)
	b = be.AppendUint16(b, m.MaxAcceptedHTLCs)
	b = append(b, m.FundingPubkey[:]...)
	b = append(b, m.RevocationBasepoint[:]...)
	b = append(b, m.PaymentBasepoint[:]...)
	b = append(b, m.DelayedPaymentBasepoint[:]...)
	b = append(b, m.HTLCBasepoint[:]...)
	b = append(b, m.FirstPerCommitmentPoint[:]...)
	b = append(b, m.ChannelFlags)
	return appendOpenTLVs(b, m.UpfrontShutdownScript, m.ChannelType)
}

func (m *OpenChannel) read(r *codec.Reader) Message {
	m.ChainHash = takeHash(r)
	m.TemporaryChannelID = takeHash(r)
	m.FundingSatoshis = takeSat(r, "funding_satoshis")
	m.PushMsat = takeMsat(r, "push_msat")
	m.DustLimitSatoshis = takeSat(r, "dust_limit_satoshis")
	m.MaxHTLCValueInFlightMsat = money.Amount(r.U64())
	m.ChannelReserveSatoshis = takeSat(r, "channel_reserve_satoshis")
	m.HTLCMinimumMsat = money.Amount(r.U64())
	m.FeeratePerKW = r.U32()
	m.ToSelfDelay = r.U16()
	m.MaxAcceptedHTLCs = r.U16()
	m.FundingPubkey = takePoint(r)
	m.RevocationBasepoint = takePoint(r)
	m.PaymentBasepoint = takePoint(r)
	m.DelayedPaymentBasepoint = takePoint(r)
	m.HTLCBasepoint = takePoint(r)
	m.FirstPerCommitmentPoint = takePoint(r)
	m.ChannelFlags = r.U8()
	m.UpfrontShutdownScript, m.ChannelType = takeOpenTLVs(r)
	return m
}

// AcceptChannel answers OpenChannel with the acceptor's own terms.
type AcceptChannel struct {
	TemporaryChannelID       ChannelID
	DustLimitSatoshis        int64
	MaxHTLCValueInFlightMsat money.Amount
	ChannelReserveSatoshis   int64
	HTLCMinimumMsat          money.Amount
	MinimumDepth             uint32 // blocks
	ToSelfDelay              uint16 // blocks
	MaxAcceptedHTLCs         uint16
	FundingPubkey            keys.Public
	RevocationBasepoint      keys.Public
	PaymentBasepoint         keys.Public
	DelayedPaymentBasepoint  keys.Public
	HTLCBasepoint            keys.Public
	FirstPerCommitmentPoint  keys.Public
	UpfrontShutdownScript    []byte   // as of OpenChannel
	ChannelType              Features // the same as OpenChannel's
}

func (m *AcceptChannel) Core() string { return Core }

func (m *AcceptChannel) Append(b []byte) []byte {
	b = append(head(b, typeAcceptChannel), m.TemporaryChannelID[:]...)
	b = be.AppendUint64(b, uint64(m.DustLimitSatoshis))
	b = be.AppendUint64(b, uint64(m.MaxHTLCValueInFlightMsat))
	b = be.AppendUint64(b, uint64(m.ChannelReserveSatoshis))
	b = be.AppendUint64(b, uint64(m.HTLCMinimumMsat))
	b = be.AppendUint32(b, m.MinimumDepth)
	b = be.AppendUint16(b, m.ToSelfDelay)
	b = be.AppendUint16(b, m.MaxAcceptedHTLCs)
	b = append(b, m.FundingPubkey[:]...)
	b = append(b, m.RevocationBasepoint[:]...)
	b = append(b, m.PaymentBasepoint[:]...)
	b = append(b, m.DelayedPaymentBasepoint[:]...)
	b = append(b, m.HTLCBasepoint[:]...)
	b = append(b, m.FirstPerCommitmentPoint[:]...)
	return appendOpenTLVs(b, m.UpfrontShutdownScript, m.ChannelType)
}

func (m *AcceptChannel) read(r *codec.Reader) Message {
	m.TemporaryChannelID = takeHash(r)
	m.DustLimitSatoshis = takeSat(r, "dust_limit_satoshis")
	m.MaxHTLCValueInFlightMsat = money.Amount(r.U64())
	m.ChannelReserveSatoshis = takeSat(r, "channel_reserve_satoshis")
	m.HTLCMinimumMsat = money.Amount(r.U64())
	m.MinimumDepth = r.U32()
	m.ToSelfDelay = r.U16()
	m.MaxAcceptedHTLCs = r.U16()
	m.FundingPubkey = takePoint(r)
	m.RevocationBasepoint = takePoint(r)
	m.PaymentBasepoint = takePoint(r)
	m.DelayedPaymentBasepoint = takePoint(r)
	m.HTLCBasepoint = takePoint(r)
	m.FirstPerCommitmentPoint = takePoint(r)
	m.UpfrontShutdownScript, m.ChannelType = takeOpenTLVs(r)
	return m
}

// FundingCreated names the funding output and signs the acceptor's first
// commitment.
type FundingCreated struct {
	TemporaryChannelID ChannelID
	FundingTxid        chainhash.Hash
	FundingOutputIndex uint16
	Signature          keys.Signature
}

func (m *FundingCreated) Core() string { return Core }

func (m *FundingCreated) Append(b []byte) []byte {
	b = append(head(b, typeFundingCreated), m.TemporaryChannelID[:]...)
	b = append(b, m.FundingTxid[:]...)
	b = be.AppendUint16(b, m.FundingOutputIndex)
	return append(b, m.Signature[:]...)
}

func (m *FundingCreated) read(r *codec.Reader) Message {
	m.TemporaryChannelID = takeHash(r)
	m.FundingTxid = takeHash(r)
	m.FundingOutputIndex = r.U16()
	m.Signature = takeSignature(r)
	extension(r, nil)
	return m
}

// FundingSigned signs the opener's first commitment.
type FundingSigned struct {
	ChannelID ChannelID
	Signature keys.Signature
}

func (m *FundingSigned) Core() string { return Core }

func (m *FundingSigned) Append(b []byte) []byte {
	b = append(head(b, typeFundingSigned), m.ChannelID[:]...)
	return append(b, m.Signature[:]...)
}

func (m *FundingSigned) read(r *codec.Reader) Message {
	m.ChannelID = takeHash(r)
	m.Signature = takeSignature(r)
	extension(r, nil)
	return m
}

// ChannelReady says that the funding is deep enough for the sender.
type ChannelReady struct {
	ChannelID                ChannelID
	SecondPerCommitmentPoint keys.Public
	ShortChannelID           SCID // an alias for the receiver to use; 0: none
}

func (m *ChannelReady) Core() string { return Core }

func (m *ChannelReady) Append(b []byte) []byte {
	b = append(head(b, typeChannelReady), m.ChannelID[:]...)
	b = append(b, m.SecondPerCommitmentPoint[:]...)
	if m.ShortChannelID != 0 {
		b = codec.AppendTLV(b, 1, be.AppendUint64(nil, uint64(m.ShortChannelID)))
	}
	return b
}

func (m *ChannelReady) read(r *codec.Reader) Message {
	m.ChannelID = takeHash(r)
	m.SecondPerCommitmentPoint = takePoint(r)
	extension(r, func(typ uint64, value *codec.Reader) bool {
		if typ != 1 {
			return false
		}
		m.ShortChannelID = SCID(value.U64())
		return true
	})
	return m
}
