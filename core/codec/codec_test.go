package codec_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"

	"coinop.dev/core/codec"
	"coinop.dev/core/money"
)

func TestFieldsComeBack(t *testing.T) {
	b := []byte{0xab}
	b = binary.BigEndian.AppendUint16(b, 0x1234)
	b = binary.BigEndian.AppendUint32(b, 0xdeadbeef)
	b = binary.BigEndian.AppendUint64(b, 1<<63)
	for _, n := range []uint64{0, 127, 128, math.MaxUint64} {
		b = codec.AppendUint(b, n)
	}
	b = codec.AppendUint(b, money.MaxAmount)
	b = codec.AppendUint(b, int32(math.MaxInt32))
	b = codec.AppendBytes(b, "")
	b = codec.AppendBytes(b, "reading")
	b = codec.AppendBytes(b, []byte{1, 2})
	b = append(b, 9, 9, 9)

	r := codec.NewReader(b)
	var filled [3]byte
	same := r.U8() == 0xab && r.U16() == 0x1234 && r.U32() == 0xdeadbeef && r.U64() == 1<<63 &&
		r.Uvarint() == 0 && r.Uvarint() == 127 && r.Int(128, "n") == 128 && r.Uvarint() == math.MaxUint64 &&
		r.Amount() == money.MaxAmount && r.Height() == math.MaxInt32 &&
		r.String(0, "empty") == "" && r.String(7, "item") == "reading" && bytes.Equal(r.Bytes(2, "two"), []byte{1, 2})
	r.Fill(filled[:])
	if err := r.Close(); err != nil || !same || filled != [3]byte{9, 9, 9} {
		t.Errorf("read back wrongly: %v", err)
	}
}

func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		read func(*codec.Reader)
		want string
	}{
		"left over":       {[]byte{1, 2}, func(r *codec.Reader) { r.U8() }, "1 bytes too many"},
		"short":           {[]byte{1}, func(r *codec.Reader) { r.U16() }, "cut short"},
		"nothing":         {nil, func(r *codec.Reader) { r.Uvarint() }, "cut short"},
		"negative":        {[]byte{1}, func(r *codec.Reader) { r.Take(-1) }, "cut short"},
		"long form":       {[]byte{0x80, 0x00}, func(r *codec.Reader) { r.Uvarint() }, "shortest form"},
		"66 bits":         {bytes.Repeat([]byte{0xff}, 11), func(r *codec.Reader) { r.Uvarint() }, "cut short"},
		"limit":           {[]byte{9}, func(r *codec.Reader) { r.Int(8, "number of pumps") }, "number of pumps is 9; the limit is 8"},
		"too much money":  {codec.AppendUint(nil, money.MaxAmount+1), func(r *codec.Reader) { r.Amount() }, "the limit is"},
		"height":          {codec.AppendUint(nil, uint64(1)<<31), func(r *codec.Reader) { r.Height() }, "block height"},
		"text of a giant": {codec.AppendUint(nil, uint64(1)<<60), func(r *codec.Reader) { _ = r.String(10, "name") }, "name length"},
		"promised bytes":  {[]byte{200, 1}, func(r *codec.Reader) { r.Bytes(1000, "goods") }, "cut short"},
	} {
		r := codec.NewReader(c.in)
		c.read(r)
		if err := r.Close(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if r.Len() != 0 && r.Err() != nil && name != "left over" {
			t.Errorf("%s: a reader that failed goes on", name)
		}
	}
}

func TestTheFirstFailureSticks(t *testing.T) {
	mine := errors.New("mine")
	r := codec.NewReader([]byte{1, 2, 3})
	r.Fail(mine)
	r.U64()
	r.Fail(errors.New("another"))
	if r.U8() != 0 || r.Close() != mine {
		t.Errorf("got %v", r.Close())
	}
}

func TestBytesAreCopied(t *testing.T) {
	raw := codec.AppendBytes(nil, "goods")
	got := codec.NewReader(raw).Bytes(5, "goods")
	raw[1] = 'f'
	if string(got) != "goods" {
		t.Errorf("what was read changed to %q", got)
	}
}

// Whatever a number is, its encoding is read back and is the only one.
func FuzzUvarint(f *testing.F) {
	f.Add([]byte{0x80, 0x01})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := codec.NewReader(raw)
		v := r.Uvarint()
		if r.Close() == nil && !bytes.Equal(codec.AppendUint(nil, v), raw) {
			t.Errorf("%x is another way to write %d", raw, v)
		}
	})
}
