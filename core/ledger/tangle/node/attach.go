package node

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/dag"
	"coinop.dev/core/step"
)

// A page is the IDs of blocks that one step attached, in their order: what is
// attached is found again by them.
type page struct {
	number uint64
	ids    []tangle.BlockID
	left   int // not confirmed, not dropped
}

func (p *page) record() []byte {
	b := make([]byte, 0, 32*len(p.ids))
	for _, id := range p.ids {
		b = append(b, id[:]...)
	}
	return b
}

// A relayed block goes to the peers that it did not come from.
type relayed struct {
	raw  []byte
	from []*peer
}

// attach adds a solid block. It is false if there is no room.
func (n *Node) attach(b *Block, from []*peer, asked bool) bool {
	if n.vertices[b.ID] != nil {
		return true
	}
	limit := n.c.MaxUnconfirmed
	switch {
	case n.catch.set[b.ID]:
		limit = maxAttached // the next milestone includes it: without it nothing ever makes room
	case b.Milestone() != nil:
		limit += reserve
	}
	if n.dag.Len() >= limit {
		n.rejected.Dropped++
		return false
	}
	n.place(b)
	if n.page == nil {
		n.page = &page{number: n.head.Pages}
		n.head.Pages++
		n.pages[n.page.number] = n.page
	}
	n.vertices[b.ID].page = n.page.number
	n.page.ids = append(n.page.ids, b.ID)
	n.page.left++
	n.db.note(blockKey(b.ID), b.Raw)
	if n.watch.Blocks {
		n.came.Raw = append(n.came.Raw, b.Raw)
	}
	if !asked {
		n.fresh = append(n.fresh, &relayed{b.Raw, from})
	}
	return true
}

// place puts a block into memory.
func (n *Node) place(b *Block) {
	err := n.dag.Attach(dag.Block{ID: b.ID, Parents: idsOf(b.Parents)}, n.now)
	step.Assert(err == nil, "tangle: attach block %v: %v", b.ID, err)
	n.vertices[b.ID] = &vertex{Block: b}
	if b.Transaction() != nil {
		if _, known := n.makers[b.Tx]; !known {
			n.makers[b.Tx] = b.ID
		}
	}
}

// endPage writes the step's page. It is as lazy as the blocks are.
func (n *Node) endPage() {
	switch p := n.page; {
	case p == nil:
	case p.left == 0: // confirmed in the same step
		delete(n.pages, p.number)
	default:
		n.db.note(pageKey(p.number), p.record())
	}
}

// forget takes a block out of memory whose place in the DAG is gone.
func (n *Node) forget(v *vertex) {
	delete(n.vertices, v.ID)
	if v.Transaction() != nil && n.makers[v.Tx] == v.ID {
		delete(n.makers, v.Tx)
	}
	p := n.pages[v.page]
	if p.left--; p.left == 0 && p != n.page {
		delete(n.pages, p.number)
		n.db.put(pageKey(p.number), nil)
	}
}

func idsOf(ids []tangle.BlockID) []dag.ID {
	out := make([]dag.ID, len(ids))
	for i, id := range ids {
		out[i] = id
	}
	return out
}

func blockIDs(ids []dag.ID) []tangle.BlockID {
	out := make([]tangle.BlockID, len(ids))
	for i, id := range ids {
		out[i] = id
	}
	return out
}

// relay sends what was attached in this step, once, to every peer that it did not
// come from, many blocks in a message.
func (n *Node) relay() {
	if len(n.fresh) == 0 {
		return
	}
	for _, p := range n.order {
		if !p.greeted {
			continue
		}
		var m Blocks
		size := 0
		for _, f := range n.fresh {
			if slices.Contains(f.from, p) {
				continue
			}
			if size+len(f.raw) > maxBlocksBytes && size > 0 {
				n.send(p.name, m)
				m, size = Blocks{}, 0
			}
			m.Raw = append(m.Raw, f.raw)
			size += len(f.raw) + 3
		}
		if size > 0 {
			n.send(p.name, m)
		}
	}
	n.fresh = nil
}

// serve answers a request for blocks, as far as the peer's allowance goes.
func (n *Node) serve(p *peer, m Ask) {
	var answer Blocks
	size := 0
	for _, id := range m.Blocks {
		raw := n.raw(id)
		if raw == nil {
			continue
		}
		if !n.allow(p, len(raw)) {
			break
		}
		if size+len(raw) > maxBlocksBytes && size > 0 {
			n.send(p.name, answer)
			answer, size = Blocks{}, 0
		}
		answer.Raw = append(answer.Raw, raw)
		size += len(raw) + 3
	}
	if size > 0 {
		n.send(p.name, answer)
	}
}

