package node

import (
	"errors"
	"fmt"
	"slices"

	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/step"
)

// A job is a milestone that is being judged, to propose it, to sign it or to
// confirm it, and then written. The work is the same for all three, so it is done
// once.
type job struct {
	mark    Mark
	parents []tangle.BlockID
	order   []tangle.BlockID // white-flag
	verdict []verdict        // of the first in order
	applied []tangle.BlockID
	changed Facts // the ledger's records as far as it is judged
	touched map[tangle.Address]bool
	judged  bool
	roots   struct{ inclusion, applied tangle.Hash }

	block   *Block // the milestone's, once it is known to be confirmed
	begun   bool   // to be written
	written int    // blocks
}

type verdict struct {
	state    Inclusion
	conflict Conflict
	records  []step.Record
	spent    []tangle.OutputID
}

// start begins the job of a milestone, or finds it under way. It is nil if another
// one is being written.
func (n *Node) start(mark Mark, parents []tangle.BlockID) *job {
	if j := n.job; j != nil {
		if j.mark == mark && slices.Equal(j.parents, parents) {
			return j
		}
		if j.block != nil {
			return nil
		}
	}
	order, err := n.dag.WhiteFlag(idsOf(parents))
	step.Assert(err == nil, "tangle: milestone %d: %v", mark.Index, err)
	n.job = &job{mark: mark, parents: parents, order: blockIDs(order), changed: Facts{}, touched: map[tangle.Address]bool{}}
	n.busy = true
	return n.job
}

// judge goes on with a job, as far as a step may.
func (n *Node) judge(j *job) {
	if j.judged {
		return
	}
	for range judgeStep {
		if len(j.verdict) == len(j.order) {
			j.roots.inclusion, j.roots.applied = tangle.MerkleRoot(j.order), tangle.MerkleRoot(j.applied)
			j.judged = true
			return
		}
		j.verdict = append(j.verdict, n.judgeBlock(j, n.vertices[j.order[len(j.verdict)]].Block))
	}
	n.busy = true
}

func (n *Node) judgeBlock(j *job, b *Block) verdict {
	t := b.Transaction()
	if t == nil {
		return verdict{state: NoTx}
	}
	facts := Facts{}
	for _, key := range Wants(b) {
		value, ok := j.changed[key]
		if !ok {
			value = n.before(key)
		}
		facts[key] = value
	}
	records, err := Judge(b, j.mark, facts)
	if err != nil {
		var c Conflict
		step.Assert(errors.As(err, &c), "tangle: judge block %v: %v", b.ID, err)
		return verdict{state: Conflicting, conflict: c}
	}
	in, out := uint64(0), uint64(0)
	for _, id := range t.Essence.Inputs {
		o := readOutput(id, facts[outputKey(id)])
		in += o.Amount
		j.touched[o.Address] = true
	}
	for _, o := range t.Essence.Outputs {
		out += o.Amount
		j.touched[o.Address] = true
	}
	step.Assert(in == out, "tangle: transaction %v makes %d of %d base units", b.Tx, out, in)
	for _, r := range records {
		j.changed[r.Key] = r.Value
	}
	j.applied = append(j.applied, b.ID)
	return verdict{state: Applied, records: records, spent: t.Essence.Inputs}
}

// before is a record of an output as the last milestone left it, whatever one that
// a crash interrupted has written since.
func (n *Node) before(key string) []byte {
	value := n.db.get(key)
	if value == nil || n.decided == (tangle.MilestoneID{}) {
		return value
	}
	o := readOutput(tangle.OutputID([]byte(key[len(outputPre):])), value)
	if o.Booked.Index > n.head.Index {
		return nil
	}
	if o.Spent.Index > n.head.Index {
		o.Spent, o.SpentBy = Mark{}, tangle.TransactionID{}
		return o.record()
	}
	return value
}

// confirm goes on with the next milestone, if it is here.
func (n *Node) confirm() {
	if n.halt != nil {
		return
	}
	if n.job != nil && n.job.block != nil {
		n.write(n.job)
		return
	}
	b := n.milestones[n.head.Index+1]
	if b == nil || n.vertices[b.ID] == nil {
		return
	}
	m := b.Milestone()
	if n.decided != (tangle.MilestoneID{}) && m.ID() != n.decided {
		return // halted elsewhere
	}
	if m.Previous != n.head.ID || m.Timestamp < n.head.Time {
		n.stop(fmt.Errorf("milestone %d is signed, and does not follow milestone %d: the coordinators and this node have different histories", m.Index, n.head.Index), b)
		return
	}
	j := n.start(Mark{m.Index, m.Timestamp}, m.Parents)
	n.judge(j)
	if !j.judged {
		return
	}
	if j.roots.inclusion != m.InclusionRoot || j.roots.applied != m.AppliedRoot {
		n.stop(fmt.Errorf("milestone %d is signed with roots %v and %v; this node has %v and %v: the coordinators or this node's disk are wrong", m.Index, m.InclusionRoot, m.AppliedRoot, j.roots.inclusion, j.roots.applied), b)
		return
	}
	j.block = b
	n.write(j)
}

