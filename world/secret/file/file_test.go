package file_test

import (
	"bytes"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"coinop.dev/core/keys"
	"coinop.dev/world/secret"
	"coinop.dev/world/secret/file"
	"coinop.dev/world/secret/secrettest"
)

func open(uri string) (secret.Home, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, err
	}
	return file.OpenURL(u)
}

func encrypted(dir string) (secret.Home, error) { return open("file:" + dir + "/key") }

func plain(dir string) (secret.Home, error) { return open("file:" + dir + "/key?plain=1") }

func TestEncrypted(t *testing.T) {
	t.Setenv(file.PassphraseEnv, "correct horse battery staple")
	secrettest.Test(t, encrypted)
	secrettest.TestSealed(t, encrypted)
	secrettest.Damage(t, encrypted, 97)
}

func TestPlain(t *testing.T) {
	secrettest.Test(t, plain)
	dir := t.TempDir()
	if h, _ := plain(dir); h.Counter(keys.Public{}) != nil {
		t.Error("there is a counter that nobody asked for")
	}
}

// A counter on another disk tells of an old image of this one.
func TestRollback(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "start")
	secrettest.TestRollback(t, func(dir string) (secret.Home, error) {
		return open("file:" + dir + "/key?plain=1&counter=" + elsewhere)
	})
}

// The key file of a machine from before there were homes.
func TestOldKeyFile(t *testing.T) {
	dir, s := t.TempDir(), secrettest.Seed(t, 32)
	path := filepath.Join(dir, "key")
	if err := os.WriteFile(path, s.Reveal(), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := plain(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := h.Load(); err != nil || !got.Equal(s) {
		t.Errorf("the bare key: %v", err)
	}
	t.Setenv(file.PassphraseEnv, "secret words")
	h, err = encrypted(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Load(); err == nil || !strings.Contains(err.Error(), "add ?plain=1") {
		t.Errorf("without plain=1: %v", err)
	}
	// It moves to an encrypted file beside it, and stays where it is.
	from, _ := plain(dir)
	to, _ := open("file:" + dir + "/key.age")
	if err := secret.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if got, err := to.Load(); err != nil || !got.Equal(s) {
		t.Errorf("the copy: %v", err)
	}
	bare, _ := open("file:" + dir + "/key.age?plain=1")
	if _, err := bare.Load(); err == nil || !strings.Contains(err.Error(), "leave out plain=1") {
		t.Errorf("plain=1 on an encrypted file: %v", err)
	}
}

// The passphrase comes from a variable, from the file that one names, or from the
// file in the URI, which goes first.
func TestPassphrases(t *testing.T) {
	dir, s := t.TempDir(), secrettest.Seed(t, 64)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o444); err != nil {
			t.Fatal(err)
		}
		return path
	}
	right, wrong, empty := write("right", "tr0ub4dor\n"), write("wrong", "tr0ub4dor&3"), write("empty", "\n")
	uri := "file:" + dir + "/key"
	for _, test := range []struct{ word, file, option, says string }{
		{word: "tr0ub4dor"},
		{file: right},
		{option: right},
		{word: "tr0ub4dor&3", option: right},
		{word: "tr0ub4dor", file: wrong},
		{option: wrong, says: "the passphrase is wrong"},
		{says: "set COINOP_PASSPHRASE or COINOP_PASSPHRASE_FILE"},
		{option: empty, says: "is empty"},
		{option: "/nowhere", says: "no such file"},
	} {
		t.Setenv(file.PassphraseEnv, test.word)
		t.Setenv(file.PassphraseEnv+"_FILE", test.file)
		at := uri
		if test.option != "" {
			at += "?passphrase_file=" + test.option
		}
		h, err := open(at)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Store(s); err != nil && !errors.Is(err, secret.ErrFull) {
			t.Fatal(err)
		}
		got, err := h.Load()
		switch {
		case test.says == "" && (err != nil || !got.Equal(s)):
			t.Errorf("%+v: %v", test, err)
		case test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)):
			t.Errorf("%+v: %v", test, err)
		case err != nil && strings.Contains(err.Error(), "tr0ub4dor"):
			t.Errorf("the passphrase is in: %v", err)
		}
	}
}

// The file is age's own: age opens ours, we open age's, and not one that would take
// all of the memory.
func TestAge(t *testing.T) {
	t.Setenv(file.PassphraseEnv, "words")
	dir, s := t.TempDir(), secrettest.Seed(t, 32)
	h, _ := encrypted(dir)
	if err := h.Store(s); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(raw, []byte("-> scrypt ")) || !bytes.Contains(raw, []byte(" 15\n")) {
		t.Errorf("the header is %.120q", raw)
	}
	identity, err := age.NewScryptIdentity("words")
	if err != nil {
		t.Fatal(err)
	}
	r, err := age.Decrypt(bytes.NewReader(raw), identity)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, s.Reveal()) {
		t.Errorf("age reads something else: %v", err)
	}
	greedy := bytes.Replace(raw, []byte(" 15\n"), []byte(" 21\n"), 1)
	if err := os.WriteFile(filepath.Join(dir, "key"), greedy, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Load(); err == nil || !strings.Contains(err.Error(), "too large: 21") {
		t.Errorf("a file that asks for 2 GB: %v", err)
	}
}

func BenchmarkLoad(b *testing.B) {
	b.Setenv(file.PassphraseEnv, "words")
	h, _ := encrypted(b.TempDir())
	if err := h.Store(secrettest.Seed(b, 32)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Load(); err != nil {
			b.Fatal(err)
		}
	}
}
