// Package node is a node of a Tangle as one core: it takes blocks from peers and
// from this machine, keeps the unconfirmed ones in memory (core/ledger/tangle/dag),
// and follows the coordinators' milestones, which order everything else.
//
// A Step takes everything that waited. The work of all its blocks is checked 64 at a
// time, their signatures together; those whose past is known are attached and
// relayed, the others wait for what they miss. When a milestone's past is there, its
// white-flag order is judged block by block (Wants, Judge), and what comes out must
// have the roots that the coordinators signed. A large milestone is worked off in
// pieces, a piece a step.
//
// Invariants, whatever peers say:
//
//   - a milestone is confirmed if its roots are this node's own, after the one before
//     it, and never undone; two nodes that confirmed the same milestone have the same
//     ledger;
//   - the outputs that nobody has spent add up to the supply;
//   - a coordinator signs one milestone of an index, and the signature is durable
//     before it is sent;
//   - if coordinators sign two milestones of one index, nothing is confirmed any more
//     once a node has seen both, and both are kept as evidence;
//   - if fewer than the threshold of coordinators are there, nothing is confirmed.
//
// With n coordinators, k of whom sign and f of whom sign anything, there are no two
// milestones of one index if 2k > n + f, and there is always one if k <= n - f and
// the primary is not one of the f.
//
// What coordinators cannot do is change a transaction or make money; what they can
// do is leave transactions out, or stop, or split the network for as long as it takes
// two nodes to compare.
package node

import (
	"fmt"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/gossip"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/dag"
	"coinop.dev/core/step"
)

// Core is the node's name on its machine.
var Core = gossip.Tangle.String()

// Limits.
const (
	// MaxPeers bounds peers; further ones are not heard.
	MaxPeers = 64
	// MaxUnconfirmed bounds attached blocks that no milestone includes. At some 1.5
	// kB each that is 200 MB. When it is reached only milestones are taken.
	MaxUnconfirmed = 1 << 17
	// reserve is room that only milestones may use.
	reserve = 256
	// maxAttached is what a milestone may include beside blocks that it does not.
	maxAttached = 2 * (MaxUnconfirmed + reserve)
	// MaxQueue bounds bytes of blocks that wait for a step with room, MaxBatch those
	// that one step takes.
	MaxQueue = 16 << 20
	MaxBatch = 2 << 20
	// MaxRecent is how many confirmed blocks are known without asking the disk.
	MaxRecent = 1 << 17
	// MaxRefused is how many IDs of bad blocks are remembered, twice.
	MaxRefused = 1 << 14
	// MaxUnsolid bounds blocks of one peer that miss a parent, MaxUnsolidBytes their
	// bytes. The peer's oldest ones give way, and no other's.
	MaxUnsolid      = 2048
	MaxUnsolidBytes = 2 << 20
	// MaxWanted bounds blocks that are asked for on behalf of one peer.
	MaxWanted = 2048
	// MaxTries is how often a block is asked for.
	MaxTries = 20
	// MaxServe bounds what a peer is sent in answer to requests, in bytes a second,
	// and at once.
	MaxServe = 8 << 20
	// MaxAhead is how many milestones above the confirmed one are kept.
	MaxAhead = 32
	// MaxSubmits bounds submissions in one step, and MaxBatch their bytes.
	MaxSubmits = 4096
	// MaxOwn bounds payloads of this node that are not confirmed.
	MaxOwn = 1 << 16
	// MaxAttach is how often such a payload is attached or promoted.
	MaxAttach = 10
	// MaxSweep bounds the blocks that a coordinator merges tips by for one milestone.
	MaxSweep = 256
	// MaxFollows bounds addresses that wallets of this machine follow.
	MaxFollows = 1 << 16
	// MaxWrite bounds the bytes of a milestone's records that one step writes, so
	// that they and its blocks fit a store's commit.
	MaxWrite = 4 << 20
	// judgeStep and writeStep are how many blocks of a milestone one step judges and
	// writes; it forgets MaxConePiece.
	judgeStep = 4000
	writeStep = 2000
)

// Times.
const (
	// GreetEvery is how often peers are told where the node stands.
	GreetEvery = 2 * step.Second
	// AskAgain is when a block that did not come is asked for again.
	AskAgain = 500 * step.Millisecond
	// ProposeAgain is when a proposal that lacks signatures is sent again.
	ProposeAgain = step.Second
	// MaxAheadTime is how far a milestone's time may be ahead of this clock for this
	// coordinator to sign it, in seconds.
	MaxAheadTime = 300
)

