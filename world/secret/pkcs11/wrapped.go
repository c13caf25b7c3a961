package pkcs11

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"

	"coinop.dev/world/secret"
)

const (
	format   = 1
	saltSize = 32
	tagSize  = 16
)

// What the token computes.
const (
	hmacSHA256 = "hmac-sha256" // over the salt
	aesCMAC    = "aes-cmac"    // over 1 ‖ salt and 2 ‖ salt
)

// A wrapped secret is what the file has. Nothing in it is secret.
type wrapped struct {
	Format int    `json:"format"`
	Serial string `json:"serial"` // of the token, to say which one is missing
	MAC    string `json:"mac"`
	Salt   []byte `json:"salt"`
	Sealed []byte `json:"sealed"`
}

var errWrapped = errors.New("this is no secret wrapped by coinop; put the right file back")

func parseWrapped(raw []byte) (w wrapped, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&w); err != nil || d.More() {
		return wrapped{}, errWrapped
	}
	if w.Format > format {
		return wrapped{}, fmt.Errorf("its format is %d and this build reads up to %d; use the newer coinop that wrote it", w.Format, format)
	}
	size := len(w.Sealed) - tagSize
	if w.Format != format || w.MAC != hmacSHA256 && w.MAC != aesCMAC || len(w.Serial) > 64 ||
		len(w.Salt) != saltSize || size < secret.MinSize || size > secret.MaxSize {
		return wrapped{}, errWrapped
	}
	return w, nil
}

func (w wrapped) marshal() []byte {
	out, err := json.Marshal(w)
	if err != nil {
		panic(err) // strings, bytes and a number
	}
	return append(out, '\n')
}

// aead is AES-256-GCM with a key that belongs to one salt and seals one message, so
// its nonce may be zero.
func aead(key []byte) (a cipher.AEAD, nonce []byte, err error) {
	if len(key) != 32 {
		return nil, nil, fmt.Errorf("the token's MAC has %d bytes; it must have 32", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, err
	}
	a, err = cipher.NewGCM(block)
	return a, make([]byte, 12), err
}

func (w wrapped) head() []byte { return []byte("coinop/secret/pkcs11/1/" + w.MAC) }

func (w *wrapped) seal(key, plain []byte) error {
	a, nonce, err := aead(key)
	if err == nil {
		w.Sealed = a.Seal(nil, nonce, plain, w.head())
	}
	return err
}

// open returns bytes that the caller clears.
func (w wrapped) open(key []byte) ([]byte, error) {
	a, nonce, err := aead(key)
	if err != nil {
		return nil, err
	}
	plain, err := a.Open(nil, nonce, w.Sealed, w.head())
	if err != nil {
		return nil, fmt.Errorf("%w, or the file is damaged; use the token that wrapped it (serial %.64q)", ErrOther, w.Serial)
	}
	return plain, nil
}

// ErrOther means that another key wrapped the secret.
var ErrOther = errors.New("it was wrapped by another key or token")
