package sim

import "testing"

// Stories in which nothing is paid, bumped, shared or lied about would prove
// nothing.
func TestGatewayPaysAndIsLiedTo(t *testing.T) {
	paid, all, shared, bumped, told, signed := 0, 0, 0, 0, map[string]bool{}, 0
	for seed := uint64(1); seed <= 6; seed++ {
		g, err := NewGateway(seed, Rough, NoBug)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Play(OrdersPerSeed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, o := range g.owners {
			for _, id := range o.parent {
				if !id.IsZero() {
					bumped++
				}
			}
		}
		for what := range g.evil.tried {
			told[what] = true
		}
		signed += g.evil.stole
		if g.evil.lies {
			continue
		}
		for _, tx := range g.Chain.mined() {
			from := map[*owner]bool{}
			for _, in := range tx.TxIn {
				if o := g.ownerOf(g.previous(in.PreviousOutPoint).PkScript); o != nil {
					from[o] = true
				}
			}
			if len(from) > 1 {
				shared++
			}
		}
		for _, p := range g.purchases {
			if all++; p.answer == "paid" {
				paid++
			}
		}
	}
	t.Logf("%d of %d paid, %d replacements, %d joint transactions, %d kinds of lies, %d consents to them", paid, all, bumped, shared, len(told), signed)
	if paid < all*7/10 || bumped == 0 || shared == 0 || len(told) < len(lies)*8/10 || signed == 0 {
		t.Error("too little happens")
	}
}
