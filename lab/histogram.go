package lab

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// A histogram counts durations in buckets 1/128 wide, in the memory of a few
// thousand counters however many there are: the payer's memory is a figure of
// its own.
type histogram struct{ buckets [histogramSize]atomic.Uint32 }

const (
	histogramBits = 7
	// histogramSize is enough for every positive duration.
	histogramSize = (64 - histogramBits) << histogramBits
)

func (h *histogram) add(d time.Duration) { h.buckets[bucket(uint64(max(d, 0)))].Add(1) }

// bucket is the place of v: itself while it is small, then its exponent and the
// seven bits after the first.
func bucket(v uint64) int {
	shift := max(0, bits.Len64(v)-histogramBits-1)
	return shift<<histogramBits + int(v>>shift)
}

// value is the middle of a bucket.
func value(bucket int) time.Duration {
	if bucket < 2<<histogramBits {
		return time.Duration(bucket)
	}
	shift := bucket>>histogramBits - 1
	low := uint64(bucket-shift<<histogramBits) << shift
	return time.Duration(low + 1<<shift/2)
}

// quantile is the duration that the share q of all does not exceed.
func (h *histogram) quantile(q float64) time.Duration {
	total := uint64(0)
	for i := range h.buckets {
		total += uint64(h.buckets[i].Load())
	}
	rank, seen := uint64(q*float64(total)), uint64(0)
	for i := range h.buckets {
		if seen += uint64(h.buckets[i].Load()); seen > rank {
			return value(i)
		}
	}
	return 0
}
