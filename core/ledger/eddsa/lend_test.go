package eddsa_test

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"coinop.dev/core/ledger/eddsa"
)

// Processors that are lent change nothing but the time.
func TestLend(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	spread := func(n int, do func(int)) {
		var done sync.WaitGroup
		for _, i := range random.Perm(n) {
			done.Go(func() { do(i) })
		}
		done.Wait()
	}
	alone, lent := eddsa.NewBatch(eddsa.SHA512), eddsa.NewBatch(eddsa.SHA512).Lend(spread)
	for i := range 700 {
		s := eddsa.NewSecret(eddsa.SHA512, [32]byte{byte(i % 50)})
		msg := []byte{byte(i), byte(i >> 8)}
		sig := s.Sign(msg)
		if random.IntN(100) == 0 {
			sig[random.IntN(64)] ^= 1
		}
		alone.Add(s.Public(), msg, sig)
		lent.Add(s.Public(), msg, sig)
	}
	_, want := alone.Verify()
	if _, each := lent.Verify(); !slices.Equal(each, want) || !slices.Contains(want, false) {
		t.Error("some signatures are judged otherwise")
	}
}
