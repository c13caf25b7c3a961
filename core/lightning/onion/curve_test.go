package onion_test

import (
	"testing"
	"testing/quick"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/onion"
)

// plain is k·p by secp256k1 alone.
func plain(k *secp256k1.ModNScalar, p keys.Public) (product keys.Public, ok bool) {
	key, err := secp256k1.ParsePubKey(p[:])
	if err != nil {
		return product, false
	}
	var in, out secp256k1.JacobianPoint
	key.AsJacobian(&in)
	secp256k1.ScalarMultNonConst(k, &in, &out)
	out.ToAffine()
	return keys.Public(secp256k1.NewPublicKey(&out.X, &out.Y).SerializeCompressed()), true
}

func base(k *secp256k1.ModNScalar) keys.Public {
	return keys.Public(secp256k1.NewPrivateKey(k).PubKey().SerializeCompressed())
}

func checkMultiply(t *testing.T, k *secp256k1.ModNScalar, p keys.Public) {
	t.Helper()
	want, ok := plain(k, p)
	got, err := onion.Multiply(k, &p)
	if (err == nil) != ok || got != want {
		t.Fatalf("%v times %v is %v, %v; want %v", k, p, got, err, want)
	}
	var own secp256k1.JacobianPoint
	secp256k1.ScalarBaseMultNonConst(k, &own)
	other, got, err := onion.MultiplyBoth(k, &p, &own)
	if (err == nil) != ok || got != want || ok && other != base(k) {
		t.Fatalf("%v times %v and the base is %v, %v, %v; want %v, %v", k, p, other, got, err, base(k), want)
	}
}

func TestMultiplicationIsThatOfTheCurve(t *testing.T) {
	err := quick.Check(func(a, b [32]byte) bool {
		var k, n secp256k1.ModNScalar
		k.SetBytes(&a)
		n.SetBytes(&b)
		checkMultiply(t, &k, base(&n))
		p := base(&n)
		p[0] ^= 1 // the other y
		checkMultiply(t, &k, p)
		checkMultiply(t, &k, keys.Public(append([]byte{2 + a[0]&1}, b[:]...))) // half of these are no points
		return true
	}, &quick.Config{MaxCount: 150})
	if err != nil {
		t.Error(err)
	}
}

// Scalars at the edges of the split and of the digits.
func TestMultiplicationByEdges(t *testing.T) {
	lambda := unhex(t, "5363ad4cc05c30e0a5261c028812645a122e22ea20816678df02967c1b23bd72")
	var edges []secp256k1.ModNScalar
	for i := range uint32(70) {
		var k secp256k1.ModNScalar
		edges = append(edges, *k.SetInt(i + 1))
	}
	for bit := range 256 {
		var b [32]byte
		b[bit/8] = 0x80 >> (bit % 8)
		var k, less secp256k1.ModNScalar
		k.SetBytes(&b)
		less.SetInt(1).Negate().Add(&k)
		edges = append(edges, k, less)
	}
	for i := range uint32(20) {
		var k, small secp256k1.ModNScalar
		k.SetByteSlice(lambda)
		small.SetInt(i)
		edges = append(edges, *k.Add(&small))
	}
	p := nth(t, 3).Public()
	for _, k := range edges {
		if k.IsZero() {
			continue
		}
		checkMultiply(t, &k, p)
		checkMultiply(t, k.Negate(), p)
	}
}

func TestMultiplicationRefusesWhatIsNoPoint(t *testing.T) {
	k := new(secp256k1.ModNScalar).SetInt(7)
	good := nth(t, 3).Public()
	over := keys.Public{2}
	for i := 1; i < len(over); i++ {
		over[i] = 0xff // x is not below the order of the field
	}
	bad := map[string]keys.Public{"x too large": over, "nothing": {}, "zero": {2}}
	for _, prefix := range []byte{0, 1, 4, 5, 6, 7, 255} {
		p := good
		p[0] = prefix
		bad[p.String()[:2]] = p
	}
	for name, p := range bad {
		if got, err := onion.Multiply(k, &p); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func tableOf(t testing.TB, node keys.Public) *onion.Table {
	t.Helper()
	table, err := onion.NewTable(node)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// A table changes what an onion costs, not the onion.
func TestTableMakesTheSameOnion(t *testing.T) {
	plain := route(t, 2, 30)
	tabled := route(t, 2, 30)
	for i := range tabled {
		tabled[i].Table = tableOf(t, tabled[i].Node)
	}
	err := quick.Check(func(b [32]byte) bool {
		session, err := keys.SecretFromBytes(b[:])
		if err != nil {
			return true
		}
		want, secrets, err := onion.New(session, hash, plain)
		if err != nil {
			t.Fatal(err)
		}
		got, same, err := onion.New(session, hash, tabled)
		return err == nil && *got == *want && same[0] == secrets[0] && same[1] == secrets[1]
	}, &quick.Config{MaxCount: 50})
	if err != nil {
		t.Error(err)
	}
	tabled[0].Table = tabled[1].Table
	if _, _, err := onion.New(nth(t, 100), hash, tabled); err == nil {
		t.Error("the table of another node")
	}
	if _, err := onion.NewTable(keys.Public{2}); err == nil {
		t.Error("the table of no point")
	}
}

// The sessions of small numbers, whose halves and columns are mostly zero.
func TestTableAtTheEdges(t *testing.T) {
	hops := route(t, 1, 30)
	table := tableOf(t, hops[0].Node)
	for bit := range 255 {
		var b [32]byte
		b[31-bit/8] = 1 << (bit % 8)
		session := secretOf(t, b[:])
		hops[0].Table = nil
		want, _, err := onion.New(session, hash, hops)
		if err != nil {
			t.Fatal(err)
		}
		hops[0].Table = table
		if got, _, err := onion.New(session, hash, hops); err != nil || *got != *want {
			t.Fatalf("session 2^%d: another onion, %v", bit, err)
		}
	}
}
