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
	"coinop.dev/core/bitcoin/watch"
)

// A script that is watched.
type script struct {
	script []byte
	since  int32 // no block below it matters
	next   int32 // the lowest block not looked through for it; 0 if none is left below the rest
	brief  bool  // only while a transaction of ours waits for a block
}

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

// An interval is hashes of blocks, the first of them at a height. Those that are
// read from disk are header.Interval many, or none if they have not come yet.
type interval struct {
	first  int32
	hashes []chainhash.Hash
	vital  bool // we cannot do without them
}

func (i *interval) at(height int32) (hash chainhash.Hash, ok bool) {
	if n := int(height - i.first); n >= 0 && n < len(i.hashes) {
		return i.hashes[n], true
	}
	return hash, false
}

// hashAt is the hash of the block at a height, if it is at hand. If it is not, it
// is fetched from disk.
func (c *Client) hashAt(height int32) (hash chainhash.Hash, ok bool) { return c.hashOf(height, true) }

// hashOf is hashAt; vital means that it is for ourselves and must be on disk.
func (c *Client) hashOf(height int32, vital bool) (hash chainhash.Hash, ok bool) {
	if hash, ok = c.chain.Hash(height); ok {
		return hash, true
	}
	number := (height - 1) / header.Interval
	switch first := number*header.Interval + 1; {
	case c.disk != nil && c.disk.first == first:
		c.disk.vital = c.disk.vital || vital
		return c.disk.at(height)
	case c.disk != nil && len(c.disk.hashes) == 0:
		return hash, false // first come those that were asked for
	default:
		c.disk = &interval{first: first, vital: vital}
		c.send(Disk, Fetch{number})
		return hash, false
	}
}

// fetched takes hashes from disk. Callers' blocks are found at once, because
// others may need another interval next.
func (c *Client) fetched(f Fetched) {
	d := c.disk
	if d == nil || d.first != f.Interval*header.Interval+1 || len(d.hashes) > 0 {
		return
	}
	if len(f.Hashes) == header.Interval {
		d.hashes = f.Hashes
		for _, w := range c.wanted {
			if !w.known {
				w.hash, w.known = d.at(w.height)
			}
		}
		return
	}
	c.disk = nil
	c.wanted = slices.DeleteFunc(c.wanted, func(w *wanted) bool {
		if w.known || (w.height-1)/header.Interval != f.Interval {
			return false
		}
		c.give(w.height, nil, ErrOlder)
		return true
	})
	if d.vital { // the disk has lost it, or the birthday was higher then
		c.trouble = fmt.Errorf("the hashes of blocks from height %d on are not on disk: starting again", d.first)
		c.restart()
	}
}

// watch adds scripts. One that is watched is looked for in older blocks too if
// they matter now.
func (c *Client) watch(all []watch.Script) {
	for _, w := range all {
		since := max(w.Since, c.o.Birthday, 1)
		s := c.scripts[string(w.Script)]
		switch {
		case s != nil && since >= s.since:
			if s.brief {
				s.brief = false
				c.putScript(s)
			}
		case s != nil:
			s.since, s.brief = since, false
			if s.next == 0 {
				s.next = since
			}
			c.rewind(s, since)
		case len(c.scripts) < MaxScripts && len(w.Script) > 0 && (!c.o.Bloom || BloomFinds(w.Script)): // else the driver says so
			s = &script{script: slices.Clone(w.Script), next: since, since: since}
			c.scripts[string(w.Script)] = s
			c.rewind(s, since)
		}
	}
}

// finish notes that nothing is left to look through for a script.
func (c *Client) finish(s *script) {
	s.next = 0
	c.query.Add(s.script)
}

// rewind has a script that is not finished looked for again from a height on.
func (c *Client) rewind(s *script, height int32) {
	if s.next = min(s.next, height); s.next > c.passed() {
		c.finish(s)
	}
	c.putScript(s)
}

// passed is the height up to which a script that is new was not looked for: what
// came of the range at the tip came without it.
func (c *Client) passed() int32 {
	switch s := c.scan; {
	case s == nil || s.back || s.reread || s.bloom.again:
		return c.scanned
	case !c.o.Bloom:
		return max(c.scanned, s.next-1)
	case len(s.bloom.told) > 0:
		return s.stop
	}
	return c.scanned
}

// lookAgainAbove looks through all blocks above a height once more, for all
// scripts. What was found stays: blocks have proved it.
func (c *Client) lookAgainAbove(height int32) {
	c.stopScan(height)
	for _, s := range c.scripts {
		if s.next == 0 {
			s.next = max(height+1, s.since)
		}
		c.rewind(s, max(height+1, s.since))
	}
}

// unfinished counts the scripts that are looked for in older blocks.
func (c *Client) unfinished() (n int) {
	for _, s := range c.scripts {
		if s.next != 0 {
			n++
		}
	}
	return n
}

// lookAgain forgets what was found and looks through everything once more.
func (c *Client) lookAgain() {
	c.stopScan(-1)
	for _, m := range c.ledger.Cut(-1) {
		c.forget(m)
	}
	c.scanned = max(0, c.o.Birthday-1)
	c.ledger.Rise(c.scanned)
	for _, s := range c.scripts {
		if s.next != 0 {
			c.finish(s)
			c.putScript(s)
		}
	}
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
				p.stale, p.request = r.blocks[0], nil
			case r.kind == forBloom:
				p.request = nil
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
		c.drop(p.name, true, "a filter of block %v; that of height %d, %v, was asked for", msg.BlockHash, s.next, hash)
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
