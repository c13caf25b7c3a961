package lattice

import (
	"encoding/binary"
	"math"
)

// Thresholds of Nano's own networks since epoch 2, for sends and changes, and for
// what receives.
const (
	LiveWorkSend    = 0xfffffff800000000 // about 2^29 tries
	LiveWorkReceive = 0xfffffe0000000000 // about 2^23
	BetaWorkSend    = 0xfffff00000000000
	BetaWorkReceive = 0xffffe00000000000
	DevWorkSend     = 0xffc0000000000000 // about 2^10
	DevWorkReceive  = 0xf000000000000000 // about 2^4
)

// WorkValue is how good a block's work is, to be compared with a threshold: the
// eight-byte BLAKE2b of the work and the block's root.
func WorkValue(root [32]byte, work uint64) uint64 {
	return blake2b8(work, rootWords(root))
}

// Work finds the first work from a number on whose value reaches the threshold. It
// takes 2^64/(2^64-threshold) tries on average, however many those are.
func Work(root [32]byte, threshold, from uint64) uint64 {
	for {
		if work, ok := TryWork(root, threshold, from, math.MaxUint32); ok {
			return work
		}
		from += math.MaxUint32
	}
}

// TryWork is Work that gives up after some tries, for who must be able to stop:
// the search goes on at from+tries.
func TryWork(root [32]byte, threshold, from, tries uint64) (work uint64, ok bool) {
	words := rootWords(root)
	for work := from; tries > 0; work, tries = work+1, tries-1 {
		if blake2b8(work, words) >= threshold {
			return work, true
		}
	}
	return 0, false
}

// Multiplier is how many times the tries of base a threshold takes.
func Multiplier(threshold, base uint64) float64 {
	return float64(-base) / float64(-threshold)
}

// rootWords are a root as BLAKE2b reads it.
func rootWords(root [32]byte) (w [4]uint64) {
	for i := range w {
		w[i] = binary.LittleEndian.Uint64(root[8*i:])
	}
	return w
}
