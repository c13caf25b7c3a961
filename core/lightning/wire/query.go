package wire

import (
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/core/codec"
)

// MaxSCIDs is how many short channel ids to put into one message: with their
// timestamps and checksums, 24 bytes each, they fit. More are read from a peer,
// as many as a message holds.
const MaxSCIDs = 2_700

// takeEncoded checks the first byte of an encoded array. Zlib is not read: the
// specification has withdrawn it, for it made bombs.
func takeEncoded(r *codec.Reader, what string) {
	switch encoding := r.U8(); {
	case r.Err() != nil || encoding == 0:
	case encoding == 1:
		r.Fail(fmt.Errorf("%s are zlib-compressed, which BOLT 7 forbids; send them plain (encoding 0)", what))
	default:
		r.Fail(fmt.Errorf("%s have encoding %d; only 0 is known", what, encoding))
	}
}

// takeSCIDs reads a u16 length and an encoded array of that many bytes. No bytes
// at all, without even an encoding, are taken for no ids: some nodes send that.
func takeSCIDs(r *codec.Reader) (ids []SCID) {
	raw := r.Take(int(r.U16()))
	if len(raw) == 0 {
		return nil
	}
	array := codec.NewReader(raw)
	takeEncoded(array, "encoded_short_ids")
	if n := array.Len() / 8; n > 0 {
		ids = make([]SCID, 0, n)
	}
	for array.Len() > 0 {
		ids = append(ids, SCID(array.U64()))
	}
	if err := array.Close(); err != nil {
		r.Fail(err)
		return nil
	}
	return ids
}

func appendSCIDs(b []byte, ids []SCID) []byte {
	array := make([]byte, 1, 1+8*len(ids)) // encoding 0
	for _, id := range ids {
		array = be.AppendUint64(array, uint64(id))
	}
	return appendSized(b, array)
}

// takeRecords checks that a TLV of an answer has one piece of size bytes for each
// of n channels, and returns n.
func takeRecords(r *codec.Reader, n, size int, what string) int {
	if r.Err() == nil && r.Len() != n*size {
		r.Fail(fmt.Errorf("%s are %d bytes; %d channels have %d", what, r.Len(), n, n*size))
		return 0
	}
	return n
}

// The bits of a query flag: what a QueryShortChannelIDs wants of a channel.
const (
	WantChannelAnnouncement = 1 << iota
	WantChannelUpdate1
	WantChannelUpdate2
	WantNodeAnnouncement1
	WantNodeAnnouncement2
)

// QueryShortChannelIDs asks for the gossip of some channels (BOLT 7).
type QueryShortChannelIDs struct {
	ChainHash       chainhash.Hash
	ShortChannelIDs []SCID
	QueryFlags      []uint64 // one for each, or none at all: everything
}

func (m *QueryShortChannelIDs) Core() string { return Core }

func (m *QueryShortChannelIDs) Append(b []byte) []byte {
	b = append(head(b, typeQueryShortChannelIDs), m.ChainHash[:]...)
	b = appendSCIDs(b, m.ShortChannelIDs)
	if len(m.QueryFlags) == 0 {
		return b
	}
	flags := []byte{0} // encoding 0
	for _, f := range m.QueryFlags {
		flags = codec.AppendBigSize(flags, f)
	}
	return codec.AppendTLV(b, 1, flags)
}

func (m *QueryShortChannelIDs) read(r *codec.Reader) Message {
	m.ChainHash = takeHash(r)
	m.ShortChannelIDs = takeSCIDs(r)
	extension(r, func(typ uint64, value *codec.Reader) bool {
		if typ != 1 {
			return false
		}
		takeEncoded(value, "encoded_query_flags")
		for value.Len() > 0 {
			m.QueryFlags = append(m.QueryFlags, value.BigSize())
		}
		if n := len(m.ShortChannelIDs); value.Err() == nil && len(m.QueryFlags) != n {
			value.Fail(fmt.Errorf("query flags are %d, for %d channels", len(m.QueryFlags), n))
		}
		return true
	})
	return m
}

// ReplyShortChannelIDsEnd ends the answer to QueryShortChannelIDs.
type ReplyShortChannelIDsEnd struct {
	ChainHash       chainhash.Hash
	FullInformation uint8 // 0: the sender does not keep this chain's gossip
}

func (m *ReplyShortChannelIDsEnd) Core() string { return Core }

func (m *ReplyShortChannelIDsEnd) Append(b []byte) []byte {
	b = append(head(b, typeReplyShortChannelIDsEnd), m.ChainHash[:]...)
	return append(b, m.FullInformation)
}

func (m *ReplyShortChannelIDsEnd) read(r *codec.Reader) Message {
	m.ChainHash = takeHash(r)
	m.FullInformation = r.U8()
	extension(r, nil)
	return m
}

