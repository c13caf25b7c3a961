package tower

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/codec"
)

// Message types, two bytes, odd and above 32768: custom messages that a peer
// who does not know them ignores (BOLT 1).
const (
	typeAsk     = 0x8501 + 2*iota // client: a session, please
	typeGrant                     // tower: its terms, and what it has of it
	typeReject                    // tower: no, and why
	typePut                       // client: blobs
	typeAck                       // tower: how many it has on disk
	typeDelete                    // client: the channel is closed for good
	typeDeleted                   // tower: the session is gone
	typeEnd
)

// Owns reports whether a message type belongs to this package.
func Owns(typ uint16) bool { return typ >= typeAsk && typ < typeEnd && typ%2 == 1 }

// A SessionID names a session to both ends. It says nothing of the channel.
type SessionID [16]byte

// String is the ID in hex.
func (id SessionID) String() string { return hex.EncodeToString(id[:]) }

// A Message is anything client and tower send each other.
type Message interface {
	// Core is the core that takes it.
	Core() string
	// Append encodes it behind its two-byte type.
	Append(b []byte) []byte
}

// Ask asks for a session, or for the terms of one that there is.
type Ask struct {
	ID    SessionID
	Rates [2]tx.FeeRate // as in Terms
	Blobs uint32
}

// Grant answers Ask. Taken is how many blobs of the session the tower has.
type Grant struct {
	ID    SessionID
	Terms Terms
	Taken uint32
}

// Reject answers anything about a session that the tower does not have, with a
// reason for people.
type Reject struct {
	ID  SessionID
	Why string
}

// Put brings blobs, numbered from 0 in their session.
type Put struct {
	ID    SessionID
	First uint32
	Blobs []Blob
}

// MaxBatch bounds the blobs of one Put: it must fit a BOLT 8 message.
const MaxBatch = 128

// Ack says that the tower has the first Taken blobs of a session on disk.
type Ack struct {
	ID    SessionID
	Taken uint32
}

// Delete ends a session and removes its blobs. Repeating it is harmless.
type Delete struct{ ID SessionID }

// Deleted answers Delete.
type Deleted struct{ ID SessionID }

func (Ask) Core() string     { return ServerName }
func (Put) Core() string     { return ServerName }
func (Delete) Core() string  { return ServerName }
func (Grant) Core() string   { return ClientName }
func (Reject) Core() string  { return ClientName }
func (Ack) Core() string     { return ClientName }
func (Deleted) Core() string { return ClientName }

func head(b []byte, typ uint16, id SessionID) []byte {
	return append(binary.BigEndian.AppendUint16(b, typ), id[:]...)
}

func (m Ask) Append(b []byte) []byte {
	return codec.AppendUint(appendRates(head(b, typeAsk, m.ID), m.Rates), m.Blobs)
}

func (m Grant) Append(b []byte) []byte {
	return codec.AppendUint(m.Terms.append(head(b, typeGrant, m.ID)), m.Taken)
}

// maxWhy bounds a reason in bytes.
const maxWhy = 200

func (m Reject) Append(b []byte) []byte {
	return codec.AppendBytes(head(b, typeReject, m.ID), m.Why[:min(len(m.Why), maxWhy)])
}

func (m Put) Append(b []byte) []byte {
	b = codec.AppendUint(head(b, typePut, m.ID), m.First)
	b = codec.AppendUint(b, len(m.Blobs))
	for i := range m.Blobs {
		b = m.Blobs[i].append(b)
	}
	return b
}

func (m Ack) Append(b []byte) []byte     { return codec.AppendUint(head(b, typeAck, m.ID), m.Taken) }
func (m Delete) Append(b []byte) []byte  { return head(b, typeDelete, m.ID) }
func (m Deleted) Append(b []byte) []byte { return head(b, typeDeleted, m.ID) }

func (b *Blob) append(to []byte) []byte { return append(append(to, b.Hint[:]...), b.Sealed[:]...) }

func (b *Blob) read(r *codec.Reader) {
	r.Fill(b.Hint[:])
	r.Fill(b.Sealed[:])
}

// Decode reads one message. Anything that is not exactly one is an error.
func Decode(b []byte) (Message, error) {
	r := codec.NewReader(b)
	typ := r.U16()
	var id SessionID
	r.Fill(id[:])
	var m Message
	switch typ {
	case typeAsk:
		m = Ask{id, readRates(r), readCount(r)}
	case typeGrant:
		m = Grant{id, readTerms(r), readCount(r)}
	case typeReject:
		m = Reject{id, r.String(maxWhy, "reason")}
	case typePut:
		put := Put{ID: id, First: readCount(r)}
		n := r.Int(MaxBatch, "number of blobs")
		if r.Len() != n*BlobSize {
			r.Fail(fmt.Errorf("%d bytes are not %d blobs", r.Len(), n))
		} else if n > 0 {
			put.Blobs = make([]Blob, n)
		}
		for i := range put.Blobs {
			put.Blobs[i].read(r)
		}
		m = put
	case typeAck:
		m = Ack{id, readCount(r)}
	case typeDelete:
		m = Delete{id}
	case typeDeleted:
		m = Deleted{id}
	default:
		r.Fail(fmt.Errorf("message type %d is not of a watchtower", typ))
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("message type %d: %w", typ, err)
	}
	return m, nil
}

func readCount(r *codec.Reader) uint32 { return uint32(r.Int(MaxBlobs, "number of blobs")) }
