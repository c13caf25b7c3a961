package filter_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/btcutil/v2/gcs"
	"github.com/btcsuite/btcd/btcutil/v2/gcs/builder"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/filter"
)

// some returns n different scripts, most of the lengths of standard ones.
func some(rnd *rand.Rand, n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		length := []int{22, 23, 25, 34, 35, 5 + rnd.IntN(60)}[rnd.IntN(6)]
		all[i] = make([]byte, length)
		for j := range all[i] {
			all[i][j] = byte(rnd.Uint32())
		}
		binary.BigEndian.PutUint32(all[i], uint32(i)) // different, and no OP_RETURN
		all[i][0] = 0x76
	}
	return all
}

// paying is a block whose outputs have these scripts.
func paying(scripts [][]byte) *wire.MsgBlock {
	t := wire.NewMsgTx(2)
	t.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: wire.MaxPrevOutIndex}, []byte{1, 2}, nil))
	for _, s := range scripts {
		t.AddTxOut(wire.NewTxOut(1, s))
	}
	return &wire.MsgBlock{Transactions: []*wire.MsgTx{t}}
}

func nothing(wire.OutPoint) []byte { return nil }

// their is the same filter in the hands of btcutil.
func their(t testing.TB, raw []byte) *gcs.Filter {
	f, err := gcs.FromNBytes(builder.DefaultP, builder.DefaultM, raw)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func query(scripts [][]byte) *filter.Query {
	q := filter.NewQuery()
	for _, s := range scripts {
		q.Add(s)
	}
	return q
}

func TestFiltersAndAnswersEqualThoseOfBtcutil(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	found := 0
	for range 300 {
		b := paying(some(rnd, rnd.IntN(1<<rnd.IntN(11))))
		b.Header.Nonce = rnd.Uint32()
		block := b.BlockHash()
		raw, err := filter.Build(b, nothing)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := builder.BuildBasicFilter(b, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want, _ := theirs.NBytes(); !slices.Equal(raw, want) {
			t.Fatalf("filter of %d elements:\n%x, want\n%x", theirs.N(), raw, want)
		}
		asked := some(rnd, 1+rnd.IntN(1<<rnd.IntN(9)))
		for i := range asked {
			asked[i][0] = 0x51 // not in the block
		}
		if outs := b.Transactions[0].TxOut; len(outs) > 0 && rnd.IntN(2) == 0 {
			asked[rnd.IntN(len(asked))] = outs[rnd.IntN(len(outs))].PkScript
		}
		want := false
		if theirs.N() > 0 { // btcutil answers an empty filter with an error
			if want, err = theirs.MatchAny(builder.DeriveKey(&block), asked); err != nil {
				t.Fatal(err)
			}
		}
		got, err := query(asked).Match(raw, block)
		if err != nil || got != want {
			t.Fatalf("%d scripts in a filter of %d elements: %v, %v; btcutil says %v", len(asked), theirs.N(), got, err, want)
		}
		if got {
			found++
		}
	}
	if found < 50 || found > 250 {
		t.Errorf("%d of 300 matched; the test does not test both answers", found)
	}
}

func TestQueryForgetsWhatIsRemoved(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	scripts := some(rnd, 100)
	b := paying(scripts[:1])
	raw, _ := filter.Build(b, nothing)
	q := query(scripts)
	q.Add(scripts[0]) // again
	if found, err := q.Match(raw, b.BlockHash()); !found || err != nil || q.Len() != 100 {
		t.Fatalf("%d scripts: %v, %v", q.Len(), found, err)
	}
	q.Remove(scripts[0])
	q.Remove(scripts[0])
	if found, err := q.Match(raw, b.BlockHash()); found || err != nil || q.Len() != 99 {
		t.Errorf("%d scripts: %v, %v", q.Len(), found, err)
	}
	for _, s := range scripts {
		q.Remove(s)
	}
	if found, err := q.Match(raw, b.BlockHash()); found || err != nil || q.Len() != 0 {
		t.Errorf("%d scripts: %v, %v", q.Len(), found, err)
	}
}

func TestMatchingAllocatesNothing(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	scripts := some(rnd, 1000)
	b := paying(scripts[:500])
	raw, _ := filter.Build(b, nothing)
	q := query(scripts)
	block := b.BlockHash()
	if n := testing.AllocsPerRun(50, func() { _, _ = q.Match(raw, block) }); n != 0 {
		t.Errorf("%v allocations for each filter", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	rnd := rand.New(rand.NewPCG(9, 10))
	for _, elements := range []int{100, 1000, 10000} {
		block := paying(some(rnd, elements))
		hash := block.BlockHash()
		raw, err := filter.Build(block, nothing)
		if err != nil {
			b.Fatal(err)
		}
		for _, n := range []int{1, 10, 100, 1000} {
			// Many sets, because btcutil stops at the last script's place.
			var asked [16][][]byte
			var queries [16]*filter.Query
			for i := range asked {
				asked[i] = some(rnd, n)
				for _, s := range asked[i] {
					s[0] = 0x51 // not in the block
				}
				queries[i] = query(asked[i])
			}
			name := fmt.Sprintf("elements=%d/scripts=%d", elements, n)
			b.Run(name+"/ours", func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if found, err := queries[i%16].Match(raw, hash); err != nil {
						b.Fatal(found, err)
					}
				}
			})
			b.Run(name+"/gcs", func(b *testing.B) {
				key := builder.DeriveKey(&hash)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if found, err := their(b, raw).MatchAny(key, asked[i%16]); err != nil {
						b.Fatal(found, err)
					}
				}
			})
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	block := paying(some(rand.New(rand.NewPCG(11, 12)), 5000))
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			_, _ = filter.Build(block, nothing)
		}
	})
	b.Run("gcs", func(b *testing.B) {
		for b.Loop() {
			f, _ := builder.BuildBasicFilter(block, nil)
			_, _ = f.NBytes()
		}
	})
}
