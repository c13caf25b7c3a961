package node

import (
	"slices"

	"coinop.dev/core/ledger/tangle"
)

// An arrival is a block that waits for a step with room.
type arrival struct {
	id   tangle.BlockID
	raw  []byte
	from []*peer // nil for this machine's own
	asks bool    // it was asked for: the others have it
}

// An unsolid block waits for parents.
type unsolid struct {
	*Block
	from    []*peer
	asks    bool
	share   *peer // whose share it takes
	missing int
	gone    bool
}

// A share is what of the pool belongs to one peer.
type share struct {
	list  []*unsolid // oldest first; may begin with gone ones
	count int
	bytes int
}

// arrive takes a block of a peer, unless it is known.
func (n *Node) arrive(p *peer, raw []byte) {
	id := tangle.IDOf(raw)
	if a := n.queued[id]; a != nil {
		a.from = append(a.from, p)
		return
	}
	if u := n.pool[id]; u != nil {
		u.from = append(u.from, p)
		return
	}
	if n.vertices[id] != nil || n.isRefused(id) {
		return
	}
	if _, ok := n.recent[id]; ok {
		return
	}
	if n.load != nil || n.queueBytes+len(raw) > MaxQueue {
		n.rejected.Dropped++
		p.dropped++
		return
	}
	a := &arrival{id: id, raw: slices.Clone(raw), from: []*peer{p}, asks: n.wants[id] != nil}
	n.queue = append(n.queue, a)
	n.queued[id] = a
	n.queueBytes += len(raw)
}

// knows reports whether a block is here, solid or not, or not worth asking for.
func (n *Node) knows(id tangle.BlockID) bool {
	if n.vertices[id] != nil || n.pool[id] != nil || n.queued[id] != nil || n.isRefused(id) {
		return true
	}
	_, ok := n.confirmed(id)
	return ok
}

// confirmed is the milestone that included a block, if one did: the only solid
// blocks that are not attached.
func (n *Node) confirmed(id tangle.BlockID) (uint32, bool) {
	if id == (tangle.BlockID{}) {
		return 0, true
	}
	if index, ok := n.recent[id]; ok {
		return index, true
	}
	if index, ok := n.entries[id]; ok {
		return index, true
	}
	if value := n.db.get(metaKey(id)); value != nil {
		if m := readMeta(value); m.Index <= n.head.Index {
			return m.Index, true
		}
	}
	return 0, false
}

// ingest takes as many blocks as a step may, checks them together and attaches
// those that are solid. Submissions of this machine are checked along.
func (n *Node) ingest() {
	var batch []*arrival
	size := 0
	for len(n.queue) > 0 && size < MaxBatch {
		a := n.queue[0]
		n.queue[0] = nil
		n.queue = n.queue[1:]
		batch = append(batch, a)
		size += len(a.raw)
		delete(n.queued, a.id)
	}
	n.queueBytes -= size
	n.busy = n.busy || len(n.queue) > 0
	if len(n.queue) == 0 {
		n.queue = nil
	}
	blocks := n.check(batch)
	for i, a := range batch {
		if blocks[i] == nil {
			n.refuse(a)
			continue
		}
		n.solidify(blocks[i], a)
	}
	n.attachSubmits()
}

// check reads blocks and returns those that are good by themselves, nil for the
// others.
func (n *Node) check(batch []*arrival) []*Block {
	blocks := make([]*Block, len(batch))
	var worked [][]byte
	var places []int
	n.batch.Reset()
	first := make([]int, len(batch)+1) // of its signatures
	for i, a := range batch {
		first[i] = n.batch.Len()
		b, err := tangle.DecodeBlock(a.raw)
		if err != nil || b.Check(n.net) != nil {
			continue
		}
		blocks[i] = &Block{Block: b, ID: a.id, Raw: a.raw}
		switch p := b.Payload.(type) {
		case *tangle.Transaction:
			blocks[i].Tx = tangle.TransactionID(payloadID(a.raw, b))
			n.add(p.Checks())
		case *tangle.Milestone:
			if b.Nonce != 0 {
				blocks[i] = nil // or anybody could make many of one
				continue
			}
			n.add(p.Checks())
			continue
		}
		if n.net.ZerosNeeded(len(a.raw)) > 0 {
			worked, places = append(worked, a.raw), append(places, i)
		}
	}
	first[len(batch)] = n.batch.Len()
	for k, zeros := range tangle.ZerosOf(worked) {
		if !n.net.Enough(len(worked[k]), zeros) {
			blocks[places[k]] = nil
		}
	}
	n.addSubmits()
	all, each := n.batch.Verify()
	if all {
		return blocks
	}
	for i := range batch {
		if slices.Contains(each[first[i]:first[i+1]], false) {
			blocks[i] = nil
		}
	}
	n.judgeSubmits(each)
	return blocks
}

func (n *Node) add(checks []tangle.Check) {
	for _, c := range checks {
		n.batch.Add(c.Public, c.Message[:], c.Signature)
	}
}

// refuse forgets a bad block but for its ID.
func (n *Node) refuse(a *arrival) {
	n.rejected.Invalid++
	for _, p := range a.from {
		p.bad++
	}
	n.got(a.id)
	n.remember(a.id)
	n.dropWaiters(a.id)
}

func (n *Node) isRefused(id tangle.BlockID) bool { return n.refused[0][id] || n.refused[1][id] }

func (n *Node) remember(id tangle.BlockID) {
	if len(n.refused[0]) >= MaxRefused {
		n.refused[0], n.refused[1] = map[tangle.BlockID]bool{}, n.refused[0]
	}
	n.refused[0][id] = true
}

