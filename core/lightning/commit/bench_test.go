package commit_test

import (
	"fmt"
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/commit"
)

var counts = []int{0, 1, 50, 483}

func perHTLC(b *testing.B, n int) {
	b.ReportAllocs()
	if n > 0 {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/htlc")
	}
}

// What commitment_signed costs the sender, next to the signatures alone.
func BenchmarkBuildAndSign(b *testing.B) {
	for _, n := range counts {
		e := newEnds(commit.Anchors, 1<<30, commit.Local)
		s := stateOf(e.alice.Capacity, n, 253)
		point := e.bobSecrets.Point(s.Number)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				build(b, &e.alice, commit.Remote, point, s).Sign(e.aliceSecrets)
			}
			perHTLC(b, n)
		})
		b.Run(fmt.Sprint(n, "/bare"), func(b *testing.B) {
			digests := make([][32]byte, n)
			for b.Loop() {
				e.aliceSecrets.Funding.Sign([32]byte{})
				e.aliceSecrets.HTLC.SignAll(digests)
			}
			perHTLC(b, n)
		})
	}
}

// What it costs the receiver, next to the verifications alone.
func BenchmarkBuildAndVerify(b *testing.B) {
	for _, n := range counts {
		e := newEnds(commit.Anchors, 1<<30, commit.Local)
		s := stateOf(e.alice.Capacity, n, 253)
		point := e.bobSecrets.Point(s.Number)
		sig, htlcs := build(b, &e.alice, commit.Remote, point, s).Sign(e.aliceSecrets)
		mirrored := mirror(s)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if err := build(b, &e.bob, commit.Local, point, mirrored).Verify(sig, htlcs); err != nil {
					b.Fatal(err)
				}
			}
			perHTLC(b, n)
		})
		b.Run(fmt.Sprint(n, "/bare"), func(b *testing.B) {
			checks := make([]keys.Check, n+1)
			for i := range checks {
				secret := e.aliceSecrets.HTLC
				if i == 0 {
					secret = e.aliceSecrets.Funding
				}
				checks[i] = keys.Check{Key: secret.Public(), Digest: [32]byte{byte(i), byte(i >> 8)}}
				checks[i].Sig = secret.Sign(checks[i].Digest)
			}
			for b.Loop() {
				if keys.VerifyAll(checks) >= 0 {
					b.Fatal("bad")
				}
			}
			perHTLC(b, n)
		})
	}
}

func BenchmarkBuild(b *testing.B) {
	for _, n := range counts {
		e := newEnds(commit.Anchors, 1<<30, commit.Local)
		s := stateOf(e.alice.Capacity, n, 253)
		point := e.bobSecrets.Point(s.Number)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				build(b, &e.alice, commit.Remote, point, s)
			}
			perHTLC(b, n)
		})
	}
}

func BenchmarkKeys(b *testing.B) {
	e := newEnds(commit.Anchors, 1<<30, commit.Local)
	for _, owner := range []commit.Owner{commit.Local, commit.Remote} {
		point := e.aliceSecrets.Point(7)
		if owner == commit.Remote {
			point = e.bobSecrets.Point(7)
		}
		b.Run(owner.String(), func(b *testing.B) {
			for b.Loop() {
				if _, err := e.alice.Keys(owner, point); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(owner.String()+"/secrets", func(b *testing.B) {
			for b.Loop() {
				if _, err := e.aliceSecrets.Keys(&e.alice, owner, point, 7); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
