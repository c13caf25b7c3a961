package lattice

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"coinop.dev/core/codec"
)

// Versions of the network protocol that we speak.
const (
	ProtocolMax   = 21
	ProtocolUsing = 21
	ProtocolMin   = 20
)

// Types of messages. The legacy bootstrap's, 6 to 8 and 11, are not spoken any
// more.
const (
	TypeKeepalive    = 0x02
	TypePublish      = 0x03
	TypeConfirmReq   = 0x04
	TypeConfirmAck   = 0x05
	TypeHandshake    = 0x0a
	TypeTelemetryReq = 0x0c
	TypeTelemetry    = 0x0d
	TypeAscPullReq   = 0x0e
	TypeAscPullAck   = 0x0f
)

// HeaderSize is how many bytes a header takes.
const HeaderSize = 8

// A Header stands before every message. What Extensions mean depends on the type.
type Header struct {
	Network         uint16 // a magic
	Max, Using, Min uint8  // versions that the sender speaks
	Type            uint8
	Extensions      uint16
}

// Append encodes the header.
func (h Header) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, h.Network)
	b = append(b, h.Max, h.Using, h.Min, h.Type)
	return binary.LittleEndian.AppendUint16(b, h.Extensions)
}

// DecodeHeader reads a header. It says nothing about what is in it.
func DecodeHeader(b [HeaderSize]byte) Header {
	return Header{
		Network: binary.BigEndian.Uint16(b[:]),
		Max:     b[2], Using: b[3], Min: b[4], Type: b[5],
		Extensions: binary.LittleEndian.Uint16(b[6:]),
	}
}

// header is the header of a message of ours.
func header(magic uint16, typ uint8, extensions uint16) Header {
	return Header{Network: magic, Max: ProtocolMax, Using: ProtocolUsing, Min: ProtocolMin, Type: typ, Extensions: extensions}
}

// A Message is one of Keepalive, Publish, ConfirmReq, ConfirmAck, Handshake,
// TelemetryReq, Telemetry, AscPullReq and AscPullAck, as pointers.
type Message interface {
	Type() uint8
	// Append encodes the message behind its header.
	Append(b []byte, magic uint16) []byte
}

// Bits of Extensions.
const (
	originatorBit  = 0x0004 // of publish
	rebroadcastBit = 0x0004 // of confirm_ack
	countV2Bit     = 0x0001 // of confirm_req and confirm_ack
	blockTypeMask  = 0x0f00
	queryBit       = 0x0001 // of node_id_handshake
	responseBit    = 0x0002
	v2Bit          = 0x0004
	telemetryMask  = 0x03ff // size
)

// count is how many pairs or hashes follow, in four bits or in twice four.
func (h Header) count() int {
	n := int(h.Extensions >> 12)
	if h.Extensions&countV2Bit != 0 {
		n = n<<4 | int(h.Extensions>>4&0xf)
	}
	return n
}

func countBits(n int) uint16 {
	bits := uint16(typeNone) << 8
	if n < 16 {
		return bits | uint16(n)<<12
	}
	return bits | countV2Bit | uint16(n>>4)<<12 | uint16(n&0xf)<<4
}

// FrameSize is how many bytes follow a header, at most MaxBody, so that a reader of
// a stream knows what to wait for.
func FrameSize(raw [HeaderSize]byte) (n int, err error) {
	h := DecodeHeader(raw)
	switch h.Type {
	case TypeKeepalive:
		return keepaliveSize, nil
	case TypePublish:
		if h.Extensions&blockTypeMask != typeState<<8 {
			return 0, fmt.Errorf("publish has a block of type %d; only state blocks, %d, are taken", h.Extensions&blockTypeMask>>8, typeState)
		}
		return BlockSize, nil
	case TypeConfirmReq, TypeConfirmAck:
		if h.Extensions&blockTypeMask != typeNone<<8 || h.count() == 0 {
			return 0, fmt.Errorf("message of type %d has extensions %#04x, which is no count of hashes", h.Type, h.Extensions)
		}
		if h.Type == TypeConfirmReq {
			return pairSize * h.count(), nil
		}
		return voteHead + 32*h.count(), nil
	case TypeHandshake:
		return handshakeSize(h.Extensions)
	case TypeTelemetryReq:
		return 0, nil
	case TypeTelemetry:
		n := int(h.Extensions & telemetryMask)
		if n != 0 && n < telemetrySize {
			return 0, fmt.Errorf("telemetry is %d bytes; it must be %d or more, or none", n, telemetrySize)
		}
		return n, nil
	case TypeAscPullReq, TypeAscPullAck:
		n := ascHead + int(h.Extensions)
		if n > MaxBody {
			return 0, fmt.Errorf("message of type %d has %d bytes; the limit is %d", h.Type, n, MaxBody)
		}
		return n, nil
	}
	return 0, fmt.Errorf("message has type %d, which is unknown", h.Type)
}

// MaxBody is how many bytes may follow a header: frontiers are the longest.
const MaxBody = ascHead + (MaxFrontiers+1)*frontierSize

