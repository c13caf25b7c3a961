// Package data sells readings fairly: it is what a service with From "data:…" is.
// What is sold is delivered with its price, encrypted, and what the payment buys is
// the key (core/sealed).
//
// One reading, over Lightning: the offer is the ciphertext, the seller's signature
// and an invoice, and the preimage of that invoice is the key. The seller keeps
// nothing for an offer and reveals nothing after it: whoever has paid has the key,
// from the network itself, whether the seller is still there or not.
//
// A stream, over any rail: readings that are there already, each sealed with the
// next key of a hash chain. The buyer fetches a chunk, checks it, pays the order that
// the offer gives it, and claims its key; so neither side risks more than one chunk.
// That a chunk is sold is on disk in the write that books its money (the core
// Name), and its key follows from the seller's secret, the signed offer and the
// buyer's ticket (sealed.RevealOf): kill the seller between the two, and the same
// claim gets the same key, once it is back.
//
// Nothing about a reading leaves in the clear. Its commitment, which the list of
// offers and the sealed offer both carry, is salted, and the salt is inside.
package data

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// A Reading is something measured, and when.
type Reading struct {
	At   step.Time
	Data []byte
}

// A Source has readings to sell.
type Source interface {
	// Readings returns the newest ones, the last of them last, and at most so many;
	// none if there are none yet.
	Readings(ctx context.Context, most int) ([]Reading, error)
}

// Meta is what the seller signs about what is inside.
type Meta struct {
	Service string    `json:"service"`
	At      step.Time `json:"at_ms"`            // of the reading, or of a stream's last
	Chunks  int       `json:"chunks,omitempty"` // of a stream
	Commit  string    `json:"commit,omitempty"` // of one reading: see Commitment
}

func (m Meta) encode() ([]byte, error) { return json.Marshal(m) }

func readMeta(b []byte) (m Meta, err error) {
	if err = json.Unmarshal(b, &m); err != nil {
		err = fmt.Errorf("what the seller says of the data is no JSON: %w", err)
	}
	return m, err
}

// saltSize is that of the salt before a reading that is sold alone, in bytes.
const saltSize = 32

// Commitment stands for a reading in public: everybody who buys it can see that it
// was the same for all, and nobody can guess it who has not. Salt and data are what
// the seal had inside.
func Commitment(salt [saltSize]byte, data []byte) [32]byte {
	return keys.Digest("coinop/data/reading", salt[:], data)
}

// salt is the same for a reading as long as its seller has its key.
func salt(seller keys.Secret, service string, r Reading) [saltSize]byte {
	about := keys.Digest("coinop/data/salt", []byte(service), fmt.Append(nil, r.At), r.Data)
	return seller.MAC("coinop/data/salt", about[:])
}

func invalid(err error) error { return &money.Error{Kind: money.Invalid, Op: "data", Err: err} }

func refused(err error) error { return &money.Error{Kind: money.Refused, Op: "data", Err: err} }

func unpaid(err error) error { return &money.Error{Kind: money.Unpaid, Op: "data", Err: err} }

// ErrGone means that the seller has nothing of a stream any more. Keys of chunks
// that are paid can be had all the same, with the offer.
var ErrGone = errors.New("the seller has forgotten the stream; open a new one for the rest")
