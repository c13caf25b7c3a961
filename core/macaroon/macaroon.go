// Package macaroon is bearer credentials that whoever holds one can narrow and
// nobody can widen: an identifier and a list of caveats under a chain of HMACs
// (Birgisson et al., "Macaroons: Cookies with Contextual Caveats", 2014), in the
// version 2 binary format of libmacaroons. L402 tokens, quotes, the credentials
// of devices and those of the console are such.
//
// Only first-party caveats exist here. A macaroon with a third-party one is
// refused when it is read: nobody could discharge it.
package macaroon

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
)

const (
	// MaxID bounds an identifier, in bytes. L402's has 66.
	MaxID = 512
	// MaxLocation bounds the hint of where a macaroon is good for, in bytes.
	MaxLocation = 256
	// MaxCaveat bounds one caveat, in bytes: a quote in base64 with the longest
	// names has 270.
	MaxCaveat = 320
	// MaxCaveats bounds how often one can be narrowed.
	MaxCaveats = 32
	// MaxSize bounds the binary form, in bytes; in base64 it still fits the 8 KiB
	// that HTTP servers give to a header.
	MaxSize = 4096
	// MaxText is MaxSize in padded base64, in characters.
	MaxText = (MaxSize + 2) / 3 * 4
)

// Fields of the binary format. A caveat's identifier has the number of the
// macaroon's.
const (
	version         = 2
	fieldEnd        = 0
	fieldLocation   = 1
	fieldIdentifier = 2
	fieldVerifier   = 4 // of third-party caveats
	fieldSignature  = 6
)

// keyGenerator is what libmacaroons hashes a root key under, so that roots may
// be of any length.
const keyGenerator = "macaroons-key-generator"

// A Macaroon is one credential. Whoever has its bytes has what it allows, so it
// prints as "macaroon" and leaves through Append and Text alone.
type Macaroon struct {
	Location string // a hint for the holder; nothing signs it
	ID       []byte
	Caveats  []string
	sig      [sha256.Size]byte
}

var (
	// ErrForged means that no macaroon with these caveats was baked or narrowed
	// from one of this root's.
	ErrForged = errors.New("the credential was not issued here, or its caveats were changed")
	errThird  = errors.New("the credential has a third-party caveat, which nobody here can discharge")
)

// Bake makes a macaroon under a root. Every identifier must be baked once only,
// or belong to one holder: who has a macaroon without a caveat can add any.
func Bake(root keys.Secret, id []byte, location string, caveats ...string) (Macaroon, error) {
	if len(id) == 0 || len(id) > MaxID {
		return Macaroon{}, fmt.Errorf("a credential's identifier is %d bytes; it must be 1 to %d", len(id), MaxID)
	}
	if len(location) > MaxLocation {
		return Macaroon{}, fmt.Errorf("a credential's location is %d bytes; the limit is %d", len(location), MaxLocation)
	}
	m := Macaroon{Location: location, ID: bytes.Clone(id), sig: begin(root, id)}
	return m.Narrow(caveats...)
}

// Narrow returns m with caveats added; it needs no root and leaves m as it was.
func (m Macaroon) Narrow(caveats ...string) (Macaroon, error) {
	if n := len(m.Caveats) + len(caveats); n > MaxCaveats {
		return Macaroon{}, fmt.Errorf("a credential of %d caveats; the limit is %d: ask its issuer for one with fewer", n, MaxCaveats)
	}
	m.Caveats = append(m.Caveats[:len(m.Caveats):len(m.Caveats)], caveats...)
	for _, c := range caveats {
		if len(c) == 0 || len(c) > MaxCaveat {
			return Macaroon{}, fmt.Errorf("a caveat is %d bytes; it must be 1 to %d", len(c), MaxCaveat)
		}
		m.sig = chain(m.sig[:], []byte(c))
	}
	if n := m.size(); n > MaxSize {
		return Macaroon{}, fmt.Errorf("a credential of %d bytes; the limit is %d: use shorter caveats", n, MaxSize)
	}
	return m, nil
}

// Verify reports whether m was baked under root, and then asks check of each
// caveat, in the order they were added. The error is ErrForged or check's.
func (m Macaroon) Verify(root keys.Secret, check func(caveat string) error) error {
	sig := begin(root, m.ID)
	for _, c := range m.Caveats {
		sig = chain(sig[:], []byte(c))
	}
	if !hmac.Equal(sig[:], m.sig[:]) {
		return ErrForged
	}
	for _, c := range m.Caveats {
		if err := check(c); err != nil {
			return err
		}
	}
	return nil
}

func begin(root keys.Secret, id []byte) [sha256.Size]byte {
	key := chain([]byte(keyGenerator), root.Reveal())
	return chain(key[:], id)
}