// write puts a piece of a milestone on disk. Until the last one is, the head stays,
// and the records do not count.
func (n *Node) write(j *job) {
	if !j.begun {
		j.begun = true
		m := n.summary(j)
		n.db.put(mileKey(j.mark.Index), m.record())
		n.db.put(mileIDKey(j.block.Milestone().ID()), []byte(be32(j.mark.Index)))
	}
	for size, begin := 0, j.written; j.written < len(j.order) && j.written < begin+writeStep && size < MaxWrite; j.written++ {
		size += n.writeBlock(j, j.written)
		if last := j.written + 1; last%MaxConePiece == 0 || last == len(j.order) {
			n.writePiece(j, (last-1)/MaxConePiece)
		}
	}
	if j.written == len(j.order) {
		n.finish(j)
	}
	n.busy = true
}

func (n *Node) summary(j *job) milestone {
	m := milestone{Raw: j.block.Raw, Blocks: uint32(len(j.order)), Applied: uint32(len(j.applied))}
	for i := range j.verdict {
		if j.verdict[i].state == Conflicting {
			m.Conflicting++
		}
	}
	m.Pieces = uint16((len(j.order) + MaxConePiece - 1) / MaxConePiece)
	return m
}

// writeBlock writes what becomes of a block, and returns the size of that.
func (n *Node) writeBlock(j *job, i int) (size int) {
	v := &j.verdict[i]
	n.db.put(metaKey(j.order[i]), meta{j.mark.Index, uint32(i), v.state, v.conflict}.record())
	for _, r := range v.records {
		n.db.add(r)
		size += len(r.Key) + len(r.Value)
	}
	return size
}

// writePiece writes a piece of the list of blocks, and of what they spent.
func (n *Node) writePiece(j *job, piece int) {
	var c cone
	var spent []byte
	for i := piece * MaxConePiece; i < min(len(j.order), (piece+1)*MaxConePiece); i++ {
		c.ids = append(c.ids, j.order[i])
		c.applied = append(c.applied, j.verdict[i].state == Applied)
		for _, id := range j.verdict[i].spent {
			spent = append(spent, id[:]...)
		}
	}
	n.db.put(coneKey(j.mark.Index, piece), c.record())
	if spent != nil {
		n.db.put(spentKey(j.mark.Index, piece), spent)
	}
}

// Confirmed tells of a milestone.
type Confirmed struct {
	Mark
	ID          tangle.MilestoneID
	Block       tangle.BlockID
	Blocks      uint32
	Applied     uint32
	Conflicting uint32
}

// recents is what one milestone included.
type recents struct {
	index uint32
	ids   []tangle.BlockID
}

// finish makes a milestone count, and takes what it includes out of memory.
func (n *Node) finish(j *job) {
	m := j.block.Milestone()
	n.head.Mark, n.head.ID = j.mark, m.ID()
	n.head.Blocks += uint64(len(j.order))
	n.head.Txs += uint64(len(j.applied))
	n.changed, n.decided, n.job = true, tangle.MilestoneID{}, nil
	delete(n.milestones, j.mark.Index)
	n.trees.add(j.mark.Index, j.applied)
	for i, id := range j.order {
		v := n.vertices[id]
		n.tell(j, v, &j.verdict[i])
		n.forget(v)
	}
	err := n.dag.Confirm(j.mark.Index, idsOf(j.order))
	step.Assert(err == nil, "tangle: confirm milestone %d: %v", j.mark.Index, err)
	n.addRecent(j.mark.Index, j.order)
	n.dropOld()
	sum := n.summary(j)
	n.done(ConfirmedID, Confirmed{j.mark, n.head.ID, j.block.ID, sum.Blocks, sum.Applied, sum.Conflicting}, nil)
	n.again(j.mark.Index)
	n.followers.touch(j.touched)
	n.nextDue()
	n.catchUp()
}

// tell says what has become of a block's payload, to who waits for it.
func (n *Node) tell(j *job, v *vertex, verdict *verdict) {
	settled := Settled{v.ID, j.mark}
	switch p := v.Payload.(type) {
	case *tangle.TaggedData:
		id := payloadID(v.Raw, v.Block.Block)
		if o := n.own[id]; o != nil {
			n.settled(o)
			n.done(DataID(id), settled, nil)
		}
	case *tangle.Transaction:
		o := n.own[v.Tx]
		if verdict.state == Applied {
			n.done(TxID(v.Tx), settled, nil)
			if o != nil {
				n.settled(o)
				n.tellFinal(o.wallet, v.Tx)
			}
			return
		}
		if verdict.conflict == NotFound || n.isApplied(j, v.Tx, p) {
			return // its turn may come; or it has, in another block
		}
		n.done(TxID(v.Tx), nil, verdict.conflict)
		if o != nil {
			n.settled(o)
			n.tellRejected(o, verdict.conflict)
		}
	}
}

