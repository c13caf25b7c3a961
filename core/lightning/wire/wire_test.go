package wire_test

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
)

func TestEveryMessageIsAsTheBOLTsSay(t *testing.T) {
	for _, s := range samples {
		raw := unhex(t, s.hex)
		if got := s.message.Append(nil); !bytes.Equal(got, raw) {
			t.Errorf("%T: written as\n%x, want\n%x", s.message, got, raw)
		}
		got, err := wire.Decode(raw)
		if err != nil || !reflect.DeepEqual(got, s.message) || got.Core() != wire.Core {
			t.Errorf("%T: read as %+v, %v", s.message, got, err)
		}
	}
}

// The link reads every message into the same buffer.
func TestNothingPointsIntoTheBuffer(t *testing.T) {
	for _, s := range samples {
		raw := unhex(t, s.hex)
		got, err := wire.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		clear(raw)
		if !reflect.DeepEqual(got, s.message) {
			t.Errorf("%T changed with the buffer: %+v", s.message, got)
		}
	}
}

// The extension may end after any record, and gossip after any byte of its
// extra: nothing else can be cut and still be a message.
func TestACutMessageIsNone(t *testing.T) {
	for _, s := range samples {
		raw := unhex(t, s.hex)
		for n := range raw {
			m, err := wire.Decode(raw[:n])
			if err == nil && !bytes.Equal(m.Append(nil), raw[:n]) {
				t.Errorf("%T: the first %d of %d bytes are read as %+v", s.message, n, len(raw), m)
			}
		}
	}
}

func TestOwnsIsWhatDecodeKnows(t *testing.T) {
	sampled := map[uint16]bool{}
	for _, s := range samples {
		raw := unhex(t, s.hex)
		sampled[uint16(raw[0])<<8|uint16(raw[1])] = true
	}
	for typ := range 1 << 16 {
		m, err := wire.Decode([]byte{byte(typ >> 8), byte(typ)})
		unknown := m == nil && (err == nil || strings.Contains(err.Error(), "is unknown"))
		if owns := wire.Owns(uint16(typ)); owns != sampled[uint16(typ)] || owns == unknown || owns && typ >= 1<<15 {
			t.Errorf("type %d: owned %v, known %v, in the samples %v", typ, owns, !unknown, sampled[uint16(typ)])
		}
		if unknown && (err == nil) != (typ%2 == 1) {
			t.Errorf("unknown type %d: %v", typ, err)
		}
	}
}

// BOLT 1, appendix C.
func TestInitExtensionVectors(t *testing.T) {
	for _, c := range []struct {
		raw, fault string
	}{
		{"001000000000", ""},
		{"001000000000c9012acb0104", ""},
		{"00100000000001", "cut short"},
		{"001000000000ca012a", "TLV type 202"},
		{"001000000000c90101c90102", "increase"},
	} {
		m, err := wire.Decode(unhex(t, c.raw))
		switch {
		case c.fault == "" && (err != nil || !reflect.DeepEqual(m, &wire.Init{})):
			t.Errorf("%s: got %+v, %v", c.raw, m, err)
		case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)):
			t.Errorf("%s: got %v, want %q", c.raw, err, c.fault)
		}
	}
}

// Every message that is not gossip with an extra takes unknown odd records and
// refuses even ones.
func TestItIsOKToBeOdd(t *testing.T) {
	for _, s := range samples {
		raw := unhex(t, s.hex)
		switch s.message.(type) {
		case *wire.ChannelAnnouncement, *wire.NodeAnnouncement, *wire.ChannelUpdate:
			continue
		}
		if m, err := wire.Decode(append(slices.Clip(raw), unhex(t, "fe0001a147 01 07")...)); err != nil || !reflect.DeepEqual(m, s.message) {
			t.Errorf("%T with an odd record: %+v, %v", s.message, m, err)
		}
		if _, err := wire.Decode(append(slices.Clip(raw), unhex(t, "fe0001a146 01 07")...)); err == nil || !strings.Contains(err.Error(), "TLV type 106822") {
			t.Errorf("%T with an even record: %v", s.message, err)
		}
	}
}

