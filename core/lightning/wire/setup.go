package wire

import (
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/core/codec"
)

// MaxNetworks is how many chains an init may name; there are five or so.
const MaxNetworks = 64

// Init is the first message of a connection (BOLT 1).
type Init struct {
	GlobalFeatures Features // of old nodes; Combined has all
	Features       Features
	Networks       []chainhash.Hash // empty: not said
	RemoteAddr     Address          // where the peer sees us; zero: not said, or not understood
}

// Combined has the features of both vectors, which are one by now.
func (m *Init) Combined() Features { return m.GlobalFeatures.Or(m.Features) }

func (m *Init) Core() string { return Core }

func (m *Init) Append(b []byte) []byte {
	b = appendSized(head(b, typeInit), m.GlobalFeatures)
	b = appendSized(b, m.Features)
	if len(m.Networks) > 0 {
		var chains []byte
		for _, chain := range m.Networks {
			chains = append(chains, chain[:]...)
		}
		b = codec.AppendTLV(b, 1, chains)
	}
	if m.RemoteAddr.Type != 0 {
		b = codec.AppendTLV(b, 3, m.RemoteAddr.append(nil))
	}
	return b
}

func (m *Init) read(r *codec.Reader) Message {
	m.GlobalFeatures = Features(r.Take(int(r.U16())))
	m.Features = Features(r.Take(int(r.U16())))
	extension(r, func(typ uint64, value *codec.Reader) bool {
		switch typ {
		case 1:
			if n := value.Len() / len(chainhash.Hash{}); n > MaxNetworks {
				value.Fail(fmt.Errorf("networks are %d; the limit is %d", n, MaxNetworks))
			}
			for value.Len() > 0 {
				m.Networks = append(m.Networks, takeHash(value))
			}
		case 3:
			// A hint. What is wrong with it is no reason to part.
			if a, _, ok, err := readAddress(value.Take(value.Len())); ok && err == nil {
				m.RemoteAddr = a
			}
		default:
			return false
		}
		return true
	})
	return m
}

// Error fails a channel, or all of them if ChannelID is zero (BOLT 1).
type Error struct {
	ChannelID ChannelID
	Data      string // as it came: never print it, print Text
}

// Warning says that something is wrong and fails nothing (BOLT 1).
type Warning struct {
	ChannelID ChannelID
	Data      string // as it came: never print it, print Text
}

func (m *Error) Core() string   { return Core }
func (m *Warning) Core() string { return Core }

// Text is Data, safe to print and short.
func (m *Error) Text() string { return printable(m.Data) }

// Text is Data, safe to print and short.
func (m *Warning) Text() string { return printable(m.Data) }

// maxText bounds a stranger's text in bytes; an error may carry a transaction in
// hex, which is of no use in a log.
const maxText = 400

// printable is text with only printable ASCII (BOLT 1), at most maxText of it.
func printable(text string) string {
	safe := []byte(text[:min(len(text), maxText)])
	for i, c := range safe {
		if c < 32 || c > 126 {
			safe[i] = '?'
		}
	}
	if len(text) > maxText {
		return string(safe) + "..."
	}
	return string(safe)
}

// maxData is what fits an error or a warning.
const maxData = MaxMessage - 2 - len(ChannelID{}) - 2

func appendComplaint(b []byte, typ uint16, id ChannelID, data string) []byte {
	b = append(head(b, typ), id[:]...)
	return appendSized(b, data[:min(len(data), maxData)])
}

func (m *Error) Append(b []byte) []byte {
	return appendComplaint(b, typeError, m.ChannelID, m.Data)
}

func (m *Warning) Append(b []byte) []byte {
	return appendComplaint(b, typeWarning, m.ChannelID, m.Data)
}

func (m *Error) read(r *codec.Reader) Message {
	m.ChannelID = takeHash(r)
	m.Data = string(r.Take(int(r.U16())))
	extension(r, nil)
	return m
}

func (m *Warning) read(r *codec.Reader) Message {
	m.ChannelID = takeHash(r)
	m.Data = string(r.Take(int(r.U16())))
	extension(r, nil)
	return m
}

// Ping asks for a Pong of NumPongBytes, and carries BytesLen bytes that mean
// nothing: they are not kept, and zero when sent (BOLT 1).
type Ping struct {
	NumPongBytes uint16
	BytesLen     uint16
}

// Pong answers Ping.
type Pong struct{ BytesLen uint16 }

// noPong is the least NumPongBytes that asks for no answer.
const noPong = 65532

// Pong is the answer, nil if m asks for none.
func (m *Ping) Pong() *Pong {
	if m.NumPongBytes >= noPong {
		return nil
	}
	return &Pong{BytesLen: m.NumPongBytes}
}

func (m *Ping) Core() string { return Core }
func (m *Pong) Core() string { return Core }

func (m *Ping) Append(b []byte) []byte {
	b = be.AppendUint16(head(b, typePing), m.NumPongBytes)
	return append(be.AppendUint16(b, m.BytesLen), make([]byte, m.BytesLen)...)
}

func (m *Pong) Append(b []byte) []byte {
	return append(be.AppendUint16(head(b, typePong), m.BytesLen), make([]byte, m.BytesLen)...)
}

func (m *Ping) read(r *codec.Reader) Message {
	m.NumPongBytes, m.BytesLen = r.U16(), r.U16()
	r.Take(int(m.BytesLen))
	extension(r, nil)
	return m
}

func (m *Pong) read(r *codec.Reader) Message {
	m.BytesLen = r.U16()
	r.Take(int(m.BytesLen))
	extension(r, nil)
	return m
}

// MaxBlob is the largest blob a peer stores for another, in bytes (BOLT 1).
const MaxBlob = 65531

// PeerStorage asks the peer to keep a blob, in place of the one before.
type PeerStorage struct{ Blob []byte }

// PeerStorageRetrieval brings the blob back at the start of a connection.
type PeerStorageRetrieval struct{ Blob []byte }

func (m *PeerStorage) Core() string          { return Core }
func (m *PeerStorageRetrieval) Core() string { return Core }

func (m *PeerStorage) Append(b []byte) []byte { return appendSized(head(b, typePeerStorage), m.Blob) }
func (m *PeerStorageRetrieval) Append(b []byte) []byte {
	return appendSized(head(b, typePeerStorageRetrieval), m.Blob)
}

func (m *PeerStorage) read(r *codec.Reader) Message {
	m.Blob = takeSized(r)
	extension(r, nil)
	return m
}

func (m *PeerStorageRetrieval) read(r *codec.Reader) Message {
	m.Blob = takeSized(r)
	extension(r, nil)
	return m
}
