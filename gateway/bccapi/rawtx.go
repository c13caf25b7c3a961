package bccapi

import (
	"bytes"
	"errors"
	"math"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/codec"
)

// readTx reads a transaction of at most tx.MaxSize bytes that may be followed by
// others. It is measured first: wire makes room for as many inputs as a
// transaction says it has.
func readTx(r *codec.Reader) *wire.MsgTx {
	whole := r.Take(r.Len())
	m := codec.NewReader(whole[:min(len(whole), tx.MaxSize)])
	measure(m)
	if err := m.Err(); err != nil {
		r.Fail(err)
		return nil
	}
	t, err := tx.Parse(whole[:min(len(whole), tx.MaxSize)-m.Len()])
	if err != nil {
		r.Fail(err)
		return nil
	}
	// What BIP 144 calls an obsolete or an odd encoding is another transaction.
	if !bytes.HasPrefix(whole, tx.Bytes(t)) {
		r.Fail(errors.New("transaction is not in its shortest form"))
	}
	return t
}

// measure reads over a transaction (BIP 144).
func measure(r *codec.Reader) {
	i32(r) // version
	inputs, witness := count(r), false
	if inputs == 0 {
		if witness = true; r.U8() != 1 {
			r.Fail(errors.New("transaction has no inputs"))
		}
		inputs = count(r)
	}
	for range inputs {
		if r.Take(36); r.Err() != nil {
			return
		}
		r.Take(count(r))
		i32(r) // sequence
	}
	for n := count(r); n > 0 && r.Err() == nil; n-- {
		i64(r)
		r.Take(count(r))
	}
	for ; witness && inputs > 0 && r.Err() == nil; inputs-- {
		for n := count(r); n > 0 && r.Err() == nil; n-- {
			r.Take(count(r))
		}
	}
	i32(r) // lock time
}

// count is that of bytes, or of things that are at least a byte.
func count(r *codec.Reader) int {
	n := compact(r, math.MaxInt32)
	if n > uint64(r.Len()) {
		r.Fail(codec.ErrShort)
		return 0
	}
	return int(n)
}
