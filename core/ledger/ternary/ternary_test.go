package ternary_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"coinop.dev/core/ledger/ternary"
)

// vectors are other people's: see _origin in the file.
type vectors struct {
	Kerl, Curl, Checksum [][2]string
	Seed                 string
	Addresses            []string // of the keys 0 to 4 of the seed, security level 2
	Bundle               string
	Fragments            []string // signature of Bundle by key 0
	WOTS                 []struct{ Key, Address, Hash, Signature string }
}

func read(t *testing.T) (v vectors) {
	t.Helper()
	raw, err := os.ReadFile("testdata/legacy.json")
	must(t, err)
	must(t, json.Unmarshal(raw, &v))
	return v
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func hashOf(t testing.TB, trytes string) ternary.Hash {
	t.Helper()
	h, err := ternary.ParseHash(trytes)
	must(t, err)
	return h
}

func tritsOf(t testing.TB, trytes string) []int8 {
	t.Helper()
	trits, err := ternary.ParseTrytes(trytes)
	must(t, err)
	return trits
}

func randomHash(random *rand.Rand) (h ternary.Hash) {
	for i := range h {
		h[i] = int8(random.IntN(3)) - 1
	}
	return h
}

func TestVectors(t *testing.T) {
	v := read(t)
	for _, c := range v.Curl {
		var curl ternary.Curl
		curl.Absorb(tritsOf(t, c[0]))
		got := ""
		for len(got) < len(c[1]) {
			got += curl.Squeeze().String()
		}
		if got != c[1] {
			t.Errorf("Curl of %s is %s; want %s", c[0], got, c[1])
		}
	}
	for _, c := range v.Kerl {
		var kerl ternary.Kerl
		for in := c[0]; in != ""; in = in[ternary.HashTrytes:] {
			kerl.Absorb(hashOf(t, in[:ternary.HashTrytes]))
		}
		got := ""
		for len(got) < len(c[1]) {
			got += kerl.Squeeze().String()
		}
		if got != c[1] {
			t.Errorf("Kerl of %s is %s; want %s", c[0], got, c[1])
		}
	}
	for _, c := range v.Checksum {
		if got := ternary.Checksummed(hashOf(t, c[0])); got != c[0]+c[1] {
			t.Errorf("address %s has checksum %s; want %s", c[0], got[81:], c[1])
		}
	}
	seed, err := ternary.ParseSeed(v.Seed)
	must(t, err)
	for i, want := range v.Addresses {
		key, err := seed.Key(uint64(i), 2)
		must(t, err)
		if got := key.Address().String(); got != want {
			t.Errorf("address %d of the seed is %s; want %s", i, got, want)
		}
	}
	var signature []ternary.Fragment
	for _, text := range v.Fragments {
		f, err := ternary.ParseFragment(text)
		must(t, err)
		signature = append(signature, f)
	}
	by, err := ternary.SignedBy(hashOf(t, v.Bundle), signature)
	if must(t, err); by.String() != v.Addresses[0] {
		t.Errorf("the bundle is signed by %s; want %s", by, v.Addresses[0])
	}
}

func TestWinternitz(t *testing.T) {
	for _, w := range read(t).WOTS {
		key, bundle := ternary.KeyOf(t, w.Key), hashOf(t, w.Hash)
		if got := key.Address().String(); got != w.Address {
			t.Errorf("the key's address is %s; want %s", got, w.Address)
		}
		want, err := ternary.ParseFragment(w.Signature)
		must(t, err)
		if !ternary.Normalise(bundle).Safe() {
			if _, err := key.Sign(bundle); err == nil {
				t.Error("a hash that shows a part of the key is signed")
			}
		} else {
			got, err := key.Sign(bundle)
			if must(t, err); len(got) != 1 || got[0] != want {
				t.Errorf("the signature of %s differs", w.Hash)
			}
		}
		by, err := ternary.SignedBy(bundle, []ternary.Fragment{want})
		if must(t, err); by.String() != w.Address {
			t.Errorf("signed by %s; want %s", by, w.Address)
		}
		want[3][7] = (want[3][7]+2)%3 - 1
		if by, _ = ternary.SignedBy(bundle, []ternary.Fragment{want}); by.String() == w.Address {
			t.Error("a changed signature is taken")
		}
	}
}

// TestLanes: 64 lanes say what 64 plain hashes say.
func TestLanes(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var lanes ternary.CurlLanes
	var in [ternary.Lanes]ternary.Hash
	for lane := range in {
		in[lane] = randomHash(random)
		for i, v := range in[lane] {
			lanes.Set(lane, i, v)
		}
	}
	var sum ternary.LanesSum
	lanes.Sum(&sum)
	for n := range 4 {
		mask := sum.Zeros(n)
		for lane := range in {
			want := ternary.CurlSum(in[lane][:])
			if got := sum.Hash(lane); got != want {
				t.Fatalf("lane %d: %s; want %s", lane, got, want)
			}
			if sum.TrailingZeros(lane) != want.TrailingZeros() || (mask>>lane&1 == 1) != (want.TrailingZeros() >= n) {
				t.Fatalf("lane %d: %d zeros; want %d", lane, sum.TrailingZeros(lane), want.TrailingZeros())
			}
		}
	}

	lanes.PutB1T6(9, 30, []byte{0x80, 3, 0x7f})
	lanes.PutAllB1T6(48, []byte{0xff, 0, 1})
	lanes.Sum(&sum)
	ternary.PutB1T6(in[9][30:], []byte{0x80, 3, 0x7f})
	for lane := range in {
		ternary.PutB1T6(in[lane][48:], []byte{0xff, 0, 1})
		if sum.Hash(lane) != ternary.CurlSum(in[lane][:]) {
			t.Fatalf("lane %d has other bytes", lane)
		}
	}
}

func TestNormalise(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	unsafe := 0
	for range 500 {
		n := ternary.Normalise(randomHash(random))
		for third := range 3 {
			sum := 0
			for _, v := range n[27*third : 27*third+27] {
				sum += int(v)
			}
			if sum != 0 {
				t.Fatalf("a third of %v sums up to %d", n, sum)
			}
		}
		if !n.Safe() {
			unsafe++
		}
	}
	if unsafe == 0 {
		t.Error("no hash in 500 shows a part of a key; most would")
	}
	if !(ternary.Normalised{5: -13}).Safe() || (ternary.Normalised{80: 13}).Safe() {
		t.Error("safe is without 13, with -13 or not")
	}
	n := ternary.Normalise(hashOf(t, strings.Repeat("M", ternary.HashTrytes)))
	if n[12] != -13 || n[13] != 0 || n[14] != 13 {
		t.Errorf("the middle of a third is %v; want -13, 0 and 13", n[12:15])
	}
}

// TestBundle moves value from one address to another and back to change, on each
// level of security, and then somebody tries to get more.
func TestBundle(t *testing.T) {
	seed, err := ternary.ParseSeed(strings.Repeat("TESTSEED9", 9))
	must(t, err)
	if s := fmt.Sprintf("%v %+v %s", seed, struct{ S ternary.Seed }{seed}, seed); strings.Contains(s, "TESTSEED") || strings.Contains(s, "0x") {
		t.Errorf("the seed prints: %s", s)
	}
	random := rand.New(rand.NewPCG(7, 8))
	for security := 1; security <= ternary.MaxSecurity; security++ {
		key, err := seed.Key(uint64(security)<<40, security)
		must(t, err)
		bundle := ternary.Bundle{
			{Address: randomHash(random), Value: 700, ObsoleteTag: "COINOP", Timestamp: 1_600_000_000},
			{Address: key.Address(), Value: -1000, Timestamp: 1_600_000_000},
		}
		for range security - 1 {
			bundle = append(bundle, ternary.Transaction{Address: key.Address(), Timestamp: 1_600_000_000})
		}
		bundle = append(bundle, ternary.Transaction{Address: randomHash(random), Value: 300, Timestamp: 1_600_000_000})
		hash, err := bundle.Finalise()
		must(t, err)
		if !ternary.Normalise(hash).Safe() {
			t.Error("the hash is not safe to sign")
		}
		must(t, bundle.Sign(1, key))
		must(t, bundle.Check())
		for i := range bundle {
			text, err := bundle[i].Trytes()
			must(t, err)
			back, err := ternary.ParseTransaction(text)
			must(t, err)
			again, err := back.Trytes()
			if must(t, err); again != text || back.Value != bundle[i].Value || back.Bundle != hash {
				t.Errorf("transaction %d comes back as another", i)
			}
			bundle[i] = *back
		}
		must(t, bundle.Check())

		theft := clone(bundle)
		theft[0].Value, theft[len(theft)-1].Value = 701, 299
		refused(t, theft, "is of bundle")
		_, err = theft.Finalise()
		must(t, err)
		refused(t, theft, "without a signature")
		theft = clone(bundle)
		theft[0].Value++
		_, err = theft.Finalise()
		must(t, err)
		refused(t, theft, "to zero")
	}
	if _, err := seed.Key(0, 4); err == nil {
		t.Error("there is a level 4")
	}
	refused(t, nil, "must have")
	rich := ternary.Bundle{{Value: ternary.Supply + 1}, {Value: -ternary.Supply - 1}}
	_, err = rich.Finalise()
	must(t, err)
	refused(t, rich, "only")
}

func clone(b ternary.Bundle) ternary.Bundle { return append(ternary.Bundle(nil), b...) }

func refused(t *testing.T, b ternary.Bundle, want string) {
	t.Helper()
	if err := b.Check(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the bundle is checked: %v; want %q", err, want)
	}
}

func TestNumbers(t *testing.T) {
	trits := make([]int8, 81)
	for _, v := range []int64{0, 1, -1, 13, -13, 364, ternary.Supply, -ternary.Supply, 1<<62 - 1, -(1<<62 - 1)} {
		ternary.PutInt(trits, v)
		if got, err := ternary.Int(trits); err != nil || got != v {
			t.Errorf("%d comes back as %d: %v", v, got, err)
		}
	}
	trits[80] = 1
	if _, err := ternary.Int(trits); err == nil {
		t.Error("3^80 fits an int64")
	}
	for _, text := range []string{"a", "8", "é"} {
		if _, err := ternary.ParseTrytes(text); err == nil {
			t.Errorf("%q is read as trytes", text)
		}
	}
}

func TestB1T6(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	got, err := ternary.DecodeB1T6(ternary.B1T6(all))
	if err != nil || !bytes.Equal(got, all) {
		t.Errorf("bytes come back as %x: %v", got, err)
	}
	if got := ternary.Trytes(ternary.B1T6([]byte{1, 0x7f, 0x80, 0xff})); got != "A9SEGVZ9" {
		t.Errorf("b1t6 is %s", got) // TIP-5: 127 is 19 + 4*27 and so on
	}
	if _, err := ternary.DecodeB1T6(tritsOf(t, "MM")); err == nil {
		t.Error("364 is a byte")
	}
}

func TestChecksum(t *testing.T) {
	for _, c := range read(t).Checksum {
		good := c[0] + c[1]
		a, err := ternary.ParseChecksummed(good)
		if must(t, err); a.String() != c[0] {
			t.Errorf("%s is read as %s", good, a)
		}
		for _, bad := range []string{good[:89], "9" + good[1:], good[:89] + "9", strings.ToLower(good)} {
			if _, err := ternary.ParseChecksummed(bad); err == nil && bad != good {
				t.Errorf("%s is read", bad)
			}
		}
	}
}

func FuzzTransaction(f *testing.F) {
	f.Add(strings.Repeat("9", ternary.TransactionTrytes))
	f.Add(strings.Repeat("9A", ternary.TransactionTrytes/2) + "M")
	f.Fuzz(func(t *testing.T, text string) {
		tx, err := ternary.ParseTransaction(text)
		if err != nil {
			return
		}
		if back, err := tx.Trytes(); err != nil || back != text {
			t.Errorf("%s comes back as %s: %v", text, back, err)
		}
		if err := (ternary.Bundle{*tx}).Check(); err == nil {
			t.Log("a bundle of one that holds")
		}
	})
}

func FuzzTrytes(f *testing.F) {
	f.Add("9ABCXYZ")
	f.Add("00")
	f.Fuzz(func(t *testing.T, text string) {
		ternary.ParseChecksummed(text)
		ternary.ParseFragment(text)
		trits, err := ternary.ParseTrytes(text)
		if err != nil {
			return
		}
		if ternary.Trytes(trits) != text {
			t.Errorf("%s comes back as %s", text, ternary.Trytes(trits))
		}
		if raw, err := ternary.DecodeB1T6(trits); err == nil && ternary.Trytes(ternary.B1T6(raw)) != text {
			t.Errorf("b1t6 %s comes back as %x", text, raw)
		}
	})
}

func BenchmarkCurl(b *testing.B) {
	h := randomHash(rand.New(rand.NewPCG(9, 9)))
	for b.Loop() {
		h = ternary.CurlSum(h[:])
	}
}

// BenchmarkCurlLanes reports the time of one hash of 64.
func BenchmarkCurlLanes(b *testing.B) {
	var lanes ternary.CurlLanes
	var sum ternary.LanesSum
	for b.Loop() {
		lanes.Sum(&sum)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/ternary.Lanes, "ns/hash")
}

func BenchmarkKerl(b *testing.B) {
	h := randomHash(rand.New(rand.NewPCG(9, 9)))
	for b.Loop() {
		h = ternary.KerlSum(h)
	}
}
