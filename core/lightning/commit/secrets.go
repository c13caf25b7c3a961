package commit

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
)

// Basepoints are the keys that one side names when a channel opens; all its
// keys of every commitment derive from them.
type Basepoints struct{ Funding, Revocation, Payment, Delayed, HTLC keys.Public }

// Secrets are the keys to our Basepoints, and the seed of our per-commitment
// secrets. They print nothing.
type Secrets struct{ Funding, Revocation, Payment, Delayed, HTLC, Seed keys.Secret }

// NewSecrets derives all secrets of a channel from one that is used for no
// other channel.
func NewSecrets(root keys.Secret) Secrets {
	return Secrets{
		Funding:    root.Derive("funding"),
		Revocation: root.Derive("revocation"),
		Payment:    root.Derive("payment"),
		Delayed:    root.Derive("delayed"),
		HTLC:       root.Derive("htlc"),
		Seed:       root.Derive("per commitment"),
	}
}

// Format prints "secrets" for every verb.
func (s Secrets) Format(f fmt.State, _ rune) { io.WriteString(f, "secrets") }

// Basepoints are the public keys of s.
func (s Secrets) Basepoints() Basepoints {
	return Basepoints{
		Funding:    s.Funding.Public(),
		Revocation: s.Revocation.Public(),
		Payment:    s.Payment.Public(),
		Delayed:    s.Delayed.Public(),
		HTLC:       s.HTLC.Public(),
	}
}

// PerCommitment is the secret of our commitment n, counted from 0. Revealing it
// revokes that commitment and reveals all before it.
func (s Secrets) PerCommitment(n uint64) [32]byte {
	return descend([32]byte(s.Seed.Reveal()), 48, index(n))
}

// Point is the per-commitment point of our commitment n.
func (s Secrets) Point(n uint64) keys.Public {
	p, err := PointOf(s.PerCommitment(n))
	if err != nil {
		panic(err) // SHA-256 does not reach the 2^-128 of non-scalars
	}
	return p
}

// PointOf is the per-commitment point of a revealed secret. It fails for bytes
// that are no scalar.
func PointOf(secret [32]byte) (keys.Public, error) {
	s, err := keys.SecretFromBytes(secret[:])
	if err != nil {
		return keys.Public{}, fmt.Errorf("per-commitment secret: %w", err)
	}
	return s.Public(), nil
}

// index is where commitment n stands in the tree of BOLT 3, which is walked from
// its end.
func index(n uint64) uint64 { return MaxNumber - n&MaxNumber }

// descend derives the secret at index from the one that has index's bits above
// the lowest count (BOLT 3, derive_secret; from the seed it is
// generate_from_seed).
func descend(secret [32]byte, count int, index uint64) [32]byte {
	for b := count - 1; b >= 0; b-- {
		if index>>b&1 == 1 {
			secret[b/8] ^= 1 << (b % 8)
			secret = sha256.Sum256(secret[:])
		}
	}
	return secret
}

// revealedSlots is how many secrets stand for all: one per count of trailing
// zeros of a 48-bit index, and the seed.
const revealedSlots = 49

// ErrRevealed means that a peer revealed a secret that does not fit the ones
// before it. What it was to revoke is not revoked.
var ErrRevealed = errors.New("per-commitment secret does not fit those revealed before")

// Revealed keeps the peer's per-commitment secrets in 49 slots (BOLT 3,
// efficient per-commitment secret storage). Its zero value is empty.
type Revealed struct {
	next  uint64
	slots [][32]byte // slot b: the latest secret whose index has b trailing zeros
}

// slot is the number of the slot for the secret of commitment n.
func slot(n uint64) int { return min(bits.TrailingZeros64(index(n)), revealedSlots-1) }

// latest is the commitment number of the newest secret in slot b, of those
// before next.
func latest(b int, next uint64) (n uint64, ok bool) {
	if b == revealedSlots-1 {
		return MaxNumber, next > MaxNumber
	}
	// Numbers whose index has b trailing zeros are 2^b-1 modulo 2^(b+1).
	first, period := uint64(1)<<b-1, uint64(1)<<(b+1)
	if next <= first {
		return 0, false
	}
	return first + (next-1-first)/period*period, true
}

// Add takes the secret of commitment n; they come in order from 0. A secret that
// does not fit changes nothing.
func (r *Revealed) Add(n uint64, secret [32]byte) error {
	if n != r.next || n > MaxNumber {
		return fmt.Errorf("per-commitment secret of commitment %d was revealed; it must be %d", n, r.next)
	}
	b := slot(n)
	for i := range min(b, len(r.slots)) {
		if old, ok := latest(i, r.next); ok && descend(secret, b, index(old)) != r.slots[i] {
			return fmt.Errorf("%w: commitment %d", ErrRevealed, n)
		}
	}
	slots := make([][32]byte, max(len(r.slots), b+1)) // a copy of r keeps what it has
	copy(slots, r.slots)
	slots[b] = secret
	r.slots, r.next = slots, n+1
	return nil
}

// Secret is the secret of commitment n, if it was revealed.
func (r *Revealed) Secret(n uint64) (secret [32]byte, ok bool) {
	if n >= r.next {
		return secret, false
	}
	want := index(n)
	for b := range r.slots {
		n, _ := latest(b, r.next)
		if have := index(n); want>>b == have>>b {
			return descend(r.slots[b], b, want), true
		}
	}
	return secret, false
}

// Next is the number of the commitment whose secret comes next.
func (r *Revealed) Next() uint64 { return r.next }

// Append writes what ReadRevealed reads: at most 49 secrets.
func (r Revealed) Append(b []byte) []byte {
	b = codec.AppendUint(b, r.next)
	for i := range r.slots {
		b = append(b, r.slots[i][:]...)
	}
	return b
}

// ReadRevealed reads what Append writes.
func ReadRevealed(r *codec.Reader) (v Revealed) {
	next := r.Uvarint()
	if next > MaxNumber+1 {
		r.Fail(fmt.Errorf("%d secrets are revealed; there are %d", next, uint64(MaxNumber+1)))
	}
	if r.Err() != nil {
		return v
	}
	v.slots = make([][32]byte, bits.Len64(next))
	for i := range v.slots {
		r.Fill(v.slots[i][:])
	}
	v.next = next
	return v
}