func chain(key, data []byte) (sum [sha256.Size]byte) {
	mac := hmac.New(sha256.New, key)
	mac.Write(data)
	mac.Sum(sum[:0])
	return sum
}

// Format prints "macaroon" for every verb, so no log line can leak one.
func (m Macaroon) Format(f fmt.State, _ rune) { io.WriteString(f, "macaroon") }

// Append writes the binary form.
func (m Macaroon) Append(b []byte) []byte {
	b = append(b, version)
	if m.Location != "" {
		b = appendField(b, fieldLocation, m.Location)
	}
	b = append(appendField(b, fieldIdentifier, m.ID), fieldEnd)
	for _, c := range m.Caveats {
		b = append(appendField(b, fieldIdentifier, c), fieldEnd)
	}
	return appendField(append(b, fieldEnd), fieldSignature, m.sig[:])
}

// size is how many bytes Append writes.
func (m Macaroon) size() int { return len(m.Append(make([]byte, 0, MaxSize))) }

func appendField[T ~[]byte | ~string](b []byte, field byte, v T) []byte {
	return codec.AppendBytes(append(b, field), v)
}

// Decode reads the binary form. What it accepts, Append writes back byte for
// byte.
func Decode(b []byte) (m Macaroon, err error) {
	if len(b) > MaxSize {
		return m, fmt.Errorf("the credential is %d bytes; the limit is %d", len(b), MaxSize)
	}
	r := codec.NewReader(b)
	if v := r.U8(); r.Err() == nil && v != version {
		return m, fmt.Errorf("the credential is a macaroon of format %d; only the binary format %d is read", v, version)
	}
	field := r.U8()
	if field == fieldLocation {
		if m.Location = r.String(MaxLocation, "location"); m.Location == "" {
			r.Fail(errors.New("the location is empty; it must then be left out"))
		}
		field = r.U8()
	}
	m.ID = identifier(r, field, MaxID)
	for r.Err() == nil {
		if field = r.U8(); field == fieldEnd {
			break
		}
		if len(m.Caveats) == MaxCaveats {
			r.Fail(fmt.Errorf("the credential has more than %d caveats", MaxCaveats))
		}
		m.Caveats = append(m.Caveats, string(identifier(r, field, MaxCaveat)))
	}
	if field = r.U8(); r.Err() == nil && field != fieldSignature {
		r.Fail(fmt.Errorf("there is a field %d where the signature should be", field))
	}
	if n := r.Int(sha256.Size, "signature length"); n != sha256.Size {
		r.Fail(fmt.Errorf("the signature is %d bytes; it must be %d", n, sha256.Size))
	}
	r.Fill(m.sig[:])
	if err := r.Close(); err != nil {
		return Macaroon{}, fmt.Errorf("credential: %w", err)
	}
	return m, nil
}

// identifier reads the rest of a section that has an identifier alone.
func identifier(r *codec.Reader, field byte, limit int) []byte {
	if r.Err() == nil && field == fieldLocation {
		r.Fail(errThird) // only they say whose they are
	}
	if r.Err() == nil && field != fieldIdentifier {
		r.Fail(fmt.Errorf("there is a field %d where an identifier should be", field))
	}
	id := r.Bytes(limit, "identifier")
	if r.Err() == nil && len(id) == 0 {
		r.Fail(errors.New("an identifier is empty"))
	}
	switch end := r.U8(); {
	case r.Err() != nil, end == fieldEnd:
	case end == fieldVerifier:
		r.Fail(errThird)
	default:
		r.Fail(fmt.Errorf("there is a field %d after an identifier", end))
	}
	return id
}

// Text is the binary form in base64url without padding: what stands in headers.
func (m Macaroon) Text() string {
	return base64.RawURLEncoding.EncodeToString(m.Append(make([]byte, 0, 256)))
}

// urlAlphabet turns base64 into base64url.
var urlAlphabet = strings.NewReplacer("+", "-", "/", "_")

// Parse reads Text. It takes the standard alphabet and padding too, since
// clients of L402 send those.
func Parse(text string) (Macaroon, error) {
	if len(text) > MaxText {
		return Macaroon{}, fmt.Errorf("the credential is %d characters; the limit is %d", len(text), MaxText)
	}
	bare := strings.TrimRight(urlAlphabet.Replace(text), "=")
	if pad := len(text) - len(bare); pad != 0 && (pad > 2 || len(text)%4 != 0) || strings.ContainsAny(bare, "\r\n") {
		return Macaroon{}, errors.New("the credential is not base64url")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(bare)
	if err != nil {
		return Macaroon{}, errors.New("the credential is not base64url")
	}
	return Decode(b)
}
