package wallet_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
)

var regtest = &chaincfg.RegressionNetParams

// chain is a regtest chain with headers that have their work, a mempool that
// keeps BIP 125, and scripts that are run.
type chain struct {
	blocks  []*block
	mempool []*wire.MsgTx
	minted  map[wire.OutPoint]*wire.TxOut // what nobody had to have
	minting uint32
	forks   uint32
	ids     map[*wire.MsgTx]chainhash.Hash
}

type block struct {
	header wire.BlockHeader
	txs    []*wire.MsgTx
}

func newChain() *chain {
	return &chain{blocks: []*block{{header: regtest.GenesisBlock.Header, txs: regtest.GenesisBlock.Transactions}}, minted: map[wire.OutPoint]*wire.TxOut{}, ids: map[*wire.MsgTx]chainhash.Hash{}}
}

// id is a transaction's, worked out once.
func (c *chain) id(t *wire.MsgTx) chainhash.Hash {
	id, ok := c.ids[t]
	if !ok {
		id = t.TxHash()
		c.ids[t] = id
	}
	return id
}

func (c *chain) tip() int32 { return int32(len(c.blocks) - 1) }

// mint puts a transaction into the mempool that pays script from nowhere.
func (c *chain) mint(script []byte, value int64) *wire.MsgTx {
	c.minting++
	point := wire.OutPoint{Hash: chainhash.Hash{0xaa}, Index: c.minting}
	anyone := []byte{txscript.OP_TRUE}
	c.minted[point] = wire.NewTxOut(value+500, anyone)
	t := wire.NewMsgTx(2)
	t.AddTxIn(wire.NewTxIn(&point, nil, nil))
	t.AddTxOut(wire.NewTxOut(value, script))
	c.mempool = append(c.mempool, t)
	return t
}

func (c *chain) output(p wire.OutPoint) *wire.TxOut {
	if out := c.minted[p]; out != nil {
		return out
	}
	for _, t := range c.all() {
		if c.id(t) == p.Hash && int(p.Index) < len(t.TxOut) {
			return t.TxOut[p.Index]
		}
	}
	return nil
}

func (c *chain) mined() (all []*wire.MsgTx) {
	for _, b := range c.blocks {
		all = append(all, b.txs...)
	}
	return all
}

func (c *chain) all() []*wire.MsgTx { return append(c.mined(), c.mempool...) }

func spends(t *wire.MsgTx, p wire.OutPoint) bool {
	return slices.ContainsFunc(t.TxIn, func(in *wire.TxIn) bool { return in.PreviousOutPoint == p })
}

func (c *chain) fee(t *wire.MsgTx) (fee int64, err error) {
	for _, in := range t.TxIn {
		out := c.output(in.PreviousOutPoint)
		if out == nil {
			return 0, fmt.Errorf("%v is unknown", in.PreviousOutPoint)
		}
		fee += out.Value
	}
	for _, out := range t.TxOut {
		fee -= out.Value
	}
	return fee, nil
}

// publish takes a transaction into the mempool as a node would.
func (c *chain) publish(t *wire.MsgTx) error {
	id := c.id(t)
	if slices.ContainsFunc(c.all(), func(x *wire.MsgTx) bool { return c.id(x) == id }) {
		return nil
	}
	fee, err := c.fee(t)
	if err != nil {
		return err
	}
	if fee*1000 < int64(tx.VSize(t))*int64(tx.MinFeeRate) {
		return fmt.Errorf("fee of %d sat is too low for %d vB", fee, tx.VSize(t))
	}
	fetch := txscript.NewMultiPrevOutFetcher(nil)
	old, oldFee := map[chainhash.Hash]bool{}, int64(0)
	for _, in := range t.TxIn {
		fetch.AddPrevOut(in.PreviousOutPoint, c.output(in.PreviousOutPoint))
		if slices.ContainsFunc(c.mined(), func(x *wire.MsgTx) bool { return spends(x, in.PreviousOutPoint) }) {
			return fmt.Errorf("%v is spent", in.PreviousOutPoint)
		}
		for _, x := range c.mempool {
			if spends(x, in.PreviousOutPoint) && !old[c.id(x)] {
				old[c.id(x)] = true
				f, _ := c.fee(x)
				oldFee += f
			}
		}
	}
	if len(old) > 0 && fee < oldFee+int64(tx.VSize(t)) {
		return fmt.Errorf("fee of %d sat does not replace %d sat", fee, oldFee)
	}
	hashes := txscript.NewTxSigHashes(t, fetch)
	for i, in := range t.TxIn {
		out := fetch.FetchPrevOutput(in.PreviousOutPoint)
		vm, err := txscript.NewEngine(out.PkScript, t, i, txscript.StandardVerifyFlags, nil, hashes, out.Value, fetch)
		if err == nil {
			err = vm.Execute()
		}
		if err != nil {
			return fmt.Errorf("input %d: %w", i, err)
		}
	}
	for _, out := range t.TxOut {
		if out.Value < 294 {
			return errors.New("dust")
		}
	}
	c.mempool = slices.DeleteFunc(c.mempool, func(x *wire.MsgTx) bool { return old[c.id(x)] })
	c.mempool = append(c.mempool, t)
	return nil
}

