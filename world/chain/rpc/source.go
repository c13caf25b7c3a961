package rpc

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/world/chain"
)

var (
	_ chain.Source  = (*Client)(nil)
	_ chain.Blocker = (*Client)(nil)
)

// Status implements chain.Source.
func (c *Client) Status(ctx context.Context, o watch.Output) (watch.Status, error) {
	if err := c.wait(ctx, func() (uint64, error) {
		n, err := ask(c, c.points, o.Point)
		c.ids[o.Point.Hash] = err == nil || c.ids[o.Point.Hash]
		return n, err
	}); err != nil {
		return watch.Status{Point: o.Point}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ledger.Status(o), nil
}

// Coins implements chain.Source. Of what waits for a block it knows only what
// was published here, while the node has it.
func (c *Client) Coins(ctx context.Context, script []byte) ([]watch.Coin, error) {
	if err := c.wait(ctx, func() (uint64, error) { return ask(c, c.scripts, string(script)) }); err != nil {
		return nil, err
	}
	c.mu.Lock()
	waiting := c.unmined(c.pending)
	c.mu.Unlock()
	var still []published
	for _, p := range waiting {
		has, err := c.node.has(ctx, p.tx)
		if err != nil {
			return nil, err
		}
		if has {
			still = append(still, p)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var txs []*wire.MsgTx
	for _, p := range c.unmined(still) { // a block may have come meanwhile
		txs = append(txs, p.tx)
	}
	return c.ledger.Coins(script, txs), nil
}

func (c *Client) unmined(all []published) (waiting []published) {
	for _, p := range all {
		if mined, _ := c.ledger.Tx(p.id); mined == nil {
			waiting = append(waiting, p)
		}
	}
	return waiting
}

// ask returns the number of a question, which is a new one if nobody has asked
// it before.
func ask[K comparable](c *Client, known map[K]uint64, what K) (uint64, error) {
	if n, ok := known[what]; ok {
		return n, nil
	}
	if len(c.points)+len(c.scripts) >= MaxInterest {
		return 0, fmt.Errorf("%d outputs and scripts are asked about, which is the limit", MaxInterest)
	}
	c.asked++
	known[what] = c.asked
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return c.asked, nil
}

// wait asks a question and waits until the ledger answers it.
func (c *Client) wait(ctx context.Context, ask func() (uint64, error)) error {
	c.mu.Lock()
	n, err := ask()
	c.mu.Unlock()
	if err != nil {
		return err
	}
	late := time.NewTimer(ScanWait)
	defer late.Stop()
	for {
		changed := c.bell.Next()
		hopeless, err := c.ready(n)
		if err == nil || hopeless {
			return err
		}
		select {
		case <-changed:
		case <-late.C:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ready tells why a question cannot be answered, or nil. It is hopeless if it
// makes no sense to wait a moment.
func (c *Client) ready(n uint64) (hopeless bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ctx.Err() != nil:
		return true, chain.ErrClosed
	case errors.Is(c.trouble, chain.ErrTooLong):
		return true, c.trouble
	case c.ledger != nil && c.scanned >= n:
		return false, nil
	case c.trouble != nil:
		return true, fmt.Errorf("%w: %w", chain.ErrSyncing, c.trouble)
	}
	return false, fmt.Errorf("%w: node %s is asked for the blocks above height %d", chain.ErrSyncing, c.options.Addr, c.options.From)
}

// Tip implements chain.Source.
func (c *Client) Tip(context.Context) (height int32, hash chainhash.Hash, err error) {
	if _, err := c.ready(0); err != nil {
		return 0, hash, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	height, hash = c.ledger.Tip()
	return height, hash, nil
}

// Block implements chain.Blocker: it asks the node, because only what matters is
// kept of a block.
func (c *Client) Block(ctx context.Context, height int32) (*wire.MsgBlock, error) {
	hash, err := c.node.hash(ctx, height)
	switch {
	case noBlock(err):
		return nil, fmt.Errorf("%w: %w", chain.ErrNoBlock, err)
	case err != nil:
		return nil, err
	}
	return c.node.block(ctx, hash)
}

// Changed implements chain.Source. It also tells that a question can be answered
// which could not.
func (c *Client) Changed() <-chan struct{} { return c.bell.Next() }

// Publish implements chain.Source. Whether the node sends the transaction again
// is up to the node.
func (c *Client) Publish(ctx context.Context, t *wire.MsgTx) error {
	if c.ctx.Err() != nil {
		return chain.ErrClosed
	}
	if size := t.SerializeSize(); size > tx.MaxSize {
		return fmt.Errorf("%w: it is %d bytes; the limit is %d", chain.ErrRefused, size, tx.MaxSize)
	}
	p := published{t.TxHash(), t}
	if c.remember(p) {
		return nil
	}
	err := c.node.call(ctx, "sendrawtransaction", new(string), hex.EncodeToString(tx.Bytes(t)))
	if !refusal(err) {
		return err
	}
	// A node refuses what it has already, each kind in words of its own.
	if has, _ := c.node.has(ctx, t); has {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = slices.DeleteFunc(c.pending, func(other published) bool { return other.id == p.id })
	return fmt.Errorf("%w: %v: %w", chain.ErrRefused, p.id, err)
}

// remember has a transaction looked for in blocks and listed by Coins, unless it
// is mined already. Of too many the oldest is forgotten.
func (c *Client) remember(p published) (mined bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ledger != nil {
		if t, _ := c.ledger.Tx(p.id); t != nil {
			return true
		}
	}
	if slices.ContainsFunc(c.pending, func(other published) bool { return other.id == p.id }) {
		return false
	}
	if len(c.pending) == MaxPending {
		c.pending = slices.Delete(c.pending, 0, 1)
	}
	p.tx = p.tx.Copy()
	c.pending = append(c.pending, p)
	return false
}
