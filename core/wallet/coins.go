package wallet

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// A coin is an unspent output of an account.
type coin struct {
	point    wire.OutPoint
	value    int64
	height   int32 // 0 while it waits for a block
	told     int32 // its depth when it was told of
	coinbase bool
	tx       *wire.MsgTx
	proof    *merkle.Proof
	script   *script
}

// coins takes in what the chain says of one script: a level, not an edge.
func (w *Wallet) coins(m watch.Coins, fx *step.Effects) {
	w.tip = m.Tip
	for i := range m.Coins {
		w.sighted(&m.Coins[i])
	}
	s := w.scripts[string(m.Script)]
	if s == nil {
		return // a payee's, watched for a proof
	}
	a := s.account
	if !s.told {
		s.told = true
		a.silent--
		defer w.goOnHeld(fx) // once it is known whether there are coins
	}
	a.count -= len(a.coins[string(m.Script)])
	var coins []*coin
	for _, c := range m.Coins {
		if a.count+len(coins) >= MaxCoins {
			break
		}
		n := &coin{point: c.Point, value: c.Value, coinbase: c.Coinbase, tx: c.Tx, proof: c.Proof, script: s}
		if c.Depth > 0 {
			n.height, n.told = m.Tip-c.Depth+1, c.Depth
		}
		coins = append(coins, n)
	}
	a.count += len(coins)
	delete(a.coins, string(m.Script))
	if len(coins) > 0 {
		a.coins[string(m.Script)] = coins
		w.paidTo(s, coins, fx)
	}
	if len(a.waiting) > 0 {
		w.hungry[a.name] = true
	}
}

// paidTo notes that a script has money: it is not for others any more, and what
// came is history and perhaps a bill's.
func (w *Wallet) paidTo(s *script, coins []*coin, fx *step.Effects) {
	a := s.account
	if s.index >= a.used[s.branch] {
		a.used[s.branch] = s.index + 1
		a.next[s.branch] = max(a.next[s.branch], s.index+1)
		w.dirty[a.name] = true
		if err := w.derive(a, fx); err != nil {
			step.Assert(false, "wallet: account %s has no next script: %v", a.name, err)
		}
	}
	if s.branch != receive {
		return
	}
	for _, c := range coins {
		if point := c.point.String(); c.height > 0 && !a.noted[point] {
			id := money.OrderID{}
			if b := w.billed[string(s.Script.Script)]; b != nil {
				id = b.order
			}
			w.note(a, Entry{Point: point, Height: c.height, Sats: c.value, Order: id}, fx)
		}
	}
	if b := w.billed[string(s.Script.Script)]; b != nil {
		w.collect(b, coins, fx)
	}
}

// note adds a line to an account's history and drops the first beyond
// MaxHistory.
func (w *Wallet) note(a *account, e Entry, fx *step.Effects) {
	fx.Put = append(fx.Put, e.record(a, a.first+uint64(len(a.history))))
	a.history = append(a.history, e)
	a.noted[e.Point] = true
	if len(a.history) > MaxHistory {
		delete(a.noted, a.history[0].Point)
		fx.Put = append(fx.Put, step.Record{Key: historyKey(a.name, a.first)})
		a.history = a.history[1:]
		a.first++
	}
}

// depth is how many blocks confirm the coin.
func (w *Wallet) depth(c *coin) int32 {
	if c.height == 0 {
		return 0
	}
	return w.tip - c.height + 1
}

// sure is the depth of a coin that the wallet stands for: what it was told of
// that coin, or what its proof and the headers say. A tip alone says nothing, as
// it may be of another branch.
func (w *Wallet) sure(c *coin) int32 {
	if c.proof == nil || c.tx == nil {
		return c.told
	}
	above := w.tail.from(c.proof.Height, KeepHeaders)
	if len(above) == 0 {
		return c.told
	}
	if root, err := c.proof.Branch.Root(c.tx); err != nil || root != above[0].MerkleRoot {
		return c.told
	}
	return max(c.told, int32(len(above)))
}

