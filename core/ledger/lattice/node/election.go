package node

import (
	"bytes"
	"slices"

	"coinop.dev/core/codec"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/step"
)

const (
	// MaxCandidates bounds the blocks that stand for one root.
	MaxCandidates = 10
	// MaxVotesKept bounds the hashes that votes are remembered for before there is
	// an election about them.
	MaxVotesKept = 65_536
	// maxBallots bounds the representatives of each, and of an election.
	maxBallots = 256
	// maxKeptVotes bounds the votes that are written down about one root, in bytes.
	maxKeptVotes = 1 << 20
	// askAfter is when an election that is not over asks for votes at the earliest, and
	// says again what it is about. Where elections take longer it waits for thrice
	// as long as they do: who is asked more the more there is to do does less.
	askAfter = 400 * step.Millisecond
	// swayAfter is when a representative that sees no majority joins the side that
	// has most, if it has given no final vote: Nano's nodes wait for ever.
	swayAfter = 2 * step.Second
	// giveUpAfter is how long an election may go on. Its block is dropped then, and
	// whoever wants it says it again.
	giveUpAfter = 5 * step.Minute
)

// An election decides which block follows a root. It ends when final votes of the
// quorum are on one block.
type election struct {
	root       lattice.Hash
	candidates []*candidate
	ballots    []ballot
	began      step.Time
	asked      step.Time
	requests   int
	bucket     *bucket
	place      int          // in Node.active
	counting   bool         // ballots have changed in this step
	ours       lattice.Hash // what our representatives have voted for
	oursAt     step.Time
	final      bool // and finally
}

// A candidate is a block that stands. The one in the ledger has an entry there.
type candidate struct {
	hash  lattice.Hash
	block lattice.Block
}

type ballot struct {
	rep       Key
	hash      lattice.Hash
	timestamp uint64
	vote      *lattice.Vote // it was in
}

func (b ballot) final() bool { return b.timestamp == lattice.FinalTimestamp }

// activate lets a block have an election, once all that it depends on is cemented.
func (n *Node) activate(e *entry) {
	switch {
	case !e.ready():
	case e.election == nil:
		n.enqueue(e)
	case e.election.ours.IsZero():
		n.voteFor(e.election) // it began before this node could vote
		n.recount(e.election)
	}
}

// recount has an election looked at in this step.
func (n *Node) recount(v *election) {
	if !v.counting {
		v.counting = true
		n.counted = append(n.counted, v)
	}
}

// elect starts the election of a block of the ledger, if it has none.
func (n *Node) elect(e *entry) *election {
	if e.election != nil {
		return e.election
	}
	n.dequeue(e)
	root := lattice.Hash(e.Root())
	v := n.elections[root]
	if v == nil {
		v = &election{root: root, began: n.now, asked: n.now, bucket: &n.buckets[bucketOf(e)], place: len(n.active)}
		v.bucket.running++
		n.elections[root] = v
		n.active = append(n.active, v)
		if n.watch.Elections {
			n.tell(StartedID, Started{root, e.hash})
		}
	}
	e.election = v
	n.stand(v, e.hash, &e.Block)
	n.voteFor(v)
	return v
}

// hint starts the election of a block that others speak of: it need not wait for its
// turn.
func (n *Node) hint(e *entry) *election {
	if e.election == nil && len(n.active) >= MaxElections {
		return nil
	}
	return n.elect(e)
}

// stand makes a block a candidate, with the votes that have come for it before.
func (n *Node) stand(v *election, h lattice.Hash, b *lattice.Block) {
	if n.standing[h] != nil || len(v.candidates) >= MaxCandidates {
		return
	}
	v.candidates = append(v.candidates, &candidate{h, *b})
	n.standing[h] = v
	for _, b := range n.kept.take(h) {
		n.count(v, b)
	}
}

// rival takes a block that competes with one of the ledger.
func (n *Node) rival(b *lattice.Block, h lattice.Hash) (*election, bool) {
	mine := n.follower(b)
	if mine == nil || mine.hash == h {
		return nil, false
	}
	v := n.hint(mine)
	if v == nil {
		return nil, false
	}
	news := n.standing[h] == nil && len(v.candidates) < MaxCandidates
	n.stand(v, h, b)
	return v, news
}

// follower is the block of the backlog that follows the same root.
func (n *Node) follower(b *lattice.Block) *entry {
	c := n.chainOf(b.Account)
	for _, e := range c.pending {
		if e.Previous == b.Previous {
			return e
		}
	}
	return nil
}

