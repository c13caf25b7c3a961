package light

import (
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/filter"
	"coinop.dev/core/bitcoin/header"
)

// A filterChain is the filter headers that the peers agree about: one in a
// thousand for good, and all above the last of those.
type filterChain struct {
	marks  []chainhash.Hash // marks[i] is of the block at height i*header.Interval
	base   int32            // height of recent[0]
	recent []chainhash.Hash
}

// reset leaves the first block's, which everybody can make.
func (f *filterChain) reset(p *chaincfg.Params) {
	raw, err := filter.Build(p.GenesisBlock, func(wire.OutPoint) []byte { return nil })
	if err != nil {
		panic(fmt.Sprintf("light: filter of the first block: %v", err)) // it has no inputs
	}
	first := filter.Header(filter.Hash(raw), chainhash.Hash{})
	*f = filterChain{marks: []chainhash.Hash{first}, recent: []chainhash.Hash{first}}
}

func (f *filterChain) tip() int32 { return f.base + int32(len(f.recent)) - 1 }

// at is the filter header at a height from base to tip.
func (f *filterChain) at(height int32) chainhash.Hash { return f.recent[height-f.base] }

// mark takes the header at the next multiple of header.Interval, without those
// between.
func (f *filterChain) mark(h chainhash.Hash) {
	f.base = int32(len(f.marks)) * header.Interval
	f.marks = append(f.marks, h)
	f.recent = []chainhash.Hash{h}
}

// push takes the hash of the next filter.
func (f *filterChain) push(hash chainhash.Hash) {
	next := filter.Header(hash, f.recent[len(f.recent)-1])
	f.recent = append(f.recent, next)
	if f.tip()%header.Interval == 0 {
		f.marks = append(f.marks, next)
	}
	if len(f.recent) > 2*header.Tail {
		n := len(f.recent) - header.Tail
		f.recent = slices.Clone(f.recent[n:])
		f.base += int32(n)
	}
}

// knows is the filter header at a height, if it is one of those that are kept.
func (f *filterChain) knows(height int32) (chainhash.Hash, bool) {
	switch {
	case height < 0 || height > f.tip():
		return chainhash.Hash{}, false
	case height >= f.base:
		return f.at(height), true
	case height%header.Interval == 0:
		return f.marks[height/header.Interval], true
	}
	return chainhash.Hash{}, false
}

func (f *filterChain) clone() filterChain {
	return filterChain{marks: slices.Clone(f.marks), base: f.base, recent: slices.Clone(f.recent)}
}

// cut forgets all above a height.
func (f *filterChain) cut(height int32) {
	if n := int(height / header.Interval); n+1 < len(f.marks) {
		f.marks = f.marks[:n+1]
	}
	switch {
	case height >= f.tip():
	case height >= f.base:
		f.recent = f.recent[:height-f.base+1]
	default:
		f.base = int32(len(f.marks)-1) * header.Interval
		f.recent = []chainhash.Hash{f.marks[len(f.marks)-1]}
	}
}

// filterHashes is a peer's answer about a range of filters.
type filterHashes struct {
	start int32
	prev  chainhash.Hash
	list  []chainhash.Hash
}

// witnesses are the peers on our chain.
func (c *Client) witnesses() []*peer { return c.witnessesOf(0) }

// witnessesOf are the peers that have shown to have our chain up to a height,
// whose word about filters is asked for.
func (c *Client) witnessesOf(height int32) []*peer {
	var all []*peer
	for _, p := range c.sorted() {
		if p.has(height) && p.differs == 0 && c.vetted(p) {
			all = append(all, p)
		}
	}
	return all
}

// syncFilters brings the filter headers to the tip: checkpoints first, where
// there are, then the rest one by one.
func (c *Client) syncFilters() {
	for c.sync == "" {
		if c.dispute != nil {
			if !c.settle() {
				return
			}
			continue
		}
		c.hearDoubts()
		tip, _ := c.chain.Tip()
		if c.filters.tip() >= tip {
			return
		}
		tip = c.within(tip)
		last := tip / header.Interval * header.Interval
		if c.filters.tip() < last && c.filters.tip()%header.Interval == 0 {
			if waiting, extended := c.agreeOnMarks(last); waiting {
				return
			} else if extended {
				continue
			}
		}
		if !c.agreeOnHashes(tip) {
			return
		}
	}
}

// agreeOnMarks compares the peers' checkpoints and takes those that all have.
func (c *Client) agreeOnMarks(last int32) (waiting, extended bool) {
	witnesses := c.witnessesOf(last)
	for _, p := range witnesses {
		if p.marksFor == last {
			continue
		}
		waiting = true
		c.askMarks(p, last)
	}
	if waiting || len(witnesses) == 0 {
		return true, false
	}
	for n := len(c.filters.marks); n <= int(last/header.Interval); n++ {
		mark := witnesses[0].marks[n-1]
		if slices.ContainsFunc(witnesses, func(p *peer) bool { return p.marks[n-1] != mark }) {
			break // the filters of this interval tell who lies
		}
		c.filters.mark(mark)
		extended = true
		for _, p := range witnesses {
			p.word, p.vetted = c.filters.tip(), len(c.filters.marks)
		}
		if c.resolve() {
			break
		}
	}
	return false, extended
}

