package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/dag"
)

// What is asked between two rounds, by whoever runs the machine (drive.Host.Do).

// Info is the state of the node.
type Info struct {
	Latest      Mark
	Milestone   tangle.MilestoneID
	Oldest      uint32 // milestone whose blocks are still there
	Blocks, Txs uint64 // confirmed, ever
	Unconfirmed int
	Tips        int
	Unsolid     int
	Own         int // payloads of this node that are not confirmed
	Synced      bool
	Halted      error
	Refused     Counts
	Peers       []Peer
}

// Peer is one as the node sees it.
type Peer struct {
	Name    string
	Speaks  bool // the protocol, and this network
	Latest  uint32
	Unsolid int
	Bad     uint64 // messages and blocks against the rules
	Dropped uint64 // blocks for which its share had no room
}

// Info tells the node's state.
func (n *Node) Info() Info {
	i := Info{
		Latest: n.head.Mark, Milestone: n.head.ID, Oldest: n.head.Oldest, Blocks: n.head.Blocks, Txs: n.head.Txs,
		Unconfirmed: len(n.vertices), Tips: n.dag.TipCount(), Unsolid: len(n.pool), Own: len(n.own),
		Synced: n.Synced(), Halted: n.halt, Refused: n.rejected,
	}
	for _, p := range n.order {
		i.Peers = append(i.Peers, Peer{p.name, p.greeted, p.latest, p.unsolid.count, p.bad, p.dropped})
	}
	return i
}

// Synced reports whether at most half of the peers say that they are more than one
// milestone ahead.
func (n *Node) Synced() bool {
	peers, ahead := 0, 0
	for _, p := range n.order {
		if p.greeted {
			peers++
			if p.latest > n.head.Index+1 {
				ahead++
			}
		}
	}
	return n.load == nil && 2*ahead <= peers
}

// Tips are parents for a new block, chosen as Config.Tips says.
func (n *Node) Tips() []tangle.BlockID { return n.parents(nil) }

// Block is a serialised block, or nil.
func (n *Node) Block(id tangle.BlockID) []byte {
	if v := n.vertices[id]; v != nil {
		return v.Raw
	}
	return n.db.get(blockKey(id))
}

// Metadata is what the node knows about a block.
type Metadata struct {
	ID        tangle.BlockID
	Parents   []tangle.BlockID
	Solid     bool
	Milestone uint32 // that it contains, 0 if none
	State     Inclusion
	Included  uint32 // by this milestone, unless Pending
	Place     uint32 // in that milestone's order
	Conflict  Conflict
	Weight    uint64 // cumulative, while Pending, if tips are chosen by walks
	Lazy      bool   // nobody will approve it any more: attach its payload again
	SemiLazy  bool   // promote it
}

// Metadata tells what became of a block.
func (n *Node) Metadata(id tangle.BlockID) (m Metadata, ok bool) {
	raw := n.Block(id)
	if u := n.pool[id]; raw == nil && u != nil {
		raw = u.Raw
	}
	if raw == nil {
		return m, false
	}
	b, err := tangle.DecodeBlock(raw)
	if err != nil {
		return m, false
	}
	m = Metadata{ID: id, Parents: b.Parents}
	if p, ok := b.Payload.(*tangle.Milestone); ok {
		m.Milestone = p.Index
	}
	if n.vertices[id] != nil {
		m.Solid = true
		score := n.dag.Score(id)
		m.Lazy, m.SemiLazy = score == dag.Lazy, score == dag.SemiLazy
		if n.c.Tips.MCMC {
			m.Weight = n.dag.Weight(id)
		}
		return m, true
	}
	if value := n.db.get(metaKey(id)); value != nil {
		r := readMeta(value)
		if r.Index <= n.head.Index {
			m.Solid, m.State, m.Included, m.Place, m.Conflict = true, r.State, r.Index, r.Place, r.Conflict
		}
	}
	return m, true
}

// Confidence is how likely a walk ends on a tip that approves an unconfirmed block
// (dag.Exit): the 2018 design's confirmation, which here is only a hint.
func (n *Node) Confidence(id tangle.BlockID) float64 {
	return n.dag.Exit(id, dag.Walk{Alpha: n.c.Tips.Alpha, Depth: n.c.Tips.Depth})
}

// output is one of the ledger as the last milestone left it, or nil.
func (n *Node) output(id tangle.OutputID) *Output {
	value := n.db.get(outputKey(id))
	if value == nil {
		return nil
	}
	o := readOutput(id, value)
	if o.Booked.Index > n.head.Index {
		return nil
	}
	if o.Spent.Index > n.head.Index {
		o.Spent, o.SpentBy = Mark{}, tangle.TransactionID{}
	}
	return &o
}

// Output is one that a milestone has applied; spent ones are known until they are
// pruned.
func (n *Node) Output(id tangle.OutputID) (Output, bool) {
	if o := n.output(id); o != nil {
		return *o, true
	}
	return Output{}, false
}

