// Package pkcs11 wraps the secret with a key that never leaves a token: an HSM, a
// smart card, or softhsm2.
//
// Few tokens know secp256k1, so the token does not sign payments. It computes a MAC
// (HMAC-SHA256, or AES-CMAC twice) over a random salt with its key, and what comes
// out encrypts the secret (AES-256-GCM); salt and ciphertext are in a file. Without
// the token, or its PIN, the file says nothing. While the machine runs the secret is
// in its memory, as with every other home.
//
// The counter of starts is an object in the token: no disk image brings it back, but
// whoever has the PIN can set it.
//
// The scheme needs cgo and the build tag pkcs11; other builds say so.
package pkcs11

import (
	"fmt"
	"net/url"
	"strings"

	"coinop.dev/world/secret"
)

// An Address is what a URI names (RFC 7512).
type Address struct {
	Token, Serial string // of the token; an empty one does not matter
	Object        string // CKA_LABEL of the key that wraps
	Module        string // path of the token's library
	Pin           string // path of the file with the PIN
	File          string // path of the wrapped secret

	name string
}

// Parse reads pkcs11:token=site;object=coinop?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/pin&file=/var/lib/coinop/key.
// file is coinop's own. serial may be added to the token, and type=secret-key is
// understood.
func Parse(u *url.URL) (a Address, err error) {
	a.name = secret.Name(u)
	attributes := map[string]string{}
	for _, part := range strings.Split(u.Opaque, ";") {
		name, text, ok := strings.Cut(part, "=")
		value, err := url.PathUnescape(text)
		_, twice := attributes[name]
		if !ok || err != nil || twice {
			return a, fmt.Errorf("secret %s: write pkcs11:token=label;object=label?module-path=/path", a.name)
		}
		attributes[name] = value
	}
	for name, value := range attributes {
		switch {
		case name == "token":
			a.Token = value
		case name == "serial":
			a.Serial = value
		case name == "object":
			a.Object = value
		case name == "type" && value == "secret-key":
		default:
			return a, fmt.Errorf("secret %s: attribute %.40s is not understood; there is token, serial, object and type=secret-key", a.name, name)
		}
	}
	if u.Query().Has("pin-value") {
		return a, fmt.Errorf("secret %s: a PIN in the URI ends up in logs and process lists; write it to a file and add pin-source=file:/path", a.name)
	}
	o, err := secret.Options(u, "module-path", "pin-source", "file")
	if err != nil {
		return a, err
	}
	a.Module, a.File, a.Pin = o["module-path"], o["file"], strings.TrimPrefix(strings.TrimPrefix(o["pin-source"], "file:"), "//")
	for _, need := range []struct{ name, value string }{
		{"token", a.Token + a.Serial}, {"object", a.Object},
		{"module-path", a.Module}, {"pin-source", a.Pin}, {"file", a.File},
	} {
		if need.value == "" {
			return a, fmt.Errorf("secret %s: %s is missing; write pkcs11:token=label;object=label?module-path=/path&pin-source=file:/path&file=/path", a.name, need.name)
		}
	}
	return a, nil
}

func (a Address) named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("secret %s: %w", a.name, err)
}
