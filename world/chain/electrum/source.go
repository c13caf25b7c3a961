package electrum

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/world/chain"
)

// Tip implements chain.Source.
func (c *Client) Tip(context.Context) (height int32, hash chainhash.Hash, err error) {
	if c.ctx.Err() != nil {
		return 0, hash, chain.ErrClosed
	}
	c.mu.Lock()
	synced := c.synced
	height, hash = c.chain.Tip()
	c.mu.Unlock()
	if !synced {
		return 0, chainhash.Hash{}, fmt.Errorf("%w: %w", chain.ErrSyncing, c.trouble())
	}
	return height, hash, nil
}

// about asks about a script and returns with the mutex held, unless there is an
// error.
func (c *Client) about(ctx context.Context, what []byte) (*script, error) {
	if err := c.wait(ctx); err != nil {
		return nil, err
	}
	c.mu.Lock()
	s := c.enter(what)
	if s == nil {
		c.mu.Unlock()
		return nil, fmt.Errorf("%d scripts are asked about, which is the limit", MaxScripts)
	}
	for try := 0; !c.fresh(s); try++ {
		c.mu.Unlock()
		if try == MaxMoves {
			return nil, fmt.Errorf("%w: %w", chain.ErrSyncing, errMoved)
		}
		if err := c.refresh(ctx); err != nil {
			if c.ctx.Err() != nil {
				return nil, chain.ErrClosed
			}
			return nil, err
		}
		c.mu.Lock()
	}
	if err := s.trouble; err != nil {
		c.mu.Unlock()
		return nil, err
	}
	return s, nil
}

// enter is a script, or nil if there are too many. The mutex is held.
func (c *Client) enter(what []byte) *script {
	h := HashOf(what)
	s := c.scripts[h]
	if s == nil && len(c.scripts) < MaxScripts {
		s = &script{script: slices.Clone(what), hash: h, asked: 1}
		c.scripts[h] = s
	}
	return s
}

// Scan implements chain.Scanner: all of them are asked about with the next
// question.
func (c *Client) Scan(scripts []watch.Script) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range scripts {
		c.enter(s.Script)
	}
}