// mine puts those of the mempool that take accepts into a block.
func (c *chain) mine(take func(*wire.MsgTx) bool) {
	var in, left []*wire.MsgTx
	for _, t := range c.mempool {
		if take == nil || take(t) {
			in = append(in, t)
		} else {
			left = append(left, t)
		}
	}
	c.mempool = left
	c.add(in)
}

func (c *chain) add(txs []*wire.MsgTx) {
	reward := wire.NewMsgTx(1)
	c.forks++
	in := wire.NewTxIn(wire.NewOutPoint(&chainhash.Hash{}, wire.MaxPrevOutIndex), []byte{3, byte(len(c.blocks)), byte(len(c.blocks) >> 8), byte(c.forks), byte(c.forks >> 8)}, nil)
	reward.AddTxIn(in)
	reward.AddTxOut(wire.NewTxOut(50, []byte{txscript.OP_TRUE}))
	b := &block{txs: append([]*wire.MsgTx{reward}, txs...)}
	var ids []chainhash.Hash
	for _, t := range b.txs {
		ids = append(ids, c.id(t))
	}
	root, err := merkle.Root(ids)
	if err != nil {
		panic(err)
	}
	last := &c.blocks[len(c.blocks)-1].header
	b.header = wire.BlockHeader{Version: 0x20000000, PrevBlock: last.BlockHash(), MerkleRoot: root, Timestamp: last.Timestamp.Add(10 * time.Minute), Bits: regtest.PowLimitBits}
	for hash := b.header.BlockHash(); hash[31] > 0x7f; hash = b.header.BlockHash() {
		b.header.Nonce++
	}
	c.blocks = append(c.blocks, b)
}

// reorg replaces the last blocks by one more that are empty.
func (c *chain) reorg(depth int) {
	var out []*wire.MsgTx
	for _, b := range c.blocks[len(c.blocks)-depth:] {
		out = append(out, b.txs[1:]...)
	}
	c.blocks = c.blocks[:len(c.blocks)-depth]
	c.mempool = append(out, c.mempool...)
	for range depth + 1 {
		c.add(nil)
	}
}

func (c *chain) status(p wire.OutPoint) watch.Status {
	s := watch.Status{Point: p, Tip: c.tip()}
	for h, b := range c.blocks {
		for i, t := range b.txs {
			if c.id(t) == p.Hash {
				s.Depth, s.Index, s.Value = c.tip()-int32(h)+1, int32(i), t.TxOut[p.Index].Value
			}
			if spends(t, p) {
				s.Spender, s.SpendDepth = t, c.tip()-int32(h)+1
			}
		}
	}
	return s
}

func (c *chain) coins(script []byte, prove bool) watch.Coins {
	out := watch.Coins{Script: script, Tip: c.tip()}
	all := c.all()
	see := func(t *wire.MsgTx, depth int32, proof *merkle.Proof) {
		id := c.id(t)
		for i, o := range t.TxOut {
			p := wire.OutPoint{Hash: id, Index: uint32(i)}
			if !bytes.Equal(o.PkScript, script) || slices.ContainsFunc(all, func(x *wire.MsgTx) bool { return spends(x, p) }) {
				continue
			}
			out.Coins = append(out.Coins, watch.Coin{Coin: tx.Coin{Point: p, Value: o.Value}, Depth: depth, Tx: t, Proof: proof})
		}
	}
	for h, b := range c.blocks {
		var ids []chainhash.Hash
		for _, t := range b.txs {
			ids = append(ids, c.id(t))
		}
		for i, t := range b.txs {
			proof := (*merkle.Proof)(nil)
			if prove {
				proof = &merkle.Proof{Height: int32(h), Branch: merkle.Prove(ids, i)}
			}
			see(t, c.tip()-int32(h)+1, proof)
		}
	}
	for _, t := range c.mempool {
		see(t, 0, nil)
	}
	return out
}

func (c *chain) headersAfter(m watch.HeadersAfter) watch.Headers {
	out := watch.Headers{To: m.To}
	for _, hash := range m.Locator {
		for h, b := range c.blocks {
			if b.header.BlockHash() != hash {
				continue
			}
			out.From = int32(h + 1)
			for _, next := range c.blocks[h+1:] {
				out.Headers = append(out.Headers, next.header)
			}
			return out
		}
	}
	return out
}

// paid sums what blocks pay to a script.
func (c *chain) paid(script []byte) (sum int64, n int) {
	for _, t := range c.mined() {
		for _, o := range t.TxOut {
			if bytes.Equal(o.PkScript, script) {
				sum += o.Value
				n++
			}
		}
	}
	return sum, n
}

func byPoint(a, b wire.OutPoint) int {
	return cmp.Or(bytes.Compare(a.Hash[:], b.Hash[:]), cmp.Compare(a.Index, b.Index))
}
