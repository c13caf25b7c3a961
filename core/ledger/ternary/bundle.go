package ternary

import (
	"errors"
	"fmt"
	"strings"
)

// TransactionTrytes is the size of a transaction.
const TransactionTrytes = 2673

// MaxBundle is how many transactions a bundle may have; ours, so that checking
// one is bounded.
const MaxBundle = 128

// Supply is how many iota there were: (3^33 - 1) / 2.
const Supply = 2_779_530_283_277_761

// A Transaction is one entry of a Bundle, and a vertex of the first Tangle. Text
// fields are trytes; shorter ones are filled up with 9.
type Transaction struct {
	Message     string // a Fragment of a signature, or what one likes
	Address     Hash
	Value       int64
	ObsoleteTag string // 27 trytes; part of the bundle's hash
	Timestamp   int64  // Unix time, seconds
	Index, Last int64  // place in the bundle, and the last one's
	Bundle      Hash
	Trunk       Hash
	Branch      Hash
	Tag         string   // 27 trytes
	Attachment  [3]int64 // Unix time in ms, and its bounds
	Nonce       string   // 27 trytes
}

const (
	tagTrytes   = 27
	valueTrytes = 27
	smallTrytes = 9
)

// Trytes encodes the transaction.
func (t *Transaction) Trytes() (string, error) {
	var b strings.Builder
	for _, f := range []struct {
		text string
		size int
		what string
	}{
		{t.Message, FragmentTrytes, "message"},
		{t.Address.String(), HashTrytes, ""},
		{intTrytes(t.Value, valueTrytes), valueTrytes, ""},
		{t.ObsoleteTag, tagTrytes, "obsolete tag"},
		{intTrytes(t.Timestamp, smallTrytes), smallTrytes, ""},
		{intTrytes(t.Index, smallTrytes), smallTrytes, ""},
		{intTrytes(t.Last, smallTrytes), smallTrytes, ""},
		{t.Bundle.String(), HashTrytes, ""},
		{t.Trunk.String(), HashTrytes, ""},
		{t.Branch.String(), HashTrytes, ""},
		{t.Tag, tagTrytes, "tag"},
		{intTrytes(t.Attachment[0], smallTrytes), smallTrytes, ""},
		{intTrytes(t.Attachment[1], smallTrytes), smallTrytes, ""},
		{intTrytes(t.Attachment[2], smallTrytes), smallTrytes, ""},
		{t.Nonce, tagTrytes, "nonce"},
	} {
		if len(f.text) > f.size {
			return "", fmt.Errorf("%s has %d trytes; the limit is %d", f.what, len(f.text), f.size)
		}
		if strings.ContainsFunc(f.text, func(r rune) bool { return r > 'Z' || tryteAt(byte(r)) < 0 }) {
			return "", fmt.Errorf("%s is not of 9 and A to Z", f.what)
		}
		b.WriteString(f.text)
		b.WriteString(strings.Repeat("9", f.size-len(f.text)))
	}
	return b.String(), nil
}

func intTrytes(v int64, size int) string {
	trits := make([]int8, 3*size)
	PutInt(trits, v)
	return Trytes(trits)
}

// ParseTransaction reads 2673 trytes.
func ParseTransaction(text string) (*Transaction, error) {
	if len(text) != TransactionTrytes {
		return nil, fmt.Errorf("transaction has %d trytes; it must have %d", len(text), TransactionTrytes)
	}
	trits, err := ParseTrytes(text)
	if err != nil {
		return nil, fmt.Errorf("transaction: %w", err)
	}
	t, at := new(Transaction), 0
	next := func(trytes int) []int8 {
		at += trytes
		return trits[3*(at-trytes) : 3*at]
	}
	number := func(trytes int) (v int64) {
		v, failed := Int(next(trytes))
		err = errors.Join(err, failed)
		return v
	}
	t.Message = Trytes(next(FragmentTrytes))
	t.Address = Hash(next(HashTrytes))
	t.Value = number(valueTrytes)
	t.ObsoleteTag = Trytes(next(tagTrytes))
	t.Timestamp, t.Index, t.Last = number(smallTrytes), number(smallTrytes), number(smallTrytes)
	t.Bundle, t.Trunk, t.Branch = Hash(next(HashTrytes)), Hash(next(HashTrytes)), Hash(next(HashTrytes))
	t.Tag = Trytes(next(tagTrytes))
	for i := range t.Attachment {
		t.Attachment[i] = number(smallTrytes)
	}
	t.Nonce = Trytes(next(tagTrytes))
	if err != nil {
		return nil, fmt.Errorf("transaction: %w", err)
	}
	return t, nil
}

