package rpc

import (
	"context"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/world/chain"
)

// round brings the ledger to the node's tip. Questions that are new since the
// last round want another ledger, from the beginning.
func (c *Client) round(ctx context.Context) error {
	c.mu.Lock()
	ledger, asked := c.ledger, c.asked
	c.mu.Unlock()
	fresh := ledger == nil || c.scanned < asked || c.astray // only this goroutine sets them
	if fresh {
		below, err := c.node.hash(ctx, c.options.From)
		if err != nil {
			return err
		}
		ledger = chain.NewLedgerAbove(c.options.From, below, MaxBlocks)
	}
	b, err := c.fetch(ctx, ledger)
	for moves := 1; errors.Is(err, errMoved) && moves < MaxMoves; moves++ {
		b, err = c.fetch(ctx, ledger)
	}
	if err != nil || b == nil && !fresh {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := b.adopt(ledger); err != nil {
		c.astray = true // it may hold half of the branch
		return fmt.Errorf("node %s: %w; or raise from=%d", c.options.Addr, err, c.options.From)
	}
	c.ledger = ledger
	if fresh {
		c.scanned, c.astray = asked, false
	}
	c.prune()
	c.bell.Ring()
	return nil
}

// prune forgets what was published and has been mined for good.
func (c *Client) prune() {
	kept := c.pending[:0]
	for _, p := range c.pending {
		if _, depth := c.ledger.Tx(p.id); depth < Settled {
			kept = append(kept, p)
		}
	}
	clear(c.pending[len(kept):])
	c.pending = kept
}

// A branch is what a ledger lacks of the best chain.
type branch struct {
	fork   int32 // height of the last block in common
	blocks []block
	txs    map[chainhash.Hash]*wire.MsgTx // of blocks
}

type block struct {
	hash chainhash.Hash
	txs  []chain.Mined // that matter
}

// adopt is called with the lock held, so nobody sees half a branch.
func (b *branch) adopt(l *chain.Ledger) error {
	if b == nil {
		return nil
	}
	for height, _ := l.Tip(); height > b.fork; height-- {
		l.Disconnect()
	}
	for _, one := range b.blocks {
		if err := l.ConnectSome(one.hash, one.txs); err != nil {
			return err
		}
	}
	return nil
}

var errMoved = errors.New("the best chain has changed while it was fetched")

// fetch returns what a ledger lacks, or nil.
func (c *Client) fetch(ctx context.Context, l *chain.Ledger) (*branch, error) {
	best, err := c.node.best(ctx)
	if err != nil {
		return nil, err
	}
	if _, hash := l.Tip(); best == hash {
		return nil, nil
	}
	height, err := c.node.height(ctx, best)
	if err != nil {
		return nil, err
	}
	if height-c.options.From > MaxBlocks {
		return nil, fmt.Errorf("%w: node %s is at height %d, and %d blocks are followed at most; or raise from=%d", chain.ErrTooLong, c.options.Addr, height, MaxBlocks, c.options.From)
	}
	fork, err := c.fork(ctx, l, height)
	if err != nil {
		return nil, err
	}
	b, prev := &branch{fork: fork, txs: map[chainhash.Hash]*wire.MsgTx{}}, l.Hash(fork)
	for h := fork + 1; h <= height; h++ {
		one, err := c.block(ctx, l, b, h, prev)
		if err != nil {
			return nil, err
		}
		prev = one.hash
		b.blocks = append(b.blocks, one)
	}
	if prev != best {
		return nil, errMoved
	}
	return b, nil
}

// fork is the height of the last block that a ledger has in common with the node.
func (c *Client) fork(ctx context.Context, l *chain.Ledger, height int32) (int32, error) {
	tip, _ := l.Tip()
	for h := min(tip, height); h >= c.options.From; h-- {
		theirs, err := c.node.hash(ctx, h)
		if err != nil || theirs == l.Hash(h) {
			return h, err
		}
	}
	c.astray = true
	return 0, fmt.Errorf("node %s: its block at height %d is not the one it was: lower from=%d, unless this is another chain now", c.options.Addr, c.options.From, c.options.From)
}

// block fetches what matters of the block at a height.
func (c *Client) block(ctx context.Context, l *chain.Ledger, b *branch, height int32, prev chainhash.Hash) (one block, err error) {
	one.hash, err = c.node.hash(ctx, height)
	switch {
	case noBlock(err):
		return one, errMoved // it was there a moment ago
	case err != nil || c.idle():
		return one, err
	}
	whole, err := c.node.block(ctx, one.hash)
	if err != nil {
		return one, err
	}
	if whole.Header.PrevBlock != prev {
		return one, errMoved
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, t := range whole.Transactions {
		if id := t.TxHash(); c.matters(t, id, l, b) {
			one.txs = append(one.txs, chain.Mined{Tx: t, Index: int32(i)})
			b.txs[id] = t
		}
	}
	return one, nil
}

// idle tells that nothing was asked yet, so no block needs to be read.
func (c *Client) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked == 0 && len(c.pending) == 0
}

// matters tells whether a transaction makes or spends a watched output, pays a
// script that was asked about or spends what paid it, or was published here.
func (c *Client) matters(t *wire.MsgTx, id chainhash.Hash, l *chain.Ledger, b *branch) bool {
	if c.ids[id] {
		return true
	}
	for _, p := range c.pending {
		if p.id == id {
			return true
		}
	}
	for _, out := range t.TxOut {
		if _, asked := c.scripts[string(out.PkScript)]; asked {
			return true
		}
	}
	for _, in := range t.TxIn {
		point := in.PreviousOutPoint
		if _, asked := c.points[point]; asked {
			return true
		}
		from := b.txs[point.Hash]
		if from == nil {
			from, _ = l.Tx(point.Hash)
		}
		if from == nil || int(point.Index) >= len(from.TxOut) {
			continue
		}
		if _, asked := c.scripts[string(from.TxOut[point.Index].PkScript)]; asked {
			return true
		}
	}
	return false
}
