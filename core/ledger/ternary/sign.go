package ternary

import (
	"errors"
	"fmt"
	"io"
)

// Sizes of Winternitz signatures with W = 3: a fragment signs 27 trytes with 27
// hashes.
const (
	FragmentHashes = 27
	FragmentTrytes = FragmentHashes * HashTrytes
	MaxSecurity    = 3
)

// A Fragment is a part of a signature: it fills a transaction's message.
type Fragment [FragmentHashes]Hash

// String is the fragment in trytes.
func (f Fragment) String() string {
	b := make([]byte, 0, FragmentTrytes)
	for _, h := range f {
		b = append(b, h.String()...)
	}
	return string(b)
}

// ParseFragment reads 2187 trytes.
func ParseFragment(text string) (f Fragment, err error) {
	if len(text) != FragmentTrytes {
		return f, fmt.Errorf("fragment has %d trytes; it must have %d", len(text), FragmentTrytes)
	}
	for i := range f {
		if f[i], err = ParseHash(text[i*HashTrytes : (i+1)*HashTrytes]); err != nil {
			return f, err
		}
	}
	return f, nil
}

// A Seed is what all keys of a wallet come from. It prints as "secret".
type Seed struct{ s *seedTrits }

type seedTrits struct{ h *Hash }

// ParseSeed reads 81 trytes.
func ParseSeed(trytes string) (Seed, error) {
	h, err := ParseHash(trytes)
	if err != nil {
		return Seed{}, errors.New("seed is not 81 trytes of 9 and A to Z")
	}
	return Seed{&seedTrits{&h}}, nil
}

// Format prints "secret" for every verb.
func (Seed) Format(f fmt.State, _ rune) { io.WriteString(f, "secret") }

// MarshalText refuses: a secret does not leave.
func (Seed) MarshalText() ([]byte, error) { return nil, errors.New("a seed does not marshal") }

// A Key signs once: it has one Fragment for each level of security, 1 to 3. It
// prints as "secret".
type Key struct{ k *keyFragments }

type keyFragments struct{ fragments *[]Fragment }

// Format prints "secret" for every verb.
func (Key) Format(f fmt.State, _ rune) { io.WriteString(f, "secret") }

// Key derives the key with an index.
func (s Seed) Key(index uint64, security int) (Key, error) {
	if security < 1 || security > MaxSecurity {
		return Key{}, fmt.Errorf("security level is %d; it must be 1 to %d", security, MaxSecurity)
	}
	var k Kerl
	k.Absorb(subseed(*s.s.h, index))
	sub := k.Squeeze()
	var stream Kerl
	stream.Absorb(sub)
	fragments := make([]Fragment, security)
	for i := range fragments {
		for j := range fragments[i] {
			fragments[i][j] = stream.Squeeze()
		}
	}
	return Key{&keyFragments{&fragments}}, nil
}

// subseed adds an index to a seed, modulo 3^243.
func subseed(seed Hash, index uint64) Hash {
	var add Hash
	PutInt(add[:], int64(index>>1)) // in halves: a uint64 may not fit an int64
	sum := addTrits(addTrits(seed, add), add)
	if index&1 == 1 {
		increment(sum[:])
	}
	return sum
}

func addTrits(a, b Hash) (sum Hash) {
	carry := int8(0)
	for i := range sum {
		v := a[i] + b[i] + carry
		carry = 0
		switch {
		case v > 1:
			v, carry = v-3, 1
		case v < -1:
			v, carry = v+3, -1
		}
		sum[i] = v
	}
	return sum
}

// Address is the address that the key opens.
func (k Key) Address() Hash {
	var digests []Hash
	for _, f := range *k.k.fragments {
		for i := range f {
			f[i] = chain(f[i], 2*maxTryte)
		}
		digests = append(digests, KerlSum(f[:]...))
	}
	return KerlSum(digests...)
}

const maxTryte = 13

// chain hashes so many times.
func chain(h Hash, times int) Hash {
	for range times {
		h = KerlSum(h)
	}
	return h
}

// Sign makes a signature of a bundle hash, a Fragment for each level of
// security. It refuses a hash that would reveal the end of a chain (see
// Normalised.Safe). Never call it twice on the same key.
func (k Key) Sign(bundle Hash) ([]Fragment, error) {
	n := Normalise(bundle)
	if !n.Safe() {
		return nil, errors.New("the normalised hash has the tryte M, which would show a part of the key; finalise the bundle")
	}
	signature := make([]Fragment, len(*k.k.fragments))
	for i, f := range *k.k.fragments {
		for j := range f {
			f[j] = chain(f[j], maxTryte-int(n[i*FragmentHashes+j]))
		}
		signature[i] = f
	}
	return signature, nil
}

// SignedBy is the address whose key made a signature of a bundle hash.
func SignedBy(bundle Hash, signature []Fragment) (Hash, error) {
	if len(signature) < 1 || len(signature) > MaxSecurity {
		return Hash{}, fmt.Errorf("signature has %d fragments; it must have 1 to %d", len(signature), MaxSecurity)
	}
	n := Normalise(bundle)
	var digests []Hash
	for i, f := range signature {
		for j := range f {
			f[j] = chain(f[j], maxTryte+int(n[i*FragmentHashes+j]))
		}
		digests = append(digests, KerlSum(f[:]...))
	}
	return KerlSum(digests...), nil
}

// A Normalised hash has the values of 81 trytes, changed until each third of
// them sums up to zero: then no other hash can be signed by hashing a signature
// further.
type Normalised [HashTrytes]int8

// Normalise changes as few trytes as it takes, from the front of each third.
func Normalise(h Hash) (n Normalised) {
	for third := 0; third < HashTrytes; third += FragmentHashes {
		part := n[third : third+FragmentHashes]
		sum := 0
		for i := range part {
			part[i] = tryteValue(h[3*(third+i):])
			sum += int(part[i])
		}
		for i := range part {
			for ; sum > 0 && part[i] > -maxTryte; sum-- {
				part[i]--
			}
			for ; sum < 0 && part[i] < maxTryte; sum++ {
				part[i]++
			}
		}
	}
	return n
}

// Safe reports that no tryte is M, 13: for it the signature would hold the
// secret itself, unhashed.
func (n Normalised) Safe() bool {
	for _, v := range n {
		if v == maxTryte {
			return false
		}
	}
	return true
}

// ChecksumTrytes is how many trytes an address has for people behind its own.
const ChecksumTrytes = 9

// Checksummed writes an address with its checksum, 90 trytes.
func Checksummed(address Hash) string {
	sum := KerlSum(address)
	return address.String() + sum.String()[HashTrytes-ChecksumTrytes:]
}

// ParseChecksummed reads an address of 90 trytes and checks it.
func ParseChecksummed(text string) (address Hash, err error) {
	if len(text) != HashTrytes+ChecksumTrytes {
		return address, fmt.Errorf("address has %d trytes; it must have %d", len(text), HashTrytes+ChecksumTrytes)
	}
	if address, err = ParseHash(text[:HashTrytes]); err != nil {
		return address, err
	}
	if Checksummed(address) != text {
		return Hash{}, errors.New("the address's checksum does not fit; copy it again")
	}
	return address, nil
}
