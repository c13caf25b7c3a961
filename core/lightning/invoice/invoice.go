// Package invoice is BOLT 11: a request to be paid, as text that its payee has
// signed.
//
// Parse believes nothing that is not signed, and asks of a text what a payer
// must ask: one payment hash, one payment secret, one description or its hash,
// no required feature that it does not know. What it does not know and may
// skip it keeps, in place, so that an invoice that was read and is signed
// again by the same key is the same text.
package invoice

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// Limits of an invoice.
const (
	// MaxLength is the longest text in characters: what the largest QR code
	// holds in digits.
	MaxLength = 7089
	// MaxRoutes bounds the hints, MaxHops the channels of one: as many as fit
	// in a field.
	MaxRoutes = 32
	MaxHops   = maxFieldSize / hopSize
	// MaxFallbacks bounds the on-chain addresses.
	MaxFallbacks = 16
	// MaxUnknown bounds the fields that are skipped.
	MaxUnknown = 64
	// MaxText bounds the description and the metadata, in bytes: one field.
	MaxText = maxFieldSize
)

// What an invoice means that does not say (BOLT 11, "Tagged Fields").
const (
	DefaultExpiry    = 3600 // seconds
	DefaultFinalCLTV = 18   // blocks
)

// MaxAt is the last Unix second that the 35 bits of a timestamp hold.
const MaxAt = 1<<35 - 1

// MaxExpiry keeps At+Expiry from overflowing, in seconds.
const MaxExpiry = 1 << 62

// An Invoice is a request to be paid.
type Invoice struct {
	Network string       // Mainnet, Testnet, ...
	Amount  money.Amount // msat; 0 leaves it to the payer
	At      int64        // Unix seconds it was made at
	Hash    [32]byte     // whoever shows what hashes to this was paid
	Secret  [32]byte     // the payee takes no payment that does not carry it
	// Description is what is paid for, unless DescriptionHash is there: the
	// SHA256 of a text found elsewhere, which the payer must check.
	Description     string
	DescriptionHash *[32]byte
	Payee           keys.Public
	Expiry          int64    // seconds after At; 0 in a new invoice is the default
	FinalCLTV       uint32   // blocks the last HTLC must leave the payee; 0 in a new invoice is the default
	Hints           [][]Hint // ways to the payee from a public node, the best first
	Fallbacks       []Fallback
	Metadata        []byte // for the payer to hand back with the payment
	Features        Features
	Unknown         []Field // what Parse skipped

	// order is the types of the fields as they were read. An unknown one is
	// skipped.
	order []byte
}

// A Hint is one channel of a route to the payee.
type Hint struct {
	Node      keys.Public // where the channel starts; not checked to be on the curve
	SCID      uint64      // short channel id
	FeeBase   uint32      // msat
	FeePPM    uint32      // millionths of what is forwarded
	CLTVDelta uint16      // blocks
}

// Expired reports whether nobody should pay any more.
func (i Invoice) Expired(at step.Time) bool { return int64(at/step.Second) > i.At+i.Expiry }

const (
	atSize        = 7   // words of the timestamp
	signatureSize = 104 // words of the signature and its recovery byte
	signatureOnly = 64  // bytes of it that are r and s
	uriScheme     = "lightning:"
)

// Parse reads an invoice and checks its signature. It takes upper case, and
// "lightning:" in front. Payee, Expiry and FinalCLTV of what it returns are
// set, also where the text leaves them out.
func Parse(text string) (Invoice, error) {
	i, err := parse(text)
	if err != nil {
		return Invoice{}, fmt.Errorf("invoice: %w", err)
	}
	return i, nil
}

func parse(text string) (i Invoice, err error) {
	if n := len(uriScheme); len(text) > n && strings.EqualFold(text[:n], uriScheme) {
		text = text[n:]
	}
	if len(text) > MaxLength {
		return i, fmt.Errorf("%d characters; the limit is %d", len(text), MaxLength)
	}
	prefix, words, err := decode(text)
	if err != nil {
		return i, err
	}
	if i.Network, i.Amount, err = parsePrefix(prefix); err != nil {
		return i, err
	}
	body := len(words) - signatureSize
	if body < atSize {
		return i, fmt.Errorf("%d words are too few for a timestamp and a signature", len(words))
	}
	at, _ := number(words[:atSize], MaxAt)
	i.At, i.Expiry, i.FinalCLTV = int64(at), DefaultExpiry, DefaultFinalCLTV
	seen, err := i.readFields(words[atSize:body])
	if err != nil {
		return i, err
	}
	if err := i.complete(seen); err != nil {
		return i, err
	}
	var sig [signatureOnly + 1]byte
	appendBytes(sig[:0], words[body:])
	return i, i.checkSignature(digest(prefix, words[:body]), keys.Signature(sig[:signatureOnly]), sig[signatureOnly], seen[typePayee])
}

// complete checks that the fields that must be there are.
func (i *Invoice) complete(seen [32]bool) error {
	switch {
	case !seen[typeHash]:
		return errors.New("no payment hash")
	case !seen[typeSecret]:
		return errors.New("no payment secret: ask the payee for an invoice that has one")
	case seen[typeDescription] == seen[typeDescriptionHash]:
		return errors.New("must have either a description or the hash of one")
	}
	if bit, unknown := i.Features.unknown(); unknown {
		return fmt.Errorf("requires feature %d, which is unknown here", bit)
	}
	return nil
}

