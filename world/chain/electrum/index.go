package electrum

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

const (
	// MaxBlocks bounds the blocks of an index: five years of them, with 30 MB of
	// headers.
	MaxBlocks = 1 << 18

	// MaxTxs bounds its transactions. Each costs about half a kilobyte with its
	// outputs, so that is 500 MB: an index in memory is for private chains and for
	// test networks, not for Bitcoin's billion.
	MaxTxs = 1 << 20

	// MaxUndo bounds the blocks that a reorganisation can take back. After a
	// longer one the index is made anew.
	MaxUndo = 1000
)

var (
	errIndexFull = fmt.Errorf("the index is full with %d blocks and %d transactions at most: serve a shorter chain", MaxBlocks, MaxTxs)
	errMoved     = errors.New("the best chain has changed meanwhile")
)

// place is where a transaction is.
type place struct{ height, pos int32 }

// item is a transaction of a script's history.
type item struct {
	id chainhash.Hash
	place
}

// output is one that is unspent in the chain.
type output struct {
	script chainhash.Hash
	value  int64
	place
}

// history is what the chain has of a script.
type history struct {
	items   []item // in the order of the chain
	unspent map[wire.OutPoint]struct{}
}

// An index knows every script of a chain by its hash. It keeps no transactions.
type index struct {
	headers []wire.BlockHeader // by height
	hashes  []chainhash.Hash
	txs     map[chainhash.Hash]place
	scripts map[chainhash.Hash]*history
	outputs map[wire.OutPoint]output
	undos   []undo // of the last blocks
}

// undo takes one block back.
type undo struct {
	txs     []chainhash.Hash
	touched []chainhash.Hash // a script for every item it got
	made    []wire.OutPoint
	spent   []spent
}

type spent struct {
	point wire.OutPoint
	output
}

func newIndex(p *chaincfg.Params) *index {
	return &index{
		headers: []wire.BlockHeader{p.GenesisBlock.Header},
		hashes:  []chainhash.Hash{*p.GenesisHash}, // whose coinbase nobody can spend, so it is not here
		txs:     map[chainhash.Hash]place{},
		scripts: map[chainhash.Hash]*history{},
		outputs: map[wire.OutPoint]output{},
	}
}

func (x *index) height() int32       { return int32(len(x.hashes)) - 1 }
func (x *index) tip() chainhash.Hash { return x.hashes[x.height()] }

// scripts whose status may have changed.
type touched map[chainhash.Hash]struct{}

func (t touched) add(scripts []chainhash.Hash) {
	for _, s := range scripts {
		t[s] = struct{}{}
	}
}

// connect puts a block on the tip. An error changes nothing.
func (x *index) connect(b *wire.MsgBlock, t touched) error {
	if b.Header.PrevBlock != x.tip() {
		return errMoved
	}
	if len(x.hashes) > MaxBlocks || len(x.txs)+len(b.Transactions) > MaxTxs {
		return errIndexFull
	}
	height := x.height() + 1
	u := undo{txs: make([]chainhash.Hash, len(b.Transactions))}
	for pos, tx := range b.Transactions {
		u.txs[pos] = tx.TxHash()
		x.enter(tx, item{u.txs[pos], place{height, int32(pos)}}, &u)
	}
	x.headers, x.hashes = append(x.headers, b.Header), append(x.hashes, b.BlockHash())
	t.add(u.touched)
	if x.undos = append(x.undos, u); len(x.undos) > MaxUndo {
		x.undos = slices.Delete(x.undos, 0, 1)
	}
	return nil
}

// enter adds one transaction, and what takes it out again to u.
func (x *index) enter(tx *wire.MsgTx, it item, u *undo) {
	x.txs[it.id] = it.place
	from := len(u.touched)
	touch := func(script chainhash.Hash) *history {
		h := x.scripts[script]
		if h == nil {
			h = &history{unspent: map[wire.OutPoint]struct{}{}}
			x.scripts[script] = h
		}
		if !slices.Contains(u.touched[from:], script) {
			u.touched = append(u.touched, script)
			h.items = append(h.items, it)
		}
		return h
	}
	for _, in := range tx.TxIn {
		o, known := x.outputs[in.PreviousOutPoint]
		if !known {
			continue // a coinbase, or a spend of what is not indexed
		}
		delete(x.outputs, in.PreviousOutPoint)
		delete(touch(o.script).unspent, in.PreviousOutPoint)
		u.spent = append(u.spent, spent{in.PreviousOutPoint, o})
	}
	for i, out := range tx.TxOut {
		if unspendable(out.PkScript) {
			continue
		}
		o := output{HashOf(out.PkScript), out.Value, it.place}
		point := wire.OutPoint{Hash: it.id, Index: uint32(i)}
		x.outputs[point] = o
		touch(o.script).unspent[point] = struct{}{}
		u.made = append(u.made, point)
	}
}

func unspendable(script []byte) bool {
	return len(script) > 0 && script[0] == txscript.OP_RETURN
}

// disconnect takes the block at the tip off.
func (x *index) disconnect(t touched) {
	last := len(x.undos) - 1
	u := x.undos[last]
	x.undos = x.undos[:last]
	for _, s := range slices.Backward(u.spent) {
		x.outputs[s.point] = s.output
		x.scripts[s.script].unspent[s.point] = struct{}{}
	}
	for _, point := range u.made {
		delete(x.scripts[x.outputs[point].script].unspent, point)
		delete(x.outputs, point)
	}
	for _, script := range slices.Backward(u.touched) {
		h := x.scripts[script]
		if h.items = h.items[:len(h.items)-1]; len(h.items) == 0 {
			delete(x.scripts, script)
		}
	}
	for _, id := range u.txs {
		delete(x.txs, id)
	}
	t.add(u.touched)
	x.headers, x.hashes = x.headers[:x.height()], x.hashes[:x.height()]
}

// coin is an unspent output of a script.
type coin struct {
	point wire.OutPoint
	output
}

// unspent lists a script's coins in the order of the chain.
func (x *index) unspent(script chainhash.Hash) []coin {
	h := x.scripts[script]
	if h == nil {
		return nil
	}
	coins := make([]coin, 0, len(h.unspent))
	for point := range h.unspent {
		coins = append(coins, coin{point, x.outputs[point]})
	}
	slices.SortFunc(coins, func(a, b coin) int {
		return cmp.Or(cmp.Compare(a.height, b.height), cmp.Compare(a.pos, b.pos), cmp.Compare(a.point.Index, b.point.Index))
	})
	return coins
}

// items is a script's history in the chain.
func (x *index) items(script chainhash.Hash) []item {
	if h := x.scripts[script]; h != nil {
		return h.items
	}
	return nil
}

// rawHeader is a header as the chain has it.
func rawHeader(h *wire.BlockHeader) []byte {
	var b bytes.Buffer
	b.Grow(headerSize)
	if err := h.Serialize(&b); err != nil {
		panic(err) // a bytes.Buffer does not fail
	}
	return b.Bytes()
}
