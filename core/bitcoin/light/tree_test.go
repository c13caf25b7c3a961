package light_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/filter"
	"coinop.dev/core/bitcoin/header/headertest"
	"coinop.dev/core/bitcoin/merkle"
)

// A tree is all blocks that were ever mined, on all branches.
type tree struct {
	params  *chaincfg.Params
	blocks  map[chainhash.Hash]*block
	scripts map[wire.OutPoint][]byte // of all outputs
	first   *block
	count   uint64
	pace    int64 // seconds between blocks
}

type block struct {
	*wire.MsgBlock
	hash   chainhash.Hash
	height int32
	parent *block
	filter []byte
}

func newTree(p *chaincfg.Params) *tree {
	t := &tree{params: p, blocks: map[chainhash.Hash]*block{}, scripts: map[wire.OutPoint][]byte{}, pace: 600}
	t.first = &block{MsgBlock: p.GenesisBlock, hash: *p.GenesisHash}
	t.add(t.first)
	return t
}

func regtest() *chaincfg.Params { p := chaincfg.RegressionNetParams; return &p }

// fork is a tree that has the same blocks and grows apart.
func (t *tree) fork() *tree {
	other := *t
	other.blocks, other.scripts = maps.Clone(t.blocks), maps.Clone(t.scripts)
	return &other
}

func (t *tree) add(b *block) {
	for _, tx := range b.Transactions {
		id := tx.TxHash()
		for i, out := range tx.TxOut {
			t.scripts[wire.OutPoint{Hash: id, Index: uint32(i)}] = out.PkScript
		}
	}
	if b.filter == nil {
		b.filter = t.filterOf(b.MsgBlock)
	}
	t.blocks[b.hash] = b
}

func (t *tree) filterOf(b *wire.MsgBlock) []byte {
	raw, err := filter.Build(b, func(o wire.OutPoint) []byte { return t.scripts[o] })
	if err != nil {
		panic(err)
	}
	return raw
}

func (t *tree) bits(parent *block) uint32 {
	period := int32(t.params.TargetTimespan / t.params.TargetTimePerBlock)
	if t.params.PoWNoRetargeting || (parent.height+1)%period != 0 {
		return parent.Header.Bits
	}
	first := parent
	for range period - 1 {
		first = first.parent
	}
	return headertest.Retarget(t.params, parent.Header.Bits, parent.Header.Timestamp.Unix()-first.Header.Timestamp.Unix())
}

// mine puts a block on parent. Its reward pays a script of its own.
func (t *tree) mine(parent *block, txs ...*wire.MsgTx) *block {
	return t.mineAs(parent, func(*wire.MsgBlock) {}, txs...)
}

// mineAs has the block changed before its header is made.
func (t *tree) mineAs(parent *block, change func(*wire.MsgBlock), txs ...*wire.MsgTx) *block {
	t.count++
	reward := wire.NewMsgTx(2)
	reward.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: wire.MaxPrevOutIndex}, binary.LittleEndian.AppendUint64([]byte{8}, t.count), nil))
	reward.AddTxOut(wire.NewTxOut(50e8, append([]byte{0x51, 0x20}, chainhash.HashB(reward.TxIn[0].SignatureScript)...)))
	b := &block{MsgBlock: &wire.MsgBlock{}, height: parent.height + 1, parent: parent}
	b.Transactions = append([]*wire.MsgTx{reward}, txs...)
	if slices.ContainsFunc(txs, (*wire.MsgTx).HasWitness) {
		commit(b.MsgBlock)
	}
	change(b.MsgBlock)
	root := chainhash.Hash{}
	ids := make([]chainhash.Hash, len(b.Transactions))
	for i, tx := range b.Transactions {
		ids[i] = tx.TxHash()
	}
	for len(ids) > 1 { // as merkle.Root, but without its scruples
		if len(ids)%2 == 1 {
			ids = append(ids, ids[len(ids)-1])
		}
		for i := range len(ids) / 2 {
			ids[i] = chainhash.DoubleHashH(append(ids[2*i].CloneBytes(), ids[2*i+1][:]...))
		}
		ids = ids[:len(ids)/2]
	}
	root = ids[0]
	b.Header = headertest.Mine(wire.BlockHeader{
		Version: 4, PrevBlock: parent.hash, MerkleRoot: root, Bits: t.bits(parent),
	}, parent.Header.Timestamp.Unix()+t.pace)
	b.hash = b.Header.BlockHash()
	t.add(b)
	return b
}

// commit has the reward commit to the witnesses (BIP 141).
func commit(b *wire.MsgBlock) {
	nonce := make([]byte, 32)
	ids := []chainhash.Hash{{}}
	for _, tx := range b.Transactions[1:] {
		ids = append(ids, tx.WitnessHash())
	}
	root, err := merkle.Root(ids)
	if err != nil {
		panic(err)
	}
	sum := chainhash.DoubleHashB(append(root[:], nonce...))
	b.Transactions[0].TxIn[0].Witness = wire.TxWitness{nonce}
	b.Transactions[0].AddTxOut(wire.NewTxOut(0, append([]byte{0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed}, sum...)))
}

// grow mines n blocks.
func (t *tree) grow(from *block, n int) *block {
	for range n {
		from = t.mine(from)
	}
	return from
}

// script is one of ours, pay a transaction that pays it, from nowhere or point.
func script(n int) []byte {
	return append([]byte{0, 32}, chainhash.HashB(fmt.Append(nil, "script", n))...)
}

func pay(from wire.OutPoint, scripts ...[]byte) *wire.MsgTx {
	t := wire.NewMsgTx(2)
	t.AddTxIn(wire.NewTxIn(&from, nil, nil))
	for i, s := range scripts {
		t.AddTxOut(wire.NewTxOut(int64(1000+i), s))
	}
	return t
}

func (t *tree) nowhere() wire.OutPoint {
	t.count++
	p := wire.OutPoint{Hash: chainhash.HashH(fmt.Append(nil, "nowhere", t.count))}
	t.scripts[p] = append([]byte{0x51, 0x20}, p.Hash[:]...)
	return p
}

func out(t *wire.MsgTx, i uint32) wire.OutPoint { return wire.OutPoint{Hash: t.TxHash(), Index: i} }
