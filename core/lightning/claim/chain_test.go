package claim_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
)

// A chain is a small Bitcoin: blocks, a mempool with BIP 125, the script engine,
// lock times (BIP 65, 68, 112), and no money out of nothing.
type chain struct {
	testing.TB
	base    int32 // height of the block before blocks[0]
	blocks  [][]*wire.MsgTx
	coins   map[wire.OutPoint]coin // unspent and spent
	spends  map[wire.OutPoint]spent
	gifts   map[wire.OutPoint]coin // coins from nowhere
	mempool []*wire.MsgTx
	refused []error                // of broadcasts
	stuck   func(*wire.MsgTx) bool // transactions that miners do not take
	sent    int
}

type coin struct {
	*wire.TxOut
	height int32
}

type spent struct {
	by     *wire.MsgTx
	height int32
}

func newChain(t testing.TB, height int32) *chain {
	c := &chain{TB: t, base: height, gifts: map[wire.OutPoint]coin{}, stuck: func(*wire.MsgTx) bool { return false }}
	c.replay()
	return c
}

func (c *chain) tip() int32 { return c.base + int32(len(c.blocks)) }

// replay rebuilds the set of coins from the blocks.
func (c *chain) replay() {
	c.coins, c.spends = map[wire.OutPoint]coin{}, map[wire.OutPoint]spent{}
	for p, g := range c.gifts {
		c.coins[p] = g
	}
	for i, block := range c.blocks {
		for _, t := range block {
			c.apply(t, c.base+1+int32(i))
		}
	}
}

func (c *chain) apply(t *wire.MsgTx, height int32) {
	for _, in := range t.TxIn {
		c.spends[in.PreviousOutPoint] = spent{t, height}
	}
	for i, o := range t.TxOut {
		c.coins[wire.OutPoint{Hash: t.TxHash(), Index: uint32(i)}] = coin{o, height}
	}
}

// gift makes a coin from nowhere.
func (c *chain) gift(name string, out *wire.TxOut) wire.OutPoint {
	p := wire.OutPoint{Hash: sha256.Sum256([]byte(name))}
	c.gifts[p] = coin{out, c.base}
	c.coins[p] = c.gifts[p]
	return p
}

// valid says what is wrong with t in the next block; more are transactions not
// mined yet. It returns the fee.
func (c *chain) valid(t *wire.MsgTx, more []*wire.MsgTx) (fee int64, err error) {
	next := c.tip() + 1
	fetch := txscript.NewMultiPrevOutFetcher(nil)
	isFinal := true
	for i, in := range t.TxIn {
		from, ok := c.find(in.PreviousOutPoint, more)
		if !ok {
			return 0, fmt.Errorf("input %d spends nothing", i)
		}
		if _, gone := c.spends[in.PreviousOutPoint]; gone {
			return 0, fmt.Errorf("input %d is spent", i)
		}
		if seq := in.Sequence; seq&(1<<31) == 0 && next < from.height+int32(seq&0xffff) {
			return 0, fmt.Errorf("input %d waits %d blocks", i, seq&0xffff)
		}
		isFinal = isFinal && in.Sequence == wire.MaxTxInSequenceNum
		fetch.AddPrevOut(in.PreviousOutPoint, from.TxOut)
		fee += from.Value
	}
	if !isFinal && t.LockTime < txscript.LockTimeThreshold && int32(t.LockTime) >= next {
		return 0, fmt.Errorf("it waits for block %d", t.LockTime)
	}
	for _, o := range t.TxOut {
		fee -= o.Value
	}
	if fee < 0 {
		return 0, errors.New("money out of nothing")
	}
	hashes := txscript.NewTxSigHashes(t, fetch)
	for i, in := range t.TxIn {
		out := fetch.FetchPrevOutput(in.PreviousOutPoint)
		vm, err := txscript.NewEngine(out.PkScript, t, i, txscript.StandardVerifyFlags, nil, hashes, out.Value, fetch)
		if err == nil {
			err = vm.Execute()
		}
		if err != nil {
			return 0, fmt.Errorf("input %d: %w", i, err)
		}
	}
	return fee, nil
}

func (c *chain) find(p wire.OutPoint, more []*wire.MsgTx) (coin, bool) {
	if found, ok := c.coins[p]; ok {
		return found, true
	}
	for _, t := range more {
		if t.TxHash() == p.Hash && int(p.Index) < len(t.TxOut) {
			return coin{t.TxOut[p.Index], c.tip() + 1}, true
		}
	}
	return coin{}, false
}

