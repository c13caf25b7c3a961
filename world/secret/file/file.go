// Package file keeps the secret in a file, encrypted with a passphrase by age
// (age-encryption.org/v1, the scrypt recipient), or bare.
package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"

	"filippo.io/age"

	"coinop.dev/core/keys"
	"coinop.dev/world/generation"
	"coinop.dev/world/secret"
)

const (
	// WorkFactor is scrypt's log2(N) for new files: 36 MB and 0.2 s, where age's own
	// default takes 270 MB and a board of 512 MB may have other things to do.
	WorkFactor = 15
	// maxWorkFactor bounds what an existing file may ask for: the age command's default.
	maxWorkFactor = 18

	// PassphraseEnv is the variable with the passphrase; with _FILE at its end, of
	// the file that has it.
	PassphraseEnv = "COINOP_PASSPHRASE"

	magic = "age-encryption.org/"
)

// A Home is a file.
type Home struct {
	Path       string
	Plain      bool   // not encrypted
	Passphrase string // the file with it; empty: PassphraseEnv
	Count      string // the file of the counter; empty: there is none
}

// OpenURL opens file:/path, with the options plain=1, passphrase_file=/path and
// counter=/path.
func OpenURL(u *url.URL) (secret.Home, error) {
	path, err := secret.Path(u)
	if err != nil {
		return nil, err
	}
	o, err := secret.Options(u, "plain", "passphrase_file", "counter")
	if err != nil {
		return nil, err
	}
	plain, given := o["plain"]
	switch {
	case given && plain != "1":
		return nil, fmt.Errorf("secret %s: plain=%.20q; write plain=1, or leave it out for an encrypted file", secret.Name(u), plain)
	case given && o["passphrase_file"] != "":
		return nil, fmt.Errorf("secret %s: a plain file has no passphrase; leave out plain or passphrase_file", secret.Name(u))
	}
	return &Home{Path: path, Plain: given, Passphrase: o["passphrase_file"], Count: o["counter"]}, nil
}

// Load is secret.Home's.
func (h *Home) Load() (secret.Seed, error) {
	raw, err := secret.Read(h.Path)
	if err != nil {
		return secret.Seed{}, h.named(err)
	}
	defer clear(raw)
	encrypted := bytes.HasPrefix(raw, []byte(magic))
	switch {
	case h.Plain && encrypted:
		return secret.Seed{}, h.named(errors.New("the file is encrypted; leave out plain=1 and give its passphrase"))
	case h.Plain:
		s, err := secret.NewSeed(raw)
		return s, h.named(err)
	case !encrypted:
		return secret.Seed{}, h.named(errors.New("the file is not encrypted by age; if it is a bare key, add ?plain=1, or copy the key to an encrypted file"))
	}
	s, err := h.decrypt(raw)
	return s, h.named(err)
}

func (h *Home) decrypt(raw []byte) (secret.Seed, error) {
	passphrase, err := h.passphrase()
	if err != nil {
		return secret.Seed{}, err
	}
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return secret.Seed{}, err
	}
	identity.SetMaxWorkFactor(maxWorkFactor)
	r, err := age.Decrypt(bytes.NewReader(raw), identity)
	if err != nil {
		return secret.Seed{}, fmt.Errorf("the passphrase is wrong, or the file is damaged or asks for a work factor above %d: %w", maxWorkFactor, err)
	}
	b, err := io.ReadAll(io.LimitReader(r, secret.MaxSize+1))
	defer clear(b)
	if err != nil {
		return secret.Seed{}, fmt.Errorf("the file is damaged; put a copy back: %w", err)
	}
	return secret.NewSeed(b)
}

// Store is secret.Home's.
func (h *Home) Store(s secret.Seed) error {
	// The slow part is not begun for a file that is there.
	if _, err := os.Lstat(h.Path); err == nil {
		return h.named(secret.ErrFull)
	}
	content := s.Reveal()
	defer clear(content)
	if _, err := secret.NewSeed(content); err != nil {
		return h.named(err)
	}
	if !h.Plain {
		sealed, err := h.encrypt(content)
		if err != nil {
			return h.named(err)
		}
		content = sealed
	}
	return h.named(secret.Create(h.Path, content))
}

func (h *Home) encrypt(b []byte) ([]byte, error) {
	passphrase, err := h.passphrase()
	if err != nil {
		return nil, err
	}
	recipient, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, err
	}
	recipient.SetWorkFactor(WorkFactor)
	var out bytes.Buffer
	w, err := age.Encrypt(&out, recipient)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(b)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (h *Home) passphrase() (string, error) {
	path := h.Passphrase
	if path == "" {
		if p := os.Getenv(PassphraseEnv); p != "" {
			return p, nil
		}
		path = os.Getenv(PassphraseEnv + "_FILE")
	}
	if path == "" {
		return "", fmt.Errorf("it is encrypted and there is no passphrase; set %s or %s_FILE, or add ?passphrase_file=/path", PassphraseEnv, PassphraseEnv)
	}
	word, err := secret.ReadWord(path)
	defer clear(word)
	return string(word), err
}

// Counter is a file that the URI names: it tells of an old disk image only if it is
// on another disk.
func (h *Home) Counter(node keys.Public) generation.Counter {
	if h.Count == "" {
		return nil
	}
	return generation.File{Path: h.Count, Node: node}
}

// Close does nothing.
func (h *Home) Close() error { return nil }

func (h *Home) named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("secret file:%s: %w", h.Path, err)
}
