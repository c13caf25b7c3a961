package eddsa_test

import (
	"fmt"
	"testing"

	"coinop.dev/core/ledger/eddsa"
)

func BenchmarkSign(b *testing.B) {
	s := eddsa.NewSecret(eddsa.BLAKE2b512, [32]byte{1})
	msg := make([]byte, 32)
	b.ReportAllocs()
	for b.Loop() {
		s.Sign(msg)
	}
}

func BenchmarkVerify(b *testing.B) {
	s := eddsa.NewSecret(eddsa.BLAKE2b512, [32]byte{1})
	msg := make([]byte, 32)
	public, sig := s.Public(), s.Sign(msg)
	b.ReportAllocs()
	for b.Loop() {
		if !eddsa.Verify(eddsa.BLAKE2b512, public, msg, sig) {
			b.Fatal("refused")
		}
	}
}

func BenchmarkVerifyCofactored(b *testing.B) {
	s := eddsa.NewSecret(eddsa.BLAKE2b512, [32]byte{1})
	msg := make([]byte, 32)
	public, sig := s.Public(), s.Sign(msg)
	b.ReportAllocs()
	for b.Loop() {
		if !eddsa.VerifyCofactored(eddsa.BLAKE2b512, public, msg, sig) {
			b.Fatal("refused")
		}
	}
}

// BenchmarkBatch checks batches of signatures by so many different keys; the
// figure to read is ns/sig.
func BenchmarkBatch(b *testing.B) {
	for _, size := range []int{8, 64, 256, 1024} {
		for _, keys := range []int{size, 16} {
			for _, cached := range []bool{false, true} {
				if keys > size {
					continue
				}
				b.Run(fmt.Sprintf("size=%d/keys=%d/cache=%v", size, keys, cached), func(b *testing.B) {
					publics, sigs := make([][32]byte, size), make([][64]byte, size)
					var msg [32]byte
					for i := range size {
						k := i % keys
						s := eddsa.NewSecret(eddsa.BLAKE2b512, [32]byte{byte(k), byte(k >> 8)})
						msg[0], msg[1] = byte(i), byte(i>>8)
						publics[i], sigs[i] = s.Public(), s.Sign(msg[:])
					}
					batch := eddsa.NewBatch(eddsa.BLAKE2b512)
					if cached {
						batch.Use(eddsa.NewCache(2*size + 2))
					}
					b.ReportAllocs()
					for b.Loop() {
						batch.Reset()
						for i := range size {
							msg[0], msg[1] = byte(i), byte(i>>8)
							batch.Add(publics[i], msg[:], sigs[i])
						}
						if all, _ := batch.Verify(); !all {
							b.Fatal("refused")
						}
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(size), "ns/sig")
				})
			}
		}
	}
}

// BenchmarkBatchOneBad is what it costs to find one bad signature among many.
func BenchmarkBatchOneBad(b *testing.B) {
	const size = 128
	batch := eddsa.NewBatch(eddsa.BLAKE2b512).Use(eddsa.NewCache(2 * size))
	for b.Loop() {
		batch.Reset()
		for i := range size {
			s := honest[i%len(honest)]
			sig := s.sig
			if i == 77 {
				sig[40] ^= 1
			}
			batch.Add(s.public, s.msg, sig)
		}
		if all, each := batch.Verify(); all || each[77] || !each[78] {
			b.Fatal("it is not found")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/size, "ns/sig")
}

var honest = func() (all [16]signed) {
	for i := range all {
		s := eddsa.NewSecret(eddsa.BLAKE2b512, [32]byte{byte(i)})
		all[i] = signed{public: s.Public(), msg: []byte{byte(i)}, sig: s.Sign([]byte{byte(i)})}
	}
	return all
}()
