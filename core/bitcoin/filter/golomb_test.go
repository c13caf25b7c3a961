package filter

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/btcutil/v2/gcs"
	"github.com/btcsuite/btcd/chainhash/v2"
)

// packed is the filter of these values, sorted.
func packed(values []uint64) []byte {
	w := writer{b: appendCompactSize(nil, uint64(len(values)))}
	last := uint64(0)
	for _, v := range values {
		w.difference(v - last)
		last = v
	}
	return w.close()
}

func TestValuesOfAnySpreadComeBack(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		all := make([]uint64, rnd.IntN(400))
		span := uint64(len(all)) * falseRate
		for i := range all { // in heaps, so that some gaps are very long
			all[i] = span - 1 - rnd.Uint64N(1<<rnd.IntN(40))%span
		}
		slices.Sort(all)
		raw := packed(all)
		got, err := values(raw)
		if err != nil || !slices.Equal(got, all) {
			t.Fatalf("%d values came back wrong: %v", len(all), err)
		}
	}
}

func TestMalformedFiltersAreErrors(t *testing.T) {
	good := packed([]uint64{5, 1 << 20, 2 << 20, 3_000_000}) // 4 elements
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"nothing":                     {nil, "number of elements"},
		"number cut short":            {unhex("fd01"), "number of elements"},
		"number too long":             {unhex("fd0400"), "number of elements"},
		"number longer still":         {unhex("feffff0000"), "number of elements"},
		"number longest":              {unhex("ffffffffff00000000"), "number of elements"},
		"number that wants memory":    {unhex("feffffffff00"), "the limit is 111111"},
		"number that wants it all":    {unhex("ffffffffffffffffff00"), "the limit is 111111"},
		"number too large for bytes":  {append([]byte{5}, good[1:]...), "do not fit"},
		"elements without bytes":      {[]byte{1}, "do not fit"},
		"empty and garbage":           {[]byte{0, 0}, "too many"},
		"cut short":                   {good[:len(good)-1], "cut short"},
		"a byte too many":             {append(slices.Clone(good), 0), "too many"},
		"last bits not zero":          {slices.Concat(good[:len(good)-1], []byte{good[len(good)-1] | 1}), "not zero"},
		"a run of ones without end":   {append([]byte{2}, bytes.Repeat([]byte{0xff}, 30)...), "cut short"},
		"value beyond that of a hash": {packed([]uint64{falseRate}), "the limit is 784930"},
	} {
		q := NewQuery()
		q.Add([]byte{0x51})
		if found, err := q.Match(c.raw, chainhash.Hash{}); found || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s (%x): %v, %v; want an error with %q", name, c.raw, found, err, c.want)
		}
		if _, err := NewQuery().Match(c.raw, chainhash.Hash{}); err == nil {
			t.Errorf("%s: no error where nothing is looked for", name)
		}
	}
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// The vectors of the paper's authors, as numbers: key 00..0f, message 00, 01,
// 02... of that length (github.com/veorq/SipHash, vectors.h, vectors_sip64, CC0).
func TestSipHashOfItsAuthors(t *testing.T) {
	var message []byte
	for i := range byte(16) {
		message = append(message, i)
	}
	for length, want := range map[int]uint64{
		0: 0x726fdb47dd0e0e31, 1: 0x74f839c593dc67fd, 7: 0xab0200f58b01d137,
		8: 0x93f5f5799a932462, 15: 0xa129ca6149be45e5,
	} {
		got := sipHash(0x0706050403020100, 0x0f0e0d0c0b0a0908, appendWords(nil, message[:length]))
		if got != want {
			t.Errorf("length %d: %016x, want %016x", length, got, want)
		}
	}
}

// FuzzMatch reads any bytes as a filter: what can be read is written the same
// again, and has the scripts that btcutil finds in it.
func FuzzMatch(f *testing.F) {
	f.Add([]byte{0}, []byte{1}, []byte{0x51})
	f.Add(packed([]uint64{5, 1 << 20, 2 << 20, 3_000_000}), []byte{}, []byte{})
	f.Add(append([]byte{2}, bytes.Repeat([]byte{0xff}, 30)...), []byte{2}, []byte("script"))
	f.Fuzz(func(t *testing.T, raw, block, script []byte) {
		var hash chainhash.Hash
		copy(hash[:], block)
		q := NewQuery()
		q.Add(script)
		found, err := q.Match(raw, hash)
		all, err2 := values(raw)
		if (err == nil) != (err2 == nil) {
			t.Fatalf("Match: %v; values: %v", err, err2)
		}
		if err != nil {
			return
		}
		if again := packed(all); !bytes.Equal(again, raw) {
			t.Fatalf("%x becomes %x", raw, again)
		}
		theirs, err := gcs.FromNBytes(remainderBits, falseRate, raw)
		if err != nil {
			t.Fatal(err)
		}
		want, err := theirs.Match([16]byte(hash[:16]), script)
		if err != nil || found != want {
			t.Fatalf("%v; btcutil says %v, %v", found, want, err)
		}
	})
}
