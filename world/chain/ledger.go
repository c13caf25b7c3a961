package chain

import (
	"bytes"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
)

const (
	// MaxBlocks bounds a chain that is kept whole, in memory: ten weeks of
	// blocks, or more than any test mines. It costs 10 MB while they are empty.
	MaxBlocks = 10_000

	// MaxBytes bounds the transactions of such a chain, as serialised.
	MaxBytes = 64 << 20
)

// A Ledger is what the blocks of one best chain say: which outputs there are and
// who spends them. Its owner checks blocks, connects and disconnects them, whole
// or only with the transactions that matter, and locks.
type Ledger struct {
	base   int32 // height of the block below all
	below  chainhash.Hash
	most   int           // blocks
	blocks []ledgerBlock // blocks[i] is at height base+i+1
	txs    map[chainhash.Hash]*entry
	spends map[wire.OutPoint]*entry
	size   int
}

type ledgerBlock struct {
	hash    chainhash.Hash
	entries []entry
	size    int
}

type entry struct {
	tx       *wire.MsgTx
	id       chainhash.Hash
	height   int32
	index    int32 // in the block
	coinbase bool
}

// NewLedger returns the ledger of a chain that has only its first block, whose
// coinbase nobody can spend.
func NewLedger(genesis chainhash.Hash) *Ledger { return NewLedgerAbove(0, genesis, MaxBlocks) }

// NewLedgerAbove returns the ledger of a chain of which only what is above one
// block matters, and at most so many blocks.
func NewLedgerAbove(height int32, block chainhash.Hash, most int) *Ledger {
	return &Ledger{base: height, below: block, most: most, txs: map[chainhash.Hash]*entry{}, spends: map[wire.OutPoint]*entry{}}
}

// Tip is the best block.
func (l *Ledger) Tip() (height int32, hash chainhash.Hash) {
	height = l.base + int32(len(l.blocks))
	return height, l.Hash(height)
}

// Hash is the hash of the block at height, which must not be above the tip nor
// below the block that the ledger stands on.
func (l *Ledger) Hash(height int32) chainhash.Hash {
	if height == l.base {
		return l.below
	}
	return l.blocks[height-l.base-1].hash
}

// Connect puts a whole block on the tip. An error changes nothing.
func (l *Ledger) Connect(hash chainhash.Hash, txs []*wire.MsgTx) error {
	all := make([]Mined, len(txs))
	for i, t := range txs {
		all[i] = Mined{Tx: t, Index: int32(i)}
	}
	return l.ConnectSome(hash, all)
}

// Mined is a transaction and its place in its block, where the reward is first.
type Mined struct {
	Tx    *wire.MsgTx
	Index int32
}

// ConnectSome is Connect for a block of which only some transactions matter.
func (l *Ledger) ConnectSome(hash chainhash.Hash, txs []Mined) error {
	b := ledgerBlock{hash: hash, entries: make([]entry, len(txs))}
	height := l.base + int32(len(l.blocks)) + 1
	for i, t := range txs {
		b.entries[i] = entry{tx: t.Tx, id: t.Tx.TxHash(), height: height, index: t.Index, coinbase: t.Index == 0}
		b.size += t.Tx.SerializeSize()
		if l.txs[b.entries[i].id] != nil {
			return fmt.Errorf("block %v repeats transaction %v (BIP 30)", hash, b.entries[i].id)
		}
	}
	if len(l.blocks) == l.most || b.size > MaxBytes-l.size {
		return fmt.Errorf("%w: it has %d blocks with %d bytes of transactions", ErrTooLong, len(l.blocks), l.size)
	}
	for i := range b.entries {
		e := &b.entries[i]
		l.txs[e.id] = e
		for _, in := range e.tx.TxIn {
			l.spends[in.PreviousOutPoint] = e
		}
	}
	l.blocks = append(l.blocks, b)
	l.size += b.size
	return nil
}

// Disconnect takes the block at the tip off.
func (l *Ledger) Disconnect() {
	b := l.blocks[len(l.blocks)-1]
	for _, e := range b.entries {
		delete(l.txs, e.id)
		for _, in := range e.tx.TxIn {
			delete(l.spends, in.PreviousOutPoint)
		}
	}
	l.blocks = l.blocks[:len(l.blocks)-1]
	l.size -= b.size
}

// Block is what the ledger has of the block at a height: all of it, if whole
// blocks are connected.
func (l *Ledger) Block(height int32) (hash chainhash.Hash, txs []*wire.MsgTx, err error) {
	if tip, _ := l.Tip(); height <= l.base || height > tip {
		return hash, nil, fmt.Errorf("%w: %d is not from %d to %d", ErrNoBlock, height, l.base+1, tip)
	}
	b := &l.blocks[height-l.base-1]
	for i := range b.entries {
		txs = append(txs, b.entries[i].tx)
	}
	return b.hash, txs, nil
}

// Tx returns a transaction of the chain and its depth, or nil.
func (l *Ledger) Tx(id chainhash.Hash) (t *wire.MsgTx, depth int32) {
	if e := l.txs[id]; e != nil {
		return e.tx, l.depth(e)
	}
	return nil, 0
}

// Spender returns the transaction of the chain that spends an output, and its
// depth, or nil.
func (l *Ledger) Spender(o wire.OutPoint) (t *wire.MsgTx, depth int32) {
	if e := l.spends[o]; e != nil {
		return e.tx, l.depth(e)
	}
	return nil, 0
}

func (l *Ledger) depth(e *entry) int32 { return l.base + int32(len(l.blocks)) - e.height + 1 }

// Status is what the chain says of an output.
func (l *Ledger) Status(o watch.Output) watch.Status {
	s := watch.Status{Point: o.Point, Tip: l.base + int32(len(l.blocks))}
	t, depth := l.Tx(o.Point.Hash)
	if t == nil || int(o.Point.Index) >= len(t.TxOut) {
		return s
	}
	s.Depth, s.Value, s.Index = depth, t.TxOut[o.Point.Index].Value, l.txs[o.Point.Hash].index
	s.Spender, s.SpendDepth = l.Spender(o.Point)
	return s
}

// Coins lists the unspent outputs that pay script, in the chain and then in
// waiting, which are transactions no block has yet.
func (l *Ledger) Coins(script []byte, waiting []*wire.MsgTx) []Coin {
	taken := map[wire.OutPoint]bool{}
	for _, t := range waiting {
		for _, in := range t.TxIn {
			taken[in.PreviousOutPoint] = true
		}
	}
	var coins []Coin
	add := func(id chainhash.Hash, t *wire.MsgTx, c Coin) {
		for i, out := range t.TxOut {
			point := wire.OutPoint{Hash: id, Index: uint32(i)}
			if !bytes.Equal(out.PkScript, script) || taken[point] || l.spends[point] != nil {
				continue
			}
			c.Coin = tx.Coin{Point: point, Value: out.Value}
			coins = append(coins, c)
		}
	}
	for _, b := range l.blocks {
		for i := range b.entries {
			e := &b.entries[i]
			add(e.id, e.tx, Coin{Depth: l.depth(e), Coinbase: e.coinbase})
		}
	}
	for _, t := range waiting {
		add(t.TxHash(), t, Coin{})
	}
	return coins
}
