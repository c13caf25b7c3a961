package env_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/world/secret"
	"coinop.dev/world/secret/env"
	"coinop.dev/world/secret/secrettest"
)

func open(t *testing.T) secret.Home {
	t.Helper()
	u, err := url.Parse("env:COINOP_TEST_SEED")
	if err != nil {
		t.Fatal(err)
	}
	h, err := env.OpenURL(u)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Every way to write 32 to 64 bytes down is read, from the variable or a file.
func TestSpellings(t *testing.T) {
	for _, size := range []int{32, 33, 64} {
		s := secrettest.Seed(t, size)
		raw := s.Reveal()
		for _, text := range []string{
			hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)), " " + hex.EncodeToString(raw) + "\n",
			base64.StdEncoding.EncodeToString(raw), base64.RawStdEncoding.EncodeToString(raw),
			base64.URLEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw),
		} {
			t.Setenv("COINOP_TEST_SEED_FILE", "")
			t.Setenv("COINOP_TEST_SEED", text)
			if got, err := open(t).Load(); err != nil || !got.Equal(s) {
				t.Errorf("from the variable: %v", err)
			}
			path := filepath.Join(t.TempDir(), "seed")
			if err := os.WriteFile(path, []byte(text+"\n"), 0o444); err != nil {
				t.Fatal(err)
			}
			t.Setenv("COINOP_TEST_SEED", "")
			t.Setenv("COINOP_TEST_SEED_FILE", path)
			if got, err := open(t).Load(); err != nil || !got.Equal(s) {
				t.Errorf("from the file: %v", err)
			}
		}
	}
}

func TestEmptyAndReadOnly(t *testing.T) {
	t.Setenv("COINOP_TEST_SEED", "")
	h := open(t)
	if _, err := h.Load(); !errors.Is(err, secret.ErrEmpty) {
		t.Errorf("no variable: %v", err)
	}
	if err := h.Store(secrettest.Seed(t, 32)); !errors.Is(err, secret.ErrReadOnly) {
		t.Errorf("store: %v", err)
	}
	// So a machine does not make up a key that is gone at the next start.
	if _, err := secret.MachineKey(h, strings.NewReader(strings.Repeat("k", 64))); !errors.Is(err, secret.ErrReadOnly) {
		t.Errorf("a machine key: %v", err)
	}
	if h.Counter(keys.Public{}) != nil {
		t.Error("an environment counts")
	}
	t.Setenv("COINOP_TEST_SEED_FILE", "/nowhere")
	if _, err := h.Load(); err == nil || errors.Is(err, secret.ErrEmpty) {
		t.Errorf("a file that is named and not there: %v", err)
	}
}

// A secret with a typing error is not in the error.
func TestErrorsDoNotQuote(t *testing.T) {
	for _, text := range []string{"correct horse battery staple", "5e3", strings.Repeat("5e", 31), strings.Repeat("5e", 32)[1:], strings.Repeat("5e", 65), "5e3=5e3"} {
		t.Setenv("COINOP_TEST_SEED", text)
		_, err := open(t).Load()
		if err == nil || strings.Contains(err.Error(), "5e") || strings.Contains(err.Error(), "horse") {
			t.Errorf("%d characters: %v", len(text), err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(strings.Repeat("5e", 32))
	f.Add(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, 64)))
	f.Add("-_-_")
	f.Add("00000000000000000000000000000000000000000000=") // its base64 looks like hex
	f.Fuzz(func(t *testing.T, text string) {
		s, err := env.Parse(text)
		if err != nil {
			return
		}
		for _, again := range []string{hex.EncodeToString(s.Reveal()), base64.StdEncoding.EncodeToString(s.Reveal())} {
			if _, err := hex.DecodeString(again); err == nil && len(again)%4 == 0 && len(again) != 2*len(s.Reveal()) {
				continue // base64 that looks like hex, which chance does not make
			}
			if got, err := env.Parse(again); err != nil || !got.Equal(s) {
				t.Errorf("%d bytes do not come back: %v", len(s.Reveal()), err)
			}
		}
	})
}
