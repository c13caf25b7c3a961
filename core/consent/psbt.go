package consent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/psbt/v2"

	"coinop.dev/core/codec"
)

const (
	// maxKeys bounds the fields of one map of a PSBT.
	maxKeys = 128
	// Smallest serialised input and output of a transaction, in bytes.
	minTxIn  = 41
	minTxOut = 9
)

// Key types of a PSBT that are looked at before it is parsed (BIP 174, 370).
const (
	keyTx          = 0x00
	keyVersion     = 0xfb
	keyProprietary = 0xfc
)

var magic = []byte("psbt\xff")

// parse reads a PSBT of version 0. It is walked first: every length, and every
// count that btcd's parser allocates by, is compared with the bytes that are
// there, and each map is searched for repeated keys.
func parse(raw []byte) (*psbt.Packet, error) {
	if len(raw) > MaxPSBT {
		return nil, refuse(ReasonSize, "the PSBT is %d bytes; the limit is %d; propose fewer inputs", len(raw), MaxPSBT)
	}
	if err := walk(raw); err != nil {
		if r := (*Refusal)(nil); errors.As(err, &r) {
			return nil, err
		}
		return nil, refuse(ReasonMalformed, "the PSBT is malformed: %v", err)
	}
	p, err := psbt.NewFromRawBytes(bytes.NewReader(raw), false)
	if err != nil {
		return nil, refuse(ReasonMalformed, "the PSBT is malformed: %v", err)
	}
	return p, nil
}

// walk checks the frame of a PSBT: one global map, one for each input and one
// for each output of its transaction, and nothing behind.
func walk(raw []byte) error {
	r := codec.NewReader(raw)
	if !bytes.Equal(r.Take(len(magic)), magic) {
		return errors.New("it does not begin as a PSBT does")
	}
	ins, outs, tx, version := 0, 0, false, uint32(0)
	err := walkMap(r, func(key, value []byte) (err error) {
		switch {
		case len(key) == 1 && key[0] == keyTx:
			tx = true
			ins, outs, err = walkTx(codec.NewReader(value), false)
		case len(key) == 1 && key[0] == keyVersion && len(value) == 4:
			version = binary.LittleEndian.Uint32(value)
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case version != 0:
		return refuse(ReasonVersion, "the PSBT is of version %d (BIP 370); send version 0 (BIP 174)", version)
	case !tx:
		return errors.New("it has no unsigned transaction")
	case ins > MaxInputs || outs > MaxOutputs:
		return refuse(ReasonSize, "the transaction has %d inputs and %d outputs; the limits are %d and %d; propose two", ins, outs, MaxInputs, MaxOutputs)
	}
	for i := range ins {
		err := walkMap(r, func(key, value []byte) error {
			if len(key) != 1 || key[0] != keyTx {
				return nil
			}
			_, _, err := walkTx(codec.NewReader(value), true)
			return err
		})
		if err != nil {
			return fmt.Errorf("input %d: %w", i, err)
		}
	}
	for i := range outs {
		if err := walkMap(r, func([]byte, []byte) error { return nil }); err != nil {
			return fmt.Errorf("output %d: %w", i, err)
		}
	}
	return r.Close()
}

func walkMap(r *codec.Reader, visit func(key, value []byte) error) error {
	var keys [][]byte
	for {
		key := r.Take(compactSize(r))
		if r.Err() != nil {
			return r.Err()
		}
		if len(key) == 0 {
			return nil
		}
		if key[0] >= 0xfd { // btcd's parser keeps one byte of a longer type
			return fmt.Errorf("a key of type %.3x is none that any BIP names", key)
		}
		for _, k := range keys {
			if bytes.Equal(k, key) {
				return fmt.Errorf("key %x stands twice", key)
			}
		}
		if len(keys) == maxKeys {
			return fmt.Errorf("a map has more than %d keys", maxKeys)
		}
		keys = append(keys, key)
		value := r.Take(compactSize(r))
		if r.Err() != nil {
			return r.Err()
		}
		if err := visit(key, value); err != nil {
			return err
		}
	}
}

// walkTx counts the inputs and outputs of a serialised transaction and sees
// that all of it is there.
func walkTx(r *codec.Reader, witness bool) (ins, outs int, err error) {
	r.Take(4)
	ins = compactSize(r)
	marked := witness && ins == 0
	if marked { // marker and flag (BIP 144)
		if r.U8() != 1 {
			r.Fail(errors.New("transaction has no inputs"))
		}
		ins = compactSize(r)
	}
	if ins > r.Len()/minTxIn {
		return 0, 0, codec.ErrShort
	}
	for range ins {
		r.Take(36)
		r.Take(compactSize(r))
		r.Take(4)
	}
	if outs = compactSize(r); outs > r.Len()/minTxOut {
		return 0, 0, codec.ErrShort
	}
	for range outs {
		r.Take(8)
		r.Take(compactSize(r))
	}
	if marked {
		for range ins {
			n := compactSize(r)
			if n > r.Len() {
				return 0, 0, codec.ErrShort
			}
			for range n {
				r.Take(compactSize(r))
			}
		}
	}
	r.Take(4)
	return ins, outs, r.Close()
}

// compactSize reads Bitcoin's variable length integer in its shortest form; what
// is not in the reader's range is a failure.
func compactSize(r *codec.Reader) int {
	b := r.Take(1)
	if b == nil {
		return 0
	}
	var n, least uint64
	switch b[0] {
	default:
		return int(b[0])
	case 0xfd:
		if v := r.Take(2); v != nil {
			n, least = uint64(binary.LittleEndian.Uint16(v)), 0xfd
		}
	case 0xfe:
		if v := r.Take(4); v != nil {
			n, least = uint64(binary.LittleEndian.Uint32(v)), 1<<16
		}
	case 0xff:
		if v := r.Take(8); v != nil {
			n, least = binary.LittleEndian.Uint64(v), 1<<32
		}
	}
	switch {
	case r.Err() != nil:
		return 0
	case n < least:
		r.Fail(errors.New("length is not in its shortest form"))
		return 0
	case n > uint64(r.Len()):
		r.Fail(codec.ErrShort)
		return 0
	}
	return int(n)
}

// fields refuses what a signer must not skip: a key that changes what is signed,
// or may (BIP 174: unknown keys are for others to understand; a consent is for
// what is understood).
func fields(p *psbt.Packet) error {
	strange := func(where string, all []*psbt.Unknown) error {
		for _, u := range all {
			if u.Key[0] != keyProprietary && (where != "the PSBT" || u.Key[0] != keyVersion) {
				return refuse(ReasonField, "%s has the field %x, which this signer does not know; leave it out", where, u.Key[0])
			}
		}
		return nil
	}
	if err := strange("the PSBT", p.Unknowns); err != nil {
		return err
	}
	for i := range p.Inputs {
		if err := strange(fmt.Sprintf("input %d", i), p.Inputs[i].Unknowns); err != nil {
			return err
		}
	}
	for i := range p.Outputs {
		if err := strange(fmt.Sprintf("output %d", i), p.Outputs[i].Unknowns); err != nil {
			return err
		}
	}
	return nil
}