// checkSignature takes the payee at its word if the invoice names it, and then
// wants low S; otherwise the payee is who made the signature.
func (i *Invoice) checkSignature(digest [32]byte, sig keys.Signature, recovery byte, named bool) (err error) {
	if !named {
		i.Payee, err = keys.Recover(digest, sig, recovery)
		return err
	}
	if !i.Payee.Verify(digest, sig) {
		return fmt.Errorf("signature is not of payee %s, or has a high S", i.Payee)
	}
	return nil
}

// digest is what is signed: the prefix and the words, filled up to whole bytes
// (BOLT 11, "Data Part").
func digest(prefix string, words []byte) [32]byte {
	b := make([]byte, 0, len(prefix)+len(words)*5/8+2)
	b = appendBytes(append(b, prefix...), words)
	if used := len(words) * 5 / 8 * 8; used < len(words)*5 {
		left := len(words)*5 - used // at most 7, so in the last two words
		tail := uint(words[len(words)-1])
		if len(words) > 1 {
			tail |= uint(words[len(words)-2]) << 5
		}
		b = append(b, byte(tail<<(8-left)))
	}
	return sha256.Sum256(b)
}

// Sign writes the invoice as text, signed by its payee. Payee may be left zero;
// if it is set, node must be its secret. A new invoice always says its final
// CLTV, and its payee only by the signature.
func (i Invoice) Sign(node keys.Secret) (string, error) {
	if err := i.check(); err != nil {
		return "", fmt.Errorf("invoice: %w", err)
	}
	if i.Payee != (keys.Public{}) {
		if p := node.Public(); i.Payee != p {
			return "", fmt.Errorf("invoice: payee is %s, and the key that signs is of %s", i.Payee, p)
		}
	}
	words := make([]byte, atSize, 512)
	for k := range words {
		words[k] = byte(i.At >> (5 * (atSize - 1 - k)) & 31)
	}
	words = i.appendFields(words)
	prefix := prefix(i.Network, i.Amount)
	if n := len(prefix) + 1 + len(words) + signatureSize + checksumSize; n > MaxLength {
		return "", fmt.Errorf("invoice: %d characters; the limit is %d: give fewer hints", n, MaxLength)
	}
	sig, recovery := node.SignRecoverable(digest(prefix, words))
	words = appendWords(words, append(sig[:], recovery))
	return encode(prefix, words), nil
}

// check refuses to write what cannot be read, or what no payee means.
func (i *Invoice) check() error {
	switch {
	case !known(i.Network):
		return fmt.Errorf("network %.10q is unknown", i.Network)
	case i.Amount > money.MaxAmount:
		return fmt.Errorf("amount is %d msat; the limit is %d", uint64(i.Amount), uint64(money.MaxAmount))
	case i.At < 0 || i.At > MaxAt:
		return fmt.Errorf("made at Unix second %d; it must be 0 to %d", i.At, int64(MaxAt))
	case i.Secret == [32]byte{}:
		return errors.New("payment secret is zero; give 32 random bytes")
	case i.DescriptionHash != nil && i.Description != "":
		return errors.New("has a description and the hash of one; give one of them")
	case len(i.Description) > MaxText:
		return fmt.Errorf("description is %d bytes; the limit is %d: give its hash instead", len(i.Description), MaxText)
	case !utf8.ValidString(i.Description):
		return errors.New("description is not UTF-8")
	case i.Expiry < 0 || i.Expiry > MaxExpiry:
		return fmt.Errorf("expiry is %d seconds; it must be 0 to %d", i.Expiry, int64(MaxExpiry))
	case len(i.Metadata) > MaxText:
		return fmt.Errorf("metadata is %d bytes; the limit is %d", len(i.Metadata), MaxText)
	case len(i.Features) > MaxText:
		return fmt.Errorf("features are %d bytes; the limit is %d", len(i.Features), MaxText)
	case len(i.Hints) > MaxRoutes:
		return fmt.Errorf("%d routes; the limit is %d", len(i.Hints), MaxRoutes)
	case len(i.Fallbacks) > MaxFallbacks:
		return fmt.Errorf("%d fallback addresses; the limit is %d", len(i.Fallbacks), MaxFallbacks)
	case len(i.Unknown) > MaxUnknown:
		return fmt.Errorf("%d unknown fields; the limit is %d", len(i.Unknown), MaxUnknown)
	}
	for _, route := range i.Hints {
		if len(route) == 0 || len(route) > MaxHops {
			return fmt.Errorf("a route of %d hops; it must be 1 to %d", len(route), MaxHops)
		}
	}
	for _, f := range i.Fallbacks {
		if !f.valid() {
			return fmt.Errorf("fallback address of version %d with %d bytes is none", f.Version, len(f.Program))
		}
	}
	for _, f := range i.Unknown {
		if !f.valid() {
			return fmt.Errorf("unknown field of type %d with %d words is none", f.Type, len(f.Words))
		}
	}
	return nil
}
