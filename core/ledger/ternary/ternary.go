// Package ternary is the arithmetic of IOTA's first network, in balanced trits:
// Curl-P-81 (which the proof of work of later networks still is), Kerl,
// Winternitz signatures, addresses and bundles.
//
// All but Curl and b1t6 is a codec verified against the libraries of its time,
// not the format of any network of ours: no such network runs any more, and a
// key of its signatures must sign once only. A second signature with the same
// key lets anybody who saw both forge a third.
//
// A trit is an int8 of -1, 0 or 1, the least significant first. A tryte is
// three trits, written 9 for 0, A to M for 1 to 13, N to Z for -13 to -1.
package ternary

import (
	"errors"
	"fmt"
)

// HashTrits is the size of a hash; HashTrytes the same in trytes.
const (
	HashTrits  = 243
	HashTrytes = HashTrits / 3
)

// A Hash is a hash, an address, or what else has 243 trits.
type Hash [HashTrits]int8

// alphabet has the tryte of value 0 to 13, then of -13 to -1.
const alphabet = "9ABCDEFGHIJKLMNOPQRSTUVWXYZ"

// MaxTrytes bounds what ParseTrytes reads: a transaction has 2673.
const MaxTrytes = 1 << 16

// tryteTrits has the trits of each tryte of alphabet.
var tryteTrits = func() (table [27][3]int8) {
	for i := range table {
		PutInt(table[i][:], int64(balanced(i)))
	}
	return table
}()

// balanced is the value of the i-th tryte of alphabet.
func balanced(i int) int8 {
	if i > 13 {
		return int8(i - 27)
	}
	return int8(i)
}

// tryteAt is the place of a tryte in alphabet, or -1.
func tryteAt(c byte) int {
	switch {
	case c == '9':
		return 0
	case c >= 'A' && c <= 'Z':
		return int(c-'A') + 1
	}
	return -1
}

// PutInt writes a number into all of dst; what does not fit is lost.
func PutInt(dst []int8, v int64) {
	for i := range dst {
		rest := v % 3
		v /= 3
		switch rest {
		case 2:
			rest, v = -1, v+1
		case -2:
			rest, v = 1, v-1
		}
		dst[i] = int8(rest)
	}
}

// errRange means that trits hold more than an int64 does.
var errRange = errors.New("the trits are a number beyond 63 bits")

// Int is the number that trits hold.
func Int(trits []int8) (v int64, err error) {
	const limit = (1<<63 - 2) / 3
	for i := len(trits) - 1; i >= 0; i-- {
		if v > limit || v < -limit {
			return 0, errRange
		}
		v = v*3 + int64(trits[i])
	}
	return v, nil
}

// increment adds one, in place; it wraps around.
func increment(trits []int8) {
	for i := range trits {
		if trits[i]++; trits[i] <= 1 {
			return
		}
		trits[i] = -1
	}
}

// ParseTrytes reads trytes into three times as many trits.
func ParseTrytes(text string) ([]int8, error) {
	if len(text) > MaxTrytes {
		return nil, fmt.Errorf("%d trytes; the limit is %d", len(text), MaxTrytes)
	}
	trits := make([]int8, 3*len(text))
	if err := putTrytes(trits, text); err != nil {
		return nil, err
	}
	return trits, nil
}

func putTrytes(dst []int8, text string) error {
	for i := range len(text) {
		at := tryteAt(text[i])
		if at < 0 {
			return fmt.Errorf("%q is no tryte; they are 9 and A to Z", text[i])
		}
		copy(dst[3*i:3*i+3], tryteTrits[at][:])
	}
	return nil
}

// Trytes writes trits, of which there must be a multiple of three.
func Trytes(trits []int8) string {
	text := make([]byte, len(trits)/3)
	for i := range text {
		text[i] = alphabet[(int(tryteValue(trits[3*i:]))+27)%27]
	}
	return string(text)
}

// tryteValue is the value of the first three trits, -13 to 13.
func tryteValue(t []int8) int8 { return t[0] + 3*t[1] + 9*t[2] }

// String is the hash in trytes.
func (h Hash) String() string { return Trytes(h[:]) }

// ParseHash reads 81 trytes.
func ParseHash(text string) (h Hash, err error) {
	if len(text) != HashTrytes {
		return h, fmt.Errorf("hash has %d trytes; it must have %d", len(text), HashTrytes)
	}
	if err := putTrytes(h[:], text); err != nil {
		return Hash{}, err
	}
	return h, nil
}

// TrailingZeros counts the zero trits at the end: what proof of work is measured
// by.
func (h Hash) TrailingZeros() (n int) {
	for n < len(h) && h[len(h)-1-n] == 0 {
		n++
	}
	return n
}

// PutB1T6 writes six trits for each byte of src into dst (TIP-5): the byte as a
// signed number, in two trytes.
func PutB1T6(dst []int8, src []byte) {
	for i, b := range src {
		PutInt(dst[6*i:6*i+6], int64(int8(b)))
	}
}

// B1T6 encodes bytes as trits (TIP-5).
func B1T6(src []byte) []int8 {
	trits := make([]int8, 6*len(src))
	PutB1T6(trits, src)
	return trits
}

// DecodeB1T6 reads the bytes back.
func DecodeB1T6(trits []int8) ([]byte, error) {
	if len(trits)%6 != 0 {
		return nil, fmt.Errorf("%d trits are no whole bytes of six", len(trits))
	}
	out := make([]byte, len(trits)/6)
	for i := range out {
		group := trits[6*i : 6*i+6]
		v := int(tryteValue(group)) + 27*int(tryteValue(group[3:]))
		if v < -128 || v > 127 {
			return nil, fmt.Errorf("six trits are %d, which is no byte", v)
		}
		out[i] = byte(int8(v))
	}
	return out, nil
}