// solidify attaches a block whose parents are known, and then all that waited for
// it. One whose parents are not waits.
func (n *Node) solidify(b *Block, a *arrival) {
	n.got(b.ID)
	if m := b.Milestone(); m != nil && !n.milestoneCame(b, m) {
		return
	}
	var found [tangle.MaxParents]tangle.BlockID
	missing, old := found[:0], true
	for _, parent := range b.Parents {
		if n.vertices[parent] != nil {
			old = false
		} else if _, ok := n.confirmed(parent); ok {
			_, lately := n.recent[parent]
			old = old && !lately
		} else if n.catch.shows(b.ID, parent) {
			n.enter(parent)
		} else if n.isRefused(parent) {
			n.refuse(a)
			return
		} else {
			missing = append(missing, parent)
		}
	}
	if len(missing) > 0 {
		n.wait(b, a, missing)
		return
	}
	if old && n.db.get(metaKey(b.ID)) != nil {
		return // included long ago
	}
	if n.tooOld(b) {
		n.rejected.Dropped++
		n.dropWaiters(b.ID)
		return
	}
	if n.attach(b, a.from, a.asks) {
		n.release(b.ID)
	} else {
		n.dropWaiters(b.ID)
	}
}

// tooOld reports whether a solid block is below max depth: no honest coordinator
// includes it, and if the next milestone does its list shows that.
func (n *Node) tooOld(b *Block) bool {
	if n.catch.set[b.ID] || b.Milestone() != nil {
		return false
	}
	oldest := n.head.Index
	for _, parent := range b.Parents {
		if _, old, ok := n.dag.Roots(parent); ok {
			oldest = min(oldest, old)
		} else if index, ok := n.confirmed(parent); ok {
			oldest = min(oldest, index)
		}
	}
	return n.head.Index-oldest > n.net.BelowMaxDepth
}

// release attaches what waited for blocks that are attached now.
func (n *Node) release(id tangle.BlockID) {
	next := []tangle.BlockID{id}
	for len(next) > 0 {
		id := next[0]
		next = next[1:]
		list := n.waiters[id]
		delete(n.waiters, id)
		for _, u := range list {
			if u.missing--; u.gone || u.missing > 0 {
				continue
			}
			n.unpool(u)
			if !n.tooOld(u.Block) && n.attach(u.Block, u.from, u.asks) {
				next = append(next, u.ID)
			} else {
				n.dropWaiters(u.ID)
			}
		}
	}
}

// wait puts an unsolid block into the pool, on its peer's share.
func (n *Node) wait(b *Block, a *arrival, missing []tangle.BlockID) {
	if len(a.from) == 0 {
		return // submitted: refused elsewhere
	}
	p := a.from[0]
	s := &p.unsolid
	for s.count > 0 && (s.count >= MaxUnsolid || s.bytes+len(b.Raw) > MaxUnsolidBytes || p.wanted+len(missing) > MaxWanted) {
		n.dropOldest(p)
	}
	if p.wanted+len(missing) > MaxWanted {
		n.rejected.Dropped++
		p.dropped++
		return
	}
	u := &unsolid{Block: b, from: a.from, asks: a.asks, share: p, missing: len(missing)}
	n.pool[b.ID] = u
	s.list = append(s.list, u)
	s.count++
	s.bytes += len(b.Raw)
	for _, id := range missing {
		n.waiters[id] = append(n.waiters[id], u)
		if n.pool[id] == nil && n.queued[id] == nil {
			n.want(id, p)
		}
	}
}

// unpool takes a block out of the pool.
func (n *Node) unpool(u *unsolid) {
	u.gone = true
	delete(n.pool, u.ID)
	s := &u.share.unsolid
	s.count--
	s.bytes -= len(u.Raw)
	for len(s.list) > 0 && s.list[0].gone {
		s.list[0] = nil
		s.list = s.list[1:]
	}
	if s.count == 0 {
		s.list = nil
	} else if len(s.list) > 2*s.count+64 {
		s.list = slices.DeleteFunc(s.list, func(u *unsolid) bool { return u.gone })
	}
}

// dropOldest drops a peer's oldest unsolid block, and what waits for that.
func (n *Node) dropOldest(p *peer) {
	s := &p.unsolid
	for len(s.list) > 0 && s.list[0].gone {
		s.list = s.list[1:]
	}
	if len(s.list) > 0 {
		n.drop(s.list[0])
	}
}

func (n *Node) drop(u *unsolid) {
	n.rejected.Dropped++
	u.share.dropped++
	n.unpool(u)
	for _, parent := range u.Parents {
		list := n.waiters[parent]
		if list = slices.DeleteFunc(list, func(x *unsolid) bool { return x == u }); len(list) > 0 {
			n.waiters[parent] = list
			continue
		}
		delete(n.waiters, parent)
		n.got(parent)
	}
	n.dropWaiters(u.ID)
}

// dropWaiters drops what waits for a block that will not be attached, and the
// future of that.
func (n *Node) dropWaiters(id tangle.BlockID) {
	next := []tangle.BlockID{id}
	for len(next) > 0 {
		id := next[0]
		next = next[1:]
		list := n.waiters[id]
		delete(n.waiters, id)
		for _, u := range list {
			if u.gone {
				continue
			}
			n.rejected.Dropped++
			n.unpool(u)
			next = append(next, u.ID)
			for _, parent := range u.Parents {
				if others, ok := n.waiters[parent]; ok {
					others = slices.DeleteFunc(others, func(x *unsolid) bool { return x == u })
					n.waiters[parent] = others
					if len(others) == 0 {
						delete(n.waiters, parent)
						n.got(parent)
					}
				}
			}
		}
	}
}
