package node

import (
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/gossip"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/step"
)

const (
	// tick is how often a node with something to do looks around by itself.
	tick = 100 * step.Millisecond
	// MaxRecent bounds the cemented blocks that are known without a look at the disk,
	// and the votes that are known to have been counted.
	MaxRecent = 131_072
	// alarm is the node's only one.
	alarm = "tick"
)

// A Node is the core. See the package comment for what it keeps to.
type Node struct {
	Config
	disk    disk
	genesis lattice.Hash
	reps    []Key // public keys of Reps
	salt    uint64

	// The ledger.
	young, old map[Key]*chain
	pending    map[lattice.Hash]*entry
	taken      map[taking]*entry
	weights    map[Key]lattice.Raw
	delegated  lattice.Raw // all of them
	totals     totals
	dirty      []*chain
	cemented   recent
	waitsFor   gaps

	// Elections.
	buckets   [buckets]bucket
	turn      int
	waiting   int
	active    []*election
	elections map[lattice.Hash]*election // by root
	standing  map[lattice.Hash]*election // by candidate
	counted   []*election                // with new ballots
	kept      keeper
	given     map[lattice.Hash]lattice.Hash // our final votes by root
	normals   []*election
	finals    []*election
	pace      float64 // how long elections take, in milliseconds
	votedAt   step.Time
	heard     recent // votes
	online    map[Key]step.Time
	samples   []lattice.Raw
	sampled   step.Time
	delta     delta
	grown     bool // the weights here are the network's

	peers  peers
	sync   sync
	leaps  []*chain // that the bootstrap has made longer
	proofs proofs
	follow follow
	watch  Watch

	checking *eddsa.Batch
	batch    batch

	// What the node has done since it was started.
	signed, checked, dropped, switched uint64
	started                            step.Time

	now    step.Time
	fx     step.Effects
	ringAt step.Time // when the alarm is set for; 0 for never
}

// Step takes all that waited: blocks and votes are checked together, and then
// everything happens one after another.
func (n *Node) Step(in step.Input) step.Effects {
	n.now = in.At
	if n.started == 0 {
		n.start()
	}
	n.delta.known = false
	for _, e := range in.Events {
		n.hear(e)
	}
	n.checkAll()
	n.decideAll()
	n.schedule()
	n.castVotes()
	n.tellFollowers()
	n.ring()
	for _, c := range n.dirty {
		c.dirty = false
		n.disk.set(keyAccount(c.base.Key), c.base.encode())
	}
	if len(n.dirty) > 0 {
		n.disk.set(atCounts, n.totals.encode())
	}
	n.dirty = n.dirty[:0]
	fx := n.fx
	fx.Put, n.fx = n.disk.take(), step.Effects{}
	return fx
}

// hear sorts out one event. Blocks and votes wait until all of them are checked.
func (n *Node) hear(event any) {
	switch e := event.(type) {
	case step.Recv:
		switch msg := e.Msg.(type) {
		case gossip.Frame:
			n.frame(e.From, msg.Raw)
		case lattice.Submit:
			n.batch.add(asked{block: msg.Block, wallet: e.From})
		case lattice.Follow:
			n.followBy(e.From, msg.Account)
		}
	case step.Rang:
		if e.ID == alarm {
			n.ringAt = 0
		}
		n.lookAround()
	case Joined:
		n.peers.join(e)
		n.greet()
	case Left:
		n.peers.leave(e.Peer)
	case Process:
		n.batch.add(asked{block: e.Block, process: &e})
	case Elect:
		n.electByHand(e)
	case Certify:
		n.certify(e.Hash, "")
	case Watch:
		n.watch = e
	}
}

// frame reads a peer's message.
func (n *Node) frame(from string, raw []byte) {
	p := n.peers.byName[from]
	if p == nil {
		return
	}
	msg, err := lattice.Decode(raw, n.Network.Magic)
	if err != nil {
		p.faults++
		return
	}
	switch msg := msg.(type) {
	case *lattice.Publish:
		n.batch.add(asked{block: msg.Block, from: p})
	case *lattice.ConfirmAck:
		n.batch.votes = append(n.batch.votes, voiced{msg.Vote, p, !msg.Rebroadcast})
	case *lattice.ConfirmReq:
		n.batch.questions = append(n.batch.questions, question{p, msg})
	case *lattice.AscPullReq:
		n.serve(p, msg)
	case *lattice.AscPullAck:
		n.pulled(p, msg)
	case *lattice.TelemetryReq:
		n.sayTelemetry(p)
	case *lattice.Telemetry:
		n.hearTelemetry(p, msg)
	}
}