// Hash is the transaction's name: Curl-P-81 of all its trits.
func (t *Transaction) Hash() (Hash, error) {
	text, err := t.Trytes()
	if err != nil {
		return Hash{}, err
	}
	trits, err := ParseTrytes(text)
	return CurlSum(trits), err
}

// A Bundle is a transfer: what the values add up to must be zero.
type Bundle []Transaction

// Hash is Kerl of each transaction's essence: address, value, obsolete tag,
// time, place and last place.
func (b Bundle) Hash() (Hash, error) {
	var k Kerl
	for i := range b {
		t := &b[i]
		var second Hash
		if len(t.ObsoleteTag) > tagTrytes {
			return Hash{}, fmt.Errorf("obsolete tag has %d trytes; the limit is %d", len(t.ObsoleteTag), tagTrytes)
		}
		PutInt(second[:81], t.Value)
		if err := putTrytes(second[81:162], t.ObsoleteTag); err != nil {
			return Hash{}, fmt.Errorf("obsolete tag: %w", err)
		}
		PutInt(second[162:189], t.Timestamp)
		PutInt(second[189:216], t.Index)
		PutInt(second[216:], t.Last)
		k.Absorb(t.Address, second)
	}
	return k.Squeeze(), nil
}

// Finalise numbers the transactions and sets their bundle's hash. It adds one to
// the first obsolete tag until the normalised hash is safe to sign.
func (b Bundle) Finalise() (Hash, error) {
	if len(b) < 1 || len(b) > MaxBundle {
		return Hash{}, fmt.Errorf("bundle has %d transactions; it must have 1 to %d", len(b), MaxBundle)
	}
	for i := range b {
		b[i].Index, b[i].Last = int64(i), int64(len(b)-1)
	}
	for {
		h, err := b.Hash()
		if err != nil {
			return Hash{}, err
		}
		if Normalise(h).Safe() {
			for i := range b {
				b[i].Bundle = h
			}
			return h, nil
		}
		var tag [3 * tagTrytes]int8
		if err := putTrytes(tag[:], b[0].ObsoleteTag); err != nil {
			return Hash{}, err
		}
		increment(tag[:])
		b[0].ObsoleteTag = Trytes(tag[:])
	}
}

// Sign puts a key's signature into the transactions from the i-th on, which must
// be the input of the key's address and, behind it, one of value zero for each
// further level of security.
func (b Bundle) Sign(i int, key Key) error {
	fragments, err := key.Sign(b[i].Bundle)
	if err != nil {
		return err
	}
	address := key.Address()
	for j, f := range fragments {
		if i+j >= len(b) || b[i+j].Address != address || (j > 0) != (b[i+j].Value == 0) {
			return fmt.Errorf("transaction %d has no room for fragment %d of the signature", i+j, j)
		}
		b[i+j].Message = f.String()
	}
	return nil
}

// Check validates a bundle: places, hash, sum, and the signature of every input.
func (b Bundle) Check() error {
	if len(b) < 1 || len(b) > MaxBundle {
		return fmt.Errorf("bundle has %d transactions; it must have 1 to %d", len(b), MaxBundle)
	}
	h, err := b.Hash()
	if err != nil {
		return err
	}
	sum := int64(0)
	for i := range b {
		t := &b[i]
		if t.Index != int64(i) || t.Last != int64(len(b)-1) {
			return fmt.Errorf("transaction %d says it is %d of %d; the bundle's last is %d", i, t.Index, t.Last, len(b)-1)
		}
		if t.Bundle != h {
			return fmt.Errorf("transaction %d is of bundle %s; this one is %s", i, t.Bundle, h)
		}
		if t.Value > Supply || t.Value < -Supply {
			return fmt.Errorf("transaction %d moves %d iota; only %d exist", i, t.Value, int64(Supply))
		}
		sum += t.Value
	}
	if sum != 0 {
		return fmt.Errorf("the bundle's values sum up to %d; they must to zero", sum)
	}
	for i := range b {
		if err := b.checkInput(i, h); err != nil {
			return err
		}
	}
	return nil
}

// checkInput checks the signature of the i-th transaction if it takes value.
func (b Bundle) checkInput(i int, h Hash) error {
	if b[i].Value >= 0 {
		return nil
	}
	var signature []Fragment
	for j := i; j < len(b) && b[j].Address == b[i].Address && (j == i || b[j].Value == 0); j++ {
		f, err := ParseFragment(b[j].Message)
		if err != nil {
			return fmt.Errorf("transaction %d: %w", j, err)
		}
		signature = append(signature, f)
	}
	by, err := SignedBy(h, signature)
	if err != nil {
		return fmt.Errorf("transaction %d: %w", i, err)
	}
	if by != b[i].Address {
		return fmt.Errorf("transaction %d takes %d iota without a signature of its address", i, -b[i].Value)
	}
	return nil
}