// Decode reads exactly one message of a network.
func Decode(raw []byte, magic uint16) (Message, error) {
	if len(raw) < HeaderSize {
		return nil, fmt.Errorf("message is %d bytes; its header is %d", len(raw), HeaderSize)
	}
	head := [HeaderSize]byte(raw)
	h := DecodeHeader(head)
	if h.Network != magic {
		return nil, fmt.Errorf("message is of network %#04x; this is %#04x", h.Network, magic)
	}
	if h.Using < ProtocolMin {
		return nil, fmt.Errorf("message is of protocol %d; %d is the oldest that is spoken", h.Using, ProtocolMin)
	}
	size, err := FrameSize(head)
	if err != nil {
		return nil, err
	}
	body := raw[HeaderSize:]
	if len(body) != size {
		return nil, fmt.Errorf("message of type %d has %d bytes behind its header; it must have %d", h.Type, len(body), size)
	}
	m, err := decodeBody(h, body)
	if err != nil {
		return nil, fmt.Errorf("message of type %d: %w", h.Type, err)
	}
	return m, nil
}

func decodeBody(h Header, body []byte) (Message, error) {
	r := codec.NewReader(body)
	switch h.Type {
	case TypeKeepalive:
		return readKeepalive(r), r.Close()
	case TypePublish:
		m := &Publish{Block: readBlock(r), Originator: h.Extensions&originatorBit != 0}
		return m, r.Close()
	case TypeConfirmReq:
		return readConfirmReq(r, h.count()), r.Close()
	case TypeConfirmAck:
		v, err := DecodeVote(body)
		return &ConfirmAck{Vote: v, Rebroadcast: h.Extensions&rebroadcastBit != 0}, err
	case TypeHandshake:
		return readHandshake(r, h.Extensions), r.Close()
	case TypeTelemetryReq:
		return &TelemetryReq{}, r.Close()
	case TypeTelemetry:
		return readTelemetry(r), r.Close()
	case TypeAscPullReq:
		return readAscPullReq(r)
	case TypeAscPullAck:
		return readAscPullAck(r)
	}
	return nil, errors.New("unknown")
}

// KeepalivePeers is how many peers a keepalive names.
const KeepalivePeers = 8

const keepaliveSize = KeepalivePeers * (16 + 2)

// A Keepalive names peers that the sender is connected to. An IPv4 address stands
// as its IPv6 form; [::]:0 is none.
type Keepalive struct {
	Peers [KeepalivePeers]netip.AddrPort
}

func (*Keepalive) Type() uint8 { return TypeKeepalive }

func (m *Keepalive) Append(b []byte, magic uint16) []byte {
	b = header(magic, TypeKeepalive, 0).Append(b)
	for _, peer := range m.Peers {
		var ip [16]byte
		if peer.Addr().IsValid() {
			ip = peer.Addr().As16()
		}
		b = binary.LittleEndian.AppendUint16(append(b, ip[:]...), peer.Port())
	}
	return b
}

func readKeepalive(r *codec.Reader) *Keepalive {
	m := new(Keepalive)
	for i := range m.Peers {
		var ip [16]byte
		var port [2]byte
		r.Fill(ip[:])
		r.Fill(port[:])
		m.Peers[i] = netip.AddrPortFrom(netip.AddrFrom16(ip), binary.LittleEndian.Uint16(port[:]))
	}
	return m
}

// A Publish hands on a block.
type Publish struct {
	Block      Block
	Originator bool // the sender made it, or was given it by a wallet
}

func (*Publish) Type() uint8 { return TypePublish }

func (m *Publish) Append(b []byte, magic uint16) []byte {
	extensions := uint16(typeState) << 8
	if m.Originator {
		extensions |= originatorBit
	}
	return m.Block.Append(header(magic, TypePublish, extensions).Append(b))
}

// A Pair names a block and what elections about it are held on.
type Pair struct {
	Hash Hash
	Root [32]byte
}

const pairSize = 32 + 32

// A ConfirmReq asks a representative to vote.
type ConfirmReq struct{ Pairs []Pair } // 1 to MaxVoteHashes

func (*ConfirmReq) Type() uint8 { return TypeConfirmReq }

func (m *ConfirmReq) Append(b []byte, magic uint16) []byte {
	b = header(magic, TypeConfirmReq, countBits(len(m.Pairs))).Append(b)
	for i := range m.Pairs {
		b = append(append(b, m.Pairs[i].Hash[:]...), m.Pairs[i].Root[:]...)
	}
	return b
}

func readConfirmReq(r *codec.Reader, n int) *ConfirmReq {
	m := &ConfirmReq{Pairs: make([]Pair, n)} // n is at most MaxVoteHashes, and they are here
	for i := range m.Pairs {
		r.Fill(m.Pairs[i].Hash[:])
		r.Fill(m.Pairs[i].Root[:])
	}
	return m
}

// A ConfirmAck hands on a vote.
type ConfirmAck struct {
	Vote        Vote
	Rebroadcast bool // the sender is not the representative
}

func (*ConfirmAck) Type() uint8 { return TypeConfirmAck }

func (m *ConfirmAck) Append(b []byte, magic uint16) []byte {
	extensions := countBits(len(m.Vote.Hashes))
	if m.Rebroadcast {
		extensions |= rebroadcastBit
	}
	return m.Vote.Append(header(magic, TypeConfirmAck, extensions).Append(b))
}
