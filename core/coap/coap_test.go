package coap_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"coinop.dev/core/coap"
	"coinop.dev/core/money"
)

func unhex(t testing.TB, text string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func get(id uint16, token, path string) coap.Message {
	m := coap.Message{Code: coap.GET, ID: id, Token: []byte(token)}
	m.SetPath(path)
	return m
}

// RFC 7252, appendix A, figures 16 to 19: a thermometer is read.
func TestExamplesOfTheRFC(t *testing.T) {
	text := hex.EncodeToString([]byte("temperature"))
	for raw, want := range map[string]coap.Message{
		"40 01 7d34 bb" + text:                      get(0x7d34, "", "/temperature"),
		"60 45 7d34 ff" + "32322e332043":            {Type: coap.Acknowledgement, Code: coap.Content, ID: 0x7d34, Payload: []byte("22.3 C")},
		"41 01 7d35 20 bb" + text:                   get(0x7d35, " ", "/temperature"),
		"61 45 7d35 20 ff" + "32322e332043":         {Type: coap.Acknowledgement, Code: coap.Content, ID: 0x7d35, Token: []byte(" "), Payload: []byte("22.3 C")},
		"60 00 7d37":                                {Type: coap.Acknowledgement, ID: 0x7d37},
		"51 01 7d40 75 bb" + text:                   func() coap.Message { m := get(0x7d40, "u", "/temperature"); m.Type = coap.NonConfirmable; return m }(),
		"44 01 0001 00000001 b1 61 01 62 43 633d31": {},
	} {
		m, err := coap.Decode(unhex(t, raw))
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if want.Code == coap.Empty && want.ID == 0 {
			if m.Path() != "/a/b" {
				t.Errorf("path %s", m.Path())
			}
			continue
		}
		if got := m.Append(nil); !bytes.Equal(got, want.Append(nil)) {
			t.Errorf("%s is read as %+v", raw, m)
		}
	}
}

// RFC 7959, section 3: values of the block options as they stand in its
// figures, NUM/M/SIZE.
func TestBlocks(t *testing.T) {
	for _, c := range []struct {
		b    coap.Block
		size int
		raw  string
	}{
		{coap.Block{Num: 0, More: true, SZX: 3}, 128, "0b"}, {coap.Block{Num: 1, More: true, SZX: 3}, 128, "1b"}, {coap.Block{Num: 2, More: false, SZX: 3}, 128, "23"},
		{coap.Block{Num: 0, SZX: 2}, 64, "02"}, {coap.Block{}, 16, ""}, {coap.Block{Num: 1 << 19, SZX: 6}, 1024, "800006"},
	} {
		var m coap.Message
		m.AddUint(coap.Block2, c.b.Value())
		raw, _ := m.Get(coap.Block2)
		got, ok, err := m.Block(coap.Block2)
		if hex.EncodeToString(raw) != c.raw || got != c.b || !ok || err != nil || got.Size() != c.size {
			t.Errorf("%+v is %x, %+v, %v", c.b, raw, got, err)
		}
	}
	for _, bad := range []string{"07", "01000000"} {
		var m coap.Message
		m.Add(coap.Block1, unhex(t, bad))
		if _, _, err := m.Block(coap.Block1); err == nil {
			t.Errorf("%s is a block", bad)
		}
	}
}

// A body is cut and put together again, whatever the size of its blocks.
func TestCutAndJoin(t *testing.T) {
	for _, n := range []int{0, 1, 15, 16, 17, 1000, coap.MaxBody} {
		body := bytes.Repeat([]byte{1, 2, 3, 4, 5}, n/5+1)[:n]
		for szx := range uint8(coap.MaxSZX + 1) {
			var a coap.Assembly
			for b := (coap.Block{SZX: szx}); ; b.Num++ {
				part, cut, err := b.Cut(body)
				if err != nil {
					t.Fatal(err)
				}
				for range 2 { // a repetition changes nothing
					if err := a.Take(cut, part); err != nil {
						t.Fatalf("%d bytes, block %+v: %v", n, cut, err)
					}
				}
				if !cut.More {
					break
				}
			}
			if !bytes.Equal(a.Body, body) {
				t.Fatalf("%d bytes in blocks of %d came as %d", n, 16<<szx, len(a.Body))
			}
		}
	}
	var a coap.Assembly
	if err := a.Take(coap.Block{Num: 1, More: true}, make([]byte, 16)); !errors.Is(err, coap.ErrOrder) {
		t.Errorf("block 1 first: %v", err)
	}
	if err := a.Take(coap.Block{More: true}, make([]byte, 15)); err == nil {
		t.Error("a block of 16 with 15 bytes")
	}
	a.Body = make([]byte, coap.MaxBody)
	if err := a.Take(coap.Block{Num: coap.MaxBody / 16}, []byte{1}); err == nil {
		t.Error("a body without end")
	}
	if _, _, err := (coap.Block{Num: 1}).Cut(make([]byte, 16)); err == nil {
		t.Error("a block behind the end")
	}
}

// RFC 7641, section 3.4.
func TestNewer(t *testing.T) {
	for _, c := range []struct {
		a, b    uint32
		elapsed int64
		newer   bool
	}{
		{1, 2, 0, true}, {2, 1, 0, false}, {5, 5, 0, false}, {1<<24 - 1, 0, 0, true}, {0, 1<<24 - 1, 0, false}, {9, 2, 128_001, true}, {1, 1<<23 + 1, 0, false}, {1, 1 << 23, 0, true},
	} {
		if coap.Newer(c.a, c.b, c.elapsed) != c.newer {
			t.Errorf("%+v", c)
		}
	}
}

func TestBadMessages(t *testing.T) {
	for raw, why := range map[string]string{
		"":                             "cut short",
		"4001":                         "cut short",
		"8001 0001":                    "version",
		"4901 0001 000000000000000000": "token",
		"4101 0001":                    "cut short",
		"4000 0001 00":                 "empty",
		"4001 0001 ff":                 "payload",
		"4001 0001 f0":                 "reserved",
		"4001 0001 0f":                 "reserved",
		"4001 0001 d0":                 "cut short",
		"4001 0001 b5 61":              "cut short",
		"4001 0001 e0 ffff":            "65535",
		"4001 0001 " + strings.Repeat("10", coap.MaxOptions+1): "limit",
		"4001 0001 ff" + strings.Repeat("00", coap.MaxMessage): "limit",
	} {
		if m, err := coap.Decode(unhex(t, raw)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.40s: %+v, %v; want %s", raw, m, err, why)
		}
	}
}

func TestOptions(t *testing.T) {
	m := get(1, "", "/pay/me?units=3&x")
	m.Add(coap.OptionProof, []byte("p"))
	m.AddUint(coap.Observe, 0)
	m.AddUint(coap.Accept, coap.FormatOffer)
	back, err := coap.Decode(m.Append(nil))
	if err != nil || back.Path() != "/pay/me" {
		t.Fatal(back.Path(), err)
	}
	if v, ok := back.Query("units"); v != "3" || !ok {
		t.Errorf("units %q", v)
	}
	if v, ok := back.Uint(coap.Accept); v != 65000 || !ok {
		t.Errorf("accept %d", v)
	}
	if v, ok := back.Uint(coap.Observe); v != 0 || !ok {
		t.Errorf("observe %d %v", v, ok)
	}
	if n := back.Unknown(coap.URIPath, coap.URIQuery); n != coap.Accept {
		t.Errorf("unknown %d", n)
	}
	if coap.OptionProof.Critical() || coap.OptionReceipt.Critical() {
		t.Error("who does not know payments must ignore them")
	}
	other := get(9, "x", "/pay/me?units=3&x")
	other.Add(coap.OptionProof, []byte("p"))
	other.AddUint(coap.Accept, coap.FormatOffer)
	other.AddUint(coap.Block2, 7<<4)
	if other.Key() != m.Key() {
		t.Error("the next block is another request")
	}
	other.Set(coap.OptionProof, []byte("q"))
	if other.Key() == m.Key() {
		t.Error("another proof is the same request")
	}
	slash := coap.Message{Options: []coap.Option{{Number: coap.URIPath, Value: []byte("a/b")}}}
	if slash.Path() != "" {
		t.Errorf("path %q", slash.Path())
	}
}

var sample = coap.Offer{
	Order: money.OrderID{1, 2}, Service: "reading", Units: 3, Due: 4500, Until: 1_800_000_000_000, Token: []byte{9}, Unit: "reading",
	Ways: []coap.Way{{Rail: "lightning", Pay: "lightning:lnbc1", Hash: make([]byte, 32)}, {Rail: "oneway", Pay: "oneway://x"}},
}

func TestOfferAndProof(t *testing.T) {
	raw := coap.Encode(sample)
	back, err := coap.Parse[coap.Offer](raw)
	if err != nil || !reflect.DeepEqual(back, sample) {
		t.Fatalf("%+v, %v", back, err)
	}
	// a8: a map of eight; 0: the order, as 16 bytes.
	if raw[0] != 0xa8 || raw[1] != 0 || raw[2] != 0x50 {
		t.Errorf("%x", raw)
	}
	proof := coap.Proof{Token: []byte{9}, Preimage: make([]byte, 32), Receipt: &coap.Receipt{Order: sample.Order, Amount: 4500, To: "oneway://x", At: 1}}
	if back, err := coap.Parse[coap.Proof](coap.Encode(proof)); err != nil || !reflect.DeepEqual(back, proof) {
		t.Errorf("%+v, %v", back, err)
	}
	for _, bad := range []string{"", "a0", "a100", "a1004109ff", "bf004109ff", "a200410900410a", "a10058010 9", "a1184100"} {
		if got, err := coap.Parse[coap.Proof](unhex(t, bad)); err == nil {
			t.Errorf("%s is %+v", bad, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	m := get(7, "token", "/a/b?c=1")
	m.Payload = []byte("x")
	m.AddUint(coap.Block1, 0x1b)
	m.Add(coap.OptionProof, make([]byte, 300))
	f.Add(m.Append(nil))
	f.Add(unhex(f, "6045 7d34 ff 3232"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := coap.Decode(raw)
		if err != nil {
			return
		}
		if again := m.Append(nil); !bytes.Equal(again, raw) {
			t.Errorf("%x is read, and written as %x", raw, again)
		}
		m.Path()
		m.Query("c")
		m.Key()
		m.Block(coap.Block1)
	})
}

func FuzzParse(f *testing.F) {
	f.Add(coap.Encode(sample))
	f.Add(coap.Encode(coap.Proof{Token: []byte{1}, Session: true, Receipt: &coap.Receipt{}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if o, err := coap.Parse[coap.Offer](raw); err == nil && !bytes.Equal(coap.Encode(o), raw) {
			t.Errorf("offer %x", raw)
		}
		if p, err := coap.Parse[coap.Proof](raw); err == nil && !bytes.Equal(coap.Encode(p), raw) {
			t.Errorf("proof %x", raw)
		}
	})
}
