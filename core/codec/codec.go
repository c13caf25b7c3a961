// Package codec reads and writes the bytes of messages and records. A Reader
// never panics and never allocates what a peer asks for: every length has a
// limit that the caller names.
package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"coinop.dev/core/money"
)

// ErrShort means the input ended in the middle of a field.
var ErrShort = errors.New("message is cut short")

// A Reader takes fields off the front of a buffer. The first failure sticks, so
// a decoder reads every field and asks Close once.
type Reader struct {
	b   []byte
	err error
}

// NewReader reads b, which it does not copy.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Fail makes the reader fail with err unless it already has.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

// Err is the first failure so far.
func (r *Reader) Err() error { return r.err }

// Close returns the first failure; bytes left over are one.
func (r *Reader) Close() error {
	if r.err == nil && len(r.b) != 0 {
		r.err = fmt.Errorf("%d bytes too many at the end", len(r.b))
	}
	return r.err
}

// Len is how many bytes are left.
func (r *Reader) Len() int { return len(r.b) }

// Take returns the next n bytes, not copied, or nil.
func (r *Reader) Take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.Fail(ErrShort)
		return nil
	}
	taken := r.b[:n:n]
	r.b = r.b[n:]
	return taken
}

// Fill copies the next bytes into dst.
func (r *Reader) Fill(dst []byte) { copy(dst, r.Take(len(dst))) }

// U8 reads one byte.
func (r *Reader) U8() uint8 {
	if b := r.Take(1); b != nil {
		return b[0]
	}
	return 0
}

// U16 reads two bytes, big-endian.
func (r *Reader) U16() uint16 {
	if b := r.Take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// U32 reads four bytes, big-endian.
func (r *Reader) U32() uint32 {
	if b := r.Take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// U64 reads eight bytes, big-endian.
func (r *Reader) U64() uint64 {
	if b := r.Take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Uvarint reads a base-128 varint in its shortest form.
func (r *Reader) Uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.Fail(ErrShort)
		return 0
	}
	if n > 1 && r.b[n-1] == 0 {
		r.Fail(errors.New("number is not in its shortest form"))
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Int reads a uvarint that must be at most limit; what names it in the error.
func (r *Reader) Int(limit int, what string) int { return int(r.Uint(uint64(limit), what)) }

// Uint is Int for limits that an int of 32 bits does not hold.
func (r *Reader) Uint(limit uint64, what string) uint64 {
	v := r.Uvarint()
	if v > limit {
		r.Fail(fmt.Errorf("%s is %d; the limit is %d", what, v, limit))
		return 0
	}
	return v
}

// Height reads a block height or depth.
func (r *Reader) Height() int32 { return int32(r.Int(math.MaxInt32, "block height")) }

// Amount reads an amount of msat.
func (r *Reader) Amount() money.Amount {
	v := money.Amount(r.Uvarint())
	if v > money.MaxAmount {
		r.Fail(fmt.Errorf("amount is %d msat; the limit is %d", uint64(v), uint64(money.MaxAmount)))
		return 0
	}
	return v
}

// Bytes reads a length of at most limit and that many bytes, copied.
func (r *Reader) Bytes(limit int, what string) []byte {
	n := r.Int(limit, what+" length")
	if r.err != nil || n == 0 {
		return nil
	}
	return append([]byte(nil), r.Take(n)...)
}

// String is Bytes as text.
func (r *Reader) String(limit int, what string) string {
	return string(r.Take(r.Int(limit, what+" length")))
}

// AppendBytes writes what Bytes reads.
func AppendBytes[T ~[]byte | ~string](b []byte, v T) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

// AppendUint writes what Uvarint, Int, Height and Amount read. v must not be
// negative.
func AppendUint[T ~int | ~int32 | ~int64 | ~uint64 | ~uint32 | ~uint8](b []byte, v T) []byte {
	return binary.AppendUvarint(b, uint64(v))
}
