package node

import (
	"bytes"
	"slices"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/dag"
	"coinop.dev/core/step"
)

// A proposal is what a node knows of the next milestone before enough coordinators
// have signed it.
type proposal struct {
	next   Mark               // that this primary is about to propose
	tips   []tangle.BlockID   // its parents
	m      *tangle.Milestone  // with the signatures so far
	by     *peer              // who told of it; nil is this node
	sent   step.Time          // when it was last sent or passed on
	due    step.Time          // when the next one is made
	signs  map[[32]byte]sign  // by key, of m.Index
	wrong  tangle.MilestoneID // that was found to have other roots
	doubts map[[32]byte]bool  // coordinators known to have signed two
}

// sign is the last signature of a coordinator that was heard.
type sign struct {
	Sign
	at      step.Time
	changes int // of the milestone that it is for
}

// maxChanges is how often a coordinator may sign another milestone of an index and
// be passed on.
const maxChanges = 4

// Double says that a coordinator has signed two milestones of one index. Unless a
// threshold of them does that, nothing follows from it but that its owner should be
// asked.
type Double struct {
	Index  uint32
	Public [32]byte
	Signed [2]tangle.MilestoneID
}

func (n *Node) isCoordinator() bool { return !n.c.Coordinator.Secret.IsZero() }

func (n *Node) voteIndex() uint32 {
	if n.vote == nil {
		return 0
	}
	return n.vote.Index
}

// nextDue sets when the primary makes the next milestone: an interval after it made the
// last one, or, if confirming that took longer, after it was confirmed. A proposal that
// came early is heard now.
func (n *Node) nextDue() {
	due := n.proposal.due + n.c.Coordinator.Interval
	if due < n.now {
		due = n.now + n.c.Coordinator.Interval
	}
	n.proposal = proposal{due: due}
	early := n.early
	n.early = said{}
	if p, ok := early.msg.(Propose); ok && n.peers[early.by.name] == early.by {
		n.proposed(early.by, p)
	}
}

// milestoneDue is when coordinate has something to do without being told.
func (n *Node) milestoneDue() step.Time {
	c := &n.c.Coordinator
	if !c.Primary || n.halt != nil || n.load != nil || n.decided != (tangle.MilestoneID{}) || n.milestones[n.head.Index+1] != nil {
		return n.now + step.Minute
	}
	if n.proposal.m != nil {
		return n.proposal.sent + ProposeAgain
	}
	return n.proposal.due
}

// coordinate does what a coordinator does.
func (n *Node) coordinate() {
	if !n.isCoordinator() || n.halt != nil || n.decided != (tangle.MilestoneID{}) {
		return
	}
	p := &n.proposal
	next := n.head.Index + 1
	if b := n.milestones[next]; b != nil || n.job != nil && n.job.block != nil {
		return // signed by enough
	}
	switch {
	case n.c.Coordinator.Primary && p.m == nil && n.voteIndex() == next:
		p.m = clone(n.vote) // after a restart: the same again, and no other
		p.sent = 0
	case n.c.Coordinator.Primary && p.m == nil:
		n.propose(next)
	case p.m != nil && p.by != nil:
		n.consider(p.m)
	}
	if p.m == nil || p.by != nil || n.complete() {
		return
	}
	if n.now >= p.sent+ProposeAgain {
		p.sent = n.now
		n.broadcast(Propose{clone(p.m)}, nil)
	}
}

// propose makes the next milestone when it is due: over all tips, merged to as many
// as it may have parents.
func (n *Node) propose(next uint32) {
	p := &n.proposal
	if p.tips == nil {
		if n.now < p.due {
			return
		}
		p.due = n.now
		p.next = Mark{next, max(uint32(n.now/step.Second), n.head.Time)}
		p.tips = n.sweep()
	}
	j := n.start(p.next, p.tips)
	n.judge(j)
	if !j.judged {
		return
	}
	m := &tangle.Milestone{
		Index: next, Timestamp: p.next.Time, Protocol: tangle.Protocol, Previous: n.head.ID,
		Parents: p.tips, InclusionRoot: j.roots.inclusion, AppliedRoot: j.roots.applied,
	}
	n.signMilestone(m)
	p.m, p.by, p.sent = clone(m), nil, 0
}

// signMilestone signs, once for an index.
func (n *Node) signMilestone(m *tangle.Milestone) {
	step.Assert(m.Index > n.voteIndex(), "tangle: milestone %d would be signed twice", m.Index)
	m.Sign(n.c.Coordinator.Secret)
	n.vote = clone(m)
	n.db.put(voteKey, m.Append(nil))
}

