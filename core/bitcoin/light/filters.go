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

// MaxSuspect bounds the blocks whose filter was in doubt and that are looked
// through whole.
const MaxSuspect = 64

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

// A dispute is about the filter of one block, of which peers have told different
// hashes.
type dispute struct {
	height   int32
	block    *wire.MsgBlock
	versions []*version
}

type version struct {
	hash  chainhash.Hash
	peers []string
	raw   []byte // the filter, once it has come
}

// witnesses are the peers on our chain, whose word about filters is asked for.
func (c *Client) witnesses() []*peer {
	var all []*peer
	for _, p := range c.sorted() {
		if p.current && len(p.branch) == 0 {
			all = append(all, p)
		}
	}
	return all
}

// syncFilters brings the filter headers to the tip: checkpoints first, where
// there are, then the rest one by one.
func (c *Client) syncFilters() {
	for {
		tip, _ := c.chain.Tip()
		witnesses := c.witnesses()
		if len(witnesses) == 0 || c.sync != "" || c.filters.tip() >= tip {
			return
		}
		if c.dispute != nil {
			if !c.settle() {
				return
			}
			continue
		}
		last := tip / header.Interval * header.Interval
		if c.filters.tip() < last && c.filters.tip()%header.Interval == 0 {
			if waiting, extended := c.agreeOnMarks(witnesses, last); waiting {
				return
			} else if extended {
				continue
			}
		}
		if !c.agreeOnHashes(witnesses, tip) {
			return
		}
	}
}

// agreeOnMarks compares the peers' checkpoints and takes those that all have. A
// peer whose list has not our own checkpoints contradicts what others said
// before.
func (c *Client) agreeOnMarks(witnesses []*peer, last int32) (waiting, extended bool) {
	for _, p := range witnesses {
		if p.marksFor == last {
			continue
		}
		waiting = true
		if p.request == nil {
			stop, _ := c.chain.Hash(last)
			c.ask(p, request{kind: forMarks, stop: last}, wire.NewMsgGetCFCheckpt(wire.GCSFilterRegular, &stop))
		}
	}
	if waiting {
		return true, false
	}
	for n := len(c.filters.marks); n <= int(last/header.Interval); n++ {
		mark := witnesses[0].marks[n-1]
		if slices.ContainsFunc(witnesses, func(p *peer) bool { return p.marks[n-1] != mark }) {
			break // the filters of this interval tell who lies
		}
		c.filters.mark(mark)
		extended = true
	}
	return false, extended
}

// marks takes a peer's checkpoints.
func (c *Client) marks(p *peer, msg *wire.MsgCFCheckpt) {
	if !p.answered(forMarks, c.now) {
		return
	}
	last := p.request.stop
	p.request = nil
	hash, ok := c.chain.Hash(last)
	if !ok || hash != msg.StopHash {
		return // asked before a reorganisation
	}
	if len(msg.FilterHeaders) != int(last/header.Interval) {
		c.drop(p.name, true, "%d filter checkpoints up to height %d; there are %d", len(msg.FilterHeaders), last, last/header.Interval)
		return
	}
	list := make([]chainhash.Hash, len(msg.FilterHeaders))
	for i, h := range msg.FilterHeaders {
		list[i] = *h
	}
	for i, mark := range c.filters.marks[1:] {
		if i < len(list) && list[i] != mark {
			c.contradicts(p, int32(i+1)*header.Interval)
			return
		}
	}
	p.marks, p.marksFor = list, last
}

// contradicts ends a peer whose filter headers are not those that were agreed
// about. If nobody is left who has those, they are no longer believed.
func (c *Client) contradicts(p *peer, height int32) {
	alone := len(c.witnesses()) == 1
	c.drop(p.name, false, "its filter header at height %d is not the one that was agreed about", height)
	if alone {
		c.filters.reset(c.o.Params)
		c.lookAgain()
	}
}

// agreeOnHashes compares what the peers say of the filters above the last, and
// takes what all say. It reports whether there is more to do now.
func (c *Client) agreeOnHashes(witnesses []*peer, tip int32) bool {
	start, stop := c.filters.tip()+1, tip
	if tip-start >= wire.MaxCFHeadersPerMsg {
		stop = (c.filters.tip()/header.Interval + 1) * header.Interval // whose hash is known for good
	}
	stopHash, _ := c.chain.Hash(stop)
	waiting := false
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
	for i := range witnesses[0].hashes.list {
		hash := witnesses[0].hashes.list[i]
		for _, p := range witnesses[1:] {
			if i >= len(p.hashes.list) {
				c.clearHashes()
				return true
			}
			if p.hashes.list[i] != hash {
				c.open(start+int32(i), i, witnesses)
				c.clearHashes()
				return true
			}
		}
		c.filters.push(hash)
	}
	c.clearHashes()
	return true
}

