package node

import (
	"bytes"
	"math/bits"
	"slices"

	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/step"
)

const (
	// buckets is how many classes of balance there are; each has its turn, so that
	// the poor, whose blocks are cheap to make, wait for the poor only.
	buckets = 63
	// MaxElections bounds the elections at one time.
	MaxElections = 5000
	// reserved is how many of them each bucket always has room for, and most how
	// many it may have while there is room in all.
	reserved, most = 75, 1500
)

// A bucket is the blocks of one class of balance that wait for an election, those
// whose accounts have rested longest first.
type bucket struct {
	waiting []*entry
	running int // elections
}

// bucketOf is by the larger of the balances before and after, two bits to a class.
func bucketOf(e *entry) int {
	b := e.Balance
	if e.before.Cmp(b) > 0 {
		b = e.before
	}
	n := bits.Len64(b.Lo)
	if b.Hi != 0 {
		n = 64 + bits.Len64(b.Hi)
	}
	return min(n/2, buckets-1)
}

// rested is since when the account has not been used.
func (e *entry) rested() step.Time {
	if e.chain.base.Height == 0 {
		return e.Time
	}
	return e.chain.base.Modified
}

func before(a, b *entry) int {
	if d := a.rested() - b.rested(); d != 0 {
		return int(d)
	}
	return bytes.Compare(a.hash[:], b.hash[:])
}

// enqueue has a block wait for its turn.
func (n *Node) enqueue(e *entry) {
	if e.queue != nil || e.election != nil {
		return
	}
	e.queue = &n.buckets[bucketOf(e)]
	at, _ := slices.BinarySearchFunc(e.queue.waiting, e, before)
	e.queue.waiting = slices.Insert(e.queue.waiting, at, e)
	n.waiting++
}

func (n *Node) dequeue(e *entry) {
	if e.queue == nil {
		return
	}
	at, found := slices.BinarySearchFunc(e.queue.waiting, e, before)
	if !found { // its account has been used since
		at = slices.Index(e.queue.waiting, e)
	}
	e.queue.waiting = slices.Delete(e.queue.waiting, at, at+1)
	e.queue = nil
	n.waiting--
}

// schedule starts elections, a bucket after the other, while there is room.
func (n *Node) schedule() {
	for idle := 0; n.waiting > 0 && idle < buckets; n.turn = (n.turn + 1) % buckets {
		b := &n.buckets[n.turn]
		room := b.running < reserved || b.running < most && len(n.active) < MaxElections/2
		if len(b.waiting) == 0 || !room || len(n.active) >= MaxElections {
			idle++
			continue
		}
		idle = 0
		e := b.waiting[0]
		n.dequeue(e)
		n.elect(e)
	}
}

// makeRoom takes the block of least right out of a full backlog, if that has less
// right than one whose account has rested since then and has that balance. It
// reports whether there is room now.
func (n *Node) makeRoom(newcomer *lattice.Block, c *chain) bool {
	if len(n.pending) < n.MaxBacklog {
		return true
	}
	fullest := &n.buckets[0]
	for i := range n.buckets {
		if len(n.buckets[i].waiting) > len(fullest.waiting) {
			fullest = &n.buckets[i]
		}
	}
	if len(fullest.waiting) == 0 {
		return false
	}
	last := fullest.waiting[len(fullest.waiting)-1]
	probe := &entry{Stored: Stored{Block: *newcomer, Time: n.now}, hash: lattice.Hash{}, chain: c, before: c.tip().Balance}
	if &n.buckets[bucketOf(probe)] == fullest && probe.rested() >= last.rested() {
		return false
	}
	for _, e := range n.rollBack(last) {
		n.dropped++
		n.tellRejected(e, lattice.Busy)
	}
	return len(n.pending) < n.MaxBacklog
}