// ballotOf takes what a representative says of a hash: to the election, or it is
// kept until there is one.
func (n *Node) ballotOf(b ballot) {
	if v := n.standing[b.hash]; v != nil {
		n.count(v, b)
		return
	}
	if e := n.pending[b.hash]; e == nil && n.cemented.has(b.hash) {
		return
	}
	kept := n.kept.add(b)
	if e := n.pending[b.hash]; e != nil && n.heavy(kept) {
		n.hint(e)
	} else if e == nil && n.heavy(kept) {
		n.fetch(b.hash)
	}
}

// heavy tells whether ballots are enough to be worth a look: a third of the quorum.
func (n *Node) heavy(ballots []ballot) bool {
	var sum lattice.Raw
	for _, b := range ballots {
		sum, _ = sum.Add(n.weight(b.rep))
	}
	third, _ := n.quorum().Div(3)
	return sum.Cmp(third) >= 0
}

// count takes a ballot, unless the representative has said something later. Final
// ballots of one representative on two blocks count for both: others may have
// cemented either by them, and with less than a third of the weight they decide
// nothing.
func (n *Node) count(v *election, b ballot) {
	at := slices.IndexFunc(v.ballots, func(o ballot) bool {
		return o.rep == b.rep && (o.hash == b.hash || !o.final() || !b.final())
	})
	switch {
	case at < 0 && len(v.ballots) >= maxBallots:
		return
	case at < 0:
		v.ballots = append(v.ballots, b)
	case v.ballots[at].timestamp >= b.timestamp:
		return
	default:
		v.ballots[at] = b
	}
	n.recount(v)
}

// tally adds up one candidate.
type tally struct {
	*candidate
	all, final lattice.Raw
}

// tallies are in order of their weight, of equals the lower hash first.
func (n *Node) tallies(v *election) []tally {
	list := make([]tally, len(v.candidates))
	for i, c := range v.candidates {
		list[i].candidate = c
	}
	for _, b := range v.ballots {
		for i := range list {
			if list[i].hash == b.hash {
				w := n.weight(b.rep)
				list[i].all, _ = list[i].all.Add(w)
				if b.final() {
					list[i].final, _ = list[i].final.Add(w)
				}
			}
		}
	}
	slices.SortFunc(list, func(a, b tally) int {
		if d := b.all.Cmp(a.all); d != 0 {
			return d
		}
		return bytes.Compare(a.hash[:], b.hash[:])
	})
	return list
}

// decide looks at an election whose ballots have changed.
func (n *Node) decide(v *election) {
	v.counting = false
	if n.elections[v.root] != v {
		return
	}
	list := n.tallies(v)
	quorum := n.quorum()
	for _, t := range list {
		if t.final.Cmp(quorum) >= 0 {
			if e := n.install(v, t.candidate); e != nil {
				n.cement(e)
			}
			return
		}
	}
	lead := list[0].all
	if len(list) > 1 {
		lead, _ = lead.Sub(list[1].all)
	}
	if lead.Cmp(quorum) < 0 {
		return
	}
	if e := n.install(v, list[0].candidate); e != nil && e.ready() {
		n.voteFinally(v, list[0].candidate)
	}
}

// install makes a candidate the ledger's, in the place of the one that is there. It
// is nil if the ledger cannot take it now, because it receives what is not there yet.
func (n *Node) install(v *election, c *candidate) *entry {
	if e := n.pending[c.hash]; e != nil {
		return e
	}
	loser := n.follower(&c.block)
	var gone []*entry
	if loser != nil {
		gone = n.rollBack(loser)
	}
	e, why := n.judge(&c.block, c.hash)
	if e != nil {
		e.election = v
		n.switched++
		for _, x := range gone {
			n.outvoted(x)
		}
		return e
	}
	if why == lattice.GapSource {
		n.fetch(lattice.Hash(c.block.Link))
	}
	for _, x := range gone { // as it was
		if back, _ := n.judge(&x.Block, x.hash); back != nil {
			back.election, back.wallets = x.election, x.wallets
			n.activate(back)
		}
	}
	return nil
}

// outvoted is a block that was in the ledger, and that its election's winner has
// put out, or one of those that followed it.
func (n *Node) outvoted(x *entry) {
	if x.election != nil && x.election != n.standing[x.hash] {
		x.election = nil
	}
	if v := x.election; v != nil && n.follower(&x.Block) == nil {
		n.end(v)
		if n.watch.Elections {
			n.tell(StoppedID, Stopped{v.root, x.hash})
		}
	}
}