// OutputsOf lists unspent outputs of an address by their IDs, at most limit, after
// one; the zero ID is the beginning. What a milestone that is being written has spent
// is missing.
func (n *Node) OutputsOf(a tangle.Address, after tangle.OutputID, limit int) (list []Output) {
	begin := ownerPre + string(a[:])
	last := begin
	if after != (tangle.OutputID{}) {
		last += string(after[:])
	}
	for len(list) < limit {
		want := max(limit-len(list), 64)
		keys := n.db.keys(begin, last, want)
		for _, key := range keys {
			id := tangle.OutputID([]byte(key[len(begin):]))
			if o := n.output(id); o != nil && o.Spent.Index == 0 && len(list) < limit {
				list = append(list, *o)
			}
			last = key
		}
		if len(keys) < want {
			break
		}
	}
	return list
}

// Supply adds up all unspent outputs: the network's supply, unless a milestone is being
// written. It reads all of them.
func (n *Node) Supply() (sum uint64) {
	n.db.scan(ownerPre, func(_ string, value []byte) bool {
		sum += binary.BigEndian.Uint64(value)
		return true
	})
	return sum
}

// Included is the block whose transaction a milestone applied.
func (n *Node) Included(id tangle.TransactionID) (tangle.BlockID, bool) {
	if o := n.output(tangle.NewOutputID(id, 0)); o != nil {
		return o.Block, true
	}
	return tangle.BlockID{}, false
}

// Milestone is one that is confirmed and not pruned.
func (n *Node) Milestone(index uint32) (*tangle.Milestone, Confirmed, bool) {
	value := n.db.get(mileKey(index))
	if value == nil || index > n.head.Index {
		return nil, Confirmed{}, false
	}
	r, b := readMilestone(value)
	m := b.Milestone()
	return m, Confirmed{Mark{m.Index, m.Timestamp}, m.ID(), b.ID, r.Blocks, r.Applied, r.Conflicting}, true
}

// MilestoneIndex is a milestone's by its ID.
func (n *Node) MilestoneIndex(id tangle.MilestoneID) (uint32, bool) {
	value := n.db.get(mileIDKey(id))
	if value == nil || binary.BigEndian.Uint32(value) > n.head.Index {
		return 0, false
	}
	return binary.BigEndian.Uint32(value), true
}

// Order lists the blocks that a milestone included, in white-flag order, and which
// of them changed the ledger.
func (n *Node) Order(index uint32) (ids []tangle.BlockID, applied []bool) {
	value := n.db.get(mileKey(index))
	if value == nil || index > n.head.Index {
		return nil, nil
	}
	m, _ := readMilestone(value)
	for piece := range int(m.Pieces) {
		c := readCone(n.db.get(coneKey(index, piece)))
		ids, applied = append(ids, c.ids...), append(applied, c.applied...)
	}
	return ids, applied
}

// Changes are the outputs that a milestone made and spent.
func (n *Node) Changes(index uint32) (made, spent []tangle.OutputID) {
	ids, applied := n.Order(index)
	for i, id := range ids {
		if !applied[i] {
			continue
		}
		b, err := ReadBlock(n.db.get(blockKey(id)))
		if err != nil {
			continue
		}
		for k := range b.Transaction().Essence.Outputs {
			made = append(made, tangle.NewOutputID(b.Tx, uint16(k)))
		}
		spent = append(spent, b.Transaction().Essence.Inputs...)
	}
	return made, spent
}

// Witnesses are milestones that there should not be: two of one index, or one with
// other roots than this node's.
func (n *Node) Witnesses() (list []*tangle.Milestone) {
	n.db.scan(witnessPre, func(_ string, value []byte) bool {
		if b, err := ReadBlock(slices.Clone(value)); err == nil {
			list = append(list, b.Milestone())
		}
		return true
	})
	return list
}

// Errors of proofs.
var (
	ErrNotApplied = errors.New("no milestone has applied the transaction")
	ErrPruned     = errors.New("the node has pruned what shows it; ask sooner, or one that keeps more")
)

// Proof shows that a milestone has applied a transaction.
func (n *Node) Proof(id tangle.TransactionID) (p tangle.Proof, err error) {
	o := n.output(tangle.NewOutputID(id, 0))
	if o == nil {
		return p, ErrNotApplied
	}
	m, _, ok := n.Milestone(o.Booked.Index)
	raw := n.db.get(blockKey(o.Block))
	if v := n.vertices[o.Block]; v != nil {
		raw = v.Raw
	}
	if !ok || raw == nil {
		return p, ErrPruned
	}
	in, err := n.inclusion(o.Booked.Index, o.Block)
	if err != nil {
		return p, err
	}
	return tangle.NewProof(raw, m, in), nil
}

// inclusion proves that a milestone has applied a block.
func (n *Node) inclusion(index uint32, id tangle.BlockID) (tangle.Inclusion, error) {
	t := n.trees.of(index)
	if t == nil {
		ids, changed := n.Order(index)
		var applied []tangle.BlockID
		for i := range ids {
			if changed[i] {
				applied = append(applied, ids[i])
			}
		}
		t = n.trees.add(index, applied)
	}
	place, ok := t.place(id)
	if !ok {
		return tangle.Inclusion{}, fmt.Errorf("milestone %d has not applied block %v", index, id)
	}
	return t.hashes().Inclusion(place)
}

// Network is what the node is part of.
func (n *Node) Network() *tangle.Network { return n.net }
