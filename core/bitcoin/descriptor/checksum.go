package descriptor

import (
	"errors"
	"fmt"
	"strings"
)

// The character set and the code of BIP 380, "Checksum".
const (
	charset = "0123456789()[],'/*abcdefgh@:$%{}" +
		"IJKLMNOPQRSTUVWXYZ&+-.;<=>?!^_|~" +
		"ijklmnopqrstuvwxyzABCDEFGH`#\"\\ "
	symbols = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
	sumSize = 8
)

var generator = [5]uint64{0xf5dee51989, 0xa9fdca3312, 0x1bab10e32d, 0x3706b1677a, 0x644d626ffd}

func feed(sum uint64, symbol int) uint64 {
	top := sum >> 35
	sum = sum&0x7ffffffff<<5 ^ uint64(symbol)
	for i, g := range generator {
		if top>>i&1 == 1 {
			sum ^= g
		}
	}
	return sum
}

// checksum is the 8 characters that follow body and #. Body is of charset.
func checksum(body string) string {
	sum, groups, n := uint64(1), 0, 0
	for i := range len(body) {
		at := strings.IndexByte(charset, body[i])
		sum = feed(sum, at&31)
		groups, n = groups*3+at>>5, n+1
		if n == 3 { // every third character, what group the three were of
			sum, groups, n = feed(sum, groups), 0, 0
		}
	}
	if n > 0 {
		sum = feed(sum, groups)
	}
	for range sumSize {
		sum = feed(sum, 0)
	}
	sum ^= 1
	out := make([]byte, sumSize)
	for i := range out {
		out[i] = symbols[sum>>(5*(sumSize-1-i))&31]
	}
	return string(out)
}

// checked takes the checksum off a descriptor and checks it if there is one.
func checked(text string) (body string, err error) {
	body, sum, has := strings.Cut(text, "#")
	for i := range len(body) {
		if strings.IndexByte(charset, body[i]) < 0 {
			return "", fmt.Errorf("descriptor has a character at place %d that none may have", i+1)
		}
	}
	switch {
	case !has:
		return body, nil
	case len(sum) != sumSize:
		return "", fmt.Errorf("descriptor's checksum is %d characters; it must be %d after the #, or leave out the #", len(sum), sumSize)
	case sum != checksum(body):
		return "", errors.New("descriptor's checksum does not fit; a character was changed, copy it again")
	}
	return body, nil
}
