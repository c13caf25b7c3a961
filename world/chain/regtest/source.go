package regtest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/mempool"
	"github.com/btcsuite/btcd/mining"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/world/chain"
)

var (
	_ chain.Source  = (*Node)(nil)
	_ chain.Blocker = (*Node)(nil)
)

// Status implements chain.Source.
func (n *Node) Status(_ context.Context, o watch.Output) (watch.Status, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ledger.Status(o), n.usable()
}

// Publish implements chain.Source.
func (n *Node) Publish(_ context.Context, t *wire.MsgTx) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.usable(); err != nil {
		return err
	}
	return n.submit(t, nil)
}

// Coins implements chain.Source.
func (n *Node) Coins(_ context.Context, script []byte) ([]watch.Coin, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ledger.Coins(script, n.poolTxs()), n.usable()
}

// Tip implements chain.Source.
func (n *Node) Tip(context.Context) (height int32, hash chainhash.Hash, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	height, hash = n.ledger.Tip()
	return height, hash, n.usable()
}

// Block implements chain.Blocker.
func (n *Node) Block(_ context.Context, height int32) (*wire.MsgBlock, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.usable(); err != nil {
		return nil, err
	}
	if tip, _ := n.ledger.Tip(); height < 0 || height > tip {
		return nil, fmt.Errorf("%w: %d is not from 0 to %d", chain.ErrNoBlock, height, tip)
	}
	b, err := n.chain.BlockByHeight(height)
	if err != nil {
		return nil, err
	}
	return b.MsgBlock(), nil
}

// Changed implements chain.Source.
func (n *Node) Changed() <-chan struct{} { return n.bell.Next() }

// Tx returns a transaction and its depth, 0 while it waits in the pool, or nil
// if neither chain nor pool has it.
func (n *Node) Tx(id chainhash.Hash) (t *wire.MsgTx, depth int32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t, depth := n.ledger.Tx(id); t != nil {
		return t, depth
	}
	if t, err := n.pool.FetchTransaction(&id); err == nil {
		return t.MsgTx(), 0
	}
	return nil, 0
}

// MempoolTxs lists what waits for a block, oldest first.
func (n *Node) MempoolTxs() []*wire.MsgTx {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.poolTxs()
}

// submit puts t into the pool and tells the peers, except the one it is from.
func (n *Node) submit(t *wire.MsgTx, from *remote) error {
	u := btcutil.NewTx(t)
	if known, _ := n.ledger.Tx(*u.Hash()); known != nil || n.pool.IsTransactionInPool(u.Hash()) {
		return nil
	}
	if have := n.pool.Count(); have >= MaxPool {
		return fmt.Errorf("%w: %d transactions wait already", chain.ErrRefused, have)
	}
	if _, err := n.pool.ProcessTransaction(u, false, true, 0); err != nil {
		if rule := (mempool.RuleError{}); errors.As(err, &rule) {
			return fmt.Errorf("%w: %v: %w", chain.ErrRefused, u.Hash(), err)
		}
		return err
	}
	n.announceTx(u, from)
	return nil
}

// waiting is the pool in the order it was filled, so parents before children.
func (n *Node) waiting() []*btcutil.Tx {
	descs := n.pool.MiningDescs()
	slices.SortFunc(descs, func(a, b *mining.TxDesc) int { return a.Added.Compare(b.Added) })
	all := make([]*btcutil.Tx, len(descs))
	for i, d := range descs {
		all[i] = d.Tx
	}
	return all
}

func (n *Node) poolTxs() []*wire.MsgTx {
	waiting := n.waiting()
	all := make([]*wire.MsgTx, len(waiting))
	for i, t := range waiting {
		all[i] = t.MsgTx()
	}
	return all
}

// Rules implements chain.Ruled.
func (n *Node) Rules() *chaincfg.Params { return Params() }

// Height implements chain.Heighter.
func (n *Node) Height(_ context.Context, hash chainhash.Hash) (height int32, known bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.usable(); err != nil {
		return 0, false, err
	}
	if height, err = n.chain.BlockHeightByHash(&hash); err != nil {
		return 0, false, nil // it is of another branch
	}
	return height, true, nil
}
