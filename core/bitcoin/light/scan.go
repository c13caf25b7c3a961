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

// A scan is a range of blocks that is being looked through.
type scan struct {
	back        bool
	start, stop int32
	next        int32 // whose filter comes next
	prev        chainhash.Hash
	toMark      bool // the filters are proved by the checkpoint at stop, not one by one
	from        int32
	hits        []hit
	peers       []string // who was asked for the filters
}

type hit struct {
	height int32
	hash   chainhash.Hash
	block  *wire.MsgBlock
}

// An interval is hashes that were read from disk, those above number*header.Interval.
type interval struct {
	number int32
	hashes []chainhash.Hash
	asked  bool
}

func (i *interval) top() int32 { return (i.number + 1) * header.Interval }

// hashAt is the hash of the block at a height, if it is at hand. If it is not, it
// is fetched from disk.
func (c *Client) hashAt(height int32) (hash chainhash.Hash, ok bool) {
	if hash, ok = c.chain.Hash(height); ok {
		return hash, true
	}
	number := (height - 1) / header.Interval
	if c.disk == nil || c.disk.number != number {
		c.disk = &interval{number: number}
	}
	if i := int(height - number*header.Interval - 1); i < len(c.disk.hashes) {
		return c.disk.hashes[i], true
	}
	if !c.disk.asked {
		c.disk.asked = true
		c.send(Disk, Fetch{number})
	}
	return hash, false
}

func (c *Client) fetched(f Fetched) {
	if c.disk == nil || c.disk.number != f.Interval {
		return
	}
	if len(f.Hashes) != header.Interval {
		c.disk = nil
		c.missing(f.Interval)
		return
	}
	c.disk.hashes = f.Hashes
}

// missing answers who asked for a block that is older than what is kept. A scan
// never needs one, unless the disk has lost it.
func (c *Client) missing(number int32) {
	served := false
	c.wanted = slices.DeleteFunc(c.wanted, func(w *wanted) bool {
		if w.height > 0 && (w.height-1)/header.Interval == number {
			c.give(w.height, nil, ErrOlder)
			served = true
			return true
		}
		return false
	})
	if !served {
		c.trouble = fmt.Errorf("the hashes of blocks from height %d on are not on disk: starting again", number*header.Interval+1)
		c.restart()
	}
}

// watch adds scripts.
func (c *Client) watch(all []watch.Script) {
	for _, w := range all {
		key := string(w.Script)
		s := c.scripts[key]
		if s != nil {
			s.brief = false
			continue
		}
		if len(c.scripts) == MaxScripts || len(w.Script) == 0 {
			continue // the driver has said so
		}
		s = &script{script: slices.Clone(w.Script), next: max(w.Since, c.o.Birthday, 1)}
		c.scripts[key] = s
		if s.next > c.scanned {
			c.finish(s)
		}
		c.putScript(s)
	}
}

// finish notes that nothing is left to look through for a script.
func (c *Client) finish(s *script) {
	s.next = 0
	c.query.Add(s.script)
}

// rewind has a script looked for again from a height on.
func (c *Client) rewind(s *script, height int32) {
	if s.next = min(s.next, height); s.next > c.scanned {
		c.finish(s)
	}
	c.putScript(s)
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
		for _, p := range c.peers {
			if r := p.request; r != nil && (r.kind == forFilters || r.kind == forBloom) {
				p.stale, p.request = r.blocks[0], nil
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
			return
		}
		for len(s.hits) > 0 && s.hits[0].block != nil {
			c.read(s.hits[0])
			s.hits = s.hits[1:]
		}
		if len(s.hits) > 0 {
			for _, h := range s.hits[:min(len(s.hits), MaxAtOnce)] {
				if h.block == nil {
					c.need(h.hash)
				}
			}
			c.fetchWanted()
			return
		}
		c.end(s)
	}
}

// begin chooses the next range, or reports that there is none.
func (c *Client) begin() bool {
	limit, _ := c.chain.Tip()
	if !c.o.Bloom {
		limit = min(limit, c.filters.tip())
	}
	switch {
	case c.scanned < limit && c.query.Len() == 0:
		c.scanned = limit
		c.ledger.Rise(limit)
		return c.begin()
	case c.scanned < limit:
		c.scan = c.span(c.scanned+1, limit)
	case c.gather():
		c.scan = c.span(c.back.next, c.scanned)
		c.scan.back = true
	default:
		return false
	}
	return true
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
// the tip, an interval between two checkpoints below.
func (c *Client) span(from, limit int32) *scan {
	s := &scan{start: from, from: from, stop: min(limit, from+header.Interval-1)}
	if c.o.Bloom {
		s.stop = min(limit, from+BloomSpan-1)
	} else if from <= c.filters.base {
		number := (from - 1) / header.Interval
		s.toMark = true
		s.start, s.stop = number*header.Interval+1, (number+1)*header.Interval
		s.prev = c.filters.marks[number]
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
	p := c.idle()
	if p == nil {
		return
	}
	if _, ok := c.hashAt(s.next); !ok {
		return
	}
	stop, ok := c.hashAt(s.stop)
	if !ok {
		return
	}
	c.ask(p, request{kind: forFilters, start: s.next, stop: s.stop, blocks: []chainhash.Hash{stop}}, wire.NewMsgGetCFilters(wire.GCSFilterRegular, uint32(s.next), &stop))
}

// filter takes one filter, which is proved before it is believed.
func (c *Client) filter(p *peer, msg *wire.MsgCFilter) {
	if p.answered(forVersion, c.now) {
		c.versionCame(p, msg)
		return
	}
	s := c.scan
	if !p.answered(forFilters, c.now) || s == nil {
		return
	}
	hash, ok := c.hashAt(s.next)
	if p.stale != (chainhash.Hash{}) && msg.BlockHash != hash {
		if msg.BlockHash == p.stale {
			p.stale = chainhash.Hash{}
		}
		return
	}
	if !ok || msg.BlockHash != hash {
		c.drop(p.name, true, "a filter of block %v; that of height %d, %v, was asked for", msg.BlockHash, s.next, hash)
		return
	}
	if s.toMark {
		s.prev = filter.Header(filter.Hash(msg.Data), s.prev)
		if s.next == s.stop && s.prev != c.filters.marks[s.stop/header.Interval] {
			c.scan = nil
			c.drop(p.name, true, "its filters of heights %d to %d do not lead to the checkpoint", s.start, s.stop)
			return
		}
	} else if want := c.filters.at(s.next); filter.Header(filter.Hash(msg.Data), c.filters.at(s.next-1)) != want {
		c.drop(p.name, true, "its filter at height %d is not the one that its header is of", s.next)
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

// read takes what matters of a block.
func (c *Client) read(h hit) {
	var ids []chainhash.Hash
	for i, t := range h.block.Transactions {
		if !c.matters(t) {
			continue
		}
		if ids == nil {
			for _, t := range h.block.Transactions {
				ids = append(ids, t.TxHash())
			}
		}
		c.found(ledger.Mined{Tx: t, ID: ids[i], Height: h.height, Index: int32(i), Branch: merkle.Prove(ids, i)})
	}
}

// found keeps a transaction that matters.
func (c *Client) found(m ledger.Mined) {
	if c.ledger.Size() > MaxMined {
		c.failed = fmt.Errorf("%w: watched scripts have %d bytes of transactions; the limit is %d", ErrFull, c.ledger.Size(), MaxMined)
		return
	}
	if c.ledger.Add(m) {
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
	if !s.back {
		c.scanned = s.stop
		c.ledger.Rise(s.stop)
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