func (c *Client) askMarks(p *peer, last int32) {
	if p.request == nil {
		stop, _ := c.chain.Hash(last)
		c.ask(p, request{kind: forMarks, stop: last}, wire.NewMsgGetCFCheckpt(wire.GCSFilterRegular, &stop))
	}
}

// owes tells whether a peer was asked for this about our block of that hash. An
// answer about another one is late: it was asked for before a reorganisation.
func (c *Client) owes(p *peer, kind requestKind, stop chainhash.Hash) bool {
	if p.request == nil || p.request.kind != kind {
		return false
	}
	hash, ok := c.chain.Hash(p.request.stop)
	return ok && hash == stop
}

// marks takes a peer's checkpoints.
func (c *Client) marks(p *peer, msg *wire.MsgCFCheckpt) {
	if !c.owes(p, forMarks, msg.StopHash) {
		return
	}
	last := p.request.stop
	p.request = nil
	if len(msg.FilterHeaders) != int(last/header.Interval) {
		c.drop(p.name, true, "%d filter checkpoints up to height %d; there are %d", len(msg.FilterHeaders), last, last/header.Interval)
		return
	}
	p.marks, p.marksFor = make([]chainhash.Hash, len(msg.FilterHeaders)), last
	for i, h := range msg.FilterHeaders {
		p.marks[i] = *h
	}
	c.vet(p)
}

// agreeOnHashes compares what the peers say of the filters above the last, and
// takes what all say. It reports whether there is more to do now.
func (c *Client) agreeOnHashes(tip int32) bool {
	start, stop := c.filters.tip()+1, tip
	if tip-start >= wire.MaxCFHeadersPerMsg {
		stop = (c.filters.tip()/header.Interval + 1) * header.Interval // whose hash is known for good
	}
	stopHash, _ := c.chain.Hash(stop)
	witnesses := c.witnessesOf(stop)
	waiting := len(witnesses) == 0
	for _, p := range witnesses {
		if p.hashes != nil && p.hashes.start == start {
			continue
		}
		waiting = true
		if p.request == nil {
			c.ask(p, request{kind: forHashes, start: start, stop: stop}, wire.NewMsgGetCFHeaders(wire.GCSFilterRegular, uint32(start), &stopHash))
		}
	}
	if waiting {
		return false
	}
	defer c.clearHashes()
	shortest := slices.MinFunc(witnesses, func(p, q *peer) int { return len(p.hashes.list) - len(q.hashes.list) })
	for i, hash := range shortest.hashes.list {
		for _, p := range witnesses {
			if p.hashes.list[i] != hash {
				c.open(start+int32(i), i, witnesses)
				return true
			}
		}
		c.filters.push(hash)
		for _, p := range witnesses {
			p.word, p.vetted = c.filters.tip(), len(c.filters.marks)
		}
		if c.resolve() {
			return true
		}
	}
	return true
}

func (c *Client) clearHashes() {
	for _, p := range c.peers {
		p.hashes = nil
	}
}

// hashes takes a peer's filter hashes.
func (c *Client) hashes(p *peer, msg *wire.MsgCFHeaders) {
	if c.owes(p, forWord, msg.StopHash) {
		c.wordCame(p, msg)
		return
	}
	if !c.owes(p, forHashes, msg.StopHash) {
		return
	}
	r := *p.request
	p.request = nil
	if r.start != c.filters.tip()+1 {
		return // what was agreed about was cut meanwhile
	}
	if n := int(r.stop - r.start + 1); len(msg.FilterHashes) != n {
		c.drop(p.name, !p.late, "%d filter hashes from height %d; %d were asked for", len(msg.FilterHashes), r.start, n)
		return
	}
	if msg.PrevFilterHeader != c.filters.at(r.start-1) {
		c.contradicts(p, r.start-1)
		return
	}
	p.hashes = &filterHashes{start: r.start, prev: msg.PrevFilterHeader}
	for _, h := range msg.FilterHashes {
		p.hashes.list = append(p.hashes.list, *h)
	}
	c.keepsItsWord(p)
}

// keepsItsWord checks that a peer's filter hashes lead to its own checkpoint.
func (c *Client) keepsItsWord(p *peer) {
	h := p.hashes.prev
	for i, hash := range p.hashes.list {
		h = filter.Header(hash, h)
		height := p.hashes.start + int32(i)
		if n := int(height / header.Interval); height%header.Interval == 0 && n <= len(p.marks) && p.marks[n-1] != h {
			c.drop(p.name, true, "its filters do not lead to its own checkpoint at height %d", height)
			return
		}
	}
}
