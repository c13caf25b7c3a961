package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

var (
	errLongForm = errors.New("number is not in its shortest form")

	errOrder      = errors.New("types must increase strictly")
	errUnknown    = errors.New("it is unknown, and even, so it must be understood")
	errPastTheEnd = errors.New("it is longer than what is left of the stream")
)

// A TLVError is a fault of one record of a TLV stream (BOLT 1). The reply to an
// onion that cannot be read repeats Type and Offset (BOLT 4).
type TLVError struct {
	Type   uint64
	Offset int // of the record in its stream, in bytes
	Err    error
}

func (e *TLVError) Error() string {
	return fmt.Sprintf("TLV type %d at byte %d: %v", e.Type, e.Offset, e.Err)
}

func (e *TLVError) Unwrap() error { return e.Err }

// BigSize reads BOLT 1's variable-length integer, one, three, five or nine bytes
// big-endian, in its shortest form.
func (r *Reader) BigSize() uint64 {
	var v, least uint64
	switch first := r.U8(); first {
	case 0xfd:
		v, least = uint64(r.U16()), 0xfd
	case 0xfe:
		v, least = uint64(r.U32()), math.MaxUint16+1
	case 0xff:
		v, least = r.U64(), math.MaxUint32+1
	default:
		return uint64(first)
	}
	if r.err == nil && v < least {
		r.Fail(errLongForm)
	}
	if r.err != nil {
		return 0
	}
	return v
}

// AppendBigSize writes what BigSize reads.
func AppendBigSize(b []byte, v uint64) []byte {
	switch {
	case v < 0xfd:
		return append(b, byte(v))
	case v <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 0xfd), uint16(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, 0xfe), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xff), v)
}

// TU16 reads a truncated integer, which is all that is left: big-endian without
// leading zeros, so that zero is no byte at all.
func (r *Reader) TU16() uint16 { return uint16(r.truncated(2)) }

// TU32 is TU16 for four bytes.
func (r *Reader) TU32() uint32 { return uint32(r.truncated(4)) }

// TU64 is TU16 for eight bytes.
func (r *Reader) TU64() uint64 { return r.truncated(8) }

func (r *Reader) truncated(limit int) uint64 {
	n := len(r.b)
	if n > limit {
		r.Fail(fmt.Errorf("truncated integer has %d bytes; the limit is %d", n, limit))
		return 0
	}
	if n > 0 && r.b[0] == 0 {
		r.Fail(errLongForm)
		return 0
	}
	var v uint64
	for _, c := range r.Take(n) {
		v = v<<8 | uint64(c)
	}
	return v
}

// AppendTU writes what TU16, TU32 and TU64 read.
func AppendTU[T ~uint16 | ~uint32 | ~uint64](b []byte, v T) []byte {
	for shift := (bits.Len64(uint64(v)) + 7) / 8 * 8; shift > 0; {
		shift -= 8
		b = append(b, byte(uint64(v)>>shift))
	}
	return b
}

// TLVs reads a TLV stream that fills b. It shows each record to known, in order;
// value is a piece of b. What known does not understand is skipped if its type
// is odd. Every failure is a *TLVError, except of a stream that ends within a
// type or a length. Records before the fault have been shown by then.
func TLVs(b []byte, known func(typ uint64, value []byte) (understood bool, err error)) error {
	r := Reader{b: b}
	for least, full := uint64(0), false; len(r.b) > 0; {
		offset := len(b) - len(r.b)
		typ := r.BigSize()
		if r.err != nil {
			return fmt.Errorf("TLV stream at byte %d: %w", offset, r.err)
		}
		fault := func(err error) error { return &TLVError{Type: typ, Offset: offset, Err: err} }
		if typ < least || full {
			return fault(errOrder)
		}
		least, full = typ+1, typ == math.MaxUint64
		size := r.BigSize()
		switch {
		case r.err != nil:
			return fault(fmt.Errorf("its length: %w", r.err))
		case size > uint64(len(r.b)):
			return fault(errPastTheEnd)
		}
		understood, err := known(typ, r.Take(int(size)))
		switch {
		case err != nil:
			return fault(err)
		case !understood && typ%2 == 0:
			return fault(errUnknown)
		}
	}
	return nil
}

// AppendTLV writes one record of a TLV stream; the caller minds the order.
func AppendTLV[T ~[]byte | ~string](b []byte, typ uint64, value T) []byte {
	b = AppendBigSize(AppendBigSize(b, typ), uint64(len(value)))
	return append(b, value...)
}
