package ternary

import (
	"bytes"
	"crypto/sha3"
	"math/rand/v2"
	"testing"
)

// KeyOf makes a key of the trytes of its fragments.
func KeyOf(t *testing.T, trytes string) Key {
	var fragments []Fragment
	for len(trytes) > 0 {
		f, err := ParseFragment(trytes[:FragmentTrytes])
		if err != nil {
			t.Fatal(err)
		}
		fragments, trytes = append(fragments, f), trytes[FragmentTrytes:]
	}
	return Key{&keyFragments{&fragments}}
}

// TestKeccak: with the padding of the standard, the sponge is the standard
// library's SHA3-384.
func TestKeccak(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	for size := range 3 * keccakRate {
		msg := make([]byte, size)
		random.Read(msg)
		var k keccak
		k.write(msg[:size/3])
		k.write(msg[size/3:])
		got, want := k.sum(0x06), sha3.Sum384(msg)
		if !bytes.Equal(got[:], want[:]) {
			t.Fatalf("SHA3-384 of %d bytes is %x; want %x", size, got, want)
		}
	}
}

// TestLanesSbox compares the bits with the table on all nine pairs.
func TestLanesSbox(t *testing.T) {
	pair := func(v int8) (p lanePair) {
		if v == 1 {
			p.plus = 1
		}
		if v == -1 {
			p.minus = 1
		}
		return p
	}
	for x := int8(-1); x <= 1; x++ {
		for y := int8(-1); y <= 1; y++ {
			got, want := lanesSbox(pair(x), pair(y)), sbox[x+4*y+5]
			if got.plus&1 != pair(want).plus || got.minus&1 != pair(want).minus {
				t.Errorf("sbox of %d and %d has bits %d and %d; want %d", x, y, got.plus&1, got.minus&1, want)
			}
		}
	}
}

// TestKerlNumbers: 242 trits go through 48 bytes and back.
func TestKerlNumbers(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		var h Hash
		for j := range h[:HashTrits-1] {
			switch i {
			case 0:
				h[j] = 1
			case 1:
				h[j] = -1
			default:
				h[j] = int8(random.IntN(3)) - 1
			}
		}
		if back := tritsOf(bytesOf(h)); back != h {
			t.Fatalf("%v came back as %v", h, back)
		}
	}
}
