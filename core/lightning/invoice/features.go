package invoice

import "bytes"

// Features is a bit vector, big-endian: bit 0 is the lowest of the last byte.
// An even bit is required, the odd one above it is offered (BOLT 9).
type Features []byte

// Features that an invoice may require of a payer here, by their even bits
// (BOLT 9, context 9). The first two are assumed of everybody, so nothing
// depends on a bit that may be missing.
const (
	VarOnion        = 8
	PaymentSecret   = 14
	BasicMPP        = 16
	PaymentMetadata = 48
)

// NewFeatures is the vector with these bits.
func NewFeatures(bits ...int) Features {
	var f Features
	for _, bit := range bits {
		if need := bit/8 + 1; need > len(f) {
			f = append(make(Features, need-len(f)), f...)
		}
		f[len(f)-1-bit/8] |= 1 << (bit % 8)
	}
	return f
}

// Bit reports whether one bit is set.
func (f Features) Bit(bit int) bool {
	at := len(f) - 1 - bit/8
	return at >= 0 && f[at]>>(bit%8)&1 == 1
}

// Has reports whether a feature, named by its even bit, is required or
// offered.
func (f Features) Has(feature int) bool { return f.Bit(feature) || f.Bit(feature+1) }

func (f Features) trimmed() Features { return bytes.TrimLeft(f, "\x00") }

// unknown finds a required feature that is not known here.
func (f Features) unknown() (bit int, found bool) {
	for bit := 0; bit < 8*len(f); bit += 2 {
		if !f.Bit(bit) {
			continue
		}
		switch bit {
		case VarOnion, PaymentSecret, BasicMPP, PaymentMetadata:
		default:
			return bit, true
		}
	}
	return 0, false
}

// words is the vector in as few words as hold it, the last bit in the last
// word.
func (f Features) words() []byte {
	n := (8*len(f) + 4) / 5
	b := make([]byte, n)
	for bit := range 8 * len(f) {
		if f.Bit(bit) {
			b[n-1-bit/5] |= 1 << (bit % 5)
		}
	}
	return bytes.TrimLeft(b, "\x00")
}

func readFeatures(words []byte) Features {
	words = bytes.TrimLeft(words, "\x00")
	f := make(Features, (5*len(words)+7)/8)
	for k := range words {
		w, bit := uint(words[len(words)-1-k]), 5*k
		at := len(f) - 1 - bit/8
		w <<= bit % 8
		f[at] |= byte(w)
		if w > 0xff {
			f[at-1] |= byte(w >> 8)
		}
	}
	return f.trimmed()
}
