// Package gossip carries the messages of a ledger's own protocol between machines.
//
// A ledger has a wire format of its own, which other programs speak too, so a
// Frame is carried whole and read by the node it is for: what cannot be read there
// is a peer's misbehaviour, as everything else that it says.
package gossip

import (
	"encoding/binary"
	"errors"

	"coinop.dev/core/codec"
)

// A Ledger says whose protocol a frame is of.
type Ledger uint8

const (
	Lattice Ledger = 1 // Nano's, protocol 21
	Tangle  Ledger = 2
)

// cores are the nodes' names on their machines.
var cores = [...]string{Lattice: "lattice", Tangle: "tangle"}

// String is the name of the core that the ledger's frames go to.
func (l Ledger) String() string {
	if int(l) < len(cores) {
		return cores[l]
	}
	return ""
}

// MaxFrame bounds a frame, in bytes: what fits a BOLT 8 message behind its type,
// the ledger and the length.
const MaxFrame = 65535 - 2 - 1 - 3

// typeFrame is odd and custom (BOLT 1).
const typeFrame = 0x8b01

// Owns reports whether a message type belongs to this package.
func Owns(typ uint16) bool { return typ == typeFrame }

// A Frame is one message. Whoever has it must not change Raw, which others may
// hold too.
type Frame struct {
	Ledger Ledger
	Raw    []byte
}

// Core names the ledger's node.
func (f Frame) Core() string { return f.Ledger.String() }

// Append encodes the frame behind its two-byte type.
func (f Frame) Append(b []byte) []byte {
	b = append(binary.BigEndian.AppendUint16(b, typeFrame), byte(f.Ledger))
	return codec.AppendBytes(b, f.Raw)
}

// Decode reads one frame.
func Decode(b []byte) (f Frame, err error) {
	r := codec.NewReader(b)
	if r.U16() != typeFrame {
		r.Fail(errors.New("not a frame of a ledger"))
	}
	f.Ledger = Ledger(r.U8())
	if f.Core() == "" {
		r.Fail(errors.New("no such ledger"))
	}
	f.Raw = r.Bytes(MaxFrame, "frame")
	return f, r.Close()
}
