package keys

import (
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// A Check is one signature to verify.
type Check struct {
	Key    Public
	Digest [32]byte
	Sig    Signature
}

const (
	// batchMin is how many signatures are worth more than one goroutine.
	batchMin = 8
	// batchWorkers is how many goroutines share a batch. A core may not ask how
	// many processors there are; a worker that finds none free costs nothing.
	batchWorkers = 16
)

// VerifyAll checks signatures on all processors and returns the index of the
// first bad one, or -1. It is, with SignAll, the one place in core with
// goroutines: they end before it returns, and what it returns depends on checks
// alone.
func VerifyAll(checks []Check) int {
	bad := make([]int, workers(len(checks)))
	frequent := tableFor(checks)
	share(len(checks), func(worker, from, to int) {
		bad[worker] = verifyRun(checks[from:to], frequent)
		if bad[worker] >= 0 {
			bad[worker] += from
		}
	})
	for _, i := range bad { // runs are in order, so the first found is the first
		if i >= 0 {
			return i
		}
	}
	return -1
}

// tableFor makes a table of the key of most signatures, if they are enough: HTLC
// signatures of one commitment are all by one key.
func tableFor(checks []Check) *table {
	if len(checks) < tableMin {
		return nil
	}
	key, count := checks[len(checks)/2].Key, 0
	for i := range checks {
		if checks[i].Key == key {
			count++
		}
	}
	if count < tableMin {
		return nil
	}
	return newTable(key)
}

// verifyRun parses a key once for a run of signatures by it.
func verifyRun(checks []Check, frequent *table) int {
	var key *secp256k1.PublicKey
	for i := range checks {
		c := &checks[i]
		if frequent != nil && c.Key == frequent.key {
			if !frequent.verify(&c.Digest, &c.Sig) {
				return i
			}
			key = nil
			continue
		}
		if key == nil || c.Key != checks[i-1].Key {
			var err error
			if key, err = c.Key.parse(); err != nil {
				return i
			}
		}
		if !verify(key, c.Digest[:], &c.Sig) {
			return i
		}
	}
	return -1
}

func verify(key *secp256k1.PublicKey, digest []byte, sig *Signature) bool {
	var r, s secp256k1.ModNScalar
	if r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:]) || s.IsOverHalfOrder() {
		return false
	}
	return ecdsa.NewSignature(&r, &s).Verify(digest, key)
}

// SignAll signs digests on all processors: sigs[i] is s.Sign(digests[i]).
func (s Secret) SignAll(digests [][32]byte) []Signature {
	sigs := make([]Signature, len(digests))
	share(len(digests), func(_, from, to int) {
		for i := from; i < to; i++ {
			sigs[i] = s.Sign(digests[i])
		}
	})
	return sigs
}

func workers(n int) int {
	if n < batchMin {
		return 1
	}
	return min(batchWorkers, n)
}

// share cuts 0..n into one run per worker and waits for all. A panic of ours
// must reach whoever called, so nothing here recovers.
func share(n int, run func(worker, from, to int)) {
	count := workers(n)
	if count == 1 {
		run(0, 0, n)
		return
	}
	done := make(chan struct{}, count)
	for w := range count {
		go func() {
			defer func() { done <- struct{}{} }()
			run(w, w*n/count, (w+1)*n/count)
		}()
	}
	for range count {
		<-done
	}
}

// Share calls do for 0 to n-1 on all processors and returns when all calls have.
// Each must touch only what belongs to its number, so that what comes out does
// not depend on who was first.
func Share(n int, do func(i int)) {
	share(n, func(_, from, to int) {
		for i := from; i < to; i++ {
			do(i)
		}
	})
}
