// Package ledger is what a view of the best chain keeps of it: the transactions
// that matter, where they are, and who spends what. It may hold whole blocks or
// one transaction in a million of them, and blocks may be looked through in any
// order.
package ledger

import (
	"cmp"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
)

// A Ledger is what matters of the blocks up to a tip. Its owner checks blocks,
// bounds their number and locks.
type Ledger struct {
	tip    int32
	mined  []*Mined // by height and index
	txs    map[chainhash.Hash]*Mined
	spends map[wire.OutPoint]*Mined
	pays   map[string][]wire.OutPoint // script → outputs in the chain
	size   int
}

// Mined is a transaction and its place in the chain.
type Mined struct {
	Tx     *wire.MsgTx
	ID     chainhash.Hash
	Height int32
	Index  int32         // in its block, where the reward is first
	Branch merkle.Branch // from it to the block's root; empty if nobody will ask
}

// New returns a ledger that has nothing.
func New(tip int32) *Ledger {
	return &Ledger{tip: tip, txs: map[chainhash.Hash]*Mined{}, spends: map[wire.OutPoint]*Mined{}, pays: map[string][]wire.OutPoint{}}
}

// Tip is the height of the best block.
func (l *Ledger) Tip() int32 { return l.tip }

// Size is the bytes of the transactions, as serialised.
func (l *Ledger) Size() int { return l.size }

// Rise says that there are blocks up to a height.
func (l *Ledger) Rise(tip int32) { l.tip = tip }

// Add puts a transaction in, which must not be above the tip. One that is there
// already changes nothing and is false.
func (l *Ledger) Add(m Mined) bool {
	if l.txs[m.ID] != nil {
		return false
	}
	e := &m
	at, _ := slices.BinarySearchFunc(l.mined, e, place)
	l.mined = slices.Insert(l.mined, at, e)
	l.txs[m.ID] = e
	l.size += m.Tx.SerializeSize()
	for _, in := range m.Tx.TxIn {
		l.spends[in.PreviousOutPoint] = e
	}
	for i, out := range m.Tx.TxOut {
		script := string(out.PkScript)
		l.pays[script] = append(l.pays[script], wire.OutPoint{Hash: m.ID, Index: uint32(i)})
	}
	return true
}

func place(a, b *Mined) int {
	return cmp.Or(cmp.Compare(a.Height, b.Height), cmp.Compare(a.Index, b.Index))
}

// Cut takes off all blocks above a height and returns what was in them, the
// lowest first.
func (l *Ledger) Cut(height int32) []*Mined {
	from := len(l.mined)
	for from > 0 && l.mined[from-1].Height > height {
		from--
	}
	lost := slices.Clone(l.mined[from:])
	clear(l.mined[from:])
	l.mined = l.mined[:from]
	l.tip = min(l.tip, height)
	for _, e := range lost {
		delete(l.txs, e.ID)
		l.size -= e.Tx.SerializeSize()
		for _, in := range e.Tx.TxIn {
			delete(l.spends, in.PreviousOutPoint)
		}
		for i, out := range e.Tx.TxOut {
			point := wire.OutPoint{Hash: e.ID, Index: uint32(i)}
			left := slices.DeleteFunc(l.pays[string(out.PkScript)], func(p wire.OutPoint) bool { return p == point })
			if len(left) == 0 {
				delete(l.pays, string(out.PkScript))
			} else {
				l.pays[string(out.PkScript)] = left
			}
		}
	}
	return lost
}

// Find returns a transaction of the chain, or nil.
func (l *Ledger) Find(id chainhash.Hash) *Mined { return l.txs[id] }

// All is every transaction, the lowest first. It is the ledger's own.
func (l *Ledger) All() []*Mined { return l.mined }

// Pays tells whether an output of the chain has a script.
func (l *Ledger) Pays(point wire.OutPoint) (script []byte, ok bool) {
	if e := l.txs[point.Hash]; e != nil && int(point.Index) < len(e.Tx.TxOut) {
		return e.Tx.TxOut[point.Index].PkScript, true
	}
	return nil, false
}

// Tx returns a transaction of the chain and its depth, or nil.
func (l *Ledger) Tx(id chainhash.Hash) (t *wire.MsgTx, depth int32) { return l.shown(l.txs[id]) }

// Spender returns the transaction of the chain that spends an output, and its
// depth, or nil.
func (l *Ledger) Spender(o wire.OutPoint) (t *wire.MsgTx, depth int32) { return l.shown(l.spends[o]) }

func (l *Ledger) shown(e *Mined) (*wire.MsgTx, int32) {
	if e == nil {
		return nil, 0
	}
	return e.Tx, l.depth(e)
}

func (l *Ledger) depth(e *Mined) int32 { return l.tip - e.Height + 1 }

// Status is what the chain says of an output.
func (l *Ledger) Status(o watch.Output) watch.Status {
	s := watch.Status{Point: o.Point, Tip: l.tip}
	e := l.txs[o.Point.Hash]
	if e == nil || int(o.Point.Index) >= len(e.Tx.TxOut) {
		return s
	}
	s.Depth, s.Value, s.Index = l.depth(e), e.Tx.TxOut[o.Point.Index].Value, e.Index
	s.Spender, s.SpendDepth = l.Spender(o.Point)
	return s
}

// Coins lists the unspent outputs that pay script, in the chain and then in
// waiting, which are transactions no block has yet, oldest first.
func (l *Ledger) Coins(script []byte, waiting []*wire.MsgTx) []watch.Coin {
	taken := map[wire.OutPoint]bool{}
	for _, t := range waiting {
		for _, in := range t.TxIn {
			taken[in.PreviousOutPoint] = true
		}
	}
	points := slices.Clone(l.pays[string(script)])
	slices.SortFunc(points, func(a, b wire.OutPoint) int {
		return cmp.Or(place(l.txs[a.Hash], l.txs[b.Hash]), cmp.Compare(a.Index, b.Index))
	})
	var coins []watch.Coin
	for _, point := range points {
		if taken[point] || l.spends[point] != nil {
			continue
		}
		e := l.txs[point.Hash]
		coin := tx.Coin{Point: point, Value: e.Tx.TxOut[point.Index].Value}
		coins = append(coins, watch.Coin{Coin: coin, Depth: l.depth(e), Coinbase: e.Index == 0, Tx: e.Tx})
	}
	for _, t := range waiting {
		id := t.TxHash()
		for i, out := range t.TxOut {
			point := wire.OutPoint{Hash: id, Index: uint32(i)}
			if string(out.PkScript) == string(script) && !taken[point] && l.txs[id] == nil {
				coins = append(coins, watch.Coin{Coin: tx.Coin{Point: point, Value: out.Value}, Tx: t})
			}
		}
	}
	return coins
}
