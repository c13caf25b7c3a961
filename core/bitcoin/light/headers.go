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

// introduce asks a new peer for its headers, if nobody is being asked.
func (c *Client) introduce(p *peer) {
	if c.sync == "" {
		c.sync = p.name
		c.askHeaders(p, c.chain.Locator())
	}
}

// syncHeaders asks the next peer that has not said where its chain ends. One at
// a time, so that a long chain is fetched once.
func (c *Client) syncHeaders() {
	if c.sync != "" || c.deep != nil {
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
			if _, known := c.chain.Height(iv.Hash); !known && p.headersAsked == 0 {
				c.askHeaders(p, c.chain.Locator())
			}
		case wire.InvTypeTx, wire.InvTypeWitnessTx:
			c.announced(p, iv.Hash)
		}
	}
}

// headers takes headers that were asked for, or are announced.
func (c *Client) headers(p *peer, msg *wire.MsgHeaders) {
	asked := p.headersAsked != 0
	p.headersAsked = 0
	if c.deep != nil && c.deep.peer == p.name {
		c.rivals(p, msg)
		return
	}
	if len(msg.Headers) == 0 {
		c.caughtUp(p)
		return
	}
	news := make([]wire.BlockHeader, len(msg.Headers))
	for i, h := range msg.Headers {
		news[i] = *h
	}
	branch := news
	if n := len(p.branch); n > 0 && news[0].PrevBlock == p.branch[n-1].BlockHash() {
		branch = append(p.branch, news...)
	}
	p.branch = nil
	if len(branch) > MaxBranch {
		c.drop(p.name, false, "a branch of %d headers has less work than our chain; the limit is %d", len(branch), MaxBranch)
		return
	}
	fork, better, err := c.chain.Connect(branch, c.now)
	switch {
	case errors.Is(err, header.ErrOrphan):
		c.orphans(p, asked, news)
		return
	case err != nil:
		c.drop(p.name, lied(err), "%w", err)
		return
	case better:
		c.reorganised(fork)
	case !c.knows(branch[len(branch)-1]):
		p.branch = branch
	}
	p.orphans = 0
	if len(news) == wire.MaxBlockHeadersPerMsg {
		locator := c.chain.Locator()
		if last := news[len(news)-1].BlockHash(); len(p.branch) > 0 {
			locator = append([]chainhash.Hash{last}, locator...)
		}
		c.askHeaders(p, locator)
		return
	}
	if c.sync == "" || c.sync == p.name || p.current {
		c.caughtUp(p)
	}
}

// lied tells whether a header that is refused is a lie. That it is ahead of our
// clock may be our clock's fault.
func lied(err error) bool {
	var invalid *header.Invalid
	return errors.As(err, &invalid) && invalid.Rule != header.RuleFuture
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

// orphans asks for what comes before headers that follow nothing of ours. A
// chain that has nothing of our tail is a rival.
func (c *Client) orphans(p *peer, asked bool, news []wire.BlockHeader) {
	p.orphans++
	switch _, shared := c.chain.Height(news[0].PrevBlock); {
	case asked && shared && c.deep == nil:
		c.deep = &rival{peer: p.name, chain: header.New(c.o.Params)}
		c.askHeaders(p, c.deep.chain.Locator())
	case p.orphans > MaxOrphans:
		c.drop(p.name, false, "headers follow %v, which is not of our chain", news[0].PrevBlock)
	default:
		c.askHeaders(p, c.chain.Locator())
	}
}

// rivals takes headers of a chain that is judged beside ours.
func (c *Client) rivals(p *peer, msg *wire.MsgHeaders) {
	news := make([]wire.BlockHeader, len(msg.Headers))
	for i, h := range msg.Headers {
		news[i] = *h
	}
	if len(news) > 0 {
		if _, _, err := c.deep.chain.Connect(news, c.now); err != nil {
			c.drop(p.name, lied(err), "%w", err)
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

// reorganised follows a change of the chain above a height: what was known of
// blocks that are not in it any more is forgotten.
func (c *Client) reorganised(fork int32) {
	tip, _ := c.chain.Tip()
	c.filters.cut(fork)
	if c.dispute != nil && c.dispute.height > fork {
		c.dispute = nil
	}
	if c.disk != nil && c.disk.top() > fork {
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
	for _, s := range c.scripts {
		if s.next > fork+1 {
			c.rewind(s, fork+1)
		}
	}
	for _, p := range c.peers {
		p.marksFor, p.marks, p.hashes = 0, nil, nil
		switch r := p.request; {
		case r == nil:
		case r.kind == forBlocks, r.stop > fork && (r.kind == forMarks || r.kind == forHashes || r.kind == forVersion):
			p.request = nil // it may never be answered
		}
		if n := len(p.branch); n > 0 && c.knows(p.branch[n-1]) {
			p.branch = nil
		}
	}
	c.wanted = slices.DeleteFunc(c.wanted, func(w *wanted) bool { return w.height == 0 })
	for _, w := range c.wanted {
		w.known, w.peer = false, ""
	}
	c.storeHashes(fork, tip)
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
