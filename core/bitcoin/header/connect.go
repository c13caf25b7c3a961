package header

import (
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/step"
)

// page is how many headers make a record on disk. base is a multiple of it.
const page = 16

// Connect takes a branch: headers in order, of which the first one's parent is
// in the tail. Headers that are ours already are skipped, the others are judged
// by the rules. If the branch ends with more work than the tip, the chain
// follows it and better is true; else nothing changes, as the first one seen
// wins a tie. fork is the height of the last block in common.
//
// The error is ErrOrphan, or *Invalid if the branch is a lie; nothing has
// changed then. RuleFuture may also mean that our own clock is wrong.
func (c *Chain) Connect(branch []wire.BlockHeader, now step.Time) (fork int32, better bool, err error) {
	if len(branch) == 0 {
		return c.tip(), false, nil
	}
	fork, known := c.Height(branch[0].PrevBlock)
	if !known || fork < c.base {
		return 0, false, fmt.Errorf("%w: parent %v; the tail starts at height %d", ErrOrphan, branch[0].PrevBlock, c.base)
	}
	for len(branch) > 0 && fork < c.tip() && Hash(&branch[0]) == c.tail[fork+1-c.base].hash {
		fork++
		branch = branch[1:]
	}
	if len(branch) == 0 {
		return fork, false, nil
	}
	if c.base > 0 && fork < c.base+MedianSpan-1 {
		return 0, false, fmt.Errorf("%w: it forks at height %d; the tail starts at %d and judges from the %dth header", ErrOrphan, fork, c.base, MedianSpan)
	}
	if err := c.beforeCheckpoint(fork, &branch[0]); err != nil {
		return fork, false, err
	}
	j, latest := c.judge(fork), int64(now/step.Second)+MaxAhead
	for i := range branch {
		if err := j.next(&branch[i], latest); err != nil {
			return fork, false, err
		}
	}
	if j.work.Cmp(c.work) <= 0 {
		return fork, false, nil
	}
	c.follow(fork, branch, j)
	return fork, true, nil
}

// beforeCheckpoint refuses a branch from below a checkpoint that we have passed:
// it cannot contain it.
func (c *Chain) beforeCheckpoint(fork int32, h *wire.BlockHeader) error {
	for _, point := range c.law.Checkpoints {
		if fork < point.Height && point.Height <= c.tip() {
			return &Invalid{
				Height: fork + 1, Hash: Hash(h), Rule: RuleCheckpoint,
				Got: fmt.Sprintf("a fork at height %d", fork), Want: fmt.Sprintf("%v at height %d", point.Hash, point.Height),
			}
		}
	}
	return nil
}

// judge is a judge of what follows height, which is in the tail with all that
// the rules look at.
func (c *Chain) judge(height int32) judge {
	j := judge{law: c.law}
	low := min(height-height%c.law.period, height-MedianSpan+1)
	for h := max(low, c.base); h <= height; h++ {
		e := &c.tail[h-c.base]
		j.take(h, e.hash, e.time, e.bits)
	}
	j.work = c.work
	for h := height + 1; h <= c.tip(); h++ {
		target, _ := expand(c.tail[h-c.base].bits)
		j.work = j.work.Sub(cost(target))
	}
	return j
}

// follow puts the branch in the place of all after fork. j has judged it.
func (c *Chain) follow(fork int32, branch []wire.BlockHeader, j judge) {
	// The hash of a header is what the next one says it follows.
	hash := func(i int) *chainhash.Hash {
		if i == len(branch)-1 {
			return &j.hash
		}
		return &branch[i+1].PrevBlock
	}
	c.disk.dirty = min(c.disk.dirty, fork+1)
	c.work = j.work

	c.marks = c.marks[:fork/Interval+1]
	for h := (fork/Interval + 1) * Interval; h <= j.height; h += Interval {
		c.marks = append(c.marks, *hash(int(h - fork - 1)))
	}

	base := max(c.base, c.law.base(j.height))
	kept := c.tail[:fork+1-c.base]
	if cut := base - c.base; cut > 0 && int(cut) <= len(kept) {
		c.prev = c.tail[cut-1].hash
		kept = kept[:copy(kept, kept[cut:])]
	} else if cut > 0 {
		skip := int(base - fork - 1)
		c.prev = branch[skip].PrevBlock
		kept = kept[:0]
		branch = branch[skip:]
	}
	c.tail = room(kept, len(branch), int(c.law.period)+Tail+MedianSpan+page)
	for i := range branch {
		c.tail = append(c.tail, newEntry(&branch[i], *hash(i)))
	}
	c.base = base
}

// base is where the tail of a chain with that tip starts: Tail headers below it
// can be branched from, and what judges such branches is there too.
func (l *law) base(tip int32) int32 {
	base := max(0, tip-Tail-MedianSpan)
	base -= base % l.period
	return base - base%page
}

// room makes room for n more, for twice as many as there will be, but not for
// more than the tail may ever have.
func room(tail []entry, n, most int) []entry {
	n += len(tail)
	if n <= cap(tail) {
		return tail
	}
	grown := make([]entry, len(tail), max(n, min(2*n, most)))
	copy(grown, tail)
	return grown
}
