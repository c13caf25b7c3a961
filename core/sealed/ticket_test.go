package sealed_test

import (
	"errors"
	"testing"

	"coinop.dev/core/sealed"
)

// A seller that has lost a stream still makes its keys, for whoever has the ticket;
// and no other keys, and for nobody else.
func TestTicket(t *testing.T) {
	m := newMarket(t, 5, 4)
	ticket, offer := m.stream.Ticket(), m.stream.Offer
	for i := 1; i <= 4; i++ {
		m.stream.Paid(offer.Order(i), price)
		want, _ := m.stream.Reveal()
		got, err := sealed.RevealOf(secret(t, 1), &offer, ticket, i)
		if err != nil || got.I != i || got.Key.Reveal() != want.Key.Reveal() {
			t.Errorf("key %d: %v", i, err)
		}
	}
	if _, err := sealed.RevealOf(secret(t, 1), &offer, [32]byte{1}, 1); !errors.Is(err, sealed.ErrKey) {
		t.Errorf("another's ticket: %v", err)
	}
	if _, err := sealed.RevealOf(secret(t, 2), &offer, ticket, 1); !errors.Is(err, sealed.ErrForged) {
		t.Errorf("another's offer: %v", err)
	}
	for _, i := range []int{-1, 0, 5} {
		if _, err := sealed.RevealOf(secret(t, 1), &offer, ticket, i); err == nil {
			t.Errorf("a key of chunk %d", i)
		}
	}
	cheaper := offer
	cheaper.Price--
	if _, err := sealed.RevealOf(secret(t, 1), &cheaper, ticket, 1); !errors.Is(err, sealed.ErrForged) {
		t.Errorf("at another price: %v", err)
	}
}
