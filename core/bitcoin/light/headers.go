package light

import (
	"errors"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/step"
)

// A rival is a chain that leaves ours below the tail: it is judged from the
// first block on, beside ours, and takes its place if it ends with more work.
// There is one at a time, and who offers one in vain is dropped.
type rival struct {
	peer  string
	chain *header.Chain
}

// introduce asks a new peer for its headers, if nobody is being asked. It is asked
// from below our tip on, so that a peer that has the tip shows it.
func (c *Client) introduce(p *peer) {
	if c.sync == "" {
		c.sync = p.name
		locator := c.chain.Locator()
		c.askHeaders(p, locator[min(1, len(locator)-1):])
	}
}

// syncHeaders asks the next peer that has not said where its chain ends. One at
// a time, so that a long chain is fetched once.
func (c *Client) syncHeaders() {
	if c.sync != "" {
		return
	}
	for _, p := range c.sorted() {
		if !p.current && p.headersAsked == 0 {
			c.introduce(p)
			return
		}
	}
}

func (c *Client) askHeaders(p *peer, locator []chainhash.Hash) {
	ask := wire.NewMsgGetHeaders()
	ask.ProtocolVersion = wire.FeeFilterVersion
	for i := range locator[:min(len(locator), wire.MaxBlockLocatorsPerMsg)] {
		ask.BlockLocatorHashes = append(ask.BlockLocatorHashes, &locator[i])
	}
	p.headersAsked = c.now
	c.send(p.name, ask)
}

// inventory asks for the header of a block that is announced without one.
func (c *Client) inventory(p *peer, msg *wire.MsgInv) {
	for _, iv := range msg.InvList {
		switch iv.Type {
		case wire.InvTypeBlock, wire.InvTypeWitnessBlock:
			if height, known := c.chain.Height(iv.Hash); known {
				p.best = max(p.best, height)
			} else if p.headersAsked == 0 {
				c.askHeaders(p, c.chain.Locator())
			}
		case wire.InvTypeTx, wire.InvTypeWitnessTx:
			c.announced(p, iv.Hash)
		}
	}
}

// headers takes headers that were asked for, or are announced.
func (c *Client) headers(p *peer, msg *wire.MsgHeaders) {
	if c.oldHeaders(p, msg) {
		return
	}
	asked := p.headersAsked
	p.headersAsked = 0
	news := make([]wire.BlockHeader, len(msg.Headers))
	for i, h := range msg.Headers {
		news[i] = *h
	}
	if c.deep != nil && c.deep.peer == p.name {
		c.rivals(p, asked, news)
		return
	}
	if len(news) == 0 {
		c.caughtUp(p)
		return
	}
	branch, full := news, len(news) == wire.MaxBlockHeadersPerMsg
	if n := len(p.branch); n > 0 && news[0].PrevBlock == p.branch[n-1].BlockHash() {
		branch = append(p.branch, news...)
	}
	p.branch = nil
	was, _ := c.chain.Tip()
	kept := c.hashesBefore(branch)
	fork, better, err := c.chain.Connect(branch, c.now)
	if errors.Is(err, header.ErrOrphan) {
		c.orphans(p, asked != 0, news)
		return
	}
	if err != nil {
		c.drop(p.name, true, "%w", err)
		return
	}
	height, known := c.chain.Height(branch[len(branch)-1].BlockHash())
	switch {
	case better:
		c.reorganised(fork, was, kept)
		p.best, p.orphans = height, 0
	case known:
		p.best = max(p.best, height)
		if full {
			p.orphans++ // nothing new in the longest message there is
		}
	case len(branch) > MaxBranch:
		c.outgrown(p, asked != 0, len(branch))
		return
	default:
		p.branch, p.orphans = branch, 0
	}
	switch {
	case p.orphans > MaxOrphans:
		c.drop(p.name, false, "it sends the same %d headers again and again", len(news))
	case full:
		locator := c.chain.Locator()
		if last := news[len(news)-1].BlockHash(); len(p.branch) > 0 {
			locator = append([]chainhash.Hash{last}, locator...)
		}
		c.askHeaders(p, locator)
	case c.sync == "" || c.sync == p.name || p.current:
		c.caughtUp(p)
	}
}

func (c *Client) knows(h wire.BlockHeader) bool {
	_, known := c.chain.Height(h.BlockHash())
	return known
}

// caughtUp notes that a peer has no more headers for us.
func (c *Client) caughtUp(p *peer) {
	p.current = true
	if c.sync == p.name {
		c.sync = ""
	}
}

// outgrown is a branch with less work than our chain that is longer than what is
// kept of one. It may be better in the end, so it is judged as a rival.
func (c *Client) outgrown(p *peer, asked bool, length int) {
	if !asked || c.deep != nil {
		c.drop(p.name, false, "a branch of %d headers has less work than our chain; the limit is %d", length, MaxBranch)
		return
	}
	c.oppose(p)
}

