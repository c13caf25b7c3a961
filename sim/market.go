package sim

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/step"
)

// market is what a Ledger has besides if wallets live on it: blocks with headers
// that have their work, from the first one on, and a mempool in which fees decide
// who is mined and who replaces whom (BIP 125).
type market struct {
	params  *chaincfg.Params
	now     func() step.Time
	headers []wire.BlockHeader // by height
	hashes  []chainhash.Hash
	forks   uint32 // blocks made so far, those of lost branches too
	ids     map[*wire.MsgTx]chainhash.Hash

	looked int // changes when coins was made
	coins  map[string][]watch.Coin
}

// Price makes a market of a ledger without blocks.
func (l *Ledger) Price(p *chaincfg.Params, now func() step.Time) {
	m := &market{params: p, now: now, ids: map[*wire.MsgTx]chainhash.Hash{}, looked: -1}
	m.headers = []wire.BlockHeader{p.GenesisBlock.Header}
	m.hashes = []chainhash.Hash{*p.GenesisHash}
	for h := int32(1); h <= Genesis; h++ {
		m.seal(h, nil)
	}
	l.market = m
}

// id is a transaction's. Those of a market are not changed any more, and theirs
// are worked out once.
func (l *Ledger) id(t *wire.MsgTx) chainhash.Hash {
	if l.market == nil {
		return t.TxHash()
	}
	id, ok := l.market.ids[t]
	if !ok {
		id = t.TxHash()
		l.market.ids[t] = id
	}
	return id
}

// seal makes the header of a block at a height, in the place of what was there,
// and returns the block's transactions with the one that no two blocks share.
func (m *market) seal(height int32, txs []*wire.MsgTx) []*wire.MsgTx {
	m.forks++
	first := wire.NewMsgTx(1)
	nonce := binary.BigEndian.AppendUint32([]byte{8}, uint32(height))
	first.AddTxIn(wire.NewTxIn(wire.NewOutPoint(&chainhash.Hash{}, wire.MaxPrevOutIndex), binary.BigEndian.AppendUint32(nonce, m.forks), nil))
	first.AddTxOut(wire.NewTxOut(0, []byte{txscript.OP_RETURN}))
	txs = append([]*wire.MsgTx{first}, txs...)
	root, err := merkle.Root(idsOf(txs))
	step.Assert(err == nil, "sim: block %d: %v", height, err)
	m.headers, m.hashes = m.headers[:height], m.hashes[:height]
	h := m.mine(m.headers, root)
	m.headers, m.hashes = append(m.headers, h), append(m.hashes, h.BlockHash())
	return txs
}

// mine makes the header that follows others.
func (m *market) mine(after []wire.BlockHeader, root chainhash.Hash) wire.BlockHeader {
	last := &after[len(after)-1]
	at := last.Timestamp.Add(time.Second) // above the median of the last eleven
	if now := time.Unix(int64(m.now()/step.Second), 0); now.After(at) {
		at = now
	}
	h := wire.BlockHeader{Version: 0x20000000, PrevBlock: last.BlockHash(), MerkleRoot: root, Timestamp: at, Bits: m.params.PowLimitBits}
	for hash := h.BlockHash(); hash[31] > 0x7f; hash = h.BlockHash() {
		h.Nonce++
	}
	return h
}

func idsOf(txs []*wire.MsgTx) (all []chainhash.Hash) {
	for _, t := range txs {
		all = append(all, t.TxHash())
	}
	return all
}

func without(all, some []*wire.MsgTx) []*wire.MsgTx {
	if len(some) == 0 {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(t *wire.MsgTx) bool { return slices.Contains(some, t) })
}

// rivals are those of the mempool that t would replace, with all that hangs on
// them. Without a market the first one stays.
func (l *Ledger) rivals(t *wire.MsgTx) (all []*wire.MsgTx) {
	if l.market == nil {
		return nil
	}
	spent, gone := map[wire.OutPoint]bool{}, map[chainhash.Hash]bool{}
	for _, in := range t.TxIn {
		spent[in.PreviousOutPoint] = true
	}
	for _, old := range l.mempool { // parents come first
		for _, in := range old.TxIn {
			if spent[in.PreviousOutPoint] || gone[in.PreviousOutPoint.Hash] {
				gone[l.id(old)] = true
				all = append(all, old)
				break
			}
		}
	}
	return all
}

// relayed is what a node minds in a transaction of a market besides its scripts.
func (l *Ledger) relayed(t *wire.MsgTx, fee int64, rivals []*wire.MsgTx) error {
	if l.market == nil {
		return nil
	}
	size := tx.VSize(t)
	if fee < tx.MinFeeRate.For(size) {
		return fmt.Errorf("a fee of %d sat is too low for %d vB", fee, size)
	}
	least := int64(0)
	for _, old := range rivals {
		least += l.fee(old)
	}
	if len(rivals) > 0 && fee < least+int64(size) {
		return fmt.Errorf("a fee of %d sat does not replace one of %d sat", fee, least)
	}
	return nil
}

// output is one of the chain or the mempool, spent or not.
func (l *Ledger) output(p wire.OutPoint) *wire.TxOut {
	if out := l.coins[p]; out != nil {
		return out
	}
	for _, t := range l.all() {
		if l.id(t) == p.Hash && int(p.Index) < len(t.TxOut) {
			return t.TxOut[p.Index]
		}
	}
	return nil
}