// Config is what a node is made of.
type Config struct {
	Network *tangle.Network
	// Peers are there from the beginning: the simulator's. Others are machines that
	// were linked and answer a greeting.
	Peers []string
	// Coordinator is the zero value on most nodes.
	Coordinator Coordinator
	// Tips is how parents are chosen.
	Tips Tips
	// Keep is how many milestones' blocks stay; 0 keeps all. It is at least
	// MinKeep of the network.
	Keep uint32
	// PromoteAfter is after how many milestones a payload of this node that none has
	// included is promoted, and then attached again; 0 is 2.
	PromoteAfter uint32
	// MaxWork is how many zero trits the node searches for a submitter, and for its
	// own promotions; 0 is DefaultWork. Every three more take 27 times as long, on
	// the machine's only thread.
	MaxWork int
	// MaxUnconfirmed is less than the constant on small machines; 0 is that.
	MaxUnconfirmed int
	// Seed makes the choice of tips unpredictable.
	Seed [32]byte
	// Trust names the snapshot that an empty node begins with; nil begins with the
	// genesis.
	Trust *Trust
}

// DefaultWork takes some 2,200 tries in the middle.
const DefaultWork = 7

// Tips says how parents of new blocks are chosen.
type Tips struct {
	// MCMC walks, weighted by Alpha (IRI's is dag.DefaultAlpha; 0 is uniform), from
	// Depth blocks deep; else tips are chosen uniformly (TIP-3).
	MCMC  bool
	Alpha float64
	Depth int // 0 is dag.DefaultDepth
	// Count is how many are chosen uniformly; 0 is 2, and a walk always finds 2.
	Count int
}

// MinKeep is the least Config.Keep: what new blocks may still refer to.
func MinKeep(n *tangle.Network) uint32 { return n.BelowMaxDepth + 2 }

// Coordinator makes a node one of the network's coordinators.
type Coordinator struct {
	Secret  eddsa.Secret // SHA512; one of the network's keys
	Primary bool         // proposes; one of them should. If it is silent nothing is confirmed
	// Follows is the primary's key: this coordinator signs nobody else's proposals.
	// Zero signs the first of an index that is right, so that any other coordinator
	// could leave votes split, and nothing confirmed.
	Follows  [32]byte
	Interval step.Time // between milestones; 0 is 5 s
}

// A vertex is an attached block that no milestone has included.
type vertex struct {
	*Block
	page uint64
}

// Node is the core. Make one with Load.
type Node struct {
	c    Config
	net  *tangle.Network
	db   *overlay
	head head
	halt error // why nothing is confirmed any more
	load *importing

	dag      *dag.DAG
	vertices map[tangle.BlockID]*vertex
	makers   map[tangle.TransactionID]tangle.BlockID // unconfirmed transactions, the block attached first
	pages    map[uint64]*page
	page     *page // of this step
	recent   map[tangle.BlockID]uint32
	recents  []recents
	entries  map[tangle.BlockID]uint32 // confirmed, as a milestone's list showed
	refused  [2]map[tangle.BlockID]bool

	peers map[string]*peer
	order []*peer // by name

	queue      []*arrival
	queued     map[tangle.BlockID]*arrival
	queueBytes int
	pool       map[tangle.BlockID]*unsolid
	waiters    map[tangle.BlockID][]*unsolid
	wants      map[tangle.BlockID]*want
	wantList   []*want
	later      []said // messages that are answered after the blocks
	fresh      []*relayed
	keys       *eddsa.Cache
	batch      *eddsa.Batch

	milestones map[uint32]*Block // above the head, signed
	job        *job
	catch      catching
	pruning    int                // pieces of the oldest milestone that are gone
	decided    tangle.MilestoneID // that a crash has interrupted at head.Index+1; zero for none

	vote      *tangle.Milestone // signed last
	proposal  proposal
	early     said // a proposal of the milestone after the next
	submits   []submit
	submitted int // bytes of submits
	own       map[[32]byte]*own
	due       map[uint32][][32]byte
	followers follows
	trees     trees
	exported  *Snapshot
	rejected  Counts
	watch     Watch
	came      Came // in this step, if it is watched

	draws   uint64
	now     step.Time
	fx      step.Effects
	busy    bool // there is more to do without waiting
	greetAt step.Time
	tickAt  step.Time // the alarm that is set
	goAt    step.Time
	changed bool // of the head
}

// Counts are what the node has refused since its start, for the operator.
type Counts struct {
	Malformed uint64 // frames that cannot be read
	Invalid   uint64 // blocks against the rules: work, signatures, network
	Dropped   uint64 // blocks for which there was no room
	Unsolid   uint64 // blocks whose parents nobody had
	Orphaned  uint64 // attached blocks that became too old
	Refused   uint64 // proposals not signed, with other roots
}

