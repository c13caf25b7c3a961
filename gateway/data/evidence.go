package data

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"coinop.dev/core/sealed"
)

// A Cheat is a seller that has sold what does not open, or not what it has signed.
// The file at Path, if evidence was wanted, shows it to anybody (Judge).
type Cheat struct {
	Path string
	Err  error
}

func (c *Cheat) Error() string {
	if c.Path == "" {
		return fmt.Sprintf("the seller has cheated: %v", c.Err)
	}
	return fmt.Sprintf("the seller has cheated: %v; the evidence is in %s", c.Err, c.Path)
}

func (c *Cheat) Unwrap() error { return c.Err }

// evidence is the file: what the seller has signed, and the key that it has sold.
type evidence struct {
	Sealed []byte `json:"sealed,omitempty"` // of one reading
	Offer  []byte `json:"offer,omitempty"`  // of a stream, and a chunk of it
	Chunk  []byte `json:"chunk,omitempty"`
	Key    string `json:"key"`
}

// MaxEvidence bounds a file of evidence, in bytes.
const MaxEvidence = 256 << 10

// cheat writes the evidence down. The error is the seller's in any case.
func cheat(dir string, e evidence, why error) error {
	c := &Cheat{Err: why}
	if dir == "" {
		return c
	}
	b, err := json.Marshal(e)
	if err == nil {
		sum := sha256.Sum256(b)
		c.Path = filepath.Join(dir, "cheat-"+hex.EncodeToString(sum[:8])+".json")
		if err = os.MkdirAll(dir, 0o700); err == nil {
			err = os.WriteFile(c.Path, b, 0o600)
		}
	}
	if err != nil {
		c.Path, c.Err = "", errors.Join(why, err)
	}
	return c
}

// Judge reads a file of evidence. If it proves that the seller has cheated, why is
// how; if not, why is what is wrong with it, or nil: the seller was honest.
func Judge(file []byte) (proven bool, why error) {
	if len(file) > MaxEvidence {
		return false, fmt.Errorf("the evidence has %d bytes; the limit is %d", len(file), MaxEvidence)
	}
	var e evidence
	if err := json.Unmarshal(file, &e); err != nil {
		return false, err
	}
	var raw [32]byte
	if n, err := hex.Decode(raw[:], []byte(e.Key[:min(len(e.Key), 64)])); err != nil || n != len(raw) {
		return false, errors.New("there is no key in the evidence")
	}
	key := sealed.NewKey(raw)
	if e.Sealed != nil {
		return judgeOne(e.Sealed, key)
	}
	o, err := readOffer(e.Offer)
	if err != nil {
		return false, err
	}
	msg, err := sealed.Decode(e.Chunk)
	if err != nil {
		return false, err
	}
	c, ok := msg.(sealed.Chunk)
	if !ok {
		return false, fmt.Errorf("a %T is no chunk", msg)
	}
	return sealed.FraudOf(o, c, key)
}

func judgeOne(b []byte, key sealed.Key) (proven bool, why error) {
	msg, err := sealed.Decode(b)
	if err != nil {
		return false, err
	}
	one, ok := msg.(*sealed.Sealed)
	if !ok {
		return false, fmt.Errorf("a %T is no sealed reading", msg)
	}
	if proven, why = sealed.Fraud(one, key); proven || why != nil {
		return proven, why
	}
	meta, err := readMeta(one.Meta)
	if err != nil {
		return true, err // it has signed that
	}
	plain, err := one.Open(key)
	if err == nil {
		_, err = unsalt(plain, meta)
	}
	return err != nil, err
}