// oppose judges a peer's chain beside ours. Meanwhile others are asked for theirs.
func (c *Client) oppose(p *peer) {
	c.deep = &rival{peer: p.name, chain: header.New(c.o.Params)}
	if c.sync == p.name {
		c.sync = ""
	}
	c.askHeaders(p, c.deep.chain.Locator())
}

// orphans asks for what comes before headers that follow nothing of ours. A
// chain that has nothing of our tail is a rival.
func (c *Client) orphans(p *peer, asked bool, news []wire.BlockHeader) {
	p.orphans++
	switch _, shared := c.chain.Height(news[0].PrevBlock); {
	case asked && shared && c.deep == nil:
		c.oppose(p)
	case p.orphans > MaxOrphans:
		c.drop(p.name, false, "headers follow %v, which is not of our chain", news[0].PrevBlock)
	default:
		c.askHeaders(p, c.chain.Locator())
	}
}

// rivals takes headers of a chain that is judged beside ours.
func (c *Client) rivals(p *peer, asked step.Time, news []wire.BlockHeader) {
	if len(news) > 0 {
		_, better, err := c.deep.chain.Connect(news, c.now)
		switch {
		case errors.Is(err, header.ErrOrphan):
			p.headersAsked = asked // a new block is announced meanwhile
			return
		case err != nil:
			c.drop(p.name, true, "%w", err)
			return
		case !better:
			c.drop(p.name, false, "its %d headers lead nowhere", len(news))
			return
		}
	}
	if len(news) == wire.MaxBlockHeadersPerMsg {
		c.askHeaders(p, c.deep.chain.Locator())
		return
	}
	theirs := c.deep.chain
	c.deep = nil
	if theirs.Work().Cmp(c.chain.Work()) <= 0 {
		height, hash := theirs.Tip()
		c.drop(p.name, false, "its chain ends at height %d in %v and has less work than ours", height, hash)
		return
	}
	c.restart()
	c.introduce(p) // once more, now for good: its headers were judged and not kept
}

// hashesBefore is the hashes of our tail before a branch is connected that is so
// long that the tail may lose some of an interval that is not on disk yet.
func (c *Client) hashesBefore(branch []wire.BlockHeader) (kept interval) {
	if len(branch) <= header.Tail-header.Interval {
		return kept
	}
	kept.first = c.chain.Base()
	tip, _ := c.chain.Tip()
	for h := kept.first; h <= tip; h++ {
		hash, _ := c.chain.Hash(h)
		kept.hashes = append(kept.hashes, hash)
	}
	return kept
}

// reorganised follows a change of the chain above a height. was is the tip's
// before it, kept are hashes that the tail may have lost.
func (c *Client) reorganised(fork, was int32, kept interval) {
	if fork < was {
		c.undo(fork)
	}
	for _, p := range c.peers {
		if n := len(p.branch); n > 0 && c.knows(p.branch[n-1]) {
			p.best, _ = c.chain.Height(p.branch[n-1].BlockHash())
			p.branch = nil
		}
	}
	tip, _ := c.chain.Tip()
	c.storeHashes(fork, tip, kept)
}

// undo forgets what was known of blocks above a height, which are not in the
// chain any more.
func (c *Client) undo(fork int32) {
	c.filters.cut(fork)
	c.undoDoubt(fork)
	if c.dispute != nil && c.dispute.height > fork {
		c.dispute = nil
	}
	if c.disk != nil && c.disk.first+header.Interval > fork {
		c.disk = nil
	}
	c.stopScan(fork)
	if c.scanned > fork {
		c.scanned = max(fork, c.o.Birthday-1, 0)
		for _, m := range c.ledger.Cut(fork) {
			c.forget(m)
		}
	}
	c.ledger.Rise(c.scanned)
	above := func(height int32) bool { return height > fork }
	c.reread, c.suspect = slices.DeleteFunc(c.reread, above), slices.DeleteFunc(c.suspect, above)
	for _, s := range c.scripts {
		if s.next > min(fork+1, c.scanned) {
			c.rewind(s, max(fork+1, s.since))
		}
	}
	for _, p := range c.peers {
		p.best, p.word, p.differs = min(p.best, fork), min(p.word, fork), 0
		p.vetted = min(p.vetted, len(c.filters.marks))
		p.marksFor, p.marks, p.hashes = 0, nil, nil
		if r := p.request; r != nil && (r.kind == forBlocks || r.stop > fork && r.kind != forFilters && r.kind != forBloom) {
			p.excuse()
		}
	}
	c.wanted = slices.DeleteFunc(c.wanted, func(w *wanted) bool { return w.height == 0 })
	for _, w := range c.wanted {
		w.known, w.peer = false, ""
	}
}

// Stale tells whether the tip is so old that the machine may have been cut off
// from the chain. A chain whose blocks cost nothing has no pace.
func (c *Client) Stale(now step.Time) bool {
	if c.o.Params.PoWNoRetargeting {
		return false
	}
	tip, _ := c.chain.Tip()
	h, _ := c.chain.At(tip)
	return now-step.Time(h.Timestamp.UnixMilli()) > StaleAfter
}
