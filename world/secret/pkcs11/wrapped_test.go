package pkcs11

import (
	"bytes"
	"errors"
	"net/url"
	"testing"
)

func FuzzParseWrapped(f *testing.F) {
	w := wrapped{Format: format, Serial: "0123456789abcdef", MAC: hmacSHA256, Salt: make([]byte, saltSize)}
	if err := w.seal(make([]byte, 32), make([]byte, 64)); err != nil {
		f.Fatal(err)
	}
	f.Add(w.marshal())
	f.Add([]byte(`{"format":2}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		w, err := parseWrapped(raw)
		if err != nil {
			return
		}
		once := w.marshal()
		if w, err = parseWrapped(once); err != nil || !bytes.Equal(w.marshal(), once) {
			t.Errorf("%s does not come back: %v", once, err)
		}
	})
}

// Only the same key opens it, and nothing in it can be changed.
func TestWrapped(t *testing.T) {
	w := wrapped{Format: format, MAC: hmacSHA256, Salt: make([]byte, saltSize)}
	key, plain := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	if err := w.seal(key, plain); err != nil {
		t.Fatal(err)
	}
	if got, err := w.open(key); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%v", err)
	}
	if _, err := w.open(bytes.Repeat([]byte{3}, 32)); !errors.Is(err, ErrOther) {
		t.Errorf("another key: %v", err)
	}
	if _, err := w.open(key[:31]); err == nil {
		t.Error("a short key opens it")
	}
	other := w
	other.MAC = aesCMAC
	if _, err := other.open(key); !errors.Is(err, ErrOther) {
		t.Errorf("another MAC: %v", err)
	}
	for i := range w.Sealed {
		other := w
		other.Sealed = bytes.Clone(w.Sealed)
		other.Sealed[i] ^= 1
		if _, err := other.open(key); !errors.Is(err, ErrOther) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
}

// RFC 7512, section 3, as far as coinop needs it.
func TestParse(t *testing.T) {
	u, err := url.Parse("pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;serial=4dd;object=my%3Bkey;type=secret-key" +
		"?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:///run/pin&file=/var/lib/coinop/key")
	if err != nil {
		t.Fatal(err)
	}
	a, err := Parse(u)
	a.name = ""
	want := Address{
		Token: "The Software PKCS#11 Softtoken", Serial: "4dd", Object: "my;key",
		Module: "/usr/lib/softhsm/libsofthsm2.so", Pin: "/run/pin", File: "/var/lib/coinop/key",
	}
	if err != nil || a != want {
		t.Errorf("%+v, %v", a, err)
	}
	for source, path := range map[string]string{"file:/run/pin": "/run/pin", "/run/pin": "/run/pin", "file:pin": "pin"} {
		u, err := url.Parse("pkcs11:token=a;object=b?module-path=/m&file=/f&pin-source=" + source)
		if err != nil {
			t.Fatal(err)
		}
		if a, err := Parse(u); err != nil || a.Pin != path {
			t.Errorf("%s: %q, %v", source, a.Pin, err)
		}
	}
}
