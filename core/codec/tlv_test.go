package codec_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
)

func unhex(t testing.TB, text string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// BOLT 1, appendix A.
func TestBigSizeVectors(t *testing.T) {
	for _, c := range []struct {
		name  string
		value uint64
		bytes string
		fault string
	}{
		{"zero", 0, "00", ""},
		{"one byte high", 252, "fc", ""},
		{"two byte low", 253, "fd00fd", ""},
		{"two byte high", 65535, "fdffff", ""},
		{"four byte low", 65536, "fe00010000", ""},
		{"four byte high", 4294967295, "feffffffff", ""},
		{"eight byte low", 4294967296, "ff0000000100000000", ""},
		{"eight byte high", 18446744073709551615, "ffffffffffffffffff", ""},
		{"two byte not canonical", 0, "fd00fc", "shortest form"},
		{"four byte not canonical", 0, "fe0000ffff", "shortest form"},
		{"eight byte not canonical", 0, "ff00000000ffffffff", "shortest form"},
		{"two byte short read", 0, "fd00", "cut short"},
		{"four byte short read", 0, "feffff", "cut short"},
		{"eight byte short read", 0, "ffffffffff", "cut short"},
		{"one byte no read", 0, "", "cut short"},
		{"two byte no read", 0, "fd", "cut short"},
		{"four byte no read", 0, "fe", "cut short"},
		{"eight byte no read", 0, "ff", "cut short"},
	} {
		raw := unhex(t, c.bytes)
		r := codec.NewReader(raw)
		v, err := r.BigSize(), r.Close()
		switch {
		case v != c.value:
			t.Errorf("%s: got %d, want %d", c.name, v, c.value)
		case c.fault == "" && (err != nil || !bytes.Equal(codec.AppendBigSize(nil, v), raw)):
			t.Errorf("%s: %v, and written as %x", c.name, err, codec.AppendBigSize(nil, v))
		case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)):
			t.Errorf("%s: got %v, want %q", c.name, err, c.fault)
		}
	}
}

// readN1 reads the namespace n1 of BOLT 1, appendix B, and says what it found.
func readN1(raw []byte) (found string, err error) {
	err = codec.TLVs(raw, func(typ uint64, value []byte) (bool, error) {
		r := codec.NewReader(value)
		switch typ {
		case 1:
			found += fmt.Sprintf("tlv1 amount_msat=%d ", r.TU64())
		case 2:
			found += fmt.Sprintf("tlv2 scid=%d ", r.U64())
		case 3:
			p, err := keys.ParsePublic(r.Take(33))
			if err != nil {
				r.Fail(err)
			}
			found += fmt.Sprintf("tlv3 node_id=%v amount_msat_1=%d amount_msat_2=%d ", p, r.U64(), r.U64())
		case 254:
			found += fmt.Sprintf("tlv4 cltv_delta=%d ", r.U16())
		default:
			return false, nil
		}
		return true, r.Close()
	})
	return strings.TrimSpace(found), err
}

// readN2 reads the namespace n2.
func readN2(raw []byte) (found string, err error) {
	err = codec.TLVs(raw, func(typ uint64, value []byte) (bool, error) {
		r := codec.NewReader(value)
		switch typ {
		case 0:
			found += fmt.Sprintf("tlv1 amount_msat=%d ", r.TU64())
		case 11:
			found += fmt.Sprintf("tlv2 cltv_expiry=%d ", r.TU32())
		default:
			return false, nil
		}
		return true, r.Close()
	})
	return strings.TrimSpace(found), err
}

// BOLT 1, appendix B: TLV decoding failures.
var badStreams = []string{
	"fd", "fd01", "fd0001 00", "fd0101", "0f fd", "0f fd26", "0f fd2602", "0f fd0001 00",
	"0f fd0201 " + strings.Repeat("00", 257),
	"12 00", "fd0102 00", "fe01000002 00", "ff0100000000000002 00",
}

var badN1 = []string{
	"01 09 ffffffffffffffffff",
	"01 01 00", "01 02 0001", "01 03 000100", "01 04 00010000", "01 05 0001000000", "01 06 000100000000",
	"01 07 00010000000000", "01 08 0001000000000000",
	"02 07 01010101010101", "02 09 010101010101010101",
	"03 21 023da092f6980e58d2c037173180e9a465476026ee50f96695963e8efe436f54eb",
	"03 29 023da092f6980e58d2c037173180e9a465476026ee50f96695963e8efe436f54eb0000000000000001",
	"03 30 023da092f6980e58d2c037173180e9a465476026ee50f96695963e8efe436f54eb000000000000000100000000000001",
	"03 31 043da092f6980e58d2c037173180e9a465476026ee50f96695963e8efe436f54eb00000000000000010000000000000002",
	"03 32 023da092f6980e58d2c037173180e9a465476026ee50f96695963e8efe436f54eb0000000000000001000000000000000001",
	"fd00fe 00", "fd00fe 01 01", "fd00fe 03 010101", "00 00",
	// TLV stream decoding failure.
	"02 08 0000000000000226 01 01 2a",
	"02 08 0000000000000231 02 08 0000000000000451",
	"1f 00 0f 01 2a", "1f 00 1f 01 2a",
}

var badN2 = []string{"ffffffffffffffffff 00 00 00"}

// BOLT 1, appendix B: TLV decoding successes.
var ignoredStreams = []string{
	"", "21 00", "fd0201 00", "fd00fd 00", "fd00ff 00", "fe02000001 00", "ff0200000000000001 00",
}

