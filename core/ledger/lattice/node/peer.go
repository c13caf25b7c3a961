package node

import (
	"encoding/binary"
	"math"
	"slices"

	"coinop.dev/core/ledger/gossip"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/step"
)

const (
	// MaxPeers bounds the peers that have joined.
	MaxPeers = 2048
	// hadMost bounds the blocks that a peer is known to have, because it sent them.
	hadMost = 8192
)

// A peer is another node.
type peer struct {
	name string
	id   Key
	had  map[lattice.Hash]struct{} // blocks that need not be sent to it
	reps int                       // principal representatives that speak through it

	faults     uint64
	answered   int // votes in the second answeredAt
	answeredAt step.Time
	served     int // answers to its bootstrap, likewise
	servedAt   step.Time
	asked      step.Time // for telemetry
	telemetry  *lattice.Telemetry
}

// has notes that the peer has a block.
func (p *peer) has(h lattice.Hash) {
	if p.had == nil || len(p.had) >= hadMost {
		p.had = map[lattice.Hash]struct{}{}
	}
	p.had[h] = struct{}{}
}

// peers are those that are there, in the order of their names.
type peers struct {
	byName map[string]*peer
	list   []*peer
	// voices is through whom a representative was heard last, directly.
	voices map[Key]*peer
}

func byName(p *peer, name string) int {
	switch {
	case p.name < name:
		return -1
	case p.name > name:
		return 1
	}
	return 0
}

func (ps *peers) join(j Joined) {
	if ps.byName == nil {
		ps.byName, ps.voices = map[string]*peer{}, map[Key]*peer{}
	}
	if ps.byName[j.Peer] != nil || len(ps.list) >= MaxPeers {
		return
	}
	p := &peer{name: j.Peer, id: j.ID}
	ps.byName[j.Peer] = p
	at, _ := slices.BinarySearchFunc(ps.list, j.Peer, byName)
	ps.list = slices.Insert(ps.list, at, p)
}

func (ps *peers) leave(name string) {
	p := ps.byName[name]
	if p == nil {
		return
	}
	delete(ps.byName, name)
	ps.list = slices.DeleteFunc(ps.list, func(o *peer) bool { return o == p })
	for rep, o := range ps.voices {
		if o == p {
			delete(ps.voices, rep)
		}
	}
}

// voice notes through whom a representative speaks.
func (ps *peers) voice(rep Key, p *peer) {
	old := ps.voices[rep]
	if old == p {
		return
	}
	if old != nil {
		old.reps--
	}
	p.reps++
	ps.voices[rep] = p
}

func (n *Node) send(p *peer, m lattice.Message) { n.sendRaw(p, m.Append(nil, n.Network.Magic)) }

func (n *Node) sendRaw(p *peer, raw []byte) {
	n.fx.Send = append(n.fx.Send, step.Packet{To: p.name, Msg: gossip.Frame{Ledger: gossip.Lattice, Raw: raw}})
}

// some picks count peers that are no principals, others for other seeds, and all
// principals if they are wanted too.
func (n *Node) some(seed lattice.Hash, count float64, principals bool) (picked []*peer) {
	var others []*peer
	for _, p := range n.peers.list {
		if p.reps > 0 && principals {
			picked = append(picked, p)
		} else if p.reps == 0 || !principals {
			others = append(others, p)
		}
	}
	want := min(len(others), int(math.Ceil(count)))
	if len(others) == 0 {
		return picked
	}
	// Other nodes pick others for the same message.
	at := int((binary.LittleEndian.Uint64(seed[:]) ^ n.salt) % uint64(len(others)))
	for i := range want {
		picked = append(picked, others[(at+i*n.stride(len(others)))%len(others)])
	}
	return picked
}

// stride walks through so many without meeting one twice, not in their order.
func (n *Node) stride(of int) int {
	for s := of*5/8 + 1; ; s++ {
		a, b := s, of
		for b != 0 {
			a, b = b, a%b
		}
		if a == 1 {
			return s
		}
	}
}

func (n *Node) root() float64 { return math.Sqrt(float64(len(n.peers.list))) }

// flood sends a block on: one of our own to all principals and 2√n others, another's
// to √n, but to nobody who has it.
func (n *Node) flood(b *lattice.Block, h lattice.Hash, own bool) {
	count := n.root()
	if own {
		count *= 2
	}
	raw := (&lattice.Publish{Block: *b, Originator: own}).Append(nil, n.Network.Magic)
	for _, p := range n.some(h, count, true) {
		if _, has := p.had[h]; !has || own {
			n.sendRaw(p, raw)
		}
	}
}