// isApplied reports whether a transaction has spent its inputs itself, in another
// block.
func (n *Node) isApplied(j *job, id tangle.TransactionID, t *tangle.Transaction) bool {
	in := t.Essence.Inputs[0]
	value, ok := j.changed[outputKey(in)]
	if !ok {
		value = n.db.get(outputKey(in))
	}
	return value != nil && readOutput(in, value).SpentBy == id
}

// addRecent remembers what a milestone included, instead of what older ones did.
func (n *Node) addRecent(index uint32, ids []tangle.BlockID) {
	n.recents = append(n.recents, recents{index, ids})
	for _, id := range ids {
		n.recent[id] = index
	}
	for len(n.recents) > 1 && (len(n.recent) > MaxRecent || n.recents[0].index+n.net.BelowMaxDepth < index) {
		for _, id := range n.recents[0].ids {
			delete(n.recent, id)
		}
		n.recents = n.recents[1:]
	}
	for _, id := range sortedIDs(n.entries) {
		if n.entries[id]+n.net.BelowMaxDepth < index {
			delete(n.entries, id)
			n.db.put(entryKey(id), nil)
		}
	}
}

// dropOld takes out what is below max depth: no coordinator approves it any more.
func (n *Node) dropOld() {
	for _, id := range n.dag.BelowMaxDepth() {
		for _, gone := range n.dag.Drop(id, n.now) {
			v := n.vertices[gone]
			n.forget(v)
			n.db.put(blockKey(v.ID), nil)
			n.rejected.Orphaned++
			if m := v.Milestone(); m != nil && n.milestones[m.Index] == v.Block {
				delete(n.milestones, m.Index)
			}
		}
	}
}

// milestoneCame takes note of a block that coordinators have signed. It is false
// for none.
func (n *Node) milestoneCame(b *Block, m *tangle.Milestone) bool {
	id := m.ID()
	if m.Index <= n.head.Index || n.decided != (tangle.MilestoneID{}) && m.Index == n.head.Index+1 {
		if value := n.db.get(mileKey(m.Index)); value != nil && n.db.get(mileIDKey(id)) == nil {
			_, other := readMilestone(value)
			n.twice(other, b)
		}
		if m.Index <= n.head.Index {
			return true
		}
	}
	if m.Index > n.head.Index+MaxAhead {
		return true
	}
	known := n.milestones[m.Index]
	if known == nil {
		n.milestones[m.Index] = b
		return true
	}
	if known.Milestone().ID() != id {
		n.twice(known, b)
	}
	return true
}

// twice stops the node: the coordinators have signed two milestones of one index.
// Both are kept, and told to all.
func (n *Node) twice(a, b *Block) {
	m := a.Milestone()
	n.stop(fmt.Errorf("%w: %v and %v of index %d", ErrHalted, m.ID(), b.Milestone().ID(), m.Index), a, b)
	n.broadcast(Blocks{[][]byte{a.Raw, b.Raw}}, nil)
}

// stop ends confirmation, durably and loudly.
func (n *Node) stop(err error, witnesses ...*Block) {
	for _, b := range witnesses {
		m := b.Milestone()
		n.db.put(witnessKey(m.Index, m.ID()), b.Raw)
	}
	if n.halt != nil {
		return
	}
	n.halt = err
	n.db.put(haltKey, []byte(err.Error()))
	n.done(HaltID, nil, err)
}

// prune forgets a piece of the oldest milestone's blocks, and the outputs that it
// spent, if there are more than the node keeps.
func (n *Node) prune() {
	if n.c.Keep == 0 || n.head.Index < n.c.Keep || n.head.Oldest > n.head.Index-n.c.Keep {
		return
	}
	index := n.head.Oldest
	value := n.db.get(mileKey(index))
	if value != nil {
		m, b := readMilestone(value)
		if n.pruning < int(m.Pieces) {
			n.prunePiece(index, n.pruning)
			n.pruning++
		}
		n.busy = true
		if n.pruning < int(m.Pieces) {
			return
		}
		n.db.put(mileKey(index), nil)
		n.db.put(mileIDKey(b.Milestone().ID()), nil)
	}
	n.pruning = 0
	n.head.Oldest++
	n.changed, n.busy = true, true
}

func (n *Node) prunePiece(index uint32, piece int) {
	for _, id := range readCone(n.db.get(coneKey(index, piece))).ids {
		n.db.put(blockKey(id), nil)
		n.db.put(metaKey(id), nil)
	}
	spent := n.db.get(spentKey(index, piece))
	for ; len(spent) >= len(tangle.OutputID{}); spent = spent[len(tangle.OutputID{}):] {
		n.db.put(outputKey(tangle.OutputID(spent[:len(tangle.OutputID{})])), nil)
	}
	n.db.put(coneKey(index, piece), nil)
	n.db.put(spentKey(index, piece), nil)
}