var goodN1 = []struct{ stream, found string }{
	{"01 00", "tlv1 amount_msat=0"},
	{"01 01 01", "tlv1 amount_msat=1"},
	{"01 02 0100", "tlv1 amount_msat=256"},
	{"01 03 010000", "tlv1 amount_msat=65536"},
	{"01 04 01000000", "tlv1 amount_msat=16777216"},
	{"01 05 0100000000", "tlv1 amount_msat=4294967296"},
	{"01 06 010000000000", "tlv1 amount_msat=1099511627776"},
	{"01 07 01000000000000", "tlv1 amount_msat=281474976710656"},
	{"01 08 0100000000000000", "tlv1 amount_msat=72057594037927936"},
	{"02 08 0000000000000226", "tlv2 scid=550"},
	{"03 31 023da092f6980e58d2c037173180e9a465476026ee50f96695963e8efe436f54eb00000000000000010000000000000002",
		"tlv3 node_id=023da092f6980e58d2c037173180e9a465476026ee50f96695963e8efe436f54eb amount_msat_1=1 amount_msat_2=2"},
	{"fd00fe 02 0226", "tlv4 cltv_delta=550"},
}

func TestTLVVectors(t *testing.T) {
	readers := map[string]func([]byte) (string, error){"n1": readN1, "n2": readN2}
	for name, read := range readers {
		for _, s := range ignoredStreams {
			if found, err := read(unhex(t, s)); found != "" || err != nil {
				t.Errorf("%s in %s: found %q, %v", s, name, found, err)
			}
		}
		for _, s := range badStreams {
			if _, err := read(unhex(t, s)); err == nil {
				t.Errorf("%s in %s is taken", s, name)
			}
		}
	}
	for _, s := range badN1 {
		if _, err := readN1(unhex(t, s)); err == nil {
			t.Errorf("%s in n1 is taken", s)
		}
	}
	for _, s := range badN2 {
		if _, err := readN2(unhex(t, s)); err == nil {
			t.Errorf("%s in n2 is taken", s)
		}
	}
	for _, c := range goodN1 {
		if found, err := readN1(unhex(t, c.stream)); found != c.found || err != nil {
			t.Errorf("%s: found %q, %v; want %q", c.stream, found, err, c.found)
		}
	}
}

// "Any appending of an invalid stream to a valid stream should trigger a
// decoding failure", and of a valid one with higher types should not.
func TestStreamsOneAfterTheOther(t *testing.T) {
	for i, c := range goodN1 {
		for _, s := range append(badStreams, badN1...) {
			if _, err := readN1(unhex(t, c.stream+s)); err == nil {
				t.Errorf("%s, then %s is taken", c.stream, s)
			}
		}
		for _, next := range goodN1[i+1:] {
			found, err := readN1(unhex(t, c.stream+next.stream))
			if sameType := c.found[:4] == next.found[:4]; sameType != (err != nil) || !sameType && found != c.found+" "+next.found {
				t.Errorf("%s, then %s: found %q, %v", c.stream, next.stream, found, err)
			}
		}
	}
}

// A node that gets an onion it cannot read answers with the type and the place.
func TestAFaultIsNamed(t *testing.T) {
	for _, c := range []struct {
		stream string
		typ    uint64
		offset int
		say    string
	}{
		{"01 01 01 12 00", 18, 3, "must be understood"},
		{"21 00 1f 00", 31, 2, "increase"},
		{"21 05 00", 33, 0, "longer than what is left"},
		{"fd00fe 01 01", 254, 0, "cut short"},
		{"01 02 0001", 1, 0, "shortest form"},
		{"01 09 ffffffffffffffffff", 1, 0, "the limit is 8"},
	} {
		_, err := readN1(unhex(t, c.stream))
		var fault *codec.TLVError
		if !errors.As(err, &fault) || fault.Type != c.typ || fault.Offset != c.offset || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v", c.stream, err)
		}
	}
}

func TestTruncatedIntegers(t *testing.T) {
	for _, v := range []uint64{0, 1, 255, 256, math.MaxUint16, math.MaxUint16 + 1, math.MaxUint32, math.MaxUint32 + 1, 1 << 56, math.MaxUint64} {
		raw := codec.AppendTU(nil, v)
		r16, r32, r64 := codec.NewReader(raw), codec.NewReader(raw), codec.NewReader(raw)
		if got := r64.TU64(); got != v || r64.Close() != nil {
			t.Errorf("%d comes back as %d, %v", v, got, r64.Close())
		}
		if got := r32.TU32(); (uint64(got) == v) != (r32.Close() == nil) || (r32.Err() == nil) != (v <= math.MaxUint32) {
			t.Errorf("%d as tu32 is %d, %v", v, got, r32.Err())
		}
		if got := r16.TU16(); (uint64(got) == v) != (r16.Close() == nil) || (r16.Err() == nil) != (v <= math.MaxUint16) {
			t.Errorf("%d as tu16 is %d, %v", v, got, r16.Err())
		}
	}
}

// Whatever stream is read, its records written again are the same bytes.
func FuzzTLVs(f *testing.F) {
	for _, s := range append(append(badStreams, badN1...), ignoredStreams...) {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var again []byte
		err := codec.TLVs(raw, func(typ uint64, value []byte) (bool, error) {
			again = codec.AppendTLV(again, typ, value)
			return true, nil
		})
		if err == nil && !bytes.Equal(raw, again) {
			t.Errorf("%x is read, and written as %x", raw, again)
		}
	})
}
