package light

import (
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/filter"
	"coinop.dev/core/bitcoin/header"
)

// A doubt begins when a peer contradicts filter headers that others agreed about
// before it came: then what was found by them may not be all. The headers are
// agreed about anew, with that peer, from a height on where all are of one mind.
// If they come out as they were and it has agreed to them, it lied; if they do
// not, all blocks from there on are looked through once more.
type doubt struct {
	old        filterChain
	low, until int32  // agreed about for sure; the height where old and new are compared
	by         string // who contradicts; "" after a reorganisation
	at         int32  // a height up to until at which it does
}

// hearDoubts asks peers whose filter headers were not compared with ours for the
// last of them, which stands for all, and begins anew where one is not the same.
func (c *Client) hearDoubts() {
	tip, _ := c.chain.Tip()
	for _, p := range c.sorted() {
		if !p.has(0) {
			continue
		}
		if p.differs == 0 && !c.vetted(p) {
			if last := min(p.best, c.filters.tip()) / header.Interval * header.Interval; p.marksFor < last {
				c.askMarks(p, last)
				continue
			}
			c.vet(p)
		}
		if p.differs > 0 {
			c.follow(p)
			continue
		}
		// Who has our tip is asked for the headers that are still missing instead.
		at := min(p.best, c.filters.tip())
		if _, ok := c.filters.knows(at); !ok || p.word >= at || p.request != nil || p.has(tip) && c.filters.tip() < tip {
			continue
		}
		stop, ok := c.chain.Hash(at)
		if !ok {
			continue
		}
		c.ask(p, request{kind: forWord, start: at, stop: at}, wire.NewMsgGetCFHeaders(wire.GCSFilterRegular, uint32(at), &stop))
	}
}

// wordCame takes a peer's filter header at one height.
func (c *Client) wordCame(p *peer, msg *wire.MsgCFHeaders) {
	height := p.request.stop
	p.request = nil
	if len(msg.FilterHashes) != 1 {
		c.drop(p.name, !p.late, "%d filter hashes of height %d alone", len(msg.FilterHashes), height)
		return
	}
	ours, ok := c.filters.knows(height)
	switch {
	case !ok:
	case filter.Header(*msg.FilterHashes[0], msg.PrevFilterHeader) == ours:
		p.word = height
	default:
		p.differs = height
	}
}

// contradicts notes that a peer's filter header at a height is not ours.
func (c *Client) contradicts(p *peer, height int32) {
	if height == 0 {
		c.drop(p.name, true, "it has another filter of the first block")
		return
	}
	p.differs = height
}

// vetted tells whether a peer's checkpoints were compared with ours.
func (c *Client) vetted(p *peer) bool {
	return p.vetted >= min(len(c.filters.marks), int(p.best/header.Interval)+1)
}

// vet compares a peer's checkpoints with ours: each of them, because the last does
// not prove those before until the filters have come.
func (c *Client) vet(p *peer) {
	if height := c.parting(p); height > 0 {
		p.differs = height
		return
	}
	p.vetted = max(p.vetted, min(len(p.marks)+1, len(c.filters.marks)))
}

// parting is the lowest of a peer's checkpoints that is not ours; 0 if there is
// none.
func (c *Client) parting(p *peer) int32 {
	for i, mark := range c.filters.marks[1:] {
		if i < len(p.marks) && p.marks[i] != mark {
			return int32(i+1) * header.Interval
		}
	}
	return 0
}

// follow finds the interval where a peer's filter headers part from ours, by its
// checkpoints, and begins anew there.
func (c *Client) follow(p *peer) {
	last := min(p.differs, c.filters.tip()) / header.Interval * header.Interval
	if last > 0 && p.marksFor < last {
		c.askMarks(p, last)
		return
	}
	low, at := last, p.differs
	if height := c.parting(p); height > 0 && height <= at {
		low, at = height-header.Interval, height
	}
	if low == at {
		c.drop(p.name, true, "its filter header at height %d is not its own checkpoint", at)
		return
	}
	p.differs = 0
	c.doubtAbove(p, low, at)
}

// doubtAbove has all above a height agreed about anew, because p contradicts what
// is believed of another one.
func (c *Client) doubtAbove(p *peer, low, at int32) {
	if c.filters.tip() <= low {
		return // nothing is agreed about that it contradicts any more
	}
	if c.doubt == nil {
		c.doubt = &doubt{old: c.filters.clone(), low: c.filters.tip()}
	}
	if d := c.doubt; low < d.low {
		d.low, d.until, d.by = low, min(low+header.Interval, d.old.tip()), p.name
		d.at = min(at, d.until)
	}
	c.filters.cut(max(low, c.doubt.low))
	c.dispute = nil
	c.clearHashes()
	c.stopScan(c.filters.tip()) // its filters are proved by what is in doubt
	for _, q := range c.peers {
		q.word, q.vetted, q.differs = min(q.word, c.doubt.low), min(q.vetted, len(c.filters.marks)), 0
		c.vet(q)
	}
}

// resolve ends a doubt when the headers are agreed about so far that they can be
// compared. It reports whether it did.
func (c *Client) resolve() bool {
	d := c.doubt
	if d == nil || c.filters.tip() < d.until {
		return false
	}
	c.doubt = nil
	for _, p := range c.peers {
		p.differs = 0 // from what is not believed any more
	}
	was, _ := d.old.knows(d.until)
	if is, _ := c.filters.knows(d.until); was != is {
		c.lookAgainAbove(d.low)
		return true
	}
	if d.old.tip() > d.until {
		c.filters = d.old
	}
	doubter := c.peers[d.by]
	lied := doubter != nil && doubter.word >= d.at // it has agreed to what it contradicted
	for _, p := range c.peers {
		p.word, p.vetted = min(p.word, d.until), min(p.vetted, int(d.low/header.Interval)+1)
	}
	if lied {
		c.drop(d.by, true, "it takes back what it said of the filters above height %d", d.low)
	}
	return true
}

// within is how far the headers are agreed about at once: while they are in doubt
// not beyond what the peer knows that doubts them, or the others would agree
// without it.
func (c *Client) within(tip int32) int32 {
	if d := c.doubt; d != nil {
		if p := c.peers[d.by]; p != nil && p.has(c.filters.tip()+1) {
			return min(tip, p.best)
		}
	}
	return tip
}

// undoDoubt has a doubt follow a reorganisation.
func (c *Client) undoDoubt(fork int32) {
	d := c.doubt
	if d == nil {
		return
	}
	if d.old.cut(fork); d.until <= d.old.tip() {
		return
	}
	// What the peer contradicted may be gone.
	if d.until, d.by = d.old.tip(), ""; d.until > d.low {
		return
	}
	c.doubt = nil
	c.lookAgainAbove(min(d.low, fork))
}

// believed is the filter headers to keep: while they are doubted, the old ones.
func (c *Client) believed() *filterChain {
	if c.doubt != nil {
		return &c.doubt.old
	}
	return &c.filters
}

// remembered doubts the filter header that was the last one before a restart:
// those between it and the last checkpoint are not kept and are asked for again.
func (c *Client) remembered(height int32, hash chainhash.Hash) {
	low := c.filters.tip()
	if height <= low {
		return
	}
	old := c.filters.clone()
	old.base, old.recent = height, []chainhash.Hash{hash}
	c.doubt = &doubt{old: old, low: low, until: height}
}