// spendable lists the coins that a new transaction may have, the largest first.
func (w *Wallet) spendable(a *account) (all []*coin) {
	for _, coins := range a.coins {
		for _, c := range coins {
			deep := w.depth(c)
			if deep > 0 && (!c.coinbase || deep >= watch.Maturity) && !w.uncounted(c) && c.tx != nil && w.locked[c.point] == nil && c.tx.SerializeSize() <= MaxPrevious {
				all = append(all, c)
			}
		}
	}
	slices.SortFunc(all, largest)
	return all
}

// largest sorts coins by value, downwards, and then by outpoint, so that the
// same coins are always chosen in the same order.
func largest(a, b *coin) int {
	return cmp.Or(cmp.Compare(b.value, a.value), comparePoints(a.point, b.point))
}

func comparePoints(a, b wire.OutPoint) int {
	return cmp.Or(bytes.Compare(a.Hash[:], b.Hash[:]), cmp.Compare(a.Index, b.Index))
}

// A Balance is an account's money in satoshi.
type Balance struct {
	Confirmed int64 `json:"confirmed_sat"` // in blocks, and in no transaction of ours
	Waiting   int64 `json:"waiting_sat"`   // on its way in: unconfirmed, immature, not deep enough for its bill, or our own change
	Reserved  int64 `json:"reserved_sat"`  // in transactions of ours that are on their way
}

func (w *Wallet) balance(a *account) (b Balance) {
	change := map[wire.OutPoint]bool{}
	for _, t := range w.batches {
		m := t.member(a.name)
		if m == nil || m.gone {
			continue
		}
		for _, in := range m.inputs {
			b.Reserved += in.value
		}
		if v := t.last(); v != nil {
			if s := v.share(t, m); s != nil && s.change > 0 {
				b.Waiting += s.change
				change[wire.OutPoint{Hash: v.id(), Index: uint32(s.changeOut)}] = true
			}
		}
	}
	for _, coins := range a.coins {
		for _, c := range coins {
			deep := w.depth(c)
			switch {
			case w.locked[c.point] != nil || change[c.point]:
			case deep == 0 || c.coinbase && deep < watch.Maturity || w.uncounted(c):
				b.Waiting += c.value
			default:
				b.Confirmed += c.value
			}
		}
	}
	return b
}

// Sizes in weight units (BIP 141) of a transaction's parts, at their largest.
const (
	weightBase   = 4*(4+1+3+4) + 2 // version, counts, lock time; marker and flag
	weightInput  = 4 * (32 + 4 + 1 + 4)
	weightWPKH   = weightInput + 1 + 1 + 72 + 1 + 33
	weightSHWPKH = weightWPKH + 4*23
	weightTR     = weightInput + 1 + 1 + 64
	weightPKH    = weightInput + 4*(1+72+1+33) + 1
)

func inputWeight(k descriptor.Kind) int64 {
	switch k {
	case descriptor.TR:
		return weightTR
	case descriptor.SHWPKH:
		return weightSHWPKH
	case descriptor.PKH:
		return weightPKH
	}
	return weightWPKH
}

func outputWeight(script []byte) int64 { return 4 * int64(8+1+len(script)) }

// feeFor is the fee in satoshi of a weight, rounded up.
func feeFor(rate tx.FeeRate, weight int64) int64 { return (int64(rate)*weight + 3999) / 4000 }

// dust is the smallest output of a script that nodes relay: three times what it
// would cost at 1 sat/vB to make and to spend it (Bitcoin Core's
// GetDustThreshold).
func dust(script []byte) int64 {
	spend := int64(32 + 4 + 1 + 107 + 4)
	if txscript.IsWitnessProgram(script) {
		spend = 32 + 4 + 1 + 107/4 + 4
	}
	return 3 * (8 + 1 + int64(len(script)) + spend)
}