// publishVote sends a vote of ours to all principals and 2√n others.
func (n *Node) publishVote(v lattice.Vote) {
	raw := (&lattice.ConfirmAck{Vote: v}).Append(nil, n.Network.Magic)
	for _, p := range n.some(lattice.Hash(v.Digest()), 2*n.root(), true) {
		n.sendRaw(p, raw)
	}
}

// passVote sends another's vote on to √n/2 peers, once.
func (n *Node) passVote(v *lattice.Vote, from *peer) {
	raw := (&lattice.ConfirmAck{Vote: *v, Rebroadcast: true}).Append(nil, n.Network.Magic)
	for _, p := range n.some(lattice.Hash(v.Digest()), n.root()/2, false) {
		if p != from && p != n.peers.voices[v.Account] {
			n.sendRaw(p, raw)
		}
	}
}

// voteFrom counts a vote whose signature is good.
func (n *Node) voteFrom(v *voiced) {
	key := voteKey(&v.vote)
	if n.heard.has(key) {
		return
	}
	n.heard.add(key)
	n.online[v.vote.Account] = n.now
	if n.peers.byName[v.from.name] == v.from {
		if v.direct {
			n.peers.voice(v.vote.Account, v.from)
		}
		n.passVote(&v.vote, v.from)
	}
	n.ballots(&v.vote)
	n.prove(&v.vote)
	if n.watch.Votes {
		n.tell(VotedID, Voted{v.vote, v.from.name})
	}
}

// ballots are what a vote says of each of its hashes.
func (n *Node) ballots(v *lattice.Vote) {
	for _, h := range v.Hashes {
		n.ballotOf(ballot{v.Account, h, v.Timestamp, v})
	}
}

// lookAround is done when the alarm rings: elections that are not over ask again,
// the bootstrap goes on, and the weight online is noted.
func (n *Node) lookAround() {
	n.sample()
	asks, everybody := map[*peer][]lattice.Pair{}, !n.quorumHeard()
	for i := 0; i < len(n.active); i++ {
		v := n.active[i]
		pause := max(askAfter, step.Time(3*n.pace)) << min(v.requests, 4)
		if n.now < v.asked+pause {
			continue
		}
		if n.now > v.began+giveUpAfter {
			n.giveUp(v)
			i--
			continue
		}
		v.asked = n.now
		v.requests++
		n.sway(v)
		if n.elections[v.root] != v {
			continue
		}
		n.askFor(v, asks, everybody)
	}
	for _, p := range n.peers.list {
		for pairs := asks[p]; len(pairs) > 0; {
			some := min(len(pairs), lattice.MaxVoteHashes)
			n.send(p, &lattice.ConfirmReq{Pairs: pairs[:some]})
			pairs = pairs[some:]
		}
	}
	n.pull()
	n.proofs.again(n)
	n.askTelemetry()
}

// quorumHeard tells whether it is known through which peers a quorum speaks.
func (n *Node) quorumHeard() bool {
	var sum lattice.Raw
	for _, rep := range n.reps {
		sum, _ = sum.Add(n.weight(rep))
	}
	for rep := range n.peers.voices {
		sum, _ = sum.Add(n.weight(rep))
	}
	return sum.Cmp(n.quorum()) >= 0
}

// askFor asks those whose representatives have not voted finally, and says the
// election's candidates again to somebody.
func (n *Node) askFor(v *election, asks map[*peer][]lattice.Pair, everybody bool) {
	winner := n.tallies(v)[0]
	for _, p := range n.peers.list {
		if p.reps == 0 && !everybody && v.requests%4 != 0 {
			continue
		}
		silent := true
		for _, b := range v.ballots {
			if b.final() && n.peers.voices[b.rep] == p && p.reps == 1 {
				silent = false
			}
		}
		if silent {
			asks[p] = append(asks[p], lattice.Pair{Hash: winner.hash, Root: v.root})
		}
	}
	for _, c := range v.candidates {
		b := c.block
		seed := c.hash
		seed[0] += byte(v.requests)
		raw := (&lattice.Publish{Block: b}).Append(nil, n.Network.Magic)
		for _, p := range n.some(seed, 1, v.requests%4 == 0) {
			n.sendRaw(p, raw)
		}
	}
}
