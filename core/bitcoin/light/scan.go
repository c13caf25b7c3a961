package light

import (
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/filter"
	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/bitcoin/ledger"
	"coinop.dev/core/bitcoin/merkle"
)

// back is the scripts that are looked for in blocks that were looked through
// before, while those that are done are followed at the tip.
type back struct {
	next    int32
	query   *filter.Query
	scripts []string
}

// A scan is a range of blocks that is being looked through. It has all it needs
// to prove the filters of the range, whatever is agreed about meanwhile.
type scan struct {
	back        bool
	reread      bool // one block that was looked through before, whole
	start, stop int32
	next        int32 // whose filter comes next
	hashes      []chainhash.Hash
	toMark      bool             // the filters are proved by the last one's header, not one by one
	headers     []chainhash.Hash // of the filters from start-1 on; if toMark only the first and the last
	prev        chainhash.Hash   // if toMark: the header of the last filter that came
	from        int32
	hits        []hit
	bloom       bloomScan
}

type hit struct {
	height int32
	hash   chainhash.Hash
	block  *wire.MsgBlock
}

// hash is that of the block at a height of the range.
func (s *scan) hash(height int32) chainhash.Hash { return s.hashes[height-s.start] }

// restart forgets the filters that came.
func (s *scan) restart() {
	s.next, s.prev, s.hits = s.start, s.headers[0], nil
}

// stopScan gives up what is being looked through above a height.
func (c *Client) stopScan(height int32) {
	if c.scan != nil && c.scan.stop > height {
		c.scan = nil
		c.unneed()
		for _, p := range c.peers {
			switch r := p.request; {
			case r == nil:
			case r.kind == forFilters:
				p.stale = r.blocks[0]
				p.excuse()
			case r.kind == forBloom:
				p.excuse()
			}
		}
	}
	if c.back != nil && (c.scan == nil || !c.scan.back) {
		c.back = nil // it is gathered again from what its scripts lack
	}
}

// look brings the scan forward, and begins the next: blocks that are new come
// before old ones for new scripts.
func (c *Client) look() {
	for c.sync == "" {
		if c.scan == nil && !c.begin() {
			return
		}
		s := c.scan
		if s.next <= s.stop {
			c.askFilters(s)
		}
		if s.next <= s.stop {
			return
		}
		for len(s.hits) > 0 && s.hits[0].block != nil {
			if !s.back && !s.reread {
				c.rise(s.hits[0].height) // nothing was hit below it
			}
			c.read(s.hits[0])
			s.hits = s.hits[1:]
		}
		if len(s.hits) > 0 {
			for _, h := range s.hits[:min(len(s.hits), MaxAtOnce)] {
				if h.block == nil {
					c.need(h.hash, h.height)
				}
			}
			c.fetchWanted()
			return
		}
		c.end(s)
	}
}

// rise notes that all blocks up to a height were looked through.
func (c *Client) rise(height int32) {
	c.scanned = height
	c.ledger.Rise(height)
}

// begin chooses the next range, or reports that there is none.
func (c *Client) begin() bool {
	limit, _ := c.chain.Tip()
	if !c.o.Bloom {
		limit = min(limit, c.filters.tip())
	}
	switch {
	case len(c.reread) > 0:
		h := c.reread[0]
		hash, ok := c.hashAt(h)
		if !ok {
			return false
		}
		c.scan = &scan{reread: true, start: h, stop: h, next: h + 1, hits: []hit{{height: h, hash: hash}}}
	case c.scanned < limit && c.query.Len() == 0:
		c.rise(limit)
		return c.begin()
	case c.scanned < limit:
		c.scan = c.span(c.scanned+1, limit)
	case c.gather() && c.back.next <= min(limit, c.scanned):
		if c.scan = c.span(c.back.next, min(limit, c.scanned)); c.scan != nil {
			c.scan.back = true
		}
	case c.o.Bloom && c.lookAlone():
	}
	return c.scan != nil
}

// gather takes the scripts that are to be looked for in older blocks, if it has
// none yet.
func (c *Client) gather() bool {
	if c.back != nil {
		return true
	}
	b := &back{query: filter.NewQuery()}
	for key, s := range c.scripts {
		if s.next == 0 {
			continue
		}
		if b.next == 0 || s.next < b.next {
			b.next = s.next
		}
		b.scripts = append(b.scripts, key)
		b.query.Add(s.script)
	}
	if len(b.scripts) == 0 {
		return false
	}
	slices.Sort(b.scripts)
	c.back = b
	return true
}

// span is a range from a height on whose filters can be proved: one by one near
// the tip, an interval between two checkpoints below. It is nil while hashes of
// it are read from disk.
func (c *Client) span(from, limit int32) *scan {
	s := &scan{start: from, from: from, stop: min(limit, from+header.Interval-1)}
	number := (from - 1) / header.Interval
	if from < c.chain.Base() {
		s.stop = min(s.stop, (number+1)*header.Interval) // what is read from disk at once
	}
	switch {
	case c.o.Bloom:
		s.stop = min(s.stop, from+BloomSpan-1)
	case from <= c.filters.base:
		s.toMark = true
		s.start, s.stop = number*header.Interval+1, min((number+1)*header.Interval, c.filters.base)
		last, _ := c.filters.knows(s.stop)
		s.headers = []chainhash.Hash{c.filters.marks[number], last}
		s.prev = s.headers[0]
	default:
		for h := from - 1; h <= s.stop; h++ {
			s.headers = append(s.headers, c.filters.at(h))
		}
	}
	for h := s.start; h <= s.stop; h++ {
		hash, ok := c.hashAt(h)
		if !ok {
			return nil
		}
		s.hashes = append(s.hashes, hash)
	}
	s.next = s.start
	return s
}

