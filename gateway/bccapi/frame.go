package bccapi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/core/codec"
)

// kind is the type byte of a frame.
type kind uint8

const (
	kindAny               kind = 0x00 // not on the wire
	kindError             kind = 0x01
	kindBalance           kind = 0x02
	kindSummary           kind = 0x03
	kindBalanceRequest    kind = 0x04
	kindBalanceResponse   kind = 0x05
	kindUnspentRequest    kind = 0x06
	kindUnspentResponse   kind = 0x07
	kindInventoryRequest  kind = 0x08
	kindInventoryResponse kind = 0x09
	kindSummaryRequest    kind = 0x10
	kindSummaryResponse   kind = 0x11
	kindBroadcastRequest  kind = 0x12
	kindBroadcastResponse kind = 0x13
)

// A Message is one of this package's types that stand in a frame.
type Message interface {
	kind() kind
	append(b []byte) []byte // the payload
}

// Append writes m as a frame.
func Append(b []byte, m Message) []byte {
	at := len(b) + 1
	b = m.append(append(b, byte(m.kind()), 0, 0, 0, 0))
	binary.LittleEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// Decode reads the frame that b begins with. The error is an *Error that can be
// sent back.
func Decode(b []byte) (Message, error) {
	r := codec.NewReader(b)
	m := readFrame(r, kindAny)
	if err := r.Err(); err != nil {
		if e := new(Error); errors.As(err, &e) {
			return nil, e
		}
		return nil, &Error{ParserError, err.Error()}
	}
	return m, nil
}

// readFrame reads a frame of one kind, or of any. A frame inside of another says
// which one, so nothing nests deeper than that.
func readFrame(r *codec.Reader, only kind) Message {
	k := kind(r.U8())
	payload := r.Take(length(r))
	if r.Err() != nil {
		return nil
	}
	if only != kindAny && k != only {
		r.Fail(&Error{UnknownType, fmt.Sprintf("frame type 0x%02x is where 0x%02x belongs", uint8(k), uint8(only))})
		return nil
	}
	inner := codec.NewReader(payload)
	m := read(k, inner)
	if err := inner.Err(); err != nil {
		r.Fail(fmt.Errorf("frame type 0x%02x: %w", uint8(k), err))
		return nil
	}
	return m
}

// inner reads a frame inside of another.
func inner[M Message](r *codec.Reader) (m M) {
	m, _ = readFrame(r, m.kind()).(M)
	return m
}

func u16(r *codec.Reader) uint16 {
	var b [2]byte
	r.Fill(b[:])
	return binary.LittleEndian.Uint16(b[:])
}

func i32(r *codec.Reader) int32 {
	var b [4]byte
	r.Fill(b[:])
	return int32(binary.LittleEndian.Uint32(b[:]))
}

func i64(r *codec.Reader) int64 {
	var b [8]byte
	r.Fill(b[:])
	return int64(binary.LittleEndian.Uint64(b[:]))
}

// length is a count of bytes or of things that are at least a byte: one beyond
// what is left is refused before anything is made for it.
func length(r *codec.Reader) int {
	n := i32(r)
	if n < 0 || int(n) > r.Len() {
		r.Fail(codec.ErrShort)
		return 0
	}
	return int(n)
}

// compact is Bitcoin's CompactInt, at most limit.
func compact(r *codec.Reader, limit uint64) (v uint64) {
	first := r.U8()
	v = uint64(first)
	if first >= 0xfd {
		var b [8]byte
		r.Fill(b[:2<<(first-0xfd)])
		v = binary.LittleEndian.Uint64(b[:])
	}
	if v > limit {
		r.Fail(fmt.Errorf("compact integer %d is above %d", v, limit))
		return 0
	}
	return v
}

func appendCompact(b []byte, v uint64) []byte {
	switch {
	case v < 0xfd:
		return append(b, byte(v))
	case v <= math.MaxUint16:
		return binary.LittleEndian.AppendUint16(append(b, 0xfd), uint16(v))
	case v <= math.MaxUint32:
		return binary.LittleEndian.AppendUint32(append(b, 0xfe), uint32(v))
	}
	return binary.LittleEndian.AppendUint64(append(b, 0xff), v)
}

func appendI32[T ~int | ~int32](b []byte, v T) []byte {
	return binary.LittleEndian.AppendUint32(b, uint32(v))
}

func appendI64(b []byte, v int64) []byte { return binary.LittleEndian.AppendUint64(b, uint64(v)) }

// list reads a count and the things of it.
func list[T any](r *codec.Reader, read func(*codec.Reader) T) []T {
	var all []T
	for n := length(r); n > 0 && r.Err() == nil; n-- {
		all = append(all, read(r))
	}
	return all
}

func appendList[T any](b []byte, all []T, write func([]byte, T) []byte) []byte {
	b = appendI32(b, len(all))
	for _, one := range all {
		b = write(b, one)
	}
	return b
}

func readAddress(r *codec.Reader) (a Address) { r.Fill(a[:]); return a }

func appendAddress(b []byte, a Address) []byte { return append(b, a[:]...) }

// readID turns an id round: chainhash.Hash is in the order of transactions.
func readID(r *codec.Reader) (id chainhash.Hash) {
	r.Fill(id[:])
	slices.Reverse(id[:])
	return id
}

func appendID(b []byte, id chainhash.Hash) []byte {
	slices.Reverse(id[:])
	return append(b, id[:]...)
}
