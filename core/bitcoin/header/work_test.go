package header_test

import (
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/bitcoin/header/headertest"
)

func number(hash chainhash.Hash) *big.Int {
	slices.Reverse(hash[:])
	return new(big.Int).SetBytes(hash[:])
}

// TestWorkAgreesWithBig compares four words with math/big.
func TestWorkAgreesWithBig(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	whole := new(big.Int).Lsh(big.NewInt(1), 256)
	random := func() *big.Int { // of any length from 1 to 256 bits
		n := new(big.Int)
		for range 4 {
			n.Lsh(n, 64).Or(n, new(big.Int).SetUint64(r.Uint64()))
		}
		return n.Rsh(n, r.UintN(256)).Add(n, big.NewInt(1)).Mod(n, whole)
	}
	limits := []*big.Int{big.NewInt(1), new(big.Int).Sub(whole, big.NewInt(1)), new(big.Int).Lsh(big.NewInt(1), 255)}
	for i := range 20_000 {
		a, b := random(), random()
		if i < len(limits) {
			a = limits[i]
		}
		if a.Sign() == 0 || b.Sign() == 0 {
			continue
		}
		x, y := header.FromBig(a), header.FromBig(b)
		if got, want := x.Cmp(y), a.Cmp(b); got != want {
			t.Fatalf("%v cmp %v is %d", a, b, got)
		}
		sum := new(big.Int).Add(a, b)
		if got := x.Add(y); got != header.FromBig(sum.Mod(sum, whole)) {
			t.Fatalf("%v + %v is %v", a, b, got)
		}
		if x.Add(y).Sub(y) != x {
			t.Fatalf("%v + %v - it is something else", a, b)
		}
		cost := new(big.Int).Div(whole, new(big.Int).Add(a, big.NewInt(1)))
		if got := header.Cost(x); got != header.FromBig(cost) {
			t.Fatalf("work of target %x is %v; wanted is %x", a, got, cost)
		}
		by, per := r.Uint64N(1<<32)+1, r.Uint64N(1<<24)+1
		scaled := new(big.Int).Mul(a, new(big.Int).SetUint64(by))
		if scaled.Div(scaled, new(big.Int).SetUint64(per)).Cmp(b) > 0 {
			scaled = b
		}
		if got := header.Scale(x, by, per, y); got != header.FromBig(scaled) {
			t.Fatalf("%x * %d / %d is %v; wanted is %x", a, by, per, got, scaled)
		}
		bits := headertest.Compact(a)
		if got := header.Compact(x); got != bits {
			t.Fatalf("bits of %x are %08x; wanted are %08x", a, got, bits)
		}
		if got, ok := header.Expand(bits); !ok || got != header.FromBig(headertest.Expand(bits)) {
			t.Fatalf("target of %08x is %v", bits, got)
		}
	}
}

// TestBitsThatAreNoTarget: negative, zero, more than 256 bits.
func TestBitsThatAreNoTarget(t *testing.T) {
	for _, bits := range []uint32{
		0, 0x00ffffff & 0x7fffff, 0x01003456, 0x01800001, 0x04923456, 0x1d80ffff, 0x1d000000,
		0x23000100, 0x22010000, 0x217fffff, 0xff123456, ^uint32(0x00800000),
	} {
		if target, ok := header.Expand(bits); ok {
			t.Errorf("bits %08x are taken for target %v", bits, target)
		}
	}
	for bits, want := range map[uint32]uint64{0x01123456: 0x12, 0x02123456: 0x1234, 0x03123456: 0x123456, 0x04123456: 0x12345600} {
		if target, ok := header.Expand(bits); !ok || target != (header.Work{want}) {
			t.Errorf("bits %08x are taken for target %v", bits, target)
		}
	}
	if target, ok := header.Expand(0x220000ff); !ok || target[3] != 0xff<<56 {
		t.Errorf("the highest byte is %v, %v", target, ok)
	}
}
