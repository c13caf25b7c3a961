// Package mnemonic writes a wallet's entropy as words that a person can copy
// by hand, and turns the words into the wallet's seed (BIP 39, English).
//
// The words are the money. A phrase is a string because it must be shown once
// and typed again; what comes of it, the Seed, does not print. Errors name the
// word that is wrong: they are for who typed it, not for a log.
package mnemonic

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

const (
	// MaxText is how long a phrase may be in bytes; 24 of the longest words
	// are 215.
	MaxText = 1024
	// MaxPassphrase is how long a passphrase may be in bytes.
	MaxPassphrase = 1024

	wordBits = 11   // what one word carries
	rounds   = 2048 // of PBKDF2
)

// words is list, one by one; it never changes.
var words = strings.Fields(list)

// New writes entropy as a phrase. Entropy is 16, 20, 24, 28 or 32 bytes of a
// cryptographic source, which gives 12, 15, 18, 21 or 24 words.
func New(entropy []byte) (phrase string, err error) {
	n := len(entropy)
	if n < 16 || n > 32 || n%4 != 0 {
		return "", fmt.Errorf("entropy is %d bytes; it must be 16, 20, 24, 28 or 32", n)
	}
	sum := sha256.Sum256(entropy)
	bits := append(bytes.Clone(entropy), sum[0]) // at most 8 bits of checksum
	defer clear(bits)
	chosen := make([]string, 0, n*3/4)
	for at := 0; at < n*8+n/4; at += wordBits {
		i := 0
		for b := at; b < at+wordBits; b++ {
			i = i<<1 | int(bits[b/8]>>(7-b%8))&1
		}
		chosen = append(chosen, words[i])
	}
	return strings.Join(chosen, " "), nil
}

// A WordError says which word of a phrase is not on the list.
type WordError struct {
	Word  string   // as it was typed, in lower case, cut after 16 bytes
	Place int      // 1 is the first
	Near  []string // words of the list that it may stand for, likeliest first
}

func (e *WordError) Error() string {
	text := fmt.Sprintf("word %d, %q, is not on the list", e.Place, e.Word)
	if len(e.Near) == 0 {
		return text
	}
	return text + "; is it " + strings.Join(e.Near, " or ") + "?"
}

// CheckWord tells a person at once of a typed word that is not on the list, in place
// place of the phrase. The error is a *WordError.
func CheckWord(word string, place int) error {
	word = strings.ToLower(word)
	if _, ok := slices.BinarySearch(words, word); ok {
		return nil
	}
	return &WordError{Word: word[:min(len(word), 16)], Place: place, Near: near(word)}
}

// ErrChecksum means that every word is on the list and still one is wrong.
var ErrChecksum = errors.New("the words do not fit together: one is mistaken for another, or two have changed places")

// Check tells whether phrase is one that New could have written; case and the
// space between words do not matter. The error is a *WordError, ErrChecksum or
// the number of words.
func Check(phrase string) error {
	_, err := Entropy(phrase)
	return err
}

// Entropy undoes New.
func Entropy(phrase string) ([]byte, error) {
	typed, err := split(phrase)
	if err != nil {
		return nil, err
	}
	n := len(typed) * 4 / 3 // bytes of entropy
	bits := make([]byte, n+1)
	for place, word := range typed {
		i, ok := slices.BinarySearch(words, word)
		if !ok {
			return nil, CheckWord(word, place+1)
		}
		for b := range wordBits {
			at := place*wordBits + b
			bits[at/8] |= byte(i>>(wordBits-1-b)&1) << (7 - at%8)
		}
	}
	entropy, sum := bits[:n:n], sha256.Sum256(bits[:n])
	if mask := byte(0xff) << (8 - n/4); bits[n] != sum[0]&mask {
		return nil, ErrChecksum
	}
	return entropy, nil
}

// split gives the words of a phrase in lower case, whose number is possible.
func split(phrase string) ([]string, error) {
	if len(phrase) > MaxText {
		return nil, fmt.Errorf("phrase is %d bytes; the limit is %d", len(phrase), MaxText)
	}
	typed := strings.Fields(strings.ToLower(phrase))
	if n := len(typed); n < 12 || n > 24 || n%3 != 0 {
		return nil, fmt.Errorf("phrase has %d words; it must have 12, 15, 18, 21 or 24", n)
	}
	return typed, nil
}

// A Seed is what a wallet's keys are derived from (BIP 32). It prints as
// "seed" whatever the verb, and does not marshal. Two pointers, as in
// keys.Secret: fmt follows one.
type Seed struct{ b *hidden }

type hidden struct{ b *[]byte }

// Sizes of a seed in bytes (BIP 32).
const (
	MinSeed = 16
	MaxSeed = 64
)

// SeedFromBytes takes MinSeed to MaxSeed bytes that were drawn at random or
// revealed by another Seed.
func SeedFromBytes(b []byte) (Seed, error) {
	if len(b) < MinSeed || len(b) > MaxSeed {
		return Seed{}, fmt.Errorf("seed is %d bytes; it must be %d to %d", len(b), MinSeed, MaxSeed)
	}
	b = bytes.Clone(b)
	return Seed{&hidden{&b}}, nil
}

// ToSeed turns a phrase that Check takes into its seed of 64 bytes. Every
// passphrase gives another wallet, so nothing can tell that it is the wrong
// one; most wallets have an empty one. BIP 39 wants the passphrase in NFKD;
// only ASCII looks the same in every form, so anything else is refused.
func ToSeed(phrase, passphrase string) (Seed, error) {
	if err := Check(phrase); err != nil {
		return Seed{}, err
	}
	if len(passphrase) > MaxPassphrase {
		return Seed{}, fmt.Errorf("passphrase is %d bytes; the limit is %d", len(passphrase), MaxPassphrase)
	}
	if strings.ContainsFunc(passphrase, func(r rune) bool { return r > 127 }) {
		return Seed{}, errors.New("passphrase has characters beyond ASCII, which wallets write in different bytes; choose another")
	}
	typed, err := split(phrase)
	if err != nil {
		return Seed{}, err
	}
	b, err := pbkdf2.Key(sha512.New, strings.Join(typed, " "), []byte("mnemonic"+passphrase), rounds, MaxSeed)
	if err != nil {
		return Seed{}, fmt.Errorf("derive the seed: %w", err)
	}
	return Seed{&hidden{&b}}, nil
}

// Format prints "seed" for every verb.
func (s Seed) Format(f fmt.State, _ rune) { io.WriteString(f, "seed") }

// MarshalText refuses: a seed leaves through Reveal or not at all.
func (s Seed) MarshalText() ([]byte, error) { return nil, errors.New("a seed does not marshal") }

// Reveal returns the bytes, for world/secret to keep and for keys to be derived.
func (s Seed) Reveal() []byte {
	if s.IsZero() {
		return nil
	}
	return bytes.Clone(*s.b.b)
}

// IsZero reports whether s was never set.
func (s Seed) IsZero() bool { return s.b == nil }