// giveUp drops the block of an election that finds no end.
func (n *Node) giveUp(v *election) {
	for _, c := range v.candidates {
		if e := n.pending[c.hash]; e != nil && n.standing[c.hash] == v {
			for _, x := range n.rollBack(e) {
				n.dropped++
				n.tellRejected(x, lattice.Busy)
				if x.election != nil && x.election != v && n.elections[x.election.root] == x.election {
					n.end(x.election)
				}
			}
		}
	}
	n.end(v)
}

// confirmed ends the election of a block that is cemented now, and tells.
func (n *Node) confirmed(e *entry, active bool) {
	root := lattice.Hash(e.Root())
	told := Confirmed{Hash: e.hash, Block: e.Block, Kind: e.Kind, Amount: e.Amount, Height: e.Height}
	if v := n.elections[root]; v != nil {
		told.Active, told.Election = active, n.describe(v)
		n.pace += (float64(n.now-v.began) - n.pace) / 64
		for _, c := range v.candidates {
			if c.hash != e.hash {
				n.lost(c.hash)
			}
		}
		if len(v.candidates) > 1 {
			n.keepVotes(v, e.hash)
		}
		n.end(v)
	}
	if _, given := n.given[root]; given {
		delete(n.given, root)
		n.disk.set(keyFinal(root), nil)
	}
	n.tell(ConfirmedID, told)
	n.proven(e)
	if e.Kind == lattice.Send {
		n.changed(Key(e.Link))
	}
}

// keepVotes writes down by which votes a contested election was decided. Who has
// given its own final vote to the other side, and was told something else by who
// voted for both, is convinced by nothing less.
func (n *Node) keepVotes(v *election, winner lattice.Hash) {
	var b []byte
	for _, o := range v.ballots {
		if o.hash == winner && o.final() && len(b) < maxKeptVotes {
			b = codec.AppendBytes(b, o.vote.Append(nil))
		}
	}
	n.disk.set(keyVotes(v.root), b)
}

// keptVotes are the votes that decided about a root, if it was contested.
func (n *Node) keptVotes(root lattice.Hash) (votes []lattice.Vote) {
	r := codec.NewReader(n.disk.get(keyVotes(root)))
	for r.Len() > 0 && r.Err() == nil {
		v, err := lattice.DecodeVote(r.Bytes(maxKeptVotes, "vote"))
		step.Assert(err == nil, "vote on disk: %v", err)
		votes = append(votes, v)
	}
	return votes
}

// end takes an election away.
func (n *Node) end(v *election) {
	for _, c := range v.candidates {
		delete(n.standing, c.hash)
		if e := n.pending[c.hash]; e != nil && e.election == v {
			e.election = nil
		}
	}
	delete(n.elections, v.root)
	v.bucket.running--
	last := n.active[len(n.active)-1]
	n.active[v.place], last.place = last, v.place
	n.active[len(n.active)-1] = nil
	n.active = n.active[:len(n.active)-1]
}

func (n *Node) describe(v *election) Election {
	list := n.tallies(v)
	d := Election{
		Root: v.root, Winner: list[0].hash, Began: v.began, Took: n.now - v.began, Tally: list[0].all, Final: list[0].final,
		Blocks: len(list), Voters: len(v.ballots), Requests: v.requests,
	}
	if n.watch.Elections {
		d.Votes = map[Key]Ballot{}
		for _, b := range v.ballots {
			d.Votes[b.rep] = Ballot{b.hash, b.timestamp, n.weight(b.rep)}
		}
	}
	return d
}

// keeper remembers ballots on hashes that no election is about, the oldest go.
type keeper struct {
	ballots map[lattice.Hash][]ballot
	order   []lattice.Hash // a ring
	next    int
}

func (k *keeper) add(b ballot) []ballot {
	list, known := k.ballots[b.hash]
	if !known {
		if len(k.order) < MaxVotesKept {
			k.order = append(k.order, b.hash)
		} else {
			delete(k.ballots, k.order[k.next])
			k.order[k.next] = b.hash
			k.next = (k.next + 1) % MaxVotesKept
		}
	}
	at := slices.IndexFunc(list, func(o ballot) bool { return o.rep == b.rep })
	switch {
	case at >= 0 && list[at].timestamp < b.timestamp:
		list[at] = b
	case at < 0 && len(list) < maxBallots:
		list = append(list, b)
	}
	k.ballots[b.hash] = list
	return list
}

func (k *keeper) take(h lattice.Hash) []ballot {
	list := k.ballots[h]
	if list != nil {
		k.ballots[h] = nil // its place in the ring stays
	}
	return list
}
