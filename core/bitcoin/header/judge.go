package header

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

const (
	// MedianSpan is how many headers' median time a new one must be after.
	MedianSpan = 11

	// MaxAhead is how many seconds a header may be in the future (Bitcoin Core's
	// MAX_FUTURE_BLOCK_TIME).
	MaxAhead = 2 * 60 * 60

	// MaxBack is how many seconds the first header of a period may be before the
	// one it follows (BIP 94).
	MaxBack = 600

	// Size of a header in bytes.
	Size = 80
)

// A Rule is one of those that every header is judged by.
type Rule string

// The rules, in the order they are applied.
const (
	RuleLink       Rule = "previous block"
	RuleBits       Rule = "difficulty bits"
	RuleWork       Rule = "proof of work"
	RuleMedian     Rule = "median time past"
	RuleBack       Rule = "time of a period's first block" // BIP 94
	RuleFuture     Rule = "time in the future"             // perhaps our clock is wrong
	RuleVersion    Rule = "version"                        // BIP 34, 66, 65
	RuleCheckpoint Rule = "checkpoint"
)

// Invalid is the error of a header that breaks a rule: whoever sent it lied.
type Invalid struct {
	Height int32
	Hash   chainhash.Hash
	Rule   Rule
	Got    string // what the header says
	Want   string // what the rule says
}

func (e *Invalid) Error() string {
	return fmt.Sprintf("header %d (%v) breaks the rule of %s: it has %s, wanted is %s", e.Height, e.Hash, e.Rule, e.Got, e.Want)
}

// Hash is the hash of a header, without the allocations of wire's BlockHash.
func Hash(h *wire.BlockHeader) chainhash.Hash {
	var b [Size]byte
	put(&b, h)
	first := sha256.Sum256(b[:])
	return sha256.Sum256(first[:])
}

func put(b *[Size]byte, h *wire.BlockHeader) {
	binary.LittleEndian.PutUint32(b[0:], uint32(h.Version))
	copy(b[4:], h.PrevBlock[:])
	copy(b[36:], h.MerkleRoot[:])
	binary.LittleEndian.PutUint32(b[68:], uint32(h.Timestamp.Unix()))
	binary.LittleEndian.PutUint32(b[72:], h.Bits)
	binary.LittleEndian.PutUint32(b[76:], h.Nonce)
}

// A law is what a network's parameters say about headers, ready for use.
type law struct {
	*chaincfg.Params
	limit    Work  // the easiest target
	period   int32 // headers between two retargets
	timespan int64 // what they should take, in seconds
	patience int64 // seconds after which a test network makes it easy; 0: never
}

func newLaw(p *chaincfg.Params) *law {
	l := &law{
		Params:   p,
		limit:    fromBig(p.PowLimit),
		period:   int32(p.TargetTimespan / p.TargetTimePerBlock),
		timespan: int64(p.TargetTimespan / 1e9),
	}
	if p.ReduceMinDifficulty {
		l.patience = int64(p.MinDiffReductionTime / 1e9)
	}
	return l
}

// A judge knows of the headers so far what it takes to judge the next one: a
// few words, however many they are.
type judge struct {
	*law
	height int32
	hash   chainhash.Hash
	time   uint32
	bits   uint32
	times  [MedianSpan]uint32 // of the last headers, by height modulo MedianSpan
	first  struct{ time, bits uint32 }
	work   Work // of all headers

	known  uint32 // the bits that target and cost belong to
	target Work
	cost   Work
	after  int // checkpoints that are passed
}

// take moves the judge to a header that is known to be good.
func (j *judge) take(height int32, hash chainhash.Hash, time, bits uint32) {
	j.height, j.hash, j.time, j.bits = height, hash, time, bits
	j.times[height%MedianSpan] = time
	if height%j.period == 0 {
		j.first.time, j.first.bits = time, bits
	}
	if bits != j.known {
		j.known = bits
		j.target, _ = expand(bits)
		j.cost = cost(j.target)
	}
	j.work = j.work.Add(j.cost)
	for j.after < len(j.Checkpoints) && j.Checkpoints[j.after].Height <= height {
		j.after++
	}
}

