// Package filter builds, matches and disproves the basic block filters of BIP
// 158: small sets that say which scripts a block pays or spends, and now and
// then, once in 784,931 for each script asked, one that it does not.
//
// A filter travels as getcfilters carries it (BIP 157): the number of elements
// as CompactSize, then the elements, hashed, sorted, and the differences in
// Golomb-Rice code.
package filter

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

const (
	// remainderBits is P: the bits of a difference that are not in unary.
	remainderBits = 19
	// falseRate is M: one in so many scripts matches by accident.
	falseRate = 784931
)

// MaxElements is how many elements a filter can have: 4,000,000 weight units of
// outputs that take 36 each.
const MaxElements = 4_000_000 / 36

// Build makes the filter of a block. prev is asked for the script of each output
// that the block spends; nil means that it does not know, which is an error
// unless the block itself has the output. An empty script is not nil.
func Build(b *wire.MsgBlock, prev func(wire.OutPoint) []byte) ([]byte, error) {
	set := map[string]struct{}{}
	var inside map[chainhash.Hash]*wire.MsgTx
	for i, t := range b.Transactions {
		for _, out := range t.TxOut {
			if isElement(out.PkScript) {
				set[string(out.PkScript)] = struct{}{}
			}
		}
		if i == 0 {
			continue // the coinbase spends nothing
		}
		for _, in := range t.TxIn {
			script := prev(in.PreviousOutPoint)
			if script == nil {
				if inside == nil {
					inside = byID(b)
				}
				if script = output(inside, in.PreviousOutPoint); script == nil {
					return nil, fmt.Errorf("filter of block %v needs the script of the output %v, which it spends", b.BlockHash(), in.PreviousOutPoint)
				}
			}
			if len(script) > 0 {
				set[string(script)] = struct{}{}
			}
		}
	}
	return encode(set, b.BlockHash()), nil
}

// isElement tells whether an output's script is in the filter of its block.
func isElement(script []byte) bool {
	return len(script) > 0 && script[0] != txscript.OP_RETURN
}

func byID(b *wire.MsgBlock) map[chainhash.Hash]*wire.MsgTx {
	all := make(map[chainhash.Hash]*wire.MsgTx, len(b.Transactions))
	for _, t := range b.Transactions {
		all[t.TxHash()] = t
	}
	return all
}

// output is the script of an output of these transactions, not nil, or nil.
func output(all map[chainhash.Hash]*wire.MsgTx, p wire.OutPoint) []byte {
	t, ok := all[p.Hash]
	if !ok || p.Index >= uint32(len(t.TxOut)) {
		return nil
	}
	return append([]byte{}, t.TxOut[p.Index].PkScript...)
}

func encode(set map[string]struct{}, block chainhash.Hash) []byte {
	h := newHasher(block, len(set))
	values := make([]uint64, 0, len(set))
	var words []uint64
	for script := range set {
		words = appendWords(words[:0], []byte(script))
		values = append(values, h.value(words))
	}
	slices.Sort(values)
	w := writer{b: appendCompactSize(make([]byte, 0, 9+3*len(values)), uint64(len(values)))}
	last := uint64(0)
	for _, v := range values {
		w.difference(v - last)
		last = v
	}
	return w.close()
}

// Hash is the hash of a filter, which cfheaders carries (BIP 157).
func Hash(raw []byte) chainhash.Hash { return chainhash.DoubleHashH(raw) }

// Header commits to a filter's hash and, by the header before it, to all filters
// so far (BIP 157). The one before the first block's is zero.
func Header(filter, prev chainhash.Hash) chainhash.Hash {
	var b [2 * chainhash.HashSize]byte
	copy(b[:], filter[:])
	copy(b[chainhash.HashSize:], prev[:])
	return chainhash.DoubleHashH(b[:])
}

// hasher maps scripts to the values of one block's filter.
type hasher struct {
	k0, k1 uint64
	span   uint64 // values are below it
}

func newHasher(block chainhash.Hash, n int) hasher {
	return hasher{
		k0:   binary.LittleEndian.Uint64(block[:]),
		k1:   binary.LittleEndian.Uint64(block[8:]),
		span: uint64(n) * falseRate,
	}
}

// value is a script's; words are what appendWords makes of it.
func (h hasher) value(words []uint64) uint64 {
	hi, _ := bits.Mul64(sipHash(h.k0, h.k1, words), h.span)
	return hi
}