// fee is a known transaction's, in satoshi.
func (l *Ledger) fee(t *wire.MsgTx) (fee int64) {
	for _, in := range t.TxIn {
		if out := l.output(in.PreviousOutPoint); out != nil {
			fee += out.Value
		}
	}
	for _, out := range t.TxOut {
		fee -= out.Value
	}
	return fee
}

// MineAbove puts those of the mempool into a block that pay a rate, by themselves
// or with a child.
func (l *Ledger) MineAbove(floor tx.FeeRate) {
	take := map[*wire.MsgTx]bool{}
	for _, t := range l.mempool {
		family := l.ancestors(t)
		fee, size := int64(0), 0
		for _, x := range family {
			if !take[x] {
				fee, size = fee+l.fee(x), size+tx.VSize(x)
			}
		}
		for _, x := range family {
			take[x] = take[x] || fee >= floor.For(size)
		}
	}
	var in, left []*wire.MsgTx
	for _, t := range l.mempool {
		if take[t] {
			in = append(in, t)
		} else {
			left = append(left, t)
		}
	}
	l.mempool = left
	l.add(in)
}

// ancestors are a transaction of the mempool and those of it that it hangs on.
func (l *Ledger) ancestors(t *wire.MsgTx) (all []*wire.MsgTx) {
	wanted := map[chainhash.Hash]bool{l.id(t): true}
	for _, x := range slices.Backward(l.mempool) {
		if wanted[l.id(x)] {
			all = append(all, x)
			for _, in := range x.TxIn {
				wanted[in.PreviousOutPoint.Hash] = true
			}
		}
	}
	return all
}

// Drop empties the mempool, as when a node starts again.
func (l *Ledger) Drop() {
	l.mempool = nil
	l.changes++
}

// Coins answers a watch.Script.
func (l *Ledger) Coins(script []byte) watch.Coins {
	if m := l.market; m.looked != l.changes {
		m.looked, m.coins = l.changes, l.outlook()
	}
	return watch.Coins{Script: script, Tip: l.Tip(), Coins: l.market.coins[string(script)]}
}

// outlook is all unspent outputs by script.
func (l *Ledger) outlook() map[string][]watch.Coin {
	all := map[string][]watch.Coin{}
	spent := map[wire.OutPoint]bool{}
	for _, t := range l.all() {
		for _, in := range t.TxIn {
			spent[in.PreviousOutPoint] = true
		}
	}
	see := func(t *wire.MsgTx, depth int32, proof *merkle.Proof) {
		for i, out := range t.TxOut {
			p := wire.OutPoint{Hash: l.id(t), Index: uint32(i)}
			if key := string(out.PkScript); !spent[p] {
				all[key] = append(all[key], watch.Coin{Coin: tx.Coin{Point: p, Value: out.Value}, Depth: depth, Tx: t, Proof: proof})
			}
		}
	}
	for i, block := range l.blocks {
		var ids []chainhash.Hash
		for _, t := range block {
			ids = append(ids, l.id(t))
		}
		for k, t := range block {
			if k > 0 {
				see(t, int32(len(l.blocks)-i), &merkle.Proof{Height: Genesis + 1 + int32(i), Branch: merkle.Prove(ids, k)})
			}
		}
	}
	for _, t := range l.mempool {
		see(t, 0, nil)
	}
	return all
}

// maxHeaders is how many headers are answered at once.
const maxHeaders = 2000

// headersAfter answers a watch.HeadersAfter.
func (l *Ledger) headersAfter(ask watch.HeadersAfter) watch.Headers {
	m := l.market
	if ask.At > 0 && int(ask.At) < len(m.headers) {
		to := min(len(m.headers), (int(ask.At)/1000+1)*1000+1)
		return watch.Headers{To: ask.To, At: ask.At, From: ask.At, Headers: slices.Clone(m.headers[ask.At:to])}
	}
	for _, hash := range ask.Locator {
		if h := slices.Index(m.hashes, hash); h >= 0 { // the newest in common
			next := m.headers[h+1:]
			return watch.Headers{To: ask.To, From: int32(h + 1), Headers: slices.Clone(next[:min(len(next), maxHeaders)])}
		}
	}
	return watch.Headers{To: ask.To}
}

// describeCoins is one line for the same level.
func describeCoins(m watch.Coins) string {
	var s strings.Builder
	fmt.Fprintf(&s, "coins of %x:", m.Script)
	for _, c := range m.Coins {
		fmt.Fprintf(&s, " %v=%d at %d", c.Point, c.Value, c.Depth)
		if c.Proof != nil {
			fmt.Fprintf(&s, " in %d", c.Proof.Height)
		}
	}
	return s.String()
}

// confirmed are the coins of a script that are in blocks, whoever wants to spend
// them.
func (l *Ledger) confirmed(script []byte) (all []watch.Coin) {
	spent := map[wire.OutPoint]bool{}
	for _, t := range l.mined() {
		for _, in := range t.TxIn {
			spent[in.PreviousOutPoint] = true
		}
	}
	for _, t := range l.mined() {
		for i, out := range t.TxOut {
			if p := (wire.OutPoint{Hash: l.id(t), Index: uint32(i)}); string(out.PkScript) == string(script) && !spent[p] {
				all = append(all, watch.Coin{Coin: tx.Coin{Point: p, Value: out.Value}})
			}
		}
	}
	return all
}
