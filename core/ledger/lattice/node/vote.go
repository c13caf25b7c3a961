package node

import (
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/step"
)

const (
	// voteDelay is how long hashes gather for one vote, if it is not full before.
	voteDelay = 10 * step.Millisecond
	// voteDuration is 2^(4+d) ms: how soon the vote may be repeated.
	voteDuration = 9
	// MaxVotesSent bounds the votes that are remembered so that who asks gets them
	// again without a signature.
	MaxVotesSent = 4096
	// maxAnswers bounds the votes that are signed for one peer's questions in a
	// second.
	maxAnswers = 200
)

// voteFor has our representatives vote for the ledger's candidate, or finally for
// what they have given their final vote on.
func (n *Node) voteFor(v *election) {
	if len(n.Reps) == 0 {
		return
	}
	if h, given := n.given[v.root]; given {
		v.ours, v.final = h, true
		n.finals = append(n.finals, v)
		return
	}
	for _, c := range v.candidates {
		if e := n.pending[c.hash]; e != nil && e.ready() {
			n.vote(v, c.hash)
			return
		}
	}
}

// vote has them vote for one candidate, not finally.
func (n *Node) vote(v *election, h lattice.Hash) {
	if v.final || v.ours == h && v.oursAt == n.now {
		return
	}
	v.ours, v.oursAt = h, n.now
	n.normals = append(n.normals, v)
}

// voteFinally has our representatives give their last word. It is on disk with the
// block before it is sent.
func (n *Node) voteFinally(v *election, c *candidate) {
	if v.final || len(n.Reps) == 0 {
		return
	}
	if _, given := n.given[v.root]; given {
		return
	}
	n.given[v.root] = c.hash
	n.disk.add(keyFinal(v.root), c.block.Append(nil))
	v.ours, v.final = c.hash, true
	n.finals = append(n.finals, v)
}

// sway has them join the stronger side of an election that finds no end.
func (n *Node) sway(v *election) {
	if v.final || v.ours.IsZero() || n.now < v.oursAt+swayAfter || len(v.candidates) < 2 {
		return
	}
	strongest := n.tallies(v)[0]
	if e := n.install(v, strongest.candidate); e != nil && e.ready() {
		n.vote(v, strongest.hash)
	}
}

// castVotes signs what has gathered. Our own votes count here, too, so there may be
// more after them.
func (n *Node) castVotes() {
	full := len(n.finals) >= lattice.MaxVoteHashes || len(n.normals) >= lattice.MaxVoteHashes
	if len(n.finals)+len(n.normals) == 0 {
		return
	}
	if n.now < n.votedAt+voteDelay && !full {
		n.wake(n.votedAt + voteDelay)
		return
	}
	n.votedAt = n.now
	for len(n.finals)+len(n.normals) > 0 {
		n.finals = n.cast(n.finals, true)
		n.normals = n.cast(n.normals, false)
		n.decideAll()
		n.schedule() // what that has set free
	}
}

// cast votes by hash for the first elections of a list, and returns the rest.
func (n *Node) cast(list []*election, final bool) []*election {
	var hashes []lattice.Hash
	for len(list) > 0 && len(hashes) < lattice.MaxVoteHashes {
		v := list[0]
		list = list[1:]
		if n.elections[v.root] == v && v.final == final {
			hashes = append(hashes, v.ours)
		}
	}
	if len(hashes) == 0 {
		return list
	}
	for _, vote := range n.signVotes(hashes, final, false) {
		n.publishVote(vote)
		if n.watch.Votes {
			n.tell(VotedID, Voted{Vote: vote})
		}
		n.online[vote.Account] = n.now
		for _, h := range vote.Hashes {
			n.ballotOf(ballot{vote.Account, h, vote.Timestamp, &vote})
		}
	}
	return list
}

// signVotes makes a vote of each of our representatives that has weight, or of all of
// them for who asks: whoever is behind counts by older weights, from before the very
// block that it asks about.
func (n *Node) signVotes(hashes []lattice.Hash, final, asked bool) (votes []lattice.Vote) {
	at := uint64(lattice.FinalTimestamp)
	if !final {
		at = lattice.VoteTimestamp(uint64(n.now), voteDuration)
	}
	for i, rep := range n.Reps {
		if !asked && !n.isPrincipal(n.reps[i]) {
			continue
		}
		v := lattice.Vote{Timestamp: at, Hashes: hashes}
		v.Sign(rep)
		n.signed++
		votes = append(votes, v)
	}
	return votes
}

// answer gives a peer the votes that it asks for, on as many roots as it names.
func (n *Node) answer(p *peer, ask *lattice.ConfirmReq) {
	var finals, normals []lattice.Hash
	for _, q := range ask.Pairs {
		root := lattice.Hash(q.Root)
		switch e := n.pending[q.Hash]; {
		case n.cemented.has(q.Hash) || e == nil && n.disk.get(keyBlock(q.Hash)) != nil:
			finals = append(finals, q.Hash)
			n.showVotes(p, root)
		case n.elections[root] != nil:
			v := n.elections[root]
			if v.final {
				finals = append(finals, v.ours)
			} else if !v.ours.IsZero() {
				normals = append(normals, v.ours)
			}
		case e != nil:
			if e.ready() {
				n.hint(e)
			}
		default:
			if b, h, ok := n.cementedAt(root); ok {
				finals = append(finals, h)
				n.send(p, &lattice.Publish{Block: b})
				n.showVotes(p, root)
			}
		}
	}
	n.answerWith(p, finals, true)
	n.answerWith(p, normals, false)
}

// showVotes sends the votes that decided about a contested root.
func (n *Node) showVotes(p *peer, root lattice.Hash) {
	for _, v := range n.keptVotes(root) {
		n.send(p, &lattice.ConfirmAck{Vote: v, Rebroadcast: true})
	}
}

func (n *Node) answerWith(p *peer, hashes []lattice.Hash, final bool) {
	if len(hashes) == 0 {
		return
	}
	if p.answeredAt != n.now/step.Second {
		p.answeredAt, p.answered = n.now/step.Second, 0
	}
	if p.answered++; p.answered > maxAnswers {
		return
	}
	hashes = hashes[:min(len(hashes), lattice.MaxVoteHashes)]
	for _, v := range n.signVotes(hashes, final, true) {
		n.send(p, &lattice.ConfirmAck{Vote: v})
	}
}

// cementedAt is the cemented block that follows a root: an account's first, or the
// one after a block.
func (n *Node) cementedAt(root lattice.Hash) (b lattice.Block, h lattice.Hash, ok bool) {
	key := keyHeight(Key(root), 1)
	if raw := n.disk.get(keyBlock(root)); raw != nil {
		s, err := decodeStored(raw)
		step.Assert(err == nil, "%v", err)
		key = keyHeight(s.Account, s.Height+1)
	}
	next := n.disk.get(key)
	if next == nil {
		return b, h, false
	}
	h = lattice.Hash(next)
	raw := n.disk.get(keyBlock(h))
	if raw == nil {
		return b, h, false
	}
	s, err := decodeStored(raw)
	step.Assert(err == nil, "%v", err)
	return s.Block, h, true
}
