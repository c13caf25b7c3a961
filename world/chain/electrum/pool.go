package electrum

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
)

// MaxPool bounds the waiting transactions that are looked at, the oldest first.
const MaxPool = 50_000

// waiter is a transaction that waits for a block.
type waiter struct {
	seen
	tx      *wire.MsgTx
	fee     int64 // satoshi
	vsize   int
	scripts []chainhash.Hash
}

// pool is what waits, as of one tip. It does not change.
type pool struct {
	txs     map[chainhash.Hash]*waiter
	scripts map[chainhash.Hash][]*waiter // in the protocol's order
	outputs map[wire.OutPoint]output
	spent   map[wire.OutPoint]bool
}

// newPool looks at what waits on top of an index. What is mined already, or
// spends what neither has, is left out.
func newPool(x *index, waiting []*wire.MsgTx) *pool {
	p := &pool{
		txs: map[chainhash.Hash]*waiter{}, scripts: map[chainhash.Hash][]*waiter{},
		outputs: map[wire.OutPoint]output{}, spent: map[wire.OutPoint]bool{},
	}
	for _, t := range waiting[:min(len(waiting), MaxPool)] {
		id := t.TxHash()
		if _, mined := x.txs[id]; !mined && p.txs[id] == nil {
			p.enter(x, t, id)
		}
	}
	for _, list := range p.scripts {
		slices.SortFunc(list, func(a, b *waiter) int {
			return cmp.Or(cmp.Compare(b.height, a.height), bytes.Compare(reversed(a.id), reversed(b.id)))
		})
	}
	return p
}

// reversed is a hash in the order of its digits.
func reversed(h chainhash.Hash) []byte {
	slices.Reverse(h[:])
	return h[:]
}

func (p *pool) enter(x *index, t *wire.MsgTx, id chainhash.Hash) {
	w := &waiter{seen: seen{id: id}, tx: t, vsize: tx.VSize(t)}
	touch := func(script chainhash.Hash) {
		if !slices.Contains(w.scripts, script) {
			w.scripts = append(w.scripts, script)
		}
	}
	for _, in := range t.TxIn {
		o, waits := p.outputs[in.PreviousOutPoint]
		if waits {
			w.height = waitingParentSpent
		} else if known, ok := x.outputs[in.PreviousOutPoint]; ok {
			o = known
		} else {
			return
		}
		w.fee += o.value
		touch(o.script)
	}
	for i, out := range t.TxOut {
		w.fee -= out.Value
		if unspendable(out.PkScript) {
			continue
		}
		o := output{script: HashOf(out.PkScript), value: out.Value}
		p.outputs[wire.OutPoint{Hash: id, Index: uint32(i)}] = o
		touch(o.script)
	}
	w.fee = max(0, w.fee)
	for _, in := range t.TxIn {
		p.spent[in.PreviousOutPoint] = true
	}
	p.txs[id] = w
	for _, s := range w.scripts {
		p.scripts[s] = append(p.scripts[s], w)
	}
}

// changes adds the scripts of which two pools have different lists.
func (p *pool) changes(old *pool, t touched) {
	same := func(a, b *waiter) bool { return a.seen == b.seen }
	for s, list := range p.scripts {
		if !slices.EqualFunc(list, old.scripts[s], same) {
			t[s] = struct{}{}
		}
	}
	for s := range old.scripts {
		if p.scripts[s] == nil {
			t[s] = struct{}{}
		}
	}
}

// maxBins bounds the fee histogram.
const maxBins = 64

// histogram is the virtual size of what waits, by satoshi per virtual byte, the
// highest first.
func (p *pool) histogram() [][2]int64 {
	sizes := map[int64]int64{}
	for _, w := range p.txs {
		sizes[w.fee/int64(w.vsize)] += int64(w.vsize)
	}
	bins := make([][2]int64, 0, len(sizes))
	for rate, size := range sizes {
		bins = append(bins, [2]int64{rate, size})
	}
	slices.SortFunc(bins, func(a, b [2]int64) int { return cmp.Compare(b[0], a[0]) })
	for len(bins) > maxBins { // what pays least is one
		last := len(bins) - 1
		bins[last][1] += bins[last-1][1]
		bins[last-1] = bins[last]
		bins = bins[:last]
	}
	return bins
}