// The bits of QueryOption.
const (
	WantTimestamps = 1 << iota
	WantChecksums
)

// QueryChannelRange asks which channels were funded in some blocks (BOLT 7).
type QueryChannelRange struct {
	ChainHash      chainhash.Hash
	FirstBlocknum  uint32
	NumberOfBlocks uint32
	QueryOption    uint64 // 0: ids only
}

func (m *QueryChannelRange) Core() string { return Core }

func (m *QueryChannelRange) Append(b []byte) []byte {
	b = append(head(b, typeQueryChannelRange), m.ChainHash[:]...)
	b = be.AppendUint32(b, m.FirstBlocknum)
	b = be.AppendUint32(b, m.NumberOfBlocks)
	if m.QueryOption != 0 {
		b = codec.AppendTLV(b, 1, codec.AppendBigSize(nil, m.QueryOption))
	}
	return b
}

func (m *QueryChannelRange) read(r *codec.Reader) Message {
	m.ChainHash = takeHash(r)
	m.FirstBlocknum = r.U32()
	m.NumberOfBlocks = r.U32()
	extension(r, func(typ uint64, value *codec.Reader) bool {
		if typ != 1 {
			return false
		}
		m.QueryOption = value.BigSize()
		return true
	})
	return m
}

// Timestamps are those of the newest update of each end of a channel, 0 for none.
type Timestamps struct{ NodeID1, NodeID2 uint32 }

// Checksums are CRC32C sums of the newest update of each end of a channel,
// without signature and timestamp, 0 for none.
type Checksums struct{ NodeID1, NodeID2 uint32 }

// ReplyChannelRange answers QueryChannelRange, in one or more messages.
type ReplyChannelRange struct {
	ChainHash       chainhash.Hash
	FirstBlocknum   uint32
	NumberOfBlocks  uint32
	SyncComplete    uint8 // 1: this is the last one
	ShortChannelIDs []SCID
	Timestamps      []Timestamps // one for each, or none at all
	Checksums       []Checksums  // one for each, or none at all
}

func (m *ReplyChannelRange) Core() string { return Core }

func (m *ReplyChannelRange) Append(b []byte) []byte {
	b = append(head(b, typeReplyChannelRange), m.ChainHash[:]...)
	b = be.AppendUint32(b, m.FirstBlocknum)
	b = be.AppendUint32(b, m.NumberOfBlocks)
	b = append(b, m.SyncComplete)
	b = appendSCIDs(b, m.ShortChannelIDs)
	if len(m.Timestamps) > 0 {
		array := []byte{0} // encoding 0
		for _, t := range m.Timestamps {
			array = be.AppendUint32(be.AppendUint32(array, t.NodeID1), t.NodeID2)
		}
		b = codec.AppendTLV(b, 1, array)
	}
	if len(m.Checksums) > 0 {
		var array []byte
		for _, c := range m.Checksums {
			array = be.AppendUint32(be.AppendUint32(array, c.NodeID1), c.NodeID2)
		}
		b = codec.AppendTLV(b, 3, array)
	}
	return b
}

func (m *ReplyChannelRange) read(r *codec.Reader) Message {
	m.ChainHash = takeHash(r)
	m.FirstBlocknum = r.U32()
	m.NumberOfBlocks = r.U32()
	m.SyncComplete = r.U8()
	m.ShortChannelIDs = takeSCIDs(r)
	extension(r, func(typ uint64, value *codec.Reader) bool {
		switch n := len(m.ShortChannelIDs); typ {
		case 1:
			takeEncoded(value, "encoded_timestamps")
			for range takeRecords(value, n, 8, "encoded_timestamps") {
				m.Timestamps = append(m.Timestamps, Timestamps{value.U32(), value.U32()})
			}
		case 3:
			for range takeRecords(value, n, 8, "checksums") {
				m.Checksums = append(m.Checksums, Checksums{value.U32(), value.U32()})
			}
		default:
			return false
		}
		return true
	})
	return m
}

// GossipTimestampFilter asks for new gossip, and for the old from a time on
// (BOLT 7).
type GossipTimestampFilter struct {
	ChainHash      chainhash.Hash
	FirstTimestamp uint32 // Unix seconds
	TimestampRange uint32 // seconds
}

func (m *GossipTimestampFilter) Core() string { return Core }

func (m *GossipTimestampFilter) Append(b []byte) []byte {
	b = append(head(b, typeGossipTimestampFilter), m.ChainHash[:]...)
	b = be.AppendUint32(b, m.FirstTimestamp)
	return be.AppendUint32(b, m.TimestampRange)
}

func (m *GossipTimestampFilter) read(r *codec.Reader) Message {
	m.ChainHash = takeHash(r)
	m.FirstTimestamp = r.U32()
	m.TimestampRange = r.U32()
	extension(r, nil)
	return m
}
