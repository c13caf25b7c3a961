package wire

import (
	"crypto/sha256"
	"strings"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
)

// The signatures of gossip cover all that follows them, also what this version
// of the protocol does not know. So an announcement keeps the rest of its bytes
// as Extra, and Append gives back what Decode read, byte by byte.

// signedFrom is the double SHA256 of a message without its type and its first
// signatures.
func signedFrom(raw []byte, signatures int) [32]byte {
	once := sha256.Sum256(raw[2+signatures*len(keys.Signature{}):])
	return sha256.Sum256(once[:])
}

// ChannelAnnouncement proves that two nodes own the output that funds a channel
// (BOLT 7).
type ChannelAnnouncement struct {
	NodeSignature1    keys.Signature
	NodeSignature2    keys.Signature
	BitcoinSignature1 keys.Signature
	BitcoinSignature2 keys.Signature
	Features          Features
	ChainHash         chainhash.Hash
	ShortChannelID    SCID
	NodeID1           keys.Public
	NodeID2           keys.Public
	BitcoinKey1       keys.Public
	BitcoinKey2       keys.Public
	Extra             []byte // signed, not understood
}

func (m *ChannelAnnouncement) Core() string { return Core }

// Digest is what the four signatures sign.
func (m *ChannelAnnouncement) Digest() [32]byte { return signedFrom(m.Append(nil), 4) }

func (m *ChannelAnnouncement) Append(b []byte) []byte {
	b = append(head(b, typeChannelAnnouncement), m.NodeSignature1[:]...)
	b = append(b, m.NodeSignature2[:]...)
	b = append(b, m.BitcoinSignature1[:]...)
	b = append(b, m.BitcoinSignature2[:]...)
	b = appendSized(b, m.Features)
	b = append(b, m.ChainHash[:]...)
	b = be.AppendUint64(b, uint64(m.ShortChannelID))
	b = append(b, m.NodeID1[:]...)
	b = append(b, m.NodeID2[:]...)
	b = append(b, m.BitcoinKey1[:]...)
	b = append(b, m.BitcoinKey2[:]...)
	return append(b, m.Extra...)
}

func (m *ChannelAnnouncement) read(r *codec.Reader) Message {
	m.NodeSignature1 = takeSignature(r)
	m.NodeSignature2 = takeSignature(r)
	m.BitcoinSignature1 = takeSignature(r)
	m.BitcoinSignature2 = takeSignature(r)
	m.Features = Features(r.Take(int(r.U16())))
	m.ChainHash = takeHash(r)
	m.ShortChannelID = SCID(r.U64())
	m.NodeID1 = takePoint(r)
	m.NodeID2 = takePoint(r)
	m.BitcoinKey1 = takePoint(r)
	m.BitcoinKey2 = takePoint(r)
	m.Extra = takeExtra(r)
	return m
}

// takeExtra copies the rest; nothing is nil.
func takeExtra(r *codec.Reader) []byte { return append([]byte(nil), r.Take(r.Len())...) }

// MaxAddresses is how many addresses of a node are read; a few is what people
// have. The rest is kept unread.
const MaxAddresses = 32

// An Alias is what a node calls itself: UTF-8, with zeros behind. It may be any
// bytes, and anybody may use any name.
type Alias [32]byte

// NewAlias cuts text to 32 bytes.
func NewAlias(text string) (a Alias) {
	copy(a[:], text)
	return a
}

// String is the alias, safe to print.
func (a Alias) String() string { return printable(strings.TrimRight(string(a[:]), "\x00")) }

// NodeAnnouncement is what a node says of itself (BOLT 7).
type NodeAnnouncement struct {
	Signature      keys.Signature
	Features       Features
	Timestamp      uint32 // Unix seconds, by custom
	NodeID         keys.Public
	RGBColor       [3]byte
	Alias          Alias
	Addresses      []Address
	OtherAddresses []byte // from the first descriptor of an unknown type on
	Extra          []byte // signed, not understood
}

func (m *NodeAnnouncement) Core() string { return Core }

// Digest is what Signature signs.
func (m *NodeAnnouncement) Digest() [32]byte { return signedFrom(m.Append(nil), 1) }

func (m *NodeAnnouncement) Append(b []byte) []byte {
	b = append(head(b, typeNodeAnnouncement), m.Signature[:]...)
	b = appendSized(b, m.Features)
	b = be.AppendUint32(b, m.Timestamp)
	b = append(b, m.NodeID[:]...)
	b = append(b, m.RGBColor[:]...)
	b = append(b, m.Alias[:]...)
	var addresses []byte
	for _, a := range m.Addresses {
		addresses = a.append(addresses)
	}
	b = appendSized(b, append(addresses, m.OtherAddresses...))
	return append(b, m.Extra...)
}