// batch is what waits to be checked in this step.
type batch struct {
	blocks    []asked
	at        map[lattice.Hash]int // the first of a hash
	votes     []voiced
	questions []question
}

// asked is a block that somebody wants in the ledger.
type asked struct {
	block   lattice.Block
	hash    lattice.Hash
	from    *peer    // or
	wallet  string   // a core, or
	process *Process // the node's own users; none: it waited for another block
	pulled  bool     // it is an answer of the bootstrap's
	checked bool     // its signature is good
	drop    bool
}

type voiced struct {
	vote   lattice.Vote
	from   *peer
	direct bool // from is the representative's own node
}

type question struct {
	from *peer
	ask  *lattice.ConfirmReq
}

func (b *batch) add(a asked) {
	if a.hash.IsZero() {
		a.hash = a.block.Hash()
	}
	if i, known := b.at[a.hash]; known && a.from != nil && b.blocks[i].block.Signature == a.block.Signature {
		a.from.has(a.hash)
		return
	}
	if b.at == nil {
		b.at = map[lattice.Hash]int{}
	}
	b.at[a.hash] = len(b.blocks)
	b.blocks = append(b.blocks, a)
}

// checkAll verifies every signature that came, in one go, and takes what is good.
// What it sets free is checked already.
func (n *Node) checkAll() {
	for i := range n.batch.blocks {
		a := &n.batch.blocks[i]
		if a.from != nil {
			a.from.has(a.hash)
			a.drop = n.known(a.hash) || lattice.WorkValue(a.block.Root(), a.block.Work) < min(n.Network.WorkReceive, n.Network.WorkSend)
		}
		if !a.drop && !a.checked {
			n.checking.Add(a.block.Account, a.hash[:], a.block.Signature)
		}
	}
	votes := n.batch.votes[:0]
	for _, v := range n.batch.votes {
		switch {
		case !n.isPrincipal(v.vote.Account):
		case n.heard.has(voteKey(&v.vote)): // good, but perhaps too early before
			n.ballots(&v.vote)
			n.prove(&v.vote)
		default:
			votes = append(votes, v)
			digest := v.vote.Digest()
			n.checking.Add(v.vote.Account, digest[:], v.vote.Signature)
		}
	}
	n.checked += uint64(n.checking.Len())
	all, each := n.checking.Verify()
	n.checking.Reset()
	next := 0
	good := func() bool {
		next++
		return all || each[next-1]
	}
	blocks := n.batch.blocks
	for i := range blocks {
		if a := &blocks[i]; !a.drop && !a.checked {
			if a.checked = good(); !a.checked {
				n.refuse(a, lattice.BadSignature)
				a.drop = true
			}
		}
	}
	for i := range votes {
		if good() {
			n.voteFrom(&votes[i])
		} else {
			votes[i].from.faults++
		}
	}
	questions := n.batch.questions
	n.batch = batch{}
	for i := range blocks {
		if !blocks[i].drop {
			n.take(&blocks[i])
		}
	}
	n.leap()
	for _, q := range questions {
		n.answer(q.from, q.ask)
	}
}

// known tells whether a block needs no look.
func (n *Node) known(h lattice.Hash) bool {
	return n.pending[h] != nil || n.standing[h] != nil || n.cemented.has(h) || n.waitsFor.has(h)
}

// voteKey is what a vote is known again by: a signature, which only its
// representative can make, once it was checked.
func voteKey(v *lattice.Vote) lattice.Hash { return lattice.Hash(v.Signature[:32]) }

// decideAll looks at all elections that have new ballots.
func (n *Node) decideAll() {
	for len(n.counted) > 0 {
		list := n.counted
		n.counted = nil
		for _, v := range list {
			n.decide(v)
		}
	}
}

func (n *Node) tell(id string, value any) {
	n.fx.Done = append(n.fx.Done, step.Outcome{ID: id, Value: value})
}

// wake sets the alarm, unless it rings earlier already.
func (n *Node) wake(at step.Time) {
	if n.ringAt == 0 || at < n.ringAt {
		n.ringAt = at
		n.fx.Wake = append(n.fx.Wake, step.Alarm{ID: alarm, At: at})
	}
}

// ring has the node woken while there is something to wait for.
func (n *Node) ring() {
	if len(n.active) > 0 || n.sync.busy() || n.proofs.busy() {
		n.wake(n.now + tick)
		return
	}
	n.wake(n.now + n.idle())
}