// consider signs another coordinator's proposal if this node comes to the same.
func (n *Node) consider(m *tangle.Milestone) {
	p := &n.proposal
	if n.voteIndex() >= m.Index || m.ID() == p.wrong {
		return
	}
	if m.Previous != n.head.ID || m.Timestamp < n.head.Time || int64(m.Timestamp) > int64(n.now/step.Second)+MaxAheadTime {
		n.disagree(m)
		return
	}
	missing := false
	for _, id := range m.Parents {
		if _, ok := n.confirmed(id); !ok && n.vertices[id] == nil {
			missing = true
			if !n.knows(id) {
				n.want(id, p.by)
			}
		}
	}
	if missing {
		return
	}
	j := n.start(Mark{m.Index, m.Timestamp}, m.Parents)
	n.judge(j)
	if !j.judged {
		return
	}
	if j.roots.inclusion != m.InclusionRoot || j.roots.applied != m.AppliedRoot {
		n.disagree(m)
		return
	}
	n.signMilestone(m)
	n.sayVote(nil)
}

func (n *Node) disagree(m *tangle.Milestone) {
	n.rejected.Refused++
	n.proposal.wrong = m.ID()
}

// sayVote sends this coordinator's signature.
func (n *Node) sayVote(but *peer) {
	public := n.c.Coordinator.Secret.Public()
	i := slices.IndexFunc(n.vote.Signatures, func(s tangle.Signature) bool { return s.Public == public })
	n.broadcast(Sign{n.vote.Index, n.vote.ID(), n.vote.Signatures[i]}, but)
}

// proposed hears of a proposal, passes it on, and leaves it to coordinate.
func (n *Node) proposed(by *peer, msg Propose) {
	m, p := msg.Milestone, &n.proposal
	if m.Index == n.head.Index+2 && n.isEarly(by, m) {
		n.early = said{by, msg}
	}
	if m.Index != n.head.Index+1 || n.halt != nil || len(m.Signatures) > len(n.net.Coordinators) {
		return
	}
	if p.m != nil && n.now < p.sent+ProposeAgain/2 && m.ID() == p.m.ID() {
		return // passed on just now
	}
	m = clone(m)
	m.Signatures = slices.DeleteFunc(m.Signatures, func(s tangle.Signature) bool { return n.tired(s.Public, m.ID()) })
	for _, s := range m.Signatures {
		if !n.heardSign(by, Sign{m.Index, m.ID(), s}) {
			return
		}
	}
	if len(m.Signatures) == 0 {
		return
	}
	if n.c.Coordinator.Primary && p.m != nil && p.by == nil {
		return // its own stands
	}
	if f := n.c.Coordinator.Follows; f != ([32]byte{}) && !slices.ContainsFunc(m.Signatures, func(s tangle.Signature) bool { return s.Public == f }) {
		return
	}
	if p.m == nil || p.m.ID() == m.ID() || n.voteIndex() != m.Index {
		if p.m == nil || p.m.ID() != m.ID() {
			p.m = clone(m)
		}
		p.by, p.sent = by, n.now
		n.broadcast(Propose{m}, by)
	}
	if n.isCoordinator() && n.voteIndex() == m.Index && n.vote.ID() == m.ID() {
		n.sayVote(nil)
	}
}

// isEarly reports whether a proposal is of the milestone after the next, which the next
// one has not made room for yet: it came in the same step. One is kept, and only a
// coordinator can take that place.
func (n *Node) isEarly(by *peer, m *tangle.Milestone) bool {
	if n.milestones[n.head.Index+1] == nil || n.early.msg != nil {
		return false
	}
	f := n.c.Coordinator.Follows
	i := slices.IndexFunc(m.Signatures, func(s tangle.Signature) bool {
		return s.Public == f || f == ([32]byte{}) && slices.Contains(n.net.Coordinators, s.Public)
	})
	if i < 0 {
		return false
	}
	id := m.ID()
	if s := &m.Signatures[i]; !eddsa.VerifyCofactored(eddsa.SHA512, s.Public, id[:], s.Signature) {
		by.bad++
		n.rejected.Invalid++
		return false
	}
	return true
}

// signed hears a signature, and passes it on.
func (n *Node) signed(by *peer, s Sign) {
	if s.Index != n.head.Index+1 || n.halt != nil {
		return
	}
	last, ok := n.proposal.signs[s.Signature.Public]
	if ok && last.Milestone == s.Milestone && n.now < last.at+ProposeAgain/2 {
		return
	}
	if n.heardSign(by, s) {
		n.broadcast(s, by)
	}
}

