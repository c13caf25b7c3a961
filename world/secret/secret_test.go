package secret_test

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coinop.dev/world/secret"
	_ "coinop.dev/world/secret/all"
	"coinop.dev/world/secret/secrettest"
)

// All schemes are there; a wrong URI is refused in words that help, and without what
// may be a PIN.
func TestWrongURIs(t *testing.T) {
	for _, test := range []struct{ uri, says string }{
		{"/var/lib/key", "is not a URI"},
		{"%zz?pin-value=4711", "is not a URI"},
		{"floppy:/a?pin-value=4711", "env, file, pkcs11, tpm"},
		{"file:", "names no file"},
		{"file://host/key", "names no file"},
		{"file:/key?pin=4711", "has no option"},
		{"file:/key?plain=1&plain=1", "is given 2 times"},
		{"file:/key?plain=yes", "write plain=1"},
		{"file:/key?plain=1&passphrase_file=/p", "has no passphrase"},
		{"env:", "names no variable"},
		{"env:A-B", "names no variable"},
		{"tpm:/dev/tpmrm0", "add ?file="},
		{"tpm:?file=/f", "names no device"},
		{"tpm:swtpm?file=/f", "give socket=/path or tcp=host:port"},
		{"tpm:/dev/tpmrm0?file=/f&tcp=localhost:1", "are for tpm:swtpm"},
		{"tpm:/dev/tpmrm0?file=/f&pcrs=7,24", "registers from 0 to 23"},
		{"tpm:/dev/tpmrm0?file=/f&pcrs=7,7", "each once"},
		{"tpm:/dev/tpmrm0?file=/f&pcrs=", "registers from 0 to 23"},
		{"pkcs11:token=a;object=b?module-path=/m&file=/f&pin-value=4711", "add pin-source="},
		{"pkcs11:token=a?module-path=/m&file=/f&pin-source=/p", "object is missing"},
		{"pkcs11:token=a;object=b;token=c?module-path=/m", "write pkcs11:"},
		{"pkcs11:token=a;slot-id=1", "is not understood"},
	} {
		_, err := secret.Default.Open(test.uri)
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %q is not in: %v", test.uri, test.says, err)
		}
		if err != nil && strings.Contains(err.Error(), "4711") {
			t.Errorf("%s: the PIN is in: %v", test.uri, err)
		}
	}
}

func TestSizes(t *testing.T) {
	for size, ok := range map[int]bool{0: false, 31: false, 32: true, 64: true, 65: false} {
		s, err := secret.NewSeed(make([]byte, size))
		if (err == nil) != ok || s.IsZero() == ok {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	// A wallet's seed is no machine's key, and neither is zero.
	for _, size := range []int{32, 64} {
		s, err := secret.NewSeed(make([]byte, size))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Key(); err == nil {
			t.Errorf("%d zero bytes are a key", size)
		}
	}
	if _, err := (secret.Seed{}).Key(); err == nil {
		t.Error("no secret is a key")
	}
}

// Wiping one copy of the value wipes all of them.
func TestWipe(t *testing.T) {
	s := secrettest.Seed(t, 32)
	other := s
	before := s.Reveal()
	s.Wipe()
	if !other.IsZero() || len(other.Reveal()) != 0 || s.Equal(secrettest.Seed(t, 32)) {
		t.Error("a copy is still there")
	}
	if slices.Max(before) == 0 {
		t.Error("what was revealed is the caller's")
	}
	secret.Seed{}.Wipe()
}

// A home that gives back something else than it was given.
type liar struct {
	secret.Home
	gives secret.Seed
}

func (l liar) Load() (secret.Seed, error) { return l.gives, nil }

func (l liar) Store(secret.Seed) error { return nil }

func TestCopyReadsBack(t *testing.T) {
	s := secrettest.Seed(t, 32).Reveal()
	fresh := func() liar {
		seed, err := secret.NewSeed(s)
		if err != nil {
			t.Fatal(err)
		}
		return liar{gives: seed}
	}
	if err := secret.Copy(fresh(), fresh()); err != nil {
		t.Error(err)
	}
	if err := secret.Copy(liar{gives: secrettest.Seed(t, 32)}, fresh()); err == nil || !strings.Contains(err.Error(), "keep the old home") {
		t.Errorf("another secret came back: %v", err)
	}
}

func TestFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "key")
	if _, err := secret.Read(path); !errors.Is(err, secret.ErrEmpty) {
		t.Errorf("no file: %v", err)
	}
	if err := secret.Create(path, []byte("first")); err != nil {
		t.Fatal(err)
	}
	if err := secret.Create(path, []byte("second")); !errors.Is(err, secret.ErrFull) || !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	// A symbolic link to nowhere is something too.
	dangling := filepath.Join(filepath.Dir(path), "link")
	if err := os.Symlink("/nowhere/key", dangling); err != nil {
		t.Fatal(err)
	}
	if err := secret.Create(dangling, []byte("second")); !errors.Is(err, secret.ErrFull) {
		t.Errorf("over a link: %v", err)
	}
	if b, err := secret.Read(path); string(b) != "first" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := secret.Read(filepath.Dir(path)); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a directory: %v", err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 2 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRegistry(t *testing.T) {
	r := secret.Registry{}
	open := func(*url.URL) (secret.Home, error) { return liar{}, nil }
	r.Register("a", open)
	for name, register := range map[string]func(){"twice": func() { r.Register("a", open) }, "nil": func() { r.Register("b", nil) }} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			register()
		}()
	}
}
