package onion_test

import (
	"bytes"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"coinop.dev/core/lightning/onion"
)

// The floor under all figures below: an onion costs one of each per hop, a peel
// one of the latter.
func BenchmarkBaseMultiplication(b *testing.B) {
	k, _ := scalarAndPoint()
	var r secp256k1.JacobianPoint
	for b.Loop() {
		secp256k1.ScalarBaseMultNonConst(&k, &r)
	}
}

func BenchmarkPointMultiplication(b *testing.B) {
	k, p := scalarAndPoint()
	var r secp256k1.JacobianPoint
	for b.Loop() {
		secp256k1.ScalarMultNonConst(&k, &p, &r)
	}
}

func scalarAndPoint() (k secp256k1.ModNScalar, p secp256k1.JacobianPoint) {
	k.SetByteSlice(hash[:])
	secp256k1.ScalarBaseMultNonConst(&k, &p)
	p.ToAffine()
	return k, p
}

func BenchmarkNew1(b *testing.B)  { benchmarkNew(b, 1) }
func BenchmarkNew2(b *testing.B)  { benchmarkNew(b, 2) }
func BenchmarkNew20(b *testing.B) { benchmarkNew(b, 20) }

func benchmarkNew(b *testing.B, n int) {
	hops, session := route(b, n, 30), nth(b, 100)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := onion.New(session, hash, hops); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNew1Table(b *testing.B) {
	hops, session := route(b, 1, 30), nth(b, 100)
	hops[0].Table = tableOf(b, hops[0].Node)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := onion.New(session, hash, hops); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNewTable(b *testing.B) {
	node := nth(b, 0).Public()
	b.ReportAllocs()
	for b.Loop() {
		tableOf(b, node)
	}
}

func BenchmarkPeelFinal(b *testing.B)   { benchmarkPeel(b, 1) }
func BenchmarkPeelForward(b *testing.B) { benchmarkPeel(b, 2) }

func benchmarkPeel(b *testing.B, n int) {
	p, _ := build(b, route(b, n, 50))
	node := nth(b, 0)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := onion.Peel(node, hash, p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParsePayload(b *testing.B) {
	payload := full.Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := onion.ParsePayload(payload); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	_, secrets := build(b, route(b, 3, 30))
	reason := bytes.Repeat([]byte{1}, 292)
	b.ReportAllocs()
	for b.Loop() {
		onion.Open(secrets, reason)
	}
}