// heardSign takes a coordinator's signature into account. It is false if it is none.
func (n *Node) heardSign(by *peer, s Sign) bool {
	p := &n.proposal
	key := s.Signature.Public
	if n.tired(key, s.Milestone) {
		return false
	}
	last, ok := p.signs[key]
	changes := last.changes
	if ok && last.Milestone != s.Milestone {
		changes++
	}
	if !slices.Contains(n.net.Coordinators, key) ||
		!eddsa.VerifyCofactored(eddsa.SHA512, key, s.Milestone[:], s.Signature.Signature) {
		by.bad++
		n.rejected.Invalid++
		return false
	}
	if changes > 0 && !p.doubts[key] {
		if p.doubts == nil {
			p.doubts = map[[32]byte]bool{}
		}
		p.doubts[key] = true
		n.done(DoubleID, Double{s.Index, key, [2]tangle.MilestoneID{last.Milestone, s.Milestone}}, nil)
	}
	if p.signs == nil {
		p.signs = map[[32]byte]sign{}
	}
	p.signs[key] = sign{s, n.now, changes}
	if p.m != nil && p.m.ID() == s.Milestone {
		n.addSign(s.Signature)
	}
	return true
}

// tired reports whether a coordinator has signed so many different milestones of this
// index that nobody looks at another one.
func (n *Node) tired(key [32]byte, id tangle.MilestoneID) bool {
	last, ok := n.proposal.signs[key]
	return ok && last.Milestone != id && last.changes >= maxChanges
}

func (n *Node) addSign(s tangle.Signature) {
	m := n.proposal.m
	at, found := slices.BinarySearchFunc(m.Signatures, s, func(a, b tangle.Signature) int {
		return bytes.Compare(a.Public[:], b.Public[:])
	})
	if !found {
		m.Signatures = slices.Insert(m.Signatures, at, s)
	}
}

// complete attaches the milestone that this node proposed once enough have signed.
func (n *Node) complete() bool {
	p := &n.proposal
	id := p.m.ID()
	for _, key := range n.net.Coordinators {
		if s, ok := p.signs[key]; ok && s.Milestone == id {
			n.addSign(s.Signature)
		}
	}
	if len(p.m.Signatures) < n.net.Threshold {
		return false
	}
	b := &tangle.Block{Protocol: tangle.Protocol, Parents: p.m.Parents, Payload: p.m}
	block := named(b, b.Append(nil))
	if !n.solid(block) { // what a crash has taken; the others have it
		for _, id := range block.Parents {
			if by := n.other(int(id[0])); by != nil && !n.knows(id) {
				n.want(id, by)
			}
		}
		return false
	}
	n.milestoneCame(block, p.m)
	if n.attach(block, nil, false) {
		n.release(block.ID)
	}
	return true
}

func clone(m *tangle.Milestone) *tangle.Milestone {
	c := *m
	c.Signatures = slices.Clone(m.Signatures)
	return &c
}

// sweep merges tips by blocks of its own until a milestone can approve all of them.
// If the work of that would be too much, or the tips too many, the heaviest branches
// are taken.
func (n *Node) sweep() []tangle.BlockID {
	var tips []tangle.BlockID
	for _, id := range n.dag.Tips() {
		if n.dag.Score(id) != dag.Lazy {
			tips = append(tips, id)
		}
	}
	for range MaxSweep {
		if len(tips) <= tangle.MaxParents {
			break
		}
		merge, err := n.merge(tips[:tangle.MaxParents])
		if err != nil || !n.attach(merge, nil, false) {
			return n.heaviest()
		}
		tips = append(tips[tangle.MaxParents:], merge.ID)
	}
	switch {
	case len(tips) == 0:
		return []tangle.BlockID{n.anchor()}
	case len(tips) > tangle.MaxParents:
		return n.heaviest()
	}
	return inOrder(slices.Clone(tips))
}

func (n *Node) merge(tips []tangle.BlockID) (*Block, error) {
	b := &tangle.Block{Protocol: tangle.Protocol, Parents: inOrder(slices.Clone(tips))}
	raw := b.AppendUnworked(nil)
	if zeros := n.net.ZerosNeeded(len(raw) + tangle.NonceSize); zeros > min(n.c.MaxWork, maxSweepWork) {
		return nil, ErrWork
	} else if zeros > 0 {
		b.Nonce = tangle.Mine(raw, zeros, 0)
	}
	return named(b, b.Append(nil)), nil
}

// maxSweepWork is how many zero trits a block may want for tips to be merged: MaxSweep
// blocks of 81 tries each are some 30 ms.
const maxSweepWork = 4

// heaviest are the tips that approve most together.
func (n *Node) heaviest() []tangle.BlockID {
	return inOrder(blockIDs(n.dag.Heaviest(tangle.MaxParents)))
}
