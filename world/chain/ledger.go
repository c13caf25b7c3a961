package chain

import (
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/ledger"
)

const (
	// MaxBlocks bounds a chain that is kept block by block, in memory: ten weeks
	// of blocks, or more than any test mines. It costs 10 MB while they are empty.
	MaxBlocks = 10_000

	// MaxBytes bounds the transactions of such a chain, as serialised.
	MaxBytes = 64 << 20
)

// A Ledger is a best chain block by block, with all of their transactions or
// with those that matter. Its owner checks blocks and locks.
type Ledger struct {
	*ledger.Ledger
	base   int32 // height of the block below all
	most   int   // blocks
	hashes []chainhash.Hash
}

// NewLedger returns the ledger of a chain that has only its first block, whose
// coinbase nobody can spend.
func NewLedger(genesis chainhash.Hash) *Ledger { return NewLedgerAbove(0, genesis, MaxBlocks) }

// NewLedgerAbove returns the ledger of a chain of which only what is above one
// block matters, and at most so many blocks.
func NewLedgerAbove(height int32, block chainhash.Hash, most int) *Ledger {
	return &Ledger{Ledger: ledger.New(height), base: height, most: most, hashes: []chainhash.Hash{block}}
}

// Tip is the best block.
func (l *Ledger) Tip() (height int32, hash chainhash.Hash) {
	height = l.Ledger.Tip()
	return height, l.Hash(height)
}

// Hash is the hash of the block at height, which must not be above the tip nor
// below the block that the ledger stands on.
func (l *Ledger) Hash(height int32) chainhash.Hash { return l.hashes[height-l.base] }

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
	height, size := l.Ledger.Tip()+1, 0
	entries := make([]ledger.Mined, len(txs))
	for i, t := range txs {
		entries[i] = ledger.Mined{Tx: t.Tx, ID: t.Tx.TxHash(), Height: height, Index: t.Index}
		size += t.Tx.SerializeSize()
		if l.Find(entries[i].ID) != nil {
			return fmt.Errorf("block %v repeats transaction %v (BIP 30)", hash, entries[i].ID)
		}
	}
	if blocks := len(l.hashes) - 1; blocks == l.most || size > MaxBytes-l.Size() {
		return fmt.Errorf("%w: it has %d blocks with %d bytes of transactions", ErrTooLong, blocks, l.Size())
	}
	l.Rise(height)
	for _, e := range entries {
		l.Add(e)
	}
	l.hashes = append(l.hashes, hash)
	return nil
}

// Disconnect takes the block at the tip off.
func (l *Ledger) Disconnect() {
	l.Cut(l.Ledger.Tip() - 1)
	l.hashes = l.hashes[:len(l.hashes)-1]
}
