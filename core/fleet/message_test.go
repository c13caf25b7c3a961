package fleet_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/step"
)

var shared = secret("shared")

func messages(t testing.TB) []fleet.Message {
	a := fleet.Ack{Gateway: 3, Device: "tap-3", Seq: 7, Order: id(1), Counter: 9, Unknown: true, Why: "power", Reading: []byte{1, 2}}
	p := fleet.Policy{Device: "tap", Version: 3, Payees: []string{"x://a"}, Limits: fleet.Limits{Total: 5, Period: period(t, "weekly")}, Expires: noon}
	return []fleet.Message{
		told(1, 2, noon), told(3, 4, 0).Seal(node, keys.Public{}, shared),
		a.Seal(node, keys.Secret{}), a.Seal(keys.Secret{}, shared),
		fleet.Status{Device: "tap", Firmware: "1.0", Counter: 7}, fleet.Trouble{Device: "tap", Text: "jam"}, fleet.Time{At: noon},
		p.Seal(node, keys.Public{}, keys.Secret{}),
	}
}

func TestMessagesComeBack(t *testing.T) {
	for _, m := range messages(t) {
		raw := m.Append(nil)
		got, err := fleet.Decode(raw)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v comes back as %+v, %v", m, got, err)
		}
		if !fleet.Owns(uint16(raw[0])<<8 | uint16(raw[1])) {
			t.Errorf("%T is nobody's", m)
		}
		for cut := range raw {
			if _, err := fleet.Decode(raw[:cut]); err == nil {
				t.Errorf("%T, cut to %d of %d bytes, is read", m, cut, len(raw))
			}
		}
	}
	if fleet.Owns(0x8900) || fleet.Owns(0x8902) || !fleet.Owns(0x8901) || !fleet.Owns(0x8903) || fleet.Owns(0x890d) {
		t.Error("the types are not 0x8901 to 0x890b")
	}
}

// What the package's comment shows, for who writes a device in C: the text that
// is signed is made with one snprintf, and the sum is HMAC-SHA256.
func TestInJSON(t *testing.T) {
	const lines = "-\n0\ntap-3\n1\n01000000000000000000000000000000\nopen\nbeer\n2\n1800000060000\n0"
	c := fleet.Command{Device: "tap-3", Seq: 1, Order: [16]byte{1}, Verb: fleet.Open, Item: "beer", Units: 2, Until: noon + step.Minute}.Seal(node, keys.Public{}, shared)
	if sum := shared.MAC("command", []byte(lines)); !bytes.Equal(c.Sig, sum[:]) {
		t.Errorf("the command is not signed as %q", lines)
	}
	raw, err := json.Marshal(c)
	want := fmt.Sprintf(`{"device":"tap-3","seq":1,"order":"01000000000000000000000000000000","verb":"open","item":"beer","units":2,"until_ms":1800000060000,"sig":"%x"}`, c.Sig)
	if err != nil || string(raw) != want {
		t.Errorf("%s, %v; want %s", raw, err, want)
	}
	const word = "0\ntap-3\n1\n01000000000000000000000000000000\n1\n1\n302e35\n"
	sum := shared.MAC("ack", []byte(word))
	text := fmt.Sprintf(`{"device":"tap-3","seq":1,"order":"01000000000000000000000000000000","counter":1,"ok":true,"reading":"302e35","sig":"%x"}`, sum)
	var a fleet.Ack
	if err := json.Unmarshal([]byte(text), &a); err != nil || !a.Verify(keys.Public{}, shared) || string(a.Reading) != "0.5" {
		t.Errorf("%+v, %v", a, err)
	}
	for why, bad := range map[string]string{
		"unknown field":    strings.Replace(text, "counter", "count", 1),
		"counted from 1":   strings.Replace(text, `"seq":1`, `"seq":0`, 1),
		"its signature":    strings.Replace(text, fmt.Sprintf("%x", sum), "00", 1),
		"and not know":     strings.Replace(text, `"ok":true`, `"ok":true,"unknown":true`, 1),
		"not one line":     strings.Replace(text, `"ok":true`, `"why":"a\nb"`, 1),
		"is not one of 16": strings.Replace(text, `{`, `{"gateway":16,`, 1),
		"the limit is":     strings.Replace(text, `{`, `{"why":"`+strings.Repeat("a", 5000)+`",`, 1),
	} {
		if err := json.Unmarshal([]byte(bad), &a); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", why, err)
		}
	}
}

// A secret's holder cannot be taken for another's: not between purposes, devices
// or results.
func TestSignaturesAreForOnePurpose(t *testing.T) {
	a := fleet.Ack{Device: "tap", Seq: 1, Order: id(1), Counter: 1, OK: true}.Seal(keys.Secret{}, shared)
	for _, change := range []func(*fleet.Ack){
		func(a *fleet.Ack) { a.OK = false }, func(a *fleet.Ack) { a.OK, a.Unknown = false, true },
		func(a *fleet.Ack) { a.Seq++ }, func(a *fleet.Ack) { a.Counter++ }, func(a *fleet.Ack) { a.Order[0]++ },
		func(a *fleet.Ack) { a.Reading = []byte{0} }, func(a *fleet.Ack) { a.Why = "x" }, func(a *fleet.Ack) { a.Gateway++ },
		func(a *fleet.Ack) { a.Device = "tap2" },
	} {
		b := a
		change(&b)
		if b.Verify(keys.Public{}, shared) {
			t.Errorf("%+v passes for %+v", b, a)
		}
	}
	if a.Verify(keys.Public{}, keys.Secret{}) {
		t.Error("no key at all accepts it")
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range messages(f) {
		f.Add(m.Append(nil))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := fleet.Decode(raw)
		if err != nil {
			return
		}
		if again := m.Append(nil); !bytes.Equal(again, raw) {
			t.Errorf("%x is read as %+v, and written as %x", raw, m, again)
		}
	})
}

func FuzzJSON(f *testing.F) {
	for _, m := range messages(f)[:4] {
		raw, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		check := func(m fleet.Message, again any) {
			t.Helper()
			text, err := json.Marshal(m)
			if err == nil {
				err = json.Unmarshal(text, again)
			}
			if err != nil || !reflect.DeepEqual(reflect.ValueOf(again).Elem().Interface(), m) {
				t.Fatalf("%s is read as %+v, and again as %+v, %v", raw, m, again, err)
			}
			if back, err := fleet.Decode(m.Append(nil)); err != nil || back.Core() != m.Core() {
				t.Fatalf("%+v has no binary form: %v", m, err)
			}
		}
		var c fleet.Command
		if json.Unmarshal(raw, &c) == nil {
			check(c, &fleet.Command{})
		}
		var a fleet.Ack
		if json.Unmarshal(raw, &a) == nil {
			check(a, &fleet.Ack{})
		}
	})
}

func FuzzParseCode(f *testing.F) {
	f.Add(fleet.Code(raw))
	f.Fuzz(func(t *testing.T, text string) {
		got, err := fleet.ParseCode(text)
		if err != nil {
			return
		}
		if again, err := fleet.ParseCode(fleet.Code(got)); err != nil || again != got {
			t.Errorf("%q is %x, and then %x, %v", text, got, again, err)
		}
	})
}