// next judges the header after the last one, and takes it. latest is the last
// second that is not too far in the future.
func (j *judge) next(h *wire.BlockHeader, latest int64) error {
	height, time := j.height+1, uint32(h.Timestamp.Unix())
	hash := Hash(h)
	fail := func(rule Rule, got, want string) error {
		return &Invalid{Height: height, Hash: hash, Rule: rule, Got: got, Want: want}
	}
	if h.PrevBlock != j.hash {
		return fail(RuleLink, h.PrevBlock.String(), j.hash.String())
	}
	if want := j.required(time); h.Bits != want {
		return fail(RuleBits, fmt.Sprintf("%08x", h.Bits), fmt.Sprintf("%08x", want))
	}
	if h.Bits != j.known {
		target, ok := expand(h.Bits)
		if !ok || target.Cmp(j.limit) > 0 {
			return fail(RuleBits, fmt.Sprintf("%08x", h.Bits), fmt.Sprintf("at most %08x", j.PowLimitBits))
		}
		j.known, j.target, j.cost = h.Bits, target, cost(target)
	}
	if !meets(&hash, &j.target) {
		return fail(RuleWork, hash.String(), "at most "+j.target.String())
	}
	if !j.afterMedian(time) {
		return fail(RuleMedian, second(int64(time)), "after "+second(int64(j.median())))
	}
	if j.EnforceBIP94 && height%j.period == 0 && int64(time) < int64(j.time)-MaxBack {
		return fail(RuleBack, second(int64(time)), "at least "+second(int64(j.time)-MaxBack))
	}
	if int64(time) > latest {
		return fail(RuleFuture, second(int64(time)), "at most "+second(latest))
	}
	if want := j.version(height); h.Version < want {
		return fail(RuleVersion, fmt.Sprint(h.Version), fmt.Sprintf("at least %d", want))
	}
	if j.after < len(j.Checkpoints) && j.Checkpoints[j.after].Height == height && *j.Checkpoints[j.after].Hash != hash {
		return fail(RuleCheckpoint, hash.String(), j.Checkpoints[j.after].Hash.String())
	}
	j.take(height, hash, time, h.Bits)
	return nil
}

func second(unix int64) string { return fmt.Sprintf("second %d", unix) }

// required is the bits that a header of that time must have. All networks but
// those without retargeting follow Bitcoin Core's GetNextWorkRequired.
func (j *judge) required(time uint32) uint32 {
	if j.PoWNoRetargeting {
		return j.PowLimitBits
	}
	if (j.height+1)%j.period == 0 {
		return j.retarget()
	}
	if !j.ReduceMinDifficulty {
		return j.bits
	}
	if int64(time) > int64(j.time)+j.patience {
		return j.PowLimitBits
	}
	return j.first.bits // the last of the period that was not made easy has the same
}

// retarget measures a period from its first header to its last, which is one
// interval less than it has headers. That is Bitcoin's oldest mistake, and a
// rule since.
func (j *judge) retarget() uint32 {
	took := int64(j.time) - int64(j.first.time)
	took = min(max(took, j.timespan/j.RetargetAdjustmentFactor), j.timespan*j.RetargetAdjustmentFactor)
	bits := j.bits
	if j.EnforceBIP94 {
		bits = j.first.bits
	}
	target, _ := expand(bits)
	return compact(scale(target, uint64(took), uint64(j.timespan), j.limit))
}

// afterMedian reports whether time is after the median of the last headers,
// which is so if more than half of them are before it.
func (j *judge) afterMedian(time uint32) bool {
	last := j.times[:min(j.height+1, MedianSpan)]
	before := 0
	for _, t := range last {
		if t < time {
			before++
		}
	}
	return before > len(last)/2
}

func (j *judge) median() uint32 {
	times := j.times
	last := times[:min(j.height+1, MedianSpan)]
	slices.Sort(last)
	return last[len(last)/2]
}

func (j *judge) version(height int32) int32 {
	switch {
	case height >= j.BIP0065Height:
		return 4
	case height >= j.BIP0066Height:
		return 3
	case height >= j.BIP0034Height:
		return 2
	}
	return math.MinInt32
}