// Step is the node's.
func (n *Node) Step(in step.Input) step.Effects {
	n.begin(in.At)
	n.tellStates()
	for _, event := range in.Events {
		switch ev := event.(type) {
		case step.Recv:
			n.recv(ev)
		case step.Linked:
			n.greet(ev.Peer) // it is a peer once it answers: most machines are none
		case step.Unlinked:
			n.leave(ev.Peer)
		case step.Rang:
			n.rang(ev.ID)
		case Submit:
			n.submit(submit{Submit: ev})
		case Export:
			n.export(ev)
		case Watch:
			n.watch = ev
		default:
			panic(fmt.Sprintf("tangle: the node cannot handle %T", event))
		}
	}
	if n.load != nil {
		n.takeOver()
		return n.end()
	}
	n.ingest()
	n.answer()
	n.askBlocks()
	n.coordinate()
	n.confirm()
	n.prune()
	n.relay()
	return n.end()
}

func (n *Node) begin(at step.Time) {
	n.db.begin(at)
	n.now, n.fx, n.busy = at, step.Effects{}, false
	n.page = nil
	step.Assert(len(n.vertices) == n.dag.Len(), "tangle: %d blocks and %d vertices are attached", len(n.vertices), n.dag.Len())
	step.Assert(n.vote == nil || n.vote.Index <= n.head.Index+1, "tangle: signed milestone %d when %d was confirmed", n.voteIndex(), n.head.Index)
}

func (n *Node) end() step.Effects {
	n.endPage()
	n.flushAsks()
	if n.came.Raw != nil {
		n.done(CameID, n.came, nil)
		n.came = Came{}
	}
	if n.changed {
		n.db.put(headKey, n.head.record())
		n.changed = false
	}
	n.fx.Put = n.db.take()
	n.alarms()
	fx := n.fx
	n.fx = step.Effects{}
	return fx
}

// recv takes a frame of a peer, or what a core of this machine says.
func (n *Node) recv(ev step.Recv) {
	switch msg := ev.Msg.(type) {
	case gossip.Frame:
		if msg.Ledger == gossip.Tangle {
			n.frame(ev.From, msg.Raw)
		}
	case Submit:
		n.submit(submit{Submit: msg})
	case tangle.Submit:
		n.walletSubmits(ev.From, msg)
	case tangle.Follow:
		n.walletFollows(ev.From, msg)
	}
}

// frame reads one message. Blocks wait for the batch, the rest for the blocks.
func (n *Node) frame(from string, raw []byte) {
	p := n.join(from)
	if p == nil {
		return
	}
	msg, err := Decode(raw)
	if err != nil {
		n.rejected.Malformed++
		p.bad++
		return
	}
	switch m := msg.(type) {
	case Greet:
		n.greeted(p, m)
	case Blocks:
		for _, block := range m.Raw {
			n.arrive(p, block)
		}
	default:
		n.later = append(n.later, said{p, msg})
	}
}

// said is a message that waits until the blocks of its step are attached.
type said struct {
	by  *peer
	msg Message
}

// answer takes the messages that are no blocks.
func (n *Node) answer() {
	for _, s := range n.later {
		switch m := s.msg.(type) {
		case Ask:
			n.serve(s.by, m)
		case AskMilestone:
			n.serveMilestone(s.by, m)
		case Cone:
			n.coned(s.by, m)
		case Propose:
			n.proposed(s.by, m)
		case Sign:
			n.signed(s.by, m)
		case AskSnapshot:
			n.serveSnapshot(s.by, m)
		}
	}
	clear(n.later)
	n.later = n.later[:0]
}

func (n *Node) done(id string, value any, err error) {
	n.fx.Done = append(n.fx.Done, step.Outcome{ID: id, Value: value, Err: err})
}

// Alarms.
const (
	tickAlarm = "tick"
	goAlarm   = "go"
)

func (n *Node) rang(id string) {
	switch id {
	case step.Start:
		n.greetAt = n.now
	case tickAlarm:
		n.tickAt = 0
	case goAlarm:
		n.goAt = 0
	}
	if n.now >= n.greetAt {
		n.greetAt = n.now + GreetEvery
		for _, p := range n.order {
			if p.greeted || p.fixed {
				n.greet(p.name) // others were greeted when they came, and do not care
			}
		}
	}
	if n.load == nil {
		n.askAgain()
		n.catchUp()
	}
}

// alarms asks to be rung when there is something to do.
func (n *Node) alarms() {
	if n.busy && n.goAt <= n.now {
		n.goAt = n.now + 1
		n.fx.Wake = append(n.fx.Wake, step.Alarm{ID: goAlarm, At: n.now})
	}
	next := n.greetAt
	if len(n.wantList) > 0 || n.catch.since != 0 || n.load != nil {
		next = min(next, n.now+AskAgain)
	}
	next = max(min(next, n.milestoneDue()), n.now+1)
	if n.tickAt <= n.now || next < n.tickAt {
		n.tickAt = next
		n.fx.Wake = append(n.fx.Wake, step.Alarm{ID: tickAlarm, At: next})
	}
}
