package sealed

import (
	"fmt"

	"coinop.dev/core/keys"
)

// Ticket is what the stream's keys are made of, beside the seller's secret. A buyer
// that keeps it with the offer can ask for a key of a seller that has forgotten the
// stream; and since it is told to nobody else, it also shows whose the stream is.
func (s *Stream) Ticket() [32]byte { return s.goods }

// RevealOf makes the key of chunk i of an offer that seller has signed, from the
// offer and its ticket alone. Whether it is paid is for the caller to know. A ticket
// that is not the offer's is ErrKey.
func RevealOf(seller keys.Secret, o *Offer, ticket [32]byte, i int) (r Reveal, err error) {
	if err := o.Check(seller.Public()); err != nil {
		return r, err
	}
	n := len(o.Digests)
	if i < 1 || i > n {
		return r, fmt.Errorf("there is no chunk %d: the stream has %d", i, n)
	}
	last := NewKey(seller.MAC(purposeStream, ticket[:]))
	key := last.back(n - i)
	if key.back(i).Reveal() != o.Anchor {
		return r, fmt.Errorf("the ticket is of another stream: %w", ErrKey)
	}
	return Reveal{o.ID, i, key}, nil
}

// Length is how many bytes the ciphertext of chunk i has.
func (s *Stream) Length(i int) int { return len(s.ciphers[i-1]) }
