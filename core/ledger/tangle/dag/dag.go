// Package dag is the unconfirmed part of a Tangle in memory: who approves whom,
// exact cumulative weights, the choice of tips (weighted walk and uniform), the
// white-flag order, and how likely a new tip is to approve a block.
//
// Blocks stand in slots, in the order in which they were attached, so that a
// parent always has a lower slot than its approvers. Every question about cones
// is one pass over slots, up or down, without a queue or a recursion. Slot 0 is
// the confirmed past: blocks with a confirmed parent hang on it. Confirmed and
// dropped blocks leave their slot empty; when more are empty than full, all move
// together.
//
// Invariants:
//
//  1. A parent of a block is in a lower slot, or confirmed.
//  2. Weights are exact wherever they are read: own weight plus the own weights
//     of all that approve, directly or not, and are in the DAG.
//  3. What is refused changes nothing.
//
// Own weights are capped, and the cap is 1 unless told otherwise: a block that
// may weigh as much as its issuer likes lets one strong computer outweigh a
// whole network in one block (Popov, "The Tangle" 1.4.3, section 4: the attack of
// one large weight). A cap above 1 is for studies.
package dag

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"coinop.dev/core/step"
)

// An ID names a block: BLAKE2b-256 of it in Stardust. It is tangle.BlockID.
type ID = [32]byte

const (
	// DefaultLimit is how many unconfirmed blocks there may be. At some 200 bytes
	// each that is 200 MB.
	DefaultLimit = 1 << 20
	// MaxLimit keeps slots and edges within 31 bits.
	MaxLimit = 1 << 26
	// MaxParents is how many parents a block may have (TIP-24).
	MaxParents = 8
	// DefaultMaxOwn is the highest own weight that counts.
	DefaultMaxOwn = 1
)

var (
	// ErrKnown says that a block is in the DAG already.
	ErrKnown = errors.New("dag: block is attached already")
	// ErrUnknown says that a block or a parent is neither in the DAG nor confirmed:
	// fetch it first.
	ErrUnknown = errors.New("dag: block is neither attached nor confirmed")
	// ErrFull says that the limit of unconfirmed blocks is reached: wait for a
	// milestone, or drop what is below max depth.
	ErrFull = errors.New("dag: full of unconfirmed blocks")
	// ErrParents says that a block has no parents, or more than MaxParents.
	ErrParents = errors.New("dag: number of parents")
	// ErrCone says that a milestone would confirm a block without its past.
	ErrCone = errors.New("dag: parent is neither confirmed nor to be confirmed")
)

// Options say what a DAG holds. The zero value holds DefaultLimit blocks, keeps
// weights, and has TIP-3's rules for tips except that nothing is known to be
// confirmed.
type Options struct {
	Limit  int    // of unconfirmed blocks; 0 is DefaultLimit, at most MaxLimit
	MaxOwn uint32 // cap of own weights; 0 is DefaultMaxOwn

	// Confirmed tells the index of the milestone that confirmed a block, if one
	// did. It is asked for parents that are not in the DAG: these are solid
	// entry points.
	Confirmed func(ID) (milestone uint32, ok bool)
	// Milestone is the index of the last one confirmed before the DAG begins.
	Milestone uint32

	// Unweighted keeps no weights while blocks are attached, which saves a node
	// that only chooses uniformly most of the time. Weight then counts when it is
	// asked, and walks go as with an alpha of 0.
	Unweighted bool

	Pool Pool
}

// A Block is what a DAG knows of one.
type Block struct {
	ID      ID
	Parents []ID   // 1 to MaxParents; one named twice counts once
	Own     uint32 // own weight; 0 counts as 1, and more than Options.MaxOwn as that
}

// A node is one slot.
type node struct {
	weight     uint64
	edge       uint32 // its first edge; its last is before the next slot's first
	approver   int32  // first edge that leads here, or none
	children   uint32 // edges that lead here
	own        uint32 // 0: nobody stands here
	young, old uint32 // milestones that confirmed the roots of its past (TIP-3)
	place      int32  // in the pool of its score, or none
	score      Score
	rooted     bool // hangs on slot 0, once
}

// An edge leads from a block to a parent.
type edge struct {
	parent int32 // slot; of a confirmed parent ^milestone
	child  int32 // slot
	next   int32 // the next edge to the same parent, or none
}

const (
	none = -1
	root = 0 // the slot of the confirmed past
)

// A DAG is not safe for concurrent use.
type DAG struct {
	options   Options
	milestone uint32 // the last one confirmed
	slots     map[ID]int32
	ids       []ID
	nodes     []node // one more than ids: its edge ends the last slot's edges
	edges     []edge
	low       int // slots from 1 to before low are empty
	live      int
	tips      int // blocks that nobody approves
	pools     [NonLazy + 1][]candidate
	tally

	// Scratch, kept to allocate nothing.
	marks   []uint64
	choices []choice
}