// allow spends a peer's allowance: MaxServe bytes a second, at most one second's.
func (n *Node) allow(p *peer, size int) bool {
	passed := min(max(n.now-p.at, 0), step.Second)
	p.served = max(0, p.served-int(passed)*MaxServe/1000)
	p.at = n.now
	if p.served+size > MaxServe {
		return false
	}
	p.served += size
	return true
}

// raw is a block that this node has attached.
func (n *Node) raw(id tangle.BlockID) []byte {
	if v := n.vertices[id]; v != nil {
		return v.Raw
	}
	return n.db.get(blockKey(id))
}

// Errors of making blocks.
var (
	ErrWork   = errors.New("the network wants more work than this node does for others; do it before submitting the block")
	ErrFull   = errors.New("the node is full of unconfirmed blocks; try again after the next milestone")
	ErrHalted = errors.New("the coordinators have signed two milestones of one index; nothing is confirmed any more")
)

// make builds a block with a payload, its parents must and some tips, and does its
// work.
func (n *Node) make(payload tangle.Payload, must ...tangle.BlockID) (*Block, error) {
	u, err := n.outline(payload, must...)
	if err != nil {
		return nil, err
	}
	return work([]*unworked{u})[0], nil
}

// An unworked block has all but its work.
type unworked struct {
	*tangle.Block
	raw   []byte
	zeros int
}

// outline is make but for the work.
func (n *Node) outline(payload tangle.Payload, must ...tangle.BlockID) (*unworked, error) {
	b := &tangle.Block{Protocol: tangle.Protocol, Payload: payload, Parents: n.parents(must)}
	raw := b.AppendUnworked(nil)
	zeros := n.net.ZerosNeeded(len(raw) + tangle.NonceSize)
	if zeros > n.c.MaxWork {
		return nil, ErrWork
	}
	return &unworked{b, raw, zeros}, nil
}

// work does the work of blocks together.
func work(list []*unworked) []*Block {
	var raw [][]byte
	var zeros []int
	for _, u := range list {
		raw, zeros = append(raw, u.raw), append(zeros, u.zeros)
	}
	blocks := make([]*Block, len(list))
	for i, nonce := range tangle.MineAll(raw, zeros) {
		u := list[i]
		u.Nonce = nonce
		blocks[i] = named(u.Block, binary.LittleEndian.AppendUint64(u.raw, nonce))
	}
	return blocks
}

// together is how many blocks share a pass of the search for so many zero trits: each
// has four tries of three, or twelve of nine. More work is done for one block alone. Who
// shares one does not approve the others.
func together(zeros int) int {
	switch zeros {
	case 1:
		return tangle.Lanes / 4
	case 2:
		return tangle.Lanes / 12
	}
	return 1
}

// parents are those that there must be, and tips.
func (n *Node) parents(must []tangle.BlockID) []tangle.BlockID {
	parents := append([]tangle.BlockID{}, must...)
	for _, id := range n.pick() {
		if len(parents) < tangle.MaxParents {
			parents = append(parents, id)
		}
	}
	if len(parents) == 0 {
		parents = append(parents, n.anchor())
	}
	return inOrder(parents)
}

// inOrder sorts parents and takes out doubles, as the format wants it.
func inOrder(ids []tangle.BlockID) []tangle.BlockID {
	slices.SortFunc(ids, func(a, b tangle.BlockID) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(ids)
}

// anchor is a parent when there is no tip: what the last milestone included last.
func (n *Node) anchor() tangle.BlockID {
	for i := len(n.recents) - 1; i >= 0; i-- {
		if ids := n.recents[i].ids; len(ids) > 0 {
			return ids[len(ids)-1]
		}
	}
	return tangle.BlockID{}
}

// pick chooses tips as Config.Tips says.
func (n *Node) pick() []tangle.BlockID {
	n.draws++
	seed := step.Time(n.draws)*0x9e3779b9 + n.now
	for _, b := range n.c.Seed {
		seed = seed*131 + step.Time(b)
	}
	random := dag.NewRandom(uint64(seed))
	if n.c.Tips.MCMC {
		tips := n.dag.MCMC(dag.Walk{Alpha: n.c.Tips.Alpha, Depth: n.c.Tips.Depth}, random)
		tips = slices.DeleteFunc(tips, func(id dag.ID) bool { return n.dag.Score(id) == dag.Lazy })
		if len(tips) > 0 {
			return blockIDs(tips)
		}
	}
	tips := n.dag.URTS(dag.NonLazy, n.c.Tips.Count, n.now, random)
	if len(tips) == 0 {
		tips = n.dag.URTS(dag.SemiLazy, n.c.Tips.Count, n.now, random)
	}
	return blockIDs(tips)
}
