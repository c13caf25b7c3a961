package onion_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/onion"
)

// full is a final node's payload with everything.
var full = onion.Payload{
	Amount: 10_000_000, Expiry: 800_144, Secret: hash, Total: 20_000_000,
	Metadata: []byte{1, 2}, Keysend: &[32]byte{3},
	Records: []onion.Record{{Type: 65537, Value: []byte("till 4")}, {Type: 1<<40 | 1, Value: []byte{}}},
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// From bolt04/onion-test.json and bolt04/blinded-payment-onion-test.json of
// lightning/bolts, without the length of each payload.
func TestOfficialPayloads(t *testing.T) {
	bob := unhex(t, "cd7b00ff9c09ed28102b210ac73aa12d63e90852cebc496c49f57c499a2888b49f2e72b19446f7e60a818aa2938d8c625415b992b8928a7321edb8f7cea40de362bed082ad51acc6156dca5532fb68")
	eve := unhex(t, "da1c7e5f7881219884beae6ae68971de73bab4c3055d9865b1afb60722a63c688768042ade22f2c22f5724767d171fd221d3e579e43b354cc72e3ef146ada91a892d95fc48662f5b158add0af457da")
	pathKey, err := keys.ParsePublicHex("024d4b6cd1361032ca9bd2aeb9d900aa4d45d9ead80ac9423374c451a7254d0766")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, in string
		final    bool
		want     onion.Payload
	}{
		{"forward", "02023a98040205dc06080000000000000001", false, onion.Payload{Amount: 15000, Expiry: 1500, Next: 1}},
		{"payee", "02022710040203e8082224a33562c54507a9334e79f0dc4f17d407e6d7c61f0e2f3d0d38599502f617042710", true,
			onion.Payload{Amount: 10000, Expiry: 1000, Secret: [32]byte(unhex(t, "24a33562c54507a9334e79f0dc4f17d407e6d7c61f0e2f3d0d38599502f61704")), Total: 10000}},
		{"Alice", "020301ae2d04030b6e5e0608000000000000000a", false, onion.Payload{Amount: 110125, Expiry: 749150, Next: 10}},
		{"Bob", "0a4fcd7b00ff9c09ed28102b210ac73aa12d63e90852cebc496c49f57c499a2888b49f2e72b19446f7e60a818aa2938d8c625415b992b8928a7321edb8f7cea40de362bed082ad51acc6156dca5532fb680c21024d4b6cd1361032ca9bd2aeb9d900aa4d45d9ead80ac9423374c451a7254d0766", false,
			onion.Payload{Encrypted: bob, PathKey: pathKey}},
		{"Eve", "02030186a004030b6dc80a4fda1c7e5f7881219884beae6ae68971de73bab4c3055d9865b1afb60722a63c688768042ade22f2c22f5724767d171fd221d3e579e43b354cc72e3ef146ada91a892d95fc48662f5b158add0af457da12030249f0", true,
			onion.Payload{Amount: 100000, Expiry: 749000, Total: 150000, Encrypted: eve}},
	} {
		in := unhex(t, test.in)
		got, err := onion.ParsePayload(in)
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s reads %+v, %v; want %+v", test.name, got, err, test.want)
		}
		if err := got.Check(test.final); err != nil {
			t.Errorf("%s in its place: %v", test.name, err)
		}
		if got.Check(!test.final) == nil && test.name != "payee" {
			t.Errorf("%s fits the wrong place too", test.name)
		}
		if out := test.want.Append(nil); !bytes.Equal(out, in) {
			t.Errorf("%s writes %x, want %x", test.name, out, in)
		}
	}
}

func TestPayloadComesBack(t *testing.T) {
	b := full.Append(nil)
	got, err := onion.ParsePayload(b)
	if err != nil || !reflect.DeepEqual(got, full) {
		t.Errorf("comes back as %+v, %v; want %+v", got, err, full)
	}
	last := full // Keysend after all records, not between
	last.Records = last.Records[:1]
	if got, err = onion.ParsePayload(last.Append(nil)); err != nil || !reflect.DeepEqual(got, last) {
		t.Errorf("comes back as %+v, %v; want %+v", got, err, last)
	}
}

