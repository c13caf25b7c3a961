package sim

import (
	"testing"

	"coinop.dev"
)

// A seed that pays nothing would prove nothing: most orders must come through.
func TestLightningPays(t *testing.T) {
	paid, all, why := 0, 0, map[string]int{}
	for seed := uint64(1); seed <= 12; seed++ {
		l, err := NewLightning(seed, Rough, NoBug)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Play(OrdersPerSeed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, d := range l.deals {
			all++
			if d.answer == "paid" {
				paid++
			} else {
				why[d.kind+": "+d.why]++
			}
		}
	}
	for w, n := range why {
		t.Logf("%3d unpaid: %s", n, w)
	}
	t.Logf("%d of %d paid", paid, all)
	if paid < all*6/10 {
		t.Errorf("%d of %d orders are paid", paid, all)
	}
}

var _ = coinop.Sat
