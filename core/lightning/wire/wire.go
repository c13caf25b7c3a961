// Package wire is what two Lightning nodes say to each other: the messages of
// BOLT 1 (setup), BOLT 2 (channels) and BOLT 7 (gossip) as structs with the
// specification's field names.
//
// Decode checks form, not meaning. Numbers are as they came, with two
// exceptions: what is added up (satoshi, amounts that move) is at most all the
// bitcoin there is; and a point is 33 bytes that whoever uses it parses, because
// checking a curve costs more than all the rest. A decoded message shares no
// memory with what it was read from.
package wire

import (
	"encoding/binary"
	"fmt"
	"math"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
)

// Core is the name of the core that takes Lightning messages.
const Core = "lightning"

// MaxMessage is the size of the largest message in bytes, its type included
// (BOLT 1).
const MaxMessage = math.MaxUint16

// A Message is a pointer to one of this package's structs.
type Message interface {
	Core() string
	// Append encodes it behind its two-byte type.
	Append(b []byte) []byte
}

// Message types (BOLT 1, 2 and 7).
const (
	typeWarning                 = 1
	typePeerStorage             = 7
	typePeerStorageRetrieval    = 9
	typeInit                    = 16
	typeError                   = 17
	typePing                    = 18
	typePong                    = 19
	typeOpenChannel             = 32
	typeAcceptChannel           = 33
	typeFundingCreated          = 34
	typeFundingSigned           = 35
	typeChannelReady            = 36
	typeShutdown                = 38
	typeClosingSigned           = 39
	typeClosingComplete         = 40
	typeClosingSig              = 41
	typeUpdateAddHTLC           = 128
	typeUpdateFulfillHTLC       = 130
	typeUpdateFailHTLC          = 131
	typeCommitmentSigned        = 132
	typeRevokeAndAck            = 133
	typeUpdateFee               = 134
	typeUpdateFailMalformedHTLC = 135
	typeChannelReestablish      = 136
	typeChannelAnnouncement     = 256
	typeNodeAnnouncement        = 257
	typeChannelUpdate           = 258
	typeAnnouncementSignatures  = 259
	typeQueryShortChannelIDs    = 261
	typeReplyShortChannelIDsEnd = 262
	typeQueryChannelRange       = 263
	typeReplyChannelRange       = 264
	typeGossipTimestampFilter   = 265
)

// Owns reports whether Decode knows a message type.
func Owns(typ uint16) bool {
	switch typ {
	case typeWarning, typePeerStorage, typePeerStorageRetrieval, typeInit,
		typeError, typePing, typePong, typeOpenChannel,
		typeAcceptChannel, typeFundingCreated, typeFundingSigned, typeChannelReady,
		typeShutdown, typeClosingSigned, typeClosingComplete, typeClosingSig,
		typeUpdateAddHTLC, typeUpdateFulfillHTLC, typeUpdateFailHTLC, typeCommitmentSigned,
		typeRevokeAndAck, typeUpdateFee, typeUpdateFailMalformedHTLC, typeChannelReestablish,
		typeChannelAnnouncement, typeNodeAnnouncement, typeChannelUpdate, typeAnnouncementSignatures,
		typeQueryShortChannelIDs, typeReplyShortChannelIDsEnd, typeQueryChannelRange, typeReplyChannelRange,
		typeGossipTimestampFilter:
		return true
	}
	return false
}