// What a peer may not claim.
func TestRefused(t *testing.T) {
	add, sample := samples[16], func(i int) []byte { return unhex(t, samples[i].hex) }
	if _, ok := add.message.(*wire.UpdateAddHTLC); !ok {
		t.Fatal("samples have moved")
	}
	change := func(raw []byte, at int, with string) []byte {
		copy(raw[at:], unhex(t, with))
		return raw
	}
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"too long":           {make([]byte, wire.MaxMessage+1), "the limit is 65535"},
		"more than there is": {change(sample(16), 2+32+8, "1d24b2dfac520001"), "amount_msat"},
		"negative funding":   {change(sample(7), 2+64, "8000000000000000"), "funding_satoshis is 9223372036854775808 sat; the limit is 2100000000000000"},
		"a key of zeros":     {change(sample(16), len(sample(16))-33, "00"), "path_key"},
		"many signatures":    {append(unhex(t, "0084"+x("02", 96)+"03c7"), make([]byte, 967*64)...), "num_htlcs is 967; the limit is 966"},
		"promised":           {unhex(t, "0084"+x("02", 96)+"03c6"+x("00", 64)), "cut short"},
		"half a chain":       {unhex(t, "0010 0000 0000 01 10"+x("00", 16)), "TLV type 1"},
		"many chains":        {append(unhex(t, "0010 0000 0000 01 fd0820"), make([]byte, 2080)...), "the limit is 64"},
		"zlib":               {unhex(t, "0105"+x("00", 32)+"0002 01 78"), "zlib"},
		"another encoding":   {unhex(t, "0105"+x("00", 32)+"0002 02 78"), "encoding 2"},
		"half an id":         {unhex(t, "0105"+x("00", 32)+"0002 00 78"), "cut short"},
		"flags without ids":  {unhex(t, "0105"+x("00", 32)+"0001 00 01 02 00 01"), "query flags are 1, for 0 channels"},
		"times without ids":  {unhex(t, "0108"+x("00", 32)+"00000000 00000000 01 0001 00 03 08 0000000000000000"), "checksums are 8 bytes"},
		"half an address":    {unhex(t, "0101"+x("00", 64)+"0000 00000000"+x("00", 33+3+32)+"0002 0101"), "address of type 1"},
	} {
		if m, err := wire.Decode(c.raw); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %+v, %v; want %q", name, m, err, c.want)
		}
	}
}

// 483 HTLCs of each side are a commitment that BOLT 2 allows.
func TestTheLargestCommitmentFits(t *testing.T) {
	m := &wire.CommitmentSigned{HTLCSignatures: make([]keys.Signature, wire.MaxSignatures)}
	raw := m.Append(nil)
	if got, err := wire.Decode(raw); err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("%d bytes: %v", len(raw), err)
	}
}

func TestTheLargestReplyFits(t *testing.T) {
	m := &wire.ReplyChannelRange{
		ShortChannelIDs: make([]wire.SCID, wire.MaxSCIDs), Timestamps: make([]wire.Timestamps, wire.MaxSCIDs),
		Checksums: make([]wire.Checksums, wire.MaxSCIDs),
	}
	if got, err := wire.Decode(m.Append(nil)); err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("%d bytes: %v", len(m.Append(nil)), err)
	}
}

func TestPong(t *testing.T) {
	if p := (&wire.Ping{NumPongBytes: 65531}).Pong(); p == nil || len(p.Append(nil)) != wire.MaxMessage {
		t.Errorf("got %+v", p)
	}
	if p := (&wire.Ping{NumPongBytes: 65532}).Pong(); p != nil {
		t.Errorf("got %+v, where no answer is wanted", p)
	}
}