// broadcast is what a node does with a transaction from its wallet.
func (c *chain) broadcast(t *wire.MsgTx) {
	c.sent++
	id := t.TxHash()
	for _, m := range c.mempool {
		if m.TxHash() == id {
			return
		}
	}
	if s, ok := c.spends[t.TxIn[0].PreviousOutPoint]; ok && s.by.TxHash() == id {
		return
	}
	if err := c.accept(t); err != nil {
		c.refused = append(c.refused, fmt.Errorf("%v: %w", id, err))
	}
}

func (c *chain) accept(t *wire.MsgTx) error {
	fee, err := c.valid(t, c.mempool)
	if err != nil {
		return err
	}
	size := int64(tx.VSize(t))
	if fee < size {
		return fmt.Errorf("a fee of %d sat for %d vB is not relayed", fee, size)
	}
	gone := map[chainhash.Hash]bool{}
	floor := size
	for _, m := range c.mempool {
		if !conflicts(m, t) && !descends(m, gone) {
			continue
		}
		old, err := c.valid(m, c.mempool)
		if err == nil && (old*size >= fee*int64(tx.VSize(m)) || fee < old+floor) {
			return fmt.Errorf("a fee of %d sat does not replace %d sat", fee, old)
		}
		gone[m.TxHash()] = true
	}
	kept := c.mempool[:0:0]
	for _, m := range c.mempool {
		if !gone[m.TxHash()] {
			kept = append(kept, m)
		}
	}
	c.mempool = append(kept, t)
	return nil
}

func conflicts(a, b *wire.MsgTx) bool {
	for _, in := range a.TxIn {
		for _, other := range b.TxIn {
			if in.PreviousOutPoint == other.PreviousOutPoint {
				return true
			}
		}
	}
	return false
}

func descends(t *wire.MsgTx, from map[chainhash.Hash]bool) bool {
	for _, in := range t.TxIn {
		if from[in.PreviousOutPoint.Hash] {
			return true
		}
	}
	return false
}

// mine makes a block of the given transactions, which must be valid, and of what
// is in the mempool.
func (c *chain) mine(must ...*wire.MsgTx) {
	c.Helper()
	var block []*wire.MsgTx
	for _, t := range must {
		if _, err := c.valid(t, block); err != nil {
			c.Fatalf("a block with an invalid transaction: %v", err)
		}
		block = append(block, t)
	}
	kept := c.mempool[:0:0]
	for _, t := range c.mempool {
		taken := false
		for _, b := range block {
			taken = taken || conflicts(t, b)
		}
		if taken {
			continue
		}
		if _, err := c.valid(t, block); err != nil || c.stuck(t) {
			kept = append(kept, t)
			continue
		}
		block = append(block, t)
	}
	c.mempool = kept
	c.blocks = append(c.blocks, block)
	for _, t := range block {
		c.apply(t, c.tip())
	}
}

// undo takes back the last n blocks; their transactions are forgotten, as if
// another chain had won.
func (c *chain) undo(n int) {
	c.blocks = c.blocks[:len(c.blocks)-n]
	c.mempool = nil
	c.replay()
}

func (c *chain) status(p wire.OutPoint) watch.Status {
	s := watch.Status{Point: p, Tip: c.tip()}
	if found, ok := c.coins[p]; ok {
		s.Depth, s.Value = c.tip()-found.height+1, found.Value
	}
	if by, ok := c.spends[p]; ok {
		s.Spender, s.SpendDepth = by.by, c.tip()-by.height+1
	}
	return s
}

// A disk is records in memory.
type disk map[string][]byte

func (d disk) Get(key string) ([]byte, error) { return d[key], nil }

func (d disk) Scan(prefix string, yield func(string, []byte) bool) error {
	var names []string
	for k := range d {
		if len(k) >= len(prefix) && k[:len(prefix)] == prefix {
			names = append(names, k)
		}
	}
	for len(names) > 0 { // in order
		least := 0
		for i := range names {
			if names[i] < names[least] {
				least = i
			}
		}
		if !yield(names[least], bytes.Clone(d[names[least]])) {
			return nil
		}
		names = append(names[:least], names[least+1:]...)
	}
	return nil
}
