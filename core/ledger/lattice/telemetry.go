package lattice

import (
	"encoding/binary"

	"coinop.dev/core/codec"
	"coinop.dev/core/ledger/eddsa"
)

// A TelemetryReq asks a node how it is.
type TelemetryReq struct{}

func (*TelemetryReq) Type() uint8 { return TypeTelemetryReq }

func (*TelemetryReq) Append(b []byte, magic uint16) []byte {
	return header(magic, TypeTelemetryReq, 0).Append(b)
}

const (
	telemetrySize = 202
	// MaxTelemetryTail is how many bytes of what later versions tell may follow.
	MaxTelemetryTail = telemetryMask - telemetrySize
)

// Telemetry says how a node is.
type Telemetry struct {
	None bool // the node keeps it to itself, and all else is zero

	Signature        [64]byte // of all that follows, by Node
	Node             Key
	Blocks           uint64
	Cemented         uint64
	Unchecked        uint64 // blocks that wait for another
	Accounts         uint64
	BandwidthCap     uint64 // bytes a second; 0 is none
	Peers            uint32
	Protocol         uint8
	Uptime           uint64 // seconds
	Genesis          Hash
	Major, Minor     uint8 // version of the node
	Patch, Pre       uint8
	Maker            uint8  // of the software; 0 is the Nano Foundation
	Timestamp        uint64 // ms since 1970
	ActiveDifficulty uint64
	Tail             []byte // of a later version; at most MaxTelemetryTail
}

func (*Telemetry) Type() uint8 { return TypeTelemetry }

func (m *Telemetry) Append(b []byte, magic uint16) []byte {
	if m.None {
		return header(magic, TypeTelemetry, 0).Append(b)
	}
	b = header(magic, TypeTelemetry, uint16(telemetrySize+len(m.Tail))).Append(b)
	return m.appendSigned(append(b, m.Signature[:]...))
}

func (m *Telemetry) appendSigned(b []byte) []byte {
	be := binary.BigEndian
	b = append(b, m.Node[:]...)
	for _, n := range [...]uint64{m.Blocks, m.Cemented, m.Unchecked, m.Accounts, m.BandwidthCap} {
		b = be.AppendUint64(b, n)
	}
	b = append(be.AppendUint32(b, m.Peers), m.Protocol)
	b = be.AppendUint64(b, m.Uptime)
	b = append(b, m.Genesis[:]...)
	b = append(b, m.Major, m.Minor, m.Patch, m.Pre, m.Maker)
	b = be.AppendUint64(be.AppendUint64(b, m.Timestamp), m.ActiveDifficulty)
	return append(b, m.Tail...)
}

func readTelemetry(r *codec.Reader) *Telemetry {
	m := new(Telemetry)
	if r.Len() == 0 {
		m.None = true
		return m
	}
	r.Fill(m.Signature[:])
	r.Fill(m.Node[:])
	for _, n := range [...]*uint64{&m.Blocks, &m.Cemented, &m.Unchecked, &m.Accounts, &m.BandwidthCap} {
		*n = r.U64()
	}
	m.Peers, m.Protocol, m.Uptime = r.U32(), r.U8(), r.U64()
	r.Fill(m.Genesis[:])
	for _, n := range [...]*uint8{&m.Major, &m.Minor, &m.Patch, &m.Pre, &m.Maker} {
		*n = r.U8()
	}
	m.Timestamp, m.ActiveDifficulty = r.U64(), r.U64()
	m.Tail = append(m.Tail, r.Take(r.Len())...)
	return m
}

// Sign makes the figures a node's.
func (m *Telemetry) Sign(id eddsa.Secret) {
	m.Node = id.Public()
	m.Signature = id.Sign(m.appendSigned(nil))
}

// Signed reports whether Node has signed; see Verify.
func (m *Telemetry) Signed() bool { return Verify(m.Node, m.appendSigned(nil), m.Signature) }