// A peer's words go to a log, which must survive them.
func TestWhatAPeerSaysIsSafeToPrint(t *testing.T) {
	evil := "\x1b[2Jfunding\nfailed \xff" + strings.Repeat("z", 70_000)
	m := &wire.Error{Data: evil}
	text := m.Text()
	if !strings.HasPrefix(text, "?[2Jfunding?failed ?zzz") || len(text) > 500 || !strings.HasSuffix(text, "...") {
		t.Errorf("got %.60q, %d bytes", text, len(text))
	}
	if raw := m.Append(nil); len(raw) != wire.MaxMessage {
		t.Errorf("an error of %d bytes", len(raw))
	}
	if text := (&wire.Warning{Data: "slow down"}).Text(); text != "slow down" {
		t.Errorf("got %q", text)
	}
}

// Some close with "any fee": 2^64-1.
func TestAnyFee(t *testing.T) {
	raw := unhex(t, "0027"+x("02", 32)+"00000000000000b7"+x("04", 64)+"01 10 0000000000000064 ffffffffffffffff")
	m, err := wire.Decode(raw)
	if err != nil || m.(*wire.ClosingSigned).FeeRange.MaxFeeSatoshis != money.MaxAmount.Sats() {
		t.Errorf("got %+v, %v", m, err)
	}
}

func TestInitFeaturesAreOneVector(t *testing.T) {
	m := &wire.Init{GlobalFeatures: wire.NewFeatures(13), Features: wire.NewFeatures(1, 23)}
	if got := m.Combined(); got != wire.NewFeatures(1, 13, 23) {
		t.Errorf("got %v", got)
	}
	// An address nobody understands is not worth a connection.
	got, err := wire.Decode(unhex(t, "0010 0000 0000 03 02 0901"))
	if err != nil || !reflect.DeepEqual(got, &wire.Init{}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range samples {
		f.Add(unhex(f, s.hex))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := wire.Decode(raw)
		if err != nil || m == nil {
			return
		}
		again := m.Append(nil)
		second, err := wire.Decode(again)
		if err != nil || !reflect.DeepEqual(m, second) {
			t.Fatalf("%x is read as %+v, then as %+v, %v", raw, m, second, err)
		}
		switch m.(type) {
		case *wire.ChannelAnnouncement, *wire.NodeAnnouncement, *wire.ChannelUpdate:
			if !bytes.Equal(raw, again) {
				t.Errorf("%x is signed, and written as %x", raw, again)
			}
		case *wire.Ping, *wire.Pong, *wire.ClosingSigned: // bytes ignored, a fee cut to what there is
		default:
			if len(raw) == len(again) && !bytes.Equal(raw, again) {
				t.Errorf("%x is written as %x", raw, again)
			}
		}
		_ = fmt.Sprintf("%v", m)
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, s := range samples {
		switch s.message.(type) {
		case *wire.UpdateAddHTLC, *wire.UpdateFulfillHTLC, *wire.CommitmentSigned, *wire.RevokeAndAck, *wire.ChannelUpdate:
		default:
			continue
		}
		raw := unhex(b, s.hex)
		if m, ok := s.message.(*wire.UpdateAddHTLC); ok {
			plain := *m
			plain.PathKey = keys.Public{}
			raw = plain.Append(nil)
		}
		b.Run(fmt.Sprintf("%T", s.message), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := wire.Decode(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The messages of every payment cost one allocation, and one more for the
// signatures of HTLCs.
func TestPaymentsAreReadCheaply(t *testing.T) {
	for _, c := range []struct {
		message wire.Message
		allocs  float64
	}{
		{&wire.UpdateAddHTLC{}, 1},
		{&wire.UpdateFulfillHTLC{}, 1},
		{&wire.RevokeAndAck{}, 1},
		{&wire.CommitmentSigned{}, 1},
		{&wire.CommitmentSigned{HTLCSignatures: make([]keys.Signature, wire.MaxHTLCs)}, 2},
	} {
		raw := c.message.Append(nil)
		allocs := testing.AllocsPerRun(100, func() {
			if _, err := wire.Decode(raw); err != nil {
				t.Fatal(err)
			}
		})
		if allocs != c.allocs {
			t.Errorf("%T: %v allocations, want %v", c.message, allocs, c.allocs)
		}
	}
}