// Decode reads one message. An unknown even type is an error, an unknown odd
// type is nil, to be ignored; so are unknown odd records of a message's TLV
// stream, while unknown even ones are an error that names the type (BOLT 1).
func Decode(b []byte) (Message, error) {
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("message is %d bytes; the limit is %d", len(b), MaxMessage)
	}
	r := codec.NewReader(b)
	typ := r.U16()
	if r.Err() != nil {
		return nil, r.Err()
	}
	var m Message
	switch typ {
	case typeWarning:
		m = new(Warning).read(r)
	case typePeerStorage:
		m = new(PeerStorage).read(r)
	case typePeerStorageRetrieval:
		m = new(PeerStorageRetrieval).read(r)
	case typeInit:
		m = new(Init).read(r)
	case typeError:
		m = new(Error).read(r)
	case typePing:
		m = new(Ping).read(r)
	case typePong:
		m = new(Pong).read(r)
	case typeOpenChannel:
		m = new(OpenChannel).read(r)
	case typeAcceptChannel:
		m = new(AcceptChannel).read(r)
	case typeFundingCreated:
		m = new(FundingCreated).read(r)
	case typeFundingSigned:
		m = new(FundingSigned).read(r)
	case typeChannelReady:
		m = new(ChannelReady).read(r)
	case typeShutdown:
		m = new(Shutdown).read(r)
	case typeClosingSigned:
		m = new(ClosingSigned).read(r)
	case typeClosingComplete:
		m = new(ClosingComplete).read(r)
	case typeClosingSig:
		m = new(ClosingSig).read(r)
	case typeUpdateAddHTLC:
		m = new(UpdateAddHTLC).read(r)
	case typeUpdateFulfillHTLC:
		m = new(UpdateFulfillHTLC).read(r)
	case typeUpdateFailHTLC:
		m = new(UpdateFailHTLC).read(r)
	case typeCommitmentSigned:
		m = new(CommitmentSigned).read(r)
	case typeRevokeAndAck:
		m = new(RevokeAndAck).read(r)
	case typeUpdateFee:
		m = new(UpdateFee).read(r)
	case typeUpdateFailMalformedHTLC:
		m = new(UpdateFailMalformedHTLC).read(r)
	case typeChannelReestablish:
		m = new(ChannelReestablish).read(r)
	case typeChannelAnnouncement:
		m = new(ChannelAnnouncement).read(r)
	case typeNodeAnnouncement:
		m = new(NodeAnnouncement).read(r)
	case typeChannelUpdate:
		m = new(ChannelUpdate).read(r)
	case typeAnnouncementSignatures:
		m = new(AnnouncementSignatures).read(r)
	case typeQueryShortChannelIDs:
		m = new(QueryShortChannelIDs).read(r)
	case typeReplyShortChannelIDsEnd:
		m = new(ReplyShortChannelIDsEnd).read(r)
	case typeQueryChannelRange:
		m = new(QueryChannelRange).read(r)
	case typeReplyChannelRange:
		m = new(ReplyChannelRange).read(r)
	case typeGossipTimestampFilter:
		m = new(GossipTimestampFilter).read(r)
	default:
		if typ%2 == 1 {
			return nil, nil
		}
		return nil, fmt.Errorf("message type %d is unknown, and even, so it must be understood", typ)
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("message type %d: %w", typ, err)
	}
	return m, nil
}

// extension reads the TLV stream at the end of a message. known takes the value
// of each record, whole; it returns false for a type it does not know.
func extension(r *codec.Reader, known func(typ uint64, value *codec.Reader) bool) {
	if r.Len() == 0 {
		return
	}
	err := codec.TLVs(r.Take(r.Len()), func(typ uint64, raw []byte) (bool, error) {
		value := codec.NewReader(raw)
		if known == nil || !known(typ, value) {
			return false, nil
		}
		return true, value.Close()
	})
	if err != nil {
		r.Fail(err)
	}
}

// What all messages are made of.

var be = binary.BigEndian

func head(b []byte, typ uint16) []byte { return be.AppendUint16(b, typ) }

// take reads n bytes, copied; no bytes are empty, not nil.
func take(r *codec.Reader, n int) []byte { return append([]byte{}, r.Take(n)...) }

// takeSized reads a u16 length and that many bytes, copied.
func takeSized(r *codec.Reader) []byte { return take(r, int(r.U16())) }

// appendSized writes what takeSized reads.
func appendSized[T ~[]byte | ~string](b []byte, v T) []byte {
	if len(v) > MaxMessage {
		panic(fmt.Sprintf("wire: a field of %d bytes fits no message", len(v)))
	}
	return append(be.AppendUint16(b, uint16(len(v))), v...)
}

func takePoint(r *codec.Reader) (p keys.Public) {
	r.Fill(p[:])
	return p
}

func takeSignature(r *codec.Reader) (sig keys.Signature) {
	r.Fill(sig[:])
	return sig
}

func takeHash(r *codec.Reader) (h [32]byte) {
	r.Fill(h[:])
	return h
}

// takeSat reads a u64 of satoshi; what names it in an error.
func takeSat(r *codec.Reader, what string) int64 {
	v := r.U64()
	if limit := money.MaxAmount.Sats(); v > uint64(limit) {
		r.Fail(fmt.Errorf("%s is %d sat; the limit is %d", what, v, limit))
		return 0
	}
	return int64(v)
}

// takeMsat reads a u64 of msat that moves from one side to the other.
func takeMsat(r *codec.Reader, what string) money.Amount {
	v := money.Amount(r.U64())
	if v > money.MaxAmount {
		r.Fail(fmt.Errorf("%s is %d msat; the limit is %d", what, uint64(v), uint64(money.MaxAmount)))
		return 0
	}
	return v
}
