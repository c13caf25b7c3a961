package sim

import (
	"fmt"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/watch"
)

// A Ledger is the simulated chain: blocks of transactions whose scripts, sums
// and locks are checked for real (txscript, BIP 68), a mempool where the first
// spender of an output wins, and reorganisations.
type Ledger struct {
	coins   map[wire.OutPoint]*wire.TxOut // made from nothing at genesis
	blocks  [][]*wire.MsgTx               // blocks[i] is at height Genesis+1+i
	mempool []*wire.MsgTx
	market  *market // a mempool with fees, and blocks with headers; nil if neither matters
	changes int     // of blocks and mempool so far
}

// Genesis is the height below which nothing happens.
const Genesis = 100

// NewLedger returns a chain without blocks.
func NewLedger() *Ledger { return &Ledger{coins: map[wire.OutPoint]*wire.TxOut{}} }

// Mint makes a coin.
func (l *Ledger) Mint(point wire.OutPoint, out *wire.TxOut) { l.coins[point] = out }

// Tip is the height of the best block.
func (l *Ledger) Tip() int32 { return Genesis + int32(len(l.blocks)) }

// Publish offers a transaction to the mempool.
func (l *Ledger) Publish(t *wire.MsgTx) error {
	for _, known := range l.all() {
		if l.id(known) == l.id(t) {
			return nil
		}
	}
	rivals := l.rivals(t)
	unspent := l.unspent(without(l.all(), rivals))
	fetch := txscript.NewMultiPrevOutFetcher(nil)
	sum := int64(0)
	for _, in := range t.TxIn {
		out := unspent[in.PreviousOutPoint]
		if out == nil {
			return fmt.Errorf("%v is spent or unknown", in.PreviousOutPoint)
		}
		fetch.AddPrevOut(in.PreviousOutPoint, out)
		sum += out.Value
	}
	if err := l.locked(t); err != nil {
		return err
	}
	for _, out := range t.TxOut {
		sum -= out.Value
	}
	if sum < 0 {
		return fmt.Errorf("%d sat are made from nothing", -sum)
	}
	if err := l.relayed(t, sum, rivals); err != nil {
		return err
	}
	hashes := txscript.NewTxSigHashes(t, fetch)
	for i, in := range t.TxIn {
		out := unspent[in.PreviousOutPoint]
		vm, err := txscript.NewEngine(out.PkScript, t, i, txscript.StandardVerifyFlags, nil, hashes, out.Value, fetch)
		if err == nil {
			err = vm.Execute()
		}
		if err != nil {
			return fmt.Errorf("input %d: %w", i, err)
		}
	}
	l.mempool = append(without(l.mempool, rivals), t)
	l.changes++
	return nil
}

// Began is when the chain does, in Unix seconds: its blocks have no times, so a
// lock until later is never reached.
const Began = 1_700_000_000

// locked is why the next block cannot have t: its lock time, or the age of an
// input (BIP 68), which is counted in blocks only.
func (l *Ledger) locked(t *wire.MsgTx) error {
	final := true
	for _, in := range t.TxIn {
		final = final && in.Sequence == wire.MaxTxInSequenceNum
	}
	reached := int64(l.Tip())
	if t.LockTime >= txscript.LockTimeThreshold {
		reached = Began
	}
	if !final && int64(t.LockTime) > reached {
		return fmt.Errorf("lock time %d is not reached at %d", t.LockTime, reached)
	}
	if t.Version < 2 {
		return nil
	}
	for i, in := range t.TxIn {
		if in.Sequence&wire.SequenceLockTimeDisabled != 0 {
			continue
		}
		wants, depth := int32(in.Sequence&wire.SequenceLockTimeMask), l.depth(in.PreviousOutPoint)
		if in.Sequence&wire.SequenceLockTimeIsSeconds != 0 || depth < wants {
			return fmt.Errorf("input %d waits for depth %d and has %d (sequence %#x)", i, wants, depth, in.Sequence)
		}
	}
	return nil
}

// depth is an output's. What was there from the beginning is deep.
func (l *Ledger) depth(point wire.OutPoint) int32 {
	if l.coins[point] != nil {
		return wire.SequenceLockTimeMask
	}
	return l.Status(point).Depth
}

// Mine puts the mempool into a block.
func (l *Ledger) Mine() {
	l.add(l.mempool)
	l.mempool = nil
}

// add is a new best block.
func (l *Ledger) add(txs []*wire.MsgTx) {
	if l.market != nil {
		txs = l.market.seal(l.Tip()+1, txs)
	}
	l.blocks = append(l.blocks, txs)
	l.changes++
}

// Reorg replaces the last blocks by one more that are empty. Their transactions
// go back to the mempool as far as they still hold.
func (l *Ledger) Reorg(depth int) {
	depth = min(depth, len(l.blocks))
	var out []*wire.MsgTx
	for _, b := range l.blocks[len(l.blocks)-depth:] {
		out = append(out, b...)
	}
	l.blocks = l.blocks[:len(l.blocks)-depth]
	for range depth + 1 {
		l.add(nil)
	}
	again := append(out, l.mempool...)
	l.mempool = nil
	for _, t := range again {
		_ = l.Publish(t) // one that no longer holds is gone
	}
}

func (l *Ledger) mined() (all []*wire.MsgTx) {
	for _, b := range l.blocks {
		all = append(all, b...)
	}
	return all
}

func (l *Ledger) all() []*wire.MsgTx { return append(l.mined(), l.mempool...) }

func (l *Ledger) unspent(txs []*wire.MsgTx) map[wire.OutPoint]*wire.TxOut {
	u := map[wire.OutPoint]*wire.TxOut{}
	for point, out := range l.coins {
		u[point] = out
	}
	for _, t := range txs {
		hash := l.id(t)
		for _, in := range t.TxIn {
			delete(u, in.PreviousOutPoint)
		}
		for i, out := range t.TxOut {
			u[wire.OutPoint{Hash: hash, Index: uint32(i)}] = out
		}
	}
	return u
}

// Paid is what the best chain's unspent outputs pay to a script, in satoshi.
func (l *Ledger) Paid(script []byte) (sum int64) {
	for _, out := range l.unspent(l.mined()) {
		if string(out.PkScript) == string(script) {
			sum += out.Value
		}
	}
	return sum
}

// Status answers a watch.Output.
func (l *Ledger) Status(point wire.OutPoint) watch.Status {
	s := watch.Status{Point: point, Tip: l.Tip()}
	for i, block := range l.blocks {
		depth := int32(len(l.blocks) - i)
		for place, t := range block {
			if l.id(t) == point.Hash && int(point.Index) < len(t.TxOut) {
				s.Depth, s.Value, s.Index = depth, t.TxOut[point.Index].Value, int32(place)
			}
			for _, in := range t.TxIn {
				if in.PreviousOutPoint == point {
					s.Spender, s.SpendDepth = t, depth
				}
			}
		}
	}
	return s
}