func TestPayloadRefusals(t *testing.T) {
	const base = "020164 040164 "
	for _, test := range []struct {
		name, in string
		typ      uint64
		offset   uint16
		want     string
	}{
		{"no amount", "040164", 2, 0, "missing"},
		{"no expiry", "020164", 4, 0, "missing"},
		{"out of order", "040164 020164", 2, 3, "increase"},
		{"twice", "020164 020164", 2, 3, "increase"},
		{"unknown even", base + "1401ff", 20, 6, "must be understood"},
		{"even custom", base + "fe00010000 00", 65536, 6, "must be understood"},
		{"amount with a zero in front", "02020064", 2, 0, "shortest"},
		{"amount over all bitcoin", "0208ffffffffffffffff 040164", 2, 0, "limit"},
		{"expiry of five bytes", "020164 04050100000000", 4, 3, "limit is 4"},
		{"channel of seven bytes", base + "060700000000000000", 6, 6, "cut short"},
		{"channel zero", base + "06080000000000000000", 6, 6, "zero"},
		{"short secret", base + "080101", 8, 6, "cut short"},
		{"zero secret", base + "0820" + strings.Repeat("00", 32), 8, 6, "zero"},
		{"short keysend", base + "ff0000000146c6616c 0101", 0x146c6616c, 6, "cut short"},
		{"path key without a path", base + "0c21" + strings.Repeat("02", 33), 12, 0, "does not belong"},
		{"blinded total without a path", base + "120101", 18, 0, "does not belong"},
		{"a channel in a blinded path", "06080000000000000001 0a01ff", 6, 0, "does not belong"},
		{"anything else in a blinded path", "0a01ff 150101", 0, 0, "does not belong"},
		{"nothing to decrypt", base + "0a00", 10, 6, "zero"},
		{"cut in a value", base + "0f0201", 15, 6, "longer"},
		{"cut in a type", base + "fd00", 0, 0, "cut short"},
	} {
		_, err := onion.ParsePayload(unhex(t, test.in))
		var fault *onion.PayloadError
		if !errors.As(err, &fault) {
			t.Errorf("%s: %v, want a *PayloadError", test.name, err)
			continue
		}
		if fault.Type != test.typ || fault.Offset != test.offset || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want type %d at %d, %q", test.name, err, test.typ, test.offset, test.want)
		}
		d, err := fault.Failure().Details()
		if err != nil || d.Type != test.typ || d.Offset != test.offset {
			t.Errorf("%s: its failure says %+v, %v", test.name, d, err)
		}
	}
}

func TestPayloadRecordsHaveALimit(t *testing.T) {
	p := onion.Payload{Amount: 1, Expiry: 1}
	for i := range onion.MaxRecords {
		p.Records = append(p.Records, onion.Record{Type: onion.CustomType + 1 + 2*uint64(i), Value: []byte{}})
	}
	if _, err := onion.ParsePayload(p.Append(nil)); err != nil {
		t.Errorf("%d records: %v", len(p.Records), err)
	}
	p.Records = append(p.Records, onion.Record{Type: 1<<32 + 1})
	if _, err := onion.ParsePayload(p.Append(nil)); err == nil || !strings.Contains(err.Error(), "more than 64 custom records") {
		t.Errorf("%d records: %v", len(p.Records), err)
	}
}

func FuzzParsePayload(f *testing.F) {
	f.Add(full.Append(nil))
	f.Add(onion.Payload{Amount: 1, Expiry: 2, Next: 3}.Append(nil))
	f.Add(onion.Payload{Encrypted: []byte{1}, PathKey: keys.Public{2}}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := onion.ParsePayload(b)
		if err != nil {
			var fault *onion.PayloadError
			if !errors.As(err, &fault) {
				t.Fatalf("%v is no *PayloadError", err)
			}
			return
		}
		p.Check(true)
		p.Check(false)
		out := p.Append(nil)
		if len(out) == len(b) && !bytes.Equal(out, b) {
			t.Fatalf("%x comes back as %x", b, out)
		}
		if len(out) > len(b) {
			t.Fatalf("%x grows to %x", b, out)
		}
		again, err := onion.ParsePayload(out)
		if err != nil || !bytes.Equal(again.Append(nil), out) {
			t.Fatalf("%x comes back as %x, then %x, %v", b, out, again.Append(nil), err)
		}
	})
}
