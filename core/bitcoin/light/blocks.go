package light

import (
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/step"
)

var (
	// ErrOlder is what a caller is told who wants a block below the birthday.
	ErrOlder = errors.New("the block is older than what this client keeps")
	// ErrAbove is what a caller is told who wants a block above the tip.
	ErrAbove = errors.New("there is no block at this height yet")
	// ErrFull means the scripts that are watched are too busy for a light client.
	ErrFull = errors.New("too much happens to the watched scripts")
	// ErrBusy means that callers wait for as many blocks as there may be.
	ErrBusy = fmt.Errorf("%d blocks are being fetched already", MaxWanted)
)

// wanted is a block that is to be fetched, for a scan or a dispute (height 0) or
// a caller.
type wanted struct {
	height int32 // as the caller gave it
	at     int32 // its height
	hash   chainhash.Hash
	known  bool // hash is
	peer   string
}

// want fetches a block for a caller.
func (c *Client) want(height int32) {
	tip, _ := c.chain.Tip()
	switch {
	case height == 0:
		c.give(0, c.o.Params.GenesisBlock, nil)
	case height > tip:
		c.give(height, nil, ErrAbove)
	case height < 0 || height < (c.o.Birthday-1)/header.Interval*header.Interval && height < c.chain.Base():
		c.give(height, nil, ErrOlder)
	case len(c.wanted) >= MaxWanted:
		c.give(height, nil, ErrBusy)
	default:
		c.wanted = append(c.wanted, &wanted{height: height, at: height})
	}
}

func (c *Client) give(height int32, b *wire.MsgBlock, err error) {
	c.fx.Done = append(c.fx.Done, step.Outcome{ID: WantID(height), Value: b, Err: err})
}

// need fetches a block for ourselves.
func (c *Client) need(hash chainhash.Hash, height int32) {
	if !slices.ContainsFunc(c.wanted, func(w *wanted) bool { return w.height == 0 && w.hash == hash }) {
		c.wanted = append(c.wanted, &wanted{at: height, hash: hash, known: true})
	}
}

// unneed no longer wants the blocks of a range that is given up.
func (c *Client) unneed() {
	c.wanted = slices.DeleteFunc(c.wanted, func(w *wanted) bool {
		return w.height == 0 && (c.dispute == nil || w.hash != c.dispute.hash)
	})
}

// fetchWanted asks idle peers for the blocks that nobody was asked for.
func (c *Client) fetchWanted() {
	tip, _ := c.chain.Tip()
	c.wanted = slices.DeleteFunc(c.wanted, func(w *wanted) bool {
		if w.at > tip {
			c.give(w.height, nil, ErrAbove) // the chain got shorter
			return true
		}
		return false
	})
	for _, w := range c.wanted {
		if !w.known {
			w.hash, w.known = c.hashOf(w.height, false)
		}
	}
	for _, p := range c.sorted() {
		if p.request != nil {
			continue
		}
		ask, r := &wire.MsgGetData{}, request{kind: forBlocks}
		for _, w := range c.wanted {
			if !w.known || w.peer != "" || !p.has(w.at) || len(r.blocks) == MaxAtOnce {
				continue
			}
			w.peer = p.name
			if !slices.Contains(r.blocks, w.hash) {
				r.blocks = append(r.blocks, w.hash)
				ask.InvList = append(ask.InvList, wire.NewInvVect(wire.InvTypeWitnessBlock, &w.hash))
			}
		}
		if len(r.blocks) > 0 {
			c.ask(p, r, ask)
		}
	}
}

// block takes a block that was asked for. Its header must be the one that we
// know, and its transactions those of the header.
func (c *Client) block(p *peer, b *wire.MsgBlock) {
	hash := b.BlockHash()
	if p.request == nil || !slices.Contains(p.request.blocks, hash) || !p.answered(forBlocks, c.now) {
		return
	}
	if err := merkle.CheckBlock(b); err != nil {
		c.drop(p.name, true, "%w", err)
		return
	}
	p.left = false
	p.request.blocks = slices.DeleteFunc(p.request.blocks, func(h chainhash.Hash) bool { return h == hash })
	if len(p.request.blocks) == 0 {
		p.request = nil
	}
	c.wanted = slices.DeleteFunc(c.wanted, func(w *wanted) bool {
		if !w.known || w.hash != hash {
			return false
		}
		if w.height != 0 {
			c.give(w.height, b, nil)
		}
		return true
	})
	if d := c.dispute; d != nil && d.hash == hash {
		d.block = b
	}
	if c.scan != nil {
		for i := range c.scan.hits {
			if c.scan.hits[i].hash == hash {
				c.scan.hits[i].block = b
			}
		}
	}
}

// released has what a peer was asked for asked of another.
func (c *Client) released(p *peer) {
	for _, w := range c.wanted {
		if w.peer == p.name {
			w.peer = ""
		}
	}
}

// notFound is a peer that has not what it was asked for.
func (c *Client) notFound(p *peer, msg *wire.MsgNotFound) {
	for _, iv := range msg.InvList {
		switch iv.Type &^ wire.InvWitnessFlag {
		case wire.InvTypeTx:
			c.unknown(p, iv.Hash)
		case wire.InvTypeBlock, wire.InvTypeFilteredBlock:
			if p.request == nil || !slices.Contains(p.request.blocks, iv.Hash) {
				continue
			}
			if height, ok := c.owed(p, iv.Hash); ok && !p.left {
				c.left(p, height)
				return
			}
			c.drop(p.name, false, "it has not block %v, which is of its chain", iv.Hash)
			return
		}
	}
}

// owed is the height of a block that a peer was asked for.
func (c *Client) owed(p *peer, hash chainhash.Hash) (height int32, ok bool) {
	if s, t := c.answering(p); t != nil {
		i := slices.Index(s.hashes, hash)
		return s.start + int32(i), i >= 0
	}
	for _, w := range c.wanted {
		if w.peer == p.name && w.hash == hash {
			return w.at, true
		}
	}
	return 0, false
}

// left is a peer that has not a block of ours: it may have left our chain, which
// its headers will tell, but not twice in a row.
func (c *Client) left(p *peer, height int32) {
	p.left, p.request = true, nil
	c.released(p)
	p.best = min(p.best, height-1)
	if p.headersAsked == 0 {
		locator := c.chain.Locator()
		c.askHeaders(p, locator[min(1, len(locator)-1):])
	}
}
