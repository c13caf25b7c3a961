package filter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// minBits is the shortest difference: no unary ones, their end, the remainder.
const minBits = 1 + remainderBits

var errCompactSize = errors.New("filter has no number of elements in its shortest form at the start")

// A reader decodes the values of a filter. What it holds of the bits is at the
// top of window; bits beyond the end read as zero and are found out at the end.
type reader struct {
	n      int // elements
	left   int // those not read yet
	b      []byte
	pos    int    // next byte; may run past b
	window uint64 // the next bits, from the highest
	have   uint   // how many of them count, at most 63
	value  uint64 // last one read
}

// newReader checks the number of elements against MaxElements and the bytes, so
// that a caller may allocate by it.
func newReader(raw []byte) (reader, error) {
	n, size := compactSize(raw)
	switch {
	case size == 0:
		return reader{}, errCompactSize
	case n > MaxElements:
		return reader{}, fmt.Errorf("filter is of %d elements; the limit is %d", n, MaxElements)
	case n*minBits > 8*uint64(len(raw)-size):
		return reader{}, fmt.Errorf("filter is of %d elements, which do not fit into its %d bytes", n, len(raw))
	}
	return reader{n: int(n), left: int(n), b: raw[size:]}, nil
}

// read decodes the next values, as many as fit into out, and returns them.
func (r *reader) read(out []uint64) []uint64 {
	out = out[:min(len(out), r.left)]
	b, pos, window, have, value := r.b, r.pos, r.window, r.have, r.value
	for i := range out {
		window |= load(b, pos) >> (have & 63)
		pos += int(63-have) >> 3
		have |= 56 // so many bits at least
		ones := uint(bits.LeadingZeros64(^window))
		for ones > 56-minBits { // rare: take 32 of them and look again
			value += 32 << remainderBits
			window <<= 32
			have -= 32
			window |= load(b, pos) >> (have & 63)
			pos += int(63-have) >> 3
			have |= 56
			ones = uint(bits.LeadingZeros64(^window))
		}
		window <<= (ones + 1) & 63
		value += uint64(ones)<<remainderBits + window>>(64-remainderBits)
		window <<= remainderBits
		have -= ones + minBits
		out[i] = value
	}
	r.left -= len(out)
	r.pos, r.window, r.have, r.value = pos, window, have, value
	return out
}

// load is the 8 bytes from pos, with zeros after the end.
func load(b []byte, pos int) uint64 {
	if uint(pos)+8 <= uint(len(b)) {
		return binary.BigEndian.Uint64(b[pos:])
	}
	return loadEnd(b, pos)
}

func loadEnd(b []byte, pos int) uint64 {
	var last [8]byte
	if pos < len(b) {
		copy(last[:], b[pos:])
	}
	return binary.BigEndian.Uint64(last[:])
}

// close says after the last value whether the bytes are a filter.
func (r *reader) close() error {
	used := 8*r.pos - int(r.have)
	switch size := 8 * len(r.b); {
	case used > size:
		return fmt.Errorf("filter of %d elements is cut short: it has %d bits of %d", r.n, size, used)
	case size-used > 7:
		return fmt.Errorf("filter of %d elements has %d bits too many", r.n, size-used)
	case used < size && r.b[len(r.b)-1]<<(8-(size-used)) != 0:
		return errors.New("filter ends in bits that are not zero")
	case r.n > 0 && r.value >= uint64(r.n)*falseRate:
		return fmt.Errorf("filter of %d elements has the value %d; the limit is %d", r.n, r.value, r.n*falseRate-1)
	}
	return nil
}

// values decodes a whole filter.
func values(raw []byte) ([]uint64, error) {
	r, err := newReader(raw)
	if err != nil {
		return nil, err
	}
	all := r.read(make([]uint64, r.n))
	return all, r.close()
}

// A writer packs bits, from the highest of each byte.
type writer struct {
	b    []byte
	bits uint64 // those not in b yet, at the low end
	have uint   // how many, less than 8
}

func (w *writer) write(v uint64, n uint) {
	w.bits = w.bits<<n | v
	for w.have += n; w.have >= 8; w.have -= 8 {
		w.b = append(w.b, byte(w.bits>>(w.have-8)))
	}
}

// difference writes a value's distance from the one before.
func (w *writer) difference(d uint64) {
	ones := d >> remainderBits
	for ; ones >= 32; ones -= 32 {
		w.write(1<<32-1, 32)
	}
	w.write(1<<(ones+1)-2, uint(ones)+1)
	w.write(d&(1<<remainderBits-1), remainderBits)
}

func (w *writer) close() []byte {
	if w.have > 0 {
		w.write(0, 8-w.have)
	}
	return w.b
}

// compactSize reads Bitcoin's variable integer in its shortest form; size is 0 if
// there is none.
func compactSize(b []byte) (n uint64, size int) {
	if len(b) == 0 {
		return 0, 0
	}
	first, least := b[0], uint64(0)
	switch b = b[1:]; {
	case first < 0xfd:
		return uint64(first), 1
	case first == 0xfd && len(b) >= 2:
		n, size, least = uint64(binary.LittleEndian.Uint16(b)), 3, 0xfd
	case first == 0xfe && len(b) >= 4:
		n, size, least = uint64(binary.LittleEndian.Uint32(b)), 5, 1<<16
	case first == 0xff && len(b) >= 8:
		n, size, least = binary.LittleEndian.Uint64(b), 9, 1<<32
	}
	if n < least {
		return 0, 0
	}
	return n, size
}

func appendCompactSize(b []byte, n uint64) []byte {
	switch {
	case n < 0xfd:
		return append(b, byte(n))
	case n < 1<<16:
		return binary.LittleEndian.AppendUint16(append(b, 0xfd), uint16(n))
	case n < 1<<32:
		return binary.LittleEndian.AppendUint32(append(b, 0xfe), uint32(n))
	}
	return binary.LittleEndian.AppendUint64(append(b, 0xff), n)
}
