package invoice

import (
	"bytes"
	"errors"
	"fmt"
)

// Bech32 as BIP 173 has it, without the limit of 90 characters. Words are
// values of 5 bits, one a byte.

const (
	charset = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

	checksumSize = 6
	separator    = '1'
)

// values maps a character to its word; 0xff is none.
var values = func() (table [256]byte) {
	for i := range table {
		table[i] = 0xff
	}
	for i := range charset {
		table[charset[i]] = byte(i)
	}
	return table
}()

// feed holds, for the top 5 bits that a word pushes out of the checksum, what
// to add for them: the generator times those bits.
var feed = func() (table [32]uint32) {
	generator := [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3}
	for top := range table {
		for bit, g := range generator {
			if top>>bit&1 == 1 {
				table[top] ^= g
			}
		}
	}
	return table
}()

func checksum(prefix string, words []byte) uint32 {
	sum := uint32(1)
	push := func(word byte) { sum = (sum&0x1ffffff)<<5 ^ uint32(word) ^ feed[sum>>25] }
	for i := range len(prefix) {
		push(prefix[i] >> 5)
	}
	push(0)
	for i := range len(prefix) {
		push(prefix[i] & 31)
	}
	for _, w := range words {
		push(w)
	}
	return sum
}

// decode splits text into its prefix, in lower case, and its words without the
// checksum.
func decode(text string) (prefix string, words []byte, err error) {
	lower := []byte(text)
	small, capital := false, false
	for i, c := range lower {
		switch {
		case 'a' <= c && c <= 'z':
			small = true
		case 'A' <= c && c <= 'Z':
			capital = true
			lower[i] += 'a' - 'A'
		}
	}
	if small && capital {
		return "", nil, errors.New("upper and lower case are mixed")
	}
	at := bytes.LastIndexByte(lower, separator)
	if at < 1 || len(lower)-at-1 < checksumSize {
		return "", nil, errors.New("no prefix, separator 1 and checksum")
	}
	prefix, words = string(lower[:at]), lower[at+1:]
	for i, c := range words {
		if words[i] = values[c]; words[i] == 0xff {
			return "", nil, fmt.Errorf("character %q at %d is not of bech32", c, at+1+i)
		}
	}
	if checksum(prefix, words) != 1 {
		return "", nil, errors.New("checksum does not match: a character is wrong or missing")
	}
	return prefix, words[:len(words)-checksumSize], nil
}

// encode is the text of prefix and words.
func encode(prefix string, words []byte) string {
	var tail [checksumSize]byte
	sum := checksum(prefix, append(words, tail[:]...)) ^ 1
	for i := range tail {
		tail[i] = byte(sum >> (5 * (checksumSize - 1 - i)) & 31)
	}
	text := make([]byte, 0, len(prefix)+1+len(words)+checksumSize)
	text = append(append(text, prefix...), separator)
	for _, part := range [2][]byte{words, tail[:]} {
		for _, w := range part {
			text = append(text, charset[w])
		}
	}
	return string(text)
}

// appendWords cuts data into words, with zero bits at the end.
func appendWords(b, data []byte) []byte {
	acc, bits := uint32(0), 0
	for _, c := range data {
		acc, bits = acc<<8|uint32(c), bits+8
		for ; bits >= 5; bits -= 5 {
			b = append(b, byte(acc>>(bits-5)&31))
		}
	}
	if bits > 0 {
		b = append(b, byte(acc<<(5-bits)&31))
	}
	return b
}

// appendBytes joins words into whole bytes, dropping the bits left over.
func appendBytes(b, words []byte) []byte {
	acc, bits := uint32(0), 0
	for _, w := range words {
		acc, bits = acc<<5|uint32(w), bits+5
		if bits >= 8 {
			bits -= 8
			b = append(b, byte(acc>>bits))
		}
	}
	return b
}

// wordCount is how many words hold n bytes.
func wordCount(n int) int { return (8*n + 4) / 5 }

// number reads words as one number, big-endian, or gives false above limit.
func number(words []byte, limit uint64) (n uint64, ok bool) {
	for _, w := range words {
		if n = n<<5 | uint64(w); n > limit {
			return 0, false
		}
	}
	return n, true
}

// appendNumber writes n in as few words as hold it, but at least one.
func appendNumber(b []byte, n uint64) []byte {
	size := 1
	for ; n>>(5*size) != 0; size++ {
	}
	for ; size > 0; size-- {
		b = append(b, byte(n>>(5*(size-1))&31))
	}
	return b
}