func (c *Client) clearHashes() {
	for _, p := range c.peers {
		p.hashes = nil
	}
}

// hashes takes a peer's filter hashes.
func (c *Client) hashes(p *peer, msg *wire.MsgCFHeaders) {
	if !p.answered(forHashes, c.now) {
		return
	}
	r := *p.request
	p.request = nil
	hash, ok := c.chain.Hash(r.stop)
	if !ok || hash != msg.StopHash || r.start != c.filters.tip()+1 {
		return // asked before a reorganisation
	}
	if n := int(r.stop - r.start + 1); len(msg.FilterHashes) != n {
		c.drop(p.name, true, "%d filter hashes from height %d; %d were asked for", len(msg.FilterHashes), r.start, n)
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
	if n := len(p.marks); p.marksFor > 0 && int(r.stop/header.Interval) <= n && r.start/header.Interval < r.stop/header.Interval {
		c.keepsItsWord(p)
	}
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

// open begins a dispute about the filter at a height.
func (c *Client) open(height int32, i int, witnesses []*peer) {
	c.dispute = &dispute{height: height}
	for _, p := range witnesses {
		hash := p.hashes.list[i]
		at := slices.IndexFunc(c.dispute.versions, func(v *version) bool { return v.hash == hash })
		if at < 0 {
			at = len(c.dispute.versions)
			c.dispute.versions = append(c.dispute.versions, &version{hash: hash})
		}
		v := c.dispute.versions[at]
		v.peers = append(v.peers, p.name)
	}
}

// settle brings a dispute forward: the block, and the filter in each version,
// are fetched, and the block tells which cannot be its filter. It reports whether
// the dispute is over.
func (c *Client) settle() bool {
	d := c.dispute
	hash, ok := c.hashAt(d.height)
	if !ok {
		return false // it is read from disk
	}
	d.versions = slices.DeleteFunc(d.versions, func(v *version) bool { return len(v.peers) == 0 })
	if len(d.versions) <= 1 {
		c.dispute = nil
		return true
	}
	ready := d.block != nil
	if d.block == nil {
		c.need(hash)
	}
	for _, v := range d.versions {
		if v.raw != nil {
			continue
		}
		ready = false
		if p := c.peers[v.peers[0]]; p.request == nil {
			c.ask(p, request{kind: forVersion, start: d.height, stop: d.height}, wire.NewMsgGetCFilters(wire.GCSFilterRegular, uint32(d.height), &hash))
		}
	}
	if !ready {
		return false
	}
	c.dispute = nil
	c.judge(d)
	return true
}

// judge bans who told a filter that cannot be the block's, as the block proves.
// If that leaves more than one, those that lack what the block seems to spend are
// doubted; then the one most peers tell is taken, then the one with most elements,
// and the block is looked through whole.
func (c *Client) judge(d *dispute) {
	var left []*version
	doubted := map[*version]bool{}
	for _, v := range d.versions {
		if lies, how := filter.Disproves(v.raw, d.block); lies {
			for _, name := range slices.Clone(v.peers) {
				c.drop(name, true, "its filter of the block at height %d is false: %s", d.height, how)
			}
			continue
		}
		doubted[v], _ = filter.Contradicts(v.raw, d.block)
		left = append(left, v)
	}
	if len(left) <= 1 {
		return
	}
	slices.SortStableFunc(left, func(a, b *version) int {
		if doubted[a] != doubted[b] {
			if doubted[b] {
				return -1
			}
			return 1
		}
		if len(a.peers) != len(b.peers) {
			return len(b.peers) - len(a.peers)
		}
		return len(b.raw) - len(a.raw)
	})
	if len(c.suspect) == MaxSuspect {
		c.suspect = c.suspect[1:]
	}
	c.suspect = append(c.suspect, d.height)
	for _, v := range left[1:] {
		for _, name := range slices.Clone(v.peers) {
			c.drop(name, false, "its filter of the block at height %d differs from that of %s, and the block does not tell which is true", d.height, left[0].peers[0])
		}
	}
}

// versionCame takes one filter that is disputed.
func (c *Client) versionCame(p *peer, msg *wire.MsgCFilter) {
	p.request = nil
	d := c.dispute
	if d == nil {
		return
	}
	for _, v := range d.versions {
		if !slices.Contains(v.peers, p.name) {
			continue
		}
		if hash := filter.Hash(msg.Data); hash != v.hash {
			c.drop(p.name, true, "the hash of its filter at height %d is %v; before it said %v", d.height, hash, v.hash)
			return
		}
		v.raw = msg.Data
	}
}

// gone takes a peer out of the dispute.
func (c *Client) gone(p *peer) {
	if c.dispute == nil {
		return
	}
	for _, v := range c.dispute.versions {
		v.peers = slices.DeleteFunc(v.peers, func(name string) bool { return name == p.name })
	}
}
