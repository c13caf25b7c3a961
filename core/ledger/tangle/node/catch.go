package node

import (
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/step"
)

// catching is how a node that is behind gets the next milestone: a peer lists what
// the milestone includes, the list leads to the root that the coordinators signed,
// and then the blocks are asked for in that order. What they approve and is not on
// the list must have been included before, so that a node which began with a
// snapshot needs nothing older.
type catching struct {
	index  uint32 // 0 is none
	since  step.Time
	from   *peer
	tries  int
	block  *Block
	pieces int
	ids    []tangle.BlockID
	set    map[tangle.BlockID]bool // once the list is proved, with the milestone's block
	asked  int                     // of ids, so far
}

// maxAsked bounds the blocks that are on their way.
const maxAsked = 1024

// shows reports whether a proved list says that a parent was included before its
// child's milestone.
func (c *catching) shows(child, parent tangle.BlockID) bool {
	return c.set[child] && !c.set[parent]
}

// behind is how far the best peer is.
func (n *Node) behind() uint32 {
	best := n.head.Index
	for _, p := range n.order {
		if p.greeted {
			best = max(best, p.latest)
		}
	}
	return best
}

// catchUp goes on with catching up, or begins it when the next milestone was
// confirmed by others and does not come by itself.
func (n *Node) catchUp() {
	c := &n.catch
	if n.halt != nil {
		*c = catching{}
		return
	}
	next, best := n.head.Index+1, n.behind()
	if c.index != 0 && c.index < next {
		tries := 0
		*c = catching{tries: tries}
	}
	if best < next {
		*c = catching{}
		return
	}
	if b := n.milestones[next]; b != nil && n.vertices[b.ID] != nil {
		return // it is here
	}
	switch {
	case c.index == 0 && best == next && c.since == 0:
		c.since = n.now // it may be on its way
	case c.index == 0 && (best > next || n.now >= c.since+2*AskAgain):
		*c = catching{index: next, since: n.now - 2*AskAgain}
		n.askList()
	case c.index != 0 && c.set == nil && n.now >= c.since+2*AskAgain:
		n.askList()
	case c.set != nil:
		if c.asked == len(c.ids) && len(n.wants) == 0 && n.now >= c.since+20*AskAgain {
			c.asked, c.since = 0, n.now // some were dropped: look again
		}
		n.askBlocks()
	}
}

// askList asks a peer that has it for the next piece of the list.
func (n *Node) askList() {
	c := &n.catch
	if c.from == nil || c.tries%3 == 2 || n.peers[c.from.name] != c.from || !c.from.greeted || c.from.latest < c.index {
		c.from = nil
		for range len(n.order) {
			c.tries++
			p := n.other(c.tries)
			if p != nil && p.latest >= c.index && p.oldest <= c.index {
				c.from, c.ids, c.pieces = p, nil, 0
				break
			}
		}
	}
	c.tries++
	c.since = n.now
	if c.from != nil {
		n.send(c.from.name, AskMilestone{c.index, uint16(len(c.ids) / MaxConePiece)})
	}
}

// serveMilestone answers a node that catches up.
func (n *Node) serveMilestone(p *peer, m AskMilestone) {
	if m.Index > n.head.Index || m.Index < n.head.Oldest {
		return
	}
	value := n.db.get(mileKey(m.Index))
	if value == nil {
		return
	}
	known, _ := readMilestone(value)
	if m.Piece > 0 && m.Piece >= known.Pieces {
		return
	}
	answer := Cone{Index: m.Index, Pieces: known.Pieces, Piece: m.Piece, Block: known.Raw}
	if m.Piece < known.Pieces {
		answer.IDs = readCone(n.db.get(coneKey(m.Index, int(m.Piece)))).ids
	}
	if n.allow(p, len(known.Raw)+32*len(answer.IDs)) {
		n.send(p.name, answer)
	}
}

// coned takes a piece of the list.
func (n *Node) coned(p *peer, m Cone) {
	c := &n.catch
	if n.load != nil || m.Index != c.index || c.set != nil || p != c.from || int(m.Piece) != len(c.ids)/MaxConePiece {
		return
	}
	if c.block == nil {
		b, err := ReadBlock(append([]byte(nil), m.Block...))
		if err != nil || b.Milestone() == nil || b.Milestone().Index != c.index || !n.isSigned(b.Milestone()) {
			p.bad++
			return
		}
		c.block = b
	}
	if pieces := int(m.Pieces); c.pieces == 0 {
		c.pieces = pieces
	} else if pieces != c.pieces {
		return
	}
	if len(m.IDs) != MaxConePiece && int(m.Piece) != c.pieces-1 && c.pieces > 0 || c.pieces > maxConePieces {
		p.bad++
		c.ids, c.pieces, c.from = nil, 0, nil
		return
	}
	c.ids = append(c.ids, m.IDs...)
	c.since = n.now
	if int(m.Piece)+1 < c.pieces {
		n.send(p.name, AskMilestone{c.index, m.Piece + 1})
		return
	}
	if tangle.MerkleRoot(c.ids) != c.block.Milestone().InclusionRoot {
		p.bad++
		c.ids, c.pieces, c.from = nil, 0, nil
		return
	}
	n.proved()
}

// maxConePieces is what MaxUnconfirmed blocks take.
const maxConePieces = (MaxUnconfirmed+reserve)/MaxConePiece + 1

// isSigned checks a milestone that did not come as a block.
func (n *Node) isSigned(m *tangle.Milestone) bool {
	if m.Check(n.net) != nil {
		return false
	}
	for _, s := range m.Checks() {
		if !eddsa.VerifyCofactored(eddsa.SHA512, s.Public, s.Message[:], s.Signature) {
			return false
		}
	}
	return true
}

// proved knows what the next milestone includes: blocks that are here already may be
// solid by that, the others are asked for.
func (n *Node) proved() {
	c := &n.catch
	c.set = make(map[tangle.BlockID]bool, len(c.ids)+1)
	c.set[c.block.ID] = true
	for _, id := range c.ids {
		c.set[id] = true
	}
	ids := append(append([]tangle.BlockID{}, c.ids...), c.block.ID)
	for _, id := range ids {
		u := n.pool[id]
		if u == nil {
			continue
		}
		for _, parent := range u.Parents {
			if c.set[parent] || n.vertices[parent] != nil {
				continue
			}
			if _, ok := n.confirmed(parent); !ok {
				n.enter(parent)
				n.got(parent)
				n.release(parent)
			}
		}
	}
	if n.pool[c.block.ID] == nil && n.vertices[c.block.ID] == nil {
		n.solidify(c.block, &arrival{id: c.block.ID, raw: c.block.Raw, from: []*peer{c.from}, asks: true})
	}
	n.askBlocks()
}

// askBlocks keeps requests for what the list names on their way.
func (n *Node) askBlocks() {
	c := &n.catch
	for c.set != nil && c.asked < len(c.ids) && len(n.wants) < maxAsked {
		id := c.ids[c.asked]
		c.asked++
		if n.vertices[id] == nil && n.pool[id] == nil && n.queued[id] == nil {
			n.want(id, c.from)
		}
	}
}

// enter makes a block a solid entry point.
func (n *Node) enter(id tangle.BlockID) {
	n.entries[id] = n.head.Index
	n.db.note(entryKey(id), []byte(be32(n.head.Index)))
}
