package sim

import "testing"

// Stories in which nothing is confirmed, and nobody cheats, would prove nothing.
func TestTangleConfirms(t *testing.T) {
	for seed := uint64(1); seed <= 4; seed++ {
		l, err := NewTangle(seed, Rough, NoBug)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Play(OrdersPerSeed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		info := l.node(3).Info()
		t.Logf("seed %d: %d milestones, %d of %d transactions, %d pairs, %+v", seed, len(l.milestones), len(l.applied), len(l.txs), l.doubles, info.Refused)
		if l.doubles == 0 || len(l.applied) < OrdersPerSeed*2/3 || len(l.milestones) < 15 {
			t.Errorf("seed %d: %d milestones, %d transactions, %d pairs that exclude each other", seed, len(l.milestones), len(l.applied), l.doubles)
		}
		if l.stolen != (info.Halted != nil) {
			t.Errorf("seed %d: keys are stolen: %t; the node stopped: %v", seed, l.stolen, info.Halted)
		}
	}
}

// Seeds in which something was found that no other test had shown.
func TestTangleSeedsThatFailed(t *testing.T) {
	for seed, found := range map[uint64]string{
		1017: "a coordinator that signs too many milestones kept the others' proposals from being heard",
	} {
		l, err := NewTangle(seed, Rough, NoBug)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Play(OrdersPerSeed); err != nil {
			t.Errorf("seed %d (%s): %v", seed, found, err)
		}
	}
}