// New returns a DAG without blocks.
func New(o Options) *DAG {
	if o.Limit == 0 {
		o.Limit = DefaultLimit
	}
	if o.MaxOwn == 0 {
		o.MaxOwn = DefaultMaxOwn
	}
	if o.Confirmed == nil {
		o.Confirmed = func(ID) (uint32, bool) { return 0, false }
	}
	step.Assert(o.Limit > 0 && o.Limit <= MaxLimit, "dag: limit %d", o.Limit)
	o.Pool = o.Pool.withDefaults()
	return &DAG{options: o, milestone: o.Milestone, slots: map[ID]int32{}, low: 1,
		ids: make([]ID, 1), nodes: []node{{approver: none, place: none}, {}}, tally: newTally()}
}

// Len is how many unconfirmed blocks there are.
func (d *DAG) Len() int { return d.live }

// Has reports whether a block is in the DAG, which is: attached and not confirmed.
func (d *DAG) Has(id ID) bool { _, ok := d.slots[id]; return ok }

// Milestone is the index of the last one confirmed.
func (d *DAG) Milestone() uint32 { return d.milestone }

// Parents are those parents of a block that are not confirmed, in the block's order.
func (d *DAG) Parents(id ID) []ID {
	i, ok := d.slots[id]
	if !ok {
		return nil
	}
	var parents []ID
	for _, e := range d.up(i) {
		if e.parent >= 0 {
			parents = append(parents, d.ids[e.parent])
		}
	}
	return parents
}

// Children are those that approve a block directly, newest first.
func (d *DAG) Children(id ID) []ID {
	i, ok := d.slots[id]
	if !ok {
		return nil
	}
	var children []ID
	for e := d.nodes[i].approver; e != none; e = d.edges[e].next {
		children = append(children, d.ids[d.edges[e].child])
	}
	return children
}

// entry stands for a parent that a milestone confirmed.
func entry(milestone uint32) int32 { return ^int32(min(milestone, math.MaxInt32)) }

// up are the edges of a slot to its parents.
func (d *DAG) up(i int32) []edge { return d.edges[d.nodes[i].edge:d.nodes[i+1].edge] }

// Attach adds a block whose parents are all attached or confirmed, as of a time. It
// fails with ErrKnown, ErrUnknown, ErrParents or ErrFull.
func (d *DAG) Attach(b Block, at step.Time) error {
	if d.Has(b.ID) {
		return ErrKnown
	}
	if n := len(b.Parents); n == 0 || n > MaxParents {
		return fmt.Errorf("%w: %d, of 1 to %d", ErrParents, n, MaxParents)
	}
	if d.live >= d.options.Limit {
		return fmt.Errorf("%w: %d of %d", ErrFull, d.live, d.options.Limit)
	}
	var found [MaxParents]int32
	parents := found[:0]
	for k, p := range b.Parents {
		if slices.Contains(b.Parents[:k], p) {
			continue
		}
		if slot, ok := d.slots[p]; ok {
			parents = append(parents, slot)
		} else if milestone, ok := d.options.Confirmed(p); ok {
			parents = append(parents, entry(milestone))
		} else {
			return fmt.Errorf("%w: %x, a parent of %x", ErrUnknown, p, b.ID)
		}
	}
	d.attach(b.ID, parents, min(max(b.Own, 1), d.options.MaxOwn), at)
	return nil
}

func (d *DAG) attach(id ID, parents []int32, own uint32, at step.Time) {
	i := int32(len(d.ids))
	d.slots[id] = i
	d.ids = append(d.ids, id)
	d.nodes[i] = node{edge: uint32(len(d.edges)), approver: none, own: own, place: none}
	d.live++
	d.tips++
	for _, p := range parents {
		d.edges = append(d.edges, edge{parent: p, child: i})
		d.link(int32(len(d.edges) - 1))
	}
	d.nodes = append(d.nodes, node{edge: uint32(len(d.edges))})
	d.roots(i)
	d.nodes[i].score = d.score(i)
	d.enter(i, at)
	if !d.options.Unweighted {
		d.weigh(i, own)
	}
}

// link hangs an edge on its parent, or a block with a confirmed parent on the
// confirmed past.
func (d *DAG) link(k int32) {
	e := &d.edges[k]
	parent := e.parent
	if parent < 0 {
		if d.nodes[e.child].rooted {
			return
		}
		d.nodes[e.child].rooted = true
		parent = root
	}
	p := &d.nodes[parent]
	if parent != root && p.children == 0 {
		d.tips--
	}
	p.children++
	e.next, p.approver = p.approver, k
}

// roots finds the milestones of the confirmed blocks that the past of i begins with.
func (d *DAG) roots(i int32) {
	young, old := uint32(0), ^uint32(0)
	for _, e := range d.up(i) {
		if e.parent < 0 {
			young, old = max(young, uint32(^e.parent)), min(old, uint32(^e.parent))
			continue
		}
		p := &d.nodes[e.parent]
		young, old = max(young, p.young), min(old, p.old)
	}
	d.nodes[i].young, d.nodes[i].old = young, old
}

// mark returns an empty set of slots.
func (d *DAG) mark() marks {
	words := len(d.nodes)/64 + 1
	if cap(d.marks) < words {
		d.marks = make([]uint64, words+words/4)
	}
	m := d.marks[:words]
	clear(m)
	return m
}

// marks is a set of slots.
type marks []uint64

func (m marks) set(i int32)      { m[i>>6] |= 1 << (i & 63) }
func (m marks) has(i int32) bool { return m[i>>6]>>(i&63)&1 != 0 }