// askFilters asks a peer for the filters that are missing.
func (c *Client) askFilters(s *scan) {
	if c.o.Bloom {
		c.askBlooms(s)
		return
	}
	for _, p := range c.peers {
		if p.request != nil && p.request.kind == forFilters {
			return
		}
	}
	for _, p := range c.sorted() {
		if p.request != nil || !p.has(s.stop) || p.word < s.stop {
			continue // what it has not vouched for it need not serve
		}
		stop := s.hash(s.stop)
		c.ask(p, request{kind: forFilters, start: s.next, stop: s.stop, blocks: []chainhash.Hash{stop}}, wire.NewMsgGetCFilters(wire.GCSFilterRegular, uint32(s.next), &stop))
		return
	}
}

// filter takes one filter, which is proved before it is believed.
func (c *Client) filter(p *peer, msg *wire.MsgCFilter) {
	if p.answered(forVersion, c.now) {
		c.versionCame(p, msg)
		return
	}
	s := c.scan
	if p.request == nil || p.request.kind != forFilters || s == nil {
		return
	}
	hash := s.hash(s.next)
	if p.stale != (chainhash.Hash{}) && msg.BlockHash != hash {
		if msg.BlockHash == p.stale {
			p.stale = chainhash.Hash{}
		}
		return
	}
	if msg.BlockHash != hash {
		c.drop(p.name, !p.late, "a filter of block %v; that of height %d, %v, was asked for", msg.BlockHash, s.next, hash)
		return
	}
	p.request.last = c.now
	if err := s.prove(msg.Data); err != nil {
		c.drop(p.name, true, "%w", err)
		return
	}
	if s.next >= s.from {
		query := c.query
		if s.back {
			query = c.back.query
		}
		match, err := query.Match(msg.Data, hash)
		if match || err != nil || slices.Contains(c.suspect, s.next) {
			s.hits = append(s.hits, hit{height: s.next, hash: hash}) // a filter that cannot be read hides nothing
		}
	}
	if s.next++; s.next > s.stop {
		p.request = nil
	}
}

// prove tells why a filter cannot be the next one.
func (s *scan) prove(raw []byte) error {
	if !s.toMark {
		before, want := s.headers[s.next-s.start], s.headers[s.next-s.start+1]
		if filter.Header(filter.Hash(raw), before) != want {
			return fmt.Errorf("its filter at height %d is not the one that its header is of", s.next)
		}
		return nil
	}
	s.prev = filter.Header(filter.Hash(raw), s.prev)
	if s.next == s.stop && s.prev != s.headers[1] {
		return fmt.Errorf("its filters of heights %d to %d do not lead to the header that was agreed about", s.start, s.stop)
	}
	return nil
}

// read takes what matters of a block.
func (c *Client) read(h hit) {
	var ids []chainhash.Hash
	for _, t := range h.block.Transactions {
		ids = append(ids, t.TxHash())
	}
	for i, t := range h.block.Transactions {
		if !c.matters(t) {
			continue
		}
		c.omitted(h, t, ids[i])
		c.found(ledger.Mined{Tx: t, ID: ids[i], Height: h.height, Index: int32(i), Branch: merkle.Prove(ids, i)})
	}
	c.invented(h, ids)
}

// found keeps a transaction that matters.
func (c *Client) found(m ledger.Mined) {
	if c.ledger.Size() > MaxMined {
		c.failed = fmt.Errorf("%w: watched scripts have %d bytes of transactions; the limit is %d", ErrFull, c.ledger.Size(), MaxMined)
		return
	}
	if c.ledger.Add(m) {
		c.finds++
		c.putMined(m)
	}
}

// matters tells whether a transaction pays a script that is watched, or spends
// what one was paid.
func (c *Client) matters(t *wire.MsgTx) bool {
	for _, out := range t.TxOut {
		if c.scripts[string(out.PkScript)] != nil {
			return true
		}
	}
	for _, in := range t.TxIn {
		if script, ok := c.ledger.Pays(in.PreviousOutPoint); ok && c.scripts[string(script)] != nil {
			return true
		}
	}
	return false
}

// end notes that a range was looked through.
func (c *Client) end(s *scan) {
	c.scan = nil
	switch {
	case s.reread:
		c.reread = c.reread[1:]
		return
	case c.o.Bloom && c.witnessed(s):
		return
	case !s.back:
		c.rise(s.stop)
		return
	}
	c.back.next = s.stop + 1
	for _, key := range c.back.scripts {
		if s := c.scripts[key]; s != nil && s.next != 0 {
			s.next = c.back.next
			if s.next > c.scanned {
				c.finish(s)
			}
			c.putScript(s)
		}
	}
	if c.back.next > c.scanned {
		c.back = nil
	}
}