func (m *NodeAnnouncement) read(r *codec.Reader) Message {
	m.Signature = takeSignature(r)
	m.Features = Features(r.Take(int(r.U16())))
	m.Timestamp = r.U32()
	m.NodeID = takePoint(r)
	r.Fill(m.RGBColor[:])
	r.Fill(m.Alias[:])
	rest := r.Take(int(r.U16()))
	for ok := true; ok && len(rest) > 0 && len(m.Addresses) < MaxAddresses; {
		var a Address
		var err error
		if a, rest, ok, err = readAddress(rest); err != nil {
			r.Fail(err)
		}
		if ok {
			m.Addresses = append(m.Addresses, a)
		}
	}
	m.OtherAddresses = append([]byte(nil), rest...)
	m.Extra = takeExtra(r)
	return m
}

// The bits of ChannelUpdate (BOLT 7).
const (
	MustBeOne   = 1 << 0 // of MessageFlags
	DontForward = 1 << 1 // of MessageFlags
	Direction   = 1 << 0 // of ChannelFlags: from NodeID2
	Disable     = 1 << 1 // of ChannelFlags
)

// ChannelUpdate is what one end charges to forward through a channel (BOLT 7).
// The amounts may be more than money.MaxAmount.
type ChannelUpdate struct {
	Signature                 keys.Signature
	ChainHash                 chainhash.Hash
	ShortChannelID            SCID
	Timestamp                 uint32 // Unix seconds, by custom
	MessageFlags              uint8
	ChannelFlags              uint8
	CLTVExpiryDelta           uint16 // blocks
	HTLCMinimumMsat           money.Amount
	FeeBaseMsat               uint32
	FeeProportionalMillionths uint32
	HTLCMaximumMsat           money.Amount
	Extra                     []byte // signed, not understood
}

func (m *ChannelUpdate) Core() string { return Core }

// Digest is what Signature signs.
func (m *ChannelUpdate) Digest() [32]byte { return signedFrom(m.Append(nil), 1) }

func (m *ChannelUpdate) Append(b []byte) []byte {
	b = append(head(b, typeChannelUpdate), m.Signature[:]...)
	b = append(b, m.ChainHash[:]...)
	b = be.AppendUint64(b, uint64(m.ShortChannelID))
	b = be.AppendUint32(b, m.Timestamp)
	b = append(b, m.MessageFlags, m.ChannelFlags)
	b = be.AppendUint16(b, m.CLTVExpiryDelta)
	b = be.AppendUint64(b, uint64(m.HTLCMinimumMsat))
	b = be.AppendUint32(b, m.FeeBaseMsat)
	b = be.AppendUint32(b, m.FeeProportionalMillionths)
	b = be.AppendUint64(b, uint64(m.HTLCMaximumMsat))
	return append(b, m.Extra...)
}

func (m *ChannelUpdate) read(r *codec.Reader) Message {
	m.Signature = takeSignature(r)
	m.ChainHash = takeHash(r)
	m.ShortChannelID = SCID(r.U64())
	m.Timestamp = r.U32()
	m.MessageFlags, m.ChannelFlags = r.U8(), r.U8()
	m.CLTVExpiryDelta = r.U16()
	m.HTLCMinimumMsat = money.Amount(r.U64())
	m.FeeBaseMsat = r.U32()
	m.FeeProportionalMillionths = r.U32()
	m.HTLCMaximumMsat = money.Amount(r.U64())
	m.Extra = takeExtra(r)
	return m
}

// AnnouncementSignatures is one end's half of the signatures of a
// ChannelAnnouncement.
type AnnouncementSignatures struct {
	ChannelID        ChannelID
	ShortChannelID   SCID
	NodeSignature    keys.Signature
	BitcoinSignature keys.Signature
}

func (m *AnnouncementSignatures) Core() string { return Core }

func (m *AnnouncementSignatures) Append(b []byte) []byte {
	b = append(head(b, typeAnnouncementSignatures), m.ChannelID[:]...)
	b = be.AppendUint64(b, uint64(m.ShortChannelID))
	b = append(b, m.NodeSignature[:]...)
	return append(b, m.BitcoinSignature[:]...)
}

func (m *AnnouncementSignatures) read(r *codec.Reader) Message {
	m.ChannelID = takeHash(r)
	m.ShortChannelID = SCID(r.U64())
	m.NodeSignature = takeSignature(r)
	m.BitcoinSignature = takeSignature(r)
	extension(r, nil)
	return m
}