// wait gives the servers a moment to be there.
func (c *Client) wait(ctx context.Context) error {
	late := time.NewTimer(AnswerWait)
	defer late.Stop()
	for {
		changed := c.bell.Next()
		if c.ctx.Err() != nil {
			return chain.ErrClosed
		}
		there := len(c.ready())
		if there >= c.options.Quorum {
			return nil
		}
		missing := fmt.Errorf("%w: %d of %d Electrum servers are there, and %d must: %w", chain.ErrSyncing, there, len(c.remotes), c.options.Quorum, c.trouble())
		if !c.untried() {
			return missing
		}
		select {
		case <-changed:
		case <-late.C:
			return missing
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Status implements chain.Source. An output that does not pay o.Script is not
// there. Without a script, the script is that of the transaction, if a server
// knows it.
func (c *Client) Status(ctx context.Context, o watch.Output) (watch.Status, error) {
	none := watch.Status{Point: o.Point}
	what := o.Script
	if len(what) == 0 {
		var err error
		if what, err = c.scriptOf(ctx, o.Point); err != nil {
			return none, err
		}
	}
	if len(what) == 0 {
		tip, _, err := c.Tip(ctx)
		none.Tip = tip
		return none, err
	}
	s, err := c.about(ctx, what)
	if err != nil {
		return none, err
	}
	defer c.mu.Unlock()
	tip, _ := c.chain.Tip()
	none.Tip = tip
	p, ok := s.find(o.Point)
	if !ok {
		return none, nil
	}
	status := watch.Status{
		Point: o.Point, Tip: tip, Depth: tip - p.height + 1, Index: int32(p.branch.Index),
		Value: p.tx.TxOut[o.Point.Index].Value,
	}
	for _, p := range s.proven {
		if spends(p.tx, o.Point) {
			status.Spender, status.SpendDepth = p.tx, tip-p.height+1
		}
	}
	return status, nil
}

// find is the transaction of an output that pays the script.
func (s *script) find(o wire.OutPoint) (proven, bool) {
	for _, p := range s.proven {
		if p.id == o.Hash && int(o.Index) < len(p.tx.TxOut) && string(p.tx.TxOut[o.Index].PkScript) == string(s.script) {
			return p, true
		}
	}
	return proven{}, false
}

func spends(t *wire.MsgTx, o wire.OutPoint) bool {
	return slices.ContainsFunc(t.TxIn, func(in *wire.TxIn) bool { return in.PreviousOutPoint == o })
}

// scriptOf is the script of an output, or nothing if no server knows it.
func (c *Client) scriptOf(ctx context.Context, o wire.OutPoint) ([]byte, error) {
	if err := c.wait(ctx); err != nil {
		return nil, err
	}
	c.mu.Lock()
	t := c.txs[o.Hash]
	c.mu.Unlock()
	for _, r := range c.ready() {
		conn := r.connection()
		if t != nil || conn == nil {
			continue
		}
		err := r.timed(func(ctx context.Context) (err error) {
			var text string
			if err = conn.call(ctx, &text, methodTx, o.Hash.String()); err == nil {
				t, err = conn.parseTx(o.Hash, text)
			}
			return err
		})
		if lied(err) {
			conn.close(err)
		}
	}
	if t == nil || int(o.Index) >= len(t.TxOut) {
		return nil, nil
	}
	return t.TxOut[o.Index].PkScript, nil
}

// Coins implements chain.Source. Each has its transaction and, with a depth, its
// proof. What waits for a block is the servers' word.
func (c *Client) Coins(ctx context.Context, what []byte) ([]watch.Coin, error) {
	s, err := c.about(ctx, what)
	if err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	tip, _ := c.chain.Tip()
	waiting := c.waiting(s)
	taken := map[wire.OutPoint]bool{}
	note := func(t *wire.MsgTx) {
		for _, in := range t.TxIn {
			taken[in.PreviousOutPoint] = true
		}
	}
	for _, p := range s.proven {
		note(p.tx)
	}
	for _, t := range waiting {
		note(t)
	}
	var coins []watch.Coin
	add := func(id chainhash.Hash, t *wire.MsgTx, of watch.Coin) {
		for i, out := range t.TxOut {
			point := wire.OutPoint{Hash: id, Index: uint32(i)}
			if string(out.PkScript) == string(what) && !taken[point] {
				of.Coin = tx.Coin{Point: point, Value: out.Value}
				coins = append(coins, of)
			}
		}
	}
	for _, p := range s.proven {
		proof := merkle.Proof{Height: p.height, Branch: p.branch}
		add(p.id, p.tx, watch.Coin{Depth: tip - p.height + 1, Coinbase: p.branch.Index == 0, Tx: p.tx, Proof: &proof})
	}
	for _, t := range waiting {
		add(t.TxHash(), t, watch.Coin{Tx: t})
	}
	return coins, nil
}

// waiting is what servers say waits, and what was published here a moment ago and
// they may not show yet. The mutex is held.
func (c *Client) waiting(s *script) []*wire.MsgTx {
	all := slices.Clone(s.waiting)
	spent := map[wire.OutPoint]bool{}
	ids := map[chainhash.Hash]bool{}
	for _, p := range s.proven {
		ids[p.id] = true
		for _, in := range p.tx.TxIn {
			spent[in.PreviousOutPoint] = true
		}
	}
	for _, t := range all {
		ids[t.TxHash()] = true
	}
	for _, p := range c.pending {
		conflict := slices.ContainsFunc(p.tx.TxIn, func(in *wire.TxIn) bool { return spent[in.PreviousOutPoint] })
		if !ids[p.id] && !conflict && time.Since(p.when) < Grace {
			all = append(all, p.tx)
		}
	}
	return all
}

// Publish implements chain.Source: every server gets the transaction, and one
// that takes it is enough.
func (c *Client) Publish(ctx context.Context, t *wire.MsgTx) error {
	if size := t.SerializeSize(); size > tx.MaxSize {
		return fmt.Errorf("%w: it is %d bytes; the limit is %d", chain.ErrRefused, size, tx.MaxSize)
	}
	if err := c.wait(ctx); err != nil {
		return err
	}
	id, raw := t.TxHash(), hex.EncodeToString(tx.Bytes(t))
	remotes := c.ready()
	errs := make([]error, len(remotes))
	var sending sync.WaitGroup
	for i, r := range remotes {
		sending.Go(func() { errs[i] = r.publish(id, raw) })
	}
	sending.Wait()
	if !slices.Contains(errs, nil) {
		return refused(id, errs)
	}
	c.mu.Lock()
	c.pending = slices.DeleteFunc(c.pending, func(p published) bool { return p.id == id || time.Since(p.when) > Grace })
	if len(c.pending) == MaxPending {
		c.pending = slices.Delete(c.pending, 0, 1)
	}
	c.pending = append(c.pending, published{id, t.Copy(), time.Now()})
	for _, s := range c.scripts {
		s.asked++
	}
	c.mu.Unlock()
	c.bell.Ring()
	return nil
}

// refused is a refusal if a server has refused, and else leaves it open.
func refused(id chainhash.Hash, errs []error) error {
	all := errors.Join(errs...)
	if errors.As(all, new(*Fault)) {
		return fmt.Errorf("%w: %v: %w", chain.ErrRefused, id, all)
	}
	return fmt.Errorf("publish %v: %w", id, all)
}

// publish hands a transaction to one server. A server refuses what it has
// already, in words of its own.
func (r *remote) publish(id chainhash.Hash, raw string) error {
	conn := r.connection()
	if conn == nil {
		return fmt.Errorf("server %s is gone", r.address.Host)
	}
	err := r.timed(func(ctx context.Context) error {
		var got string
		if err := conn.call(ctx, &got, methodBroadcast, raw); err != nil {
			return err
		}
		if h, err := parseHash(got); err != nil || h != id {
			return conn.lie(BadTx, "the id of a broadcast transaction", fmt.Sprintf("it is %v", id))
		}
		return nil
	})
	if errors.As(err, new(*Fault)) {
		has := r.timed(func(ctx context.Context) error {
			var text string
			if err := conn.call(ctx, &text, methodTx, id.String()); err != nil {
				return err
			}
			_, err := conn.parseTx(id, text)
			return err
		})
		if has == nil {
			return nil
		}
	}
	if lied(err) {
		conn.close(err)
	}
	return err
}

// Prove implements chain.Prover. ErrNoProof says that the best chain has no such
// output.
func (c *Client) Prove(ctx context.Context, point wire.OutPoint) (*wire.MsgTx, merkle.Proof, error) {
	what, err := c.scriptOf(ctx, point)
	if err != nil {
		return nil, merkle.Proof{}, err
	}
	if len(what) == 0 {
		return nil, merkle.Proof{}, fmt.Errorf("%w: %v", ErrNoProof, point)
	}
	s, err := c.about(ctx, what)
	if err != nil {
		return nil, merkle.Proof{}, err
	}
	defer c.mu.Unlock()
	p, ok := s.find(point)
	if !ok {
		return nil, merkle.Proof{}, fmt.Errorf("%w: %v", ErrNoProof, point)
	}
	return p.tx, merkle.Proof{Height: p.height, Branch: p.branch}, nil
}

// Header implements chain.Headerer. An old one is asked for again, and proven.
func (c *Client) Header(ctx context.Context, height int32) (wire.BlockHeader, error) {
	tip, _, err := c.Tip(ctx)
	if err != nil {
		return wire.BlockHeader{}, err
	}
	if height < 0 || height > tip {
		return wire.BlockHeader{}, fmt.Errorf("%w: %d is not from 0 to %d", chain.ErrNoBlock, height, tip)
	}
	c.mu.Lock()
	h, kept := c.chain.At(height)
	c.mu.Unlock()
	if kept {
		return h, nil
	}
	err = fmt.Errorf("%w: %w", chain.ErrSyncing, c.trouble())
	for _, r := range c.ready() {
		if conn := r.connection(); conn != nil {
			if h, _, err = r.headerAt(conn, height); err == nil {
				return h, nil
			}
			if lied(err) {
				conn.close(err)
			}
		}
	}
	return h, err
}
