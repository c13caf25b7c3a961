package macaroon_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	other "gopkg.in/macaroon.v2"

	"coinop.dev/core/keys"
	"coinop.dev/core/macaroon"
)

func root(t testing.TB, n byte) keys.Secret {
	t.Helper()
	s, err := keys.SecretFromBytes(bytes.Repeat([]byte{n}, keys.SecretSize))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func bake(t testing.TB, caveats ...string) macaroon.Macaroon {
	t.Helper()
	m, err := macaroon.Bake(root(t, 1), []byte("id"), "here", caveats...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func anything(string) error { return nil }

// Random credentials are the same bytes as those of gopkg.in/macaroon.v2, and
// each library takes what the other made.
func TestSameBytesAsMacaroonV2(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	some := func(least, most int) []byte {
		b := make([]byte, least+r.IntN(most-least+1))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	for range 500 {
		key, id, location := root(t, byte(1+r.IntN(200))), some(1, 300), string(some(0, 20))
		var caveats []string
		for range r.IntN(6) {
			caveats = append(caveats, string(some(1, 200)))
		}
		ours, err := macaroon.Bake(key, id, location, caveats...)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := other.New(key.Reveal(), id, location, other.V2)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range caveats {
			if err := theirs.AddFirstPartyCaveat([]byte(c)); err != nil {
				t.Fatal(err)
			}
		}
		b, err := theirs.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, ours.Append(nil)) {
			t.Fatalf("ours is %x, theirs %x", ours.Append(nil), b)
		}

		// What they made, we verify; what we narrowed, they verify.
		read, err := macaroon.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		read, err = read.Narrow("last=1")
		if err != nil {
			t.Fatal(err)
		}
		var seen []string
		if err := read.Verify(key, func(c string) error { seen = append(seen, c); return nil }); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(seen) != fmt.Sprint(append(caveats, "last=1")) {
			t.Fatalf("the caveats %q are read as %q", caveats, seen)
		}
		var back other.Macaroon
		if err := back.UnmarshalBinary(read.Append(nil)); err != nil {
			t.Fatal(err)
		}
		if err := back.Verify(key.Reveal(), anything, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// Whoever takes a caveat away, changes one, adds one without the chain, or
// brings another root's credential has a forgery.
func TestAForgeryIsFound(t *testing.T) {
	m := bake(t, "service=a,b", "service=a")
	if err := m.Verify(root(t, 1), anything); err != nil {
		t.Fatal(err)
	}
	if err := m.Verify(root(t, 2), anything); !errors.Is(err, macaroon.ErrForged) {
		t.Errorf("another root's: %v", err)
	}
	for what, spoil := range map[string]func(*macaroon.Macaroon){
		"a caveat less":    func(m *macaroon.Macaroon) { m.Caveats = m.Caveats[:1] },
		"a caveat more":    func(m *macaroon.Macaroon) { m.Caveats = append(m.Caveats[:2:2], "x=1") },
		"a caveat changed": func(m *macaroon.Macaroon) { m.Caveats = []string{"service=a,b", "service=b"} },
		"caveats swapped":  func(m *macaroon.Macaroon) { m.Caveats = []string{"service=a", "service=a,b"} },
		"another id":       func(m *macaroon.Macaroon) { m.ID = []byte("ie") },
	} {
		forged, err := macaroon.Decode(m.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		spoil(&forged)
		if err := forged.Verify(root(t, 1), anything); !errors.Is(err, macaroon.ErrForged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	no := errors.New("no")
	if err := m.Verify(root(t, 1), func(c string) error { return no }); !errors.Is(err, no) {
		t.Errorf("a caveat that does not hold: %v", err)
	}
}

// Narrowing leaves the wider credential alone, also when both share memory.
func TestNarrowingLeavesTheWider(t *testing.T) {
	wide := bake(t, "service=a,b")
	one, err := wide.Narrow("service=a")
	if err != nil {
		t.Fatal(err)
	}
	two, err := wide.Narrow("service=b")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []macaroon.Macaroon{wide, one, two} {
		if err := m.Verify(root(t, 1), anything); err != nil {
			t.Errorf("%q: %v", m.Caveats, err)
		}
	}
}

func TestLimits(t *testing.T) {
	key := root(t, 1)
	long := func(n int) string { return strings.Repeat("x", n) }
	for what, bake := range map[string]func() (macaroon.Macaroon, error){
		"an identifier": func() (macaroon.Macaroon, error) {
			return macaroon.Bake(key, []byte(long(macaroon.MaxID+1)), "")
		},
		"no identifier": func() (macaroon.Macaroon, error) { return macaroon.Bake(key, nil, "") },
		"a location": func() (macaroon.Macaroon, error) {
			return macaroon.Bake(key, []byte("i"), long(macaroon.MaxLocation+1))
		},
		"a caveat": func() (macaroon.Macaroon, error) {
			return macaroon.Bake(key, []byte("i"), "", long(macaroon.MaxCaveat+1))
		},
		"an empty caveat": func() (macaroon.Macaroon, error) { return macaroon.Bake(key, []byte("i"), "", "") },
		"caveats": func() (macaroon.Macaroon, error) {
			return macaroon.Bake(key, []byte("i"), "", strings.Split(long(macaroon.MaxCaveats+1), "")...)
		},
		"all of it": func() (macaroon.Macaroon, error) {
			return macaroon.Bake(key, []byte("i"), "", strings.Split(strings.Repeat(long(200)+" ", 30), " ")[:30]...)
		},
	} {
		if _, err := bake(); err == nil {
			t.Errorf("%s beyond the limit is baked", what)
		}
	}
	theirs, err := other.New(key.Reveal(), []byte("i"), "", other.V2)
	if err != nil {
		t.Fatal(err)
	}
	if err := theirs.AddThirdPartyCaveat([]byte("key"), []byte("c"), "there"); err != nil {
		t.Fatal(err)
	}
	b, err := theirs.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := macaroon.Decode(b); err == nil || !strings.Contains(err.Error(), "third-party") {
		t.Errorf("a third-party caveat: %v", err)
	}
}

// Clients of L402 send base64 of either alphabet, padded or not; nothing else is
// the same credential.
func TestText(t *testing.T) {
	m := bake(t, "a=\xff\xfe\xfd>?~")
	raw := m.Append(nil)
	for _, enc := range []*base64.Encoding{base64.RawURLEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.StdEncoding} {
		back, err := macaroon.Parse(enc.EncodeToString(raw))
		if err != nil || back.Text() != m.Text() {
			t.Errorf("%v", err)
		}
	}
	for _, bad := range []string{"", "!", m.Text() + "====", m.Text()[:20] + "\n" + m.Text()[20:], m.Text() + "A", strings.Repeat("A", macaroon.MaxText+1)} {
		if _, err := macaroon.Parse(bad); err == nil {
			t.Errorf("%.40q is read", bad)
		}
	}
}

// A credential that gets into a log line says nothing.
func TestDoesNotPrint(t *testing.T) {
	m := bake(t, "service=a")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if got := fmt.Sprintf(verb, m); got != "macaroon" {
			t.Errorf("%s prints %q", verb, got)
		}
	}
	if got := fmt.Sprintf("%v", &m); strings.Contains(got, "service") {
		t.Errorf("a pointer prints %q", got)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(bake(f).Append(nil))
	f.Add(bake(f, "a=b", "c=d").Append(nil))
	f.Add([]byte{2, 2, 1, 'i', 0, 0, 6, 32})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := macaroon.Decode(b)
		if err != nil {
			return
		}
		if got := m.Append(nil); !bytes.Equal(got, b) {
			t.Errorf("%x is written back as %x", b, got)
		}
		var theirs other.Macaroon
		if err := theirs.UnmarshalBinary(b); err != nil {
			t.Errorf("%x is read here, and by macaroon.v2 not: %v", b, err)
		}
		if back, err := macaroon.Parse(m.Text()); err != nil || !bytes.Equal(back.Append(nil), b) {
			t.Errorf("the text of %x: %v", b, err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	m, key := bake(b, "service=a,b", "expires=1700000000", "quote=aaaa"), root(b, 1)
	text := m.Text()
	b.ReportAllocs()
	for b.Loop() {
		m, err := macaroon.Parse(text)
		if err != nil {
			b.Fatal(err)
		}
		if err := m.Verify(key, anything); err != nil {
			b.Fatal(err)
		}
	}
}
