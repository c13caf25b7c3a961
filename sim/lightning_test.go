package sim

import (
	"testing"
)

// Stories in which nothing is paid would prove nothing.
func TestLightningPays(t *testing.T) {
	paid, all := 0, 0
	for seed := uint64(2); seed <= 16; seed += 2 { // those without an adversary
		l, err := NewLightning(seed, Rough, NoBug)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Play(OrdersPerSeed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if l.forced {
			continue // with half of the way closed
		}
		for _, d := range l.deals {
			all++
			if d.answer == "paid" {
				paid++
			}
		}
	}
	t.Logf("%d of %d paid", paid, all)
	if paid < all*4/10 {
		t.Errorf("%d of %d orders are paid", paid, all)
	}
}

// Seeds in which something was found that no other test had shown.
func TestLightningSeedsThatFailed(t *testing.T) {
	for seed, found := range map[uint64]string{
		3727: "a payment that waits for its other parts is kept until it expires, and its channel is given up",
	} {
		l, err := NewLightning(seed, Rough, NoBug)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Play(OrdersPerSeed); err != nil {
			t.Errorf("seed %d (%s): %v", seed, found, err)
		}
	}
}
