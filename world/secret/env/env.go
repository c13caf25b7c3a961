// Package env reads the secret from an environment variable, where an orchestrator
// has put it.
package env

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"

	"coinop.dev/core/keys"
	"coinop.dev/world/generation"
	"coinop.dev/world/secret"
)

// A Home is the variable Name: hex or base64. If it is not set, the file that
// Name_FILE names has the same text.
type Home struct{ Name string }

var (
	names  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	digits = regexp.MustCompile(`^[0-9A-Fa-f]*$`)
)

// OpenURL opens env:NAME.
func OpenURL(u *url.URL) (secret.Home, error) {
	if _, err := secret.Options(u); err != nil {
		return nil, err
	}
	if !names.MatchString(u.Opaque) {
		return nil, fmt.Errorf("secret %s names no variable; write for example env:COINOP_SEED", secret.Name(u))
	}
	return Home{u.Opaque}, nil
}

// Load is secret.Home's.
func (h Home) Load() (secret.Seed, error) {
	text, where := os.Getenv(h.Name), h.Name
	if text == "" {
		path := os.Getenv(h.Name + "_FILE")
		if path == "" {
			return secret.Seed{}, fmt.Errorf("secret env:%s: %w; set %s to the secret in hex or base64, or %s_FILE to a file that has it", h.Name, secret.ErrEmpty, h.Name, h.Name)
		}
		word, err := secret.ReadWord(path)
		if err != nil {
			return secret.Seed{}, fmt.Errorf("secret env:%s: %w", h.Name, err)
		}
		defer clear(word)
		text, where = string(word), path
	}
	s, err := Parse(text)
	if err != nil {
		return s, fmt.Errorf("secret env:%s: %s: %w", h.Name, where, err)
	}
	return s, nil
}

// Parse reads hex or base64, standard or URL-safe, padded or not. What has nothing but
// hex digits is hex: one that lost a digit must not be taken for base64. The error
// does not quote the text.
func Parse(text string) (secret.Seed, error) {
	text = strings.TrimSpace(text)
	b, err := hex.DecodeString(text)
	if !digits.MatchString(text) {
		unified := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
		b, err = base64.RawStdEncoding.DecodeString(unified)
	}
	defer clear(b)
	if err != nil {
		return secret.Seed{}, fmt.Errorf("its %d characters are neither hex nor base64", len(text))
	}
	return secret.NewSeed(b)
}

// Store refuses: the environment is somebody else's.
func (h Home) Store(secret.Seed) error {
	return fmt.Errorf("secret env:%s: %w; make one (openssl rand -hex 32) and set %s to it", h.Name, secret.ErrReadOnly, h.Name)
}

// Counter is nil: an environment does not count.
func (h Home) Counter(keys.Public) generation.Counter { return nil }

// Close does nothing.
func (h Home) Close() error { return nil }
