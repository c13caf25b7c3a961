package wallet

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/consent"
	"coinop.dev/core/step"
)

// A batch is one transaction on its way, in all its versions. The first version
// waits for consents until all are there; later ones replace it in the mempool,
// and any of them may be the one that is mined.
type batch struct {
	n        uint64
	members  []*member
	versions []*version // all complete but perhaps the last
	height   int32      // tip when the last version was published
	stopped  bool       // no more bumps: a signer or the fee cap said no
	answered bool       // the orders have been, with the proof below
	proof    []byte     // transaction, Merkle proof, headers
	parent   uint64     // of a child: the batch it pulls

	// Not on disk: what the chain says.
	mined    int   // version; -1 if none
	at       int32 // the height of its block
	deep     int32 // blocks that confirm it
	accepted bool  // a node has shown it
	merkle   *merkle.Proof
	proves   chainhash.Hash // the transaction that merkle is of
	spends   map[wire.OutPoint]watch.Status
	sought   int32 // the tip when a proof was asked for last
	dropped  bool  // from the wallet's list
	holds    int   // orders that need the proof
}

// A member is an account's part of a batch. Gone ones had to leave before
// anything was published.
type member struct {
	account     string
	inputs      []*input
	orders      []*order
	changeIndex uint32
	gone        bool
	agreed      consent.ID // the last proposal its signer consented to
}

type input struct {
	point  wire.OutPoint
	value  int64
	tx     *wire.MsgTx // that it is an output of
	proof  *merkle.Proof
	script *script
}

// A version is what the signers are asked to consent to.
type version struct {
	tx     *wire.MsgTx // unsigned until complete
	rate   tx.FeeRate
	shares []*share // of the members that take part
	full   bool     // signed by all
	at     int32    // tip when it was proposed

	since step.Time // when it was proposed, for patience; not on disk
}

// A share is a member's part of a version.
type share struct {
	member    int
	inputs    int      // how many of the member's inputs it has
	outs      []uint32 // of its orders
	change    int64    // satoshi; 0: no output
	changeOut uint32
	fee       int64
	id        consent.ID
	replaces  consent.ID
	sigs      [][]byte
	open      // the proposal that has to be answered before this one is sent

	refused bool      // not for good, and not since it was last sent; not on disk
	next    step.Time // when it is sent again, unless the link comes up; not on disk
	pause   step.Time
}

func (b *batch) member(account string) *member {
	for _, m := range b.members {
		if m.account == account {
			return m
		}
	}
	return nil
}

// last is the newest version, or nil.
func (b *batch) last() *version {
	if len(b.versions) == 0 {
		return nil
	}
	return b.versions[len(b.versions)-1]
}

// complete is the newest version that may be in a block, or nil.
func (b *batch) complete() *version {
	for i := len(b.versions) - 1; i >= 0; i-- {
		if b.versions[i].full {
			return b.versions[i]
		}
	}
	return nil
}

// proposed is the version that waits for consents, or nil.
func (b *batch) proposed() *version {
	if v := b.last(); v != nil && !v.full {
		return v
	}
	return nil
}

func (v *version) id() chainhash.Hash { return v.tx.TxHash() }

func (v *version) share(b *batch, m *member) *share {
	for _, s := range v.shares {
		if b.members[s.member] == m {
			return s
		}
	}
	return nil
}

func (v *version) fee() (sum int64) {
	for _, s := range v.shares {
		sum += s.fee
	}
	return sum
}

// release takes one order off those that need the proof, and reports whether it
// was the last.
func (b *batch) release() bool {
	b.holds--
	return b.holds == 0 && b.final()
}

// final tells that the batch is settled for good and only kept for its proof.
func (b *batch) final() bool { return b.mined == finished }

// finished is the value of mined once nothing can change any more.
const finished = 1 << 20

// version makes a transaction of the members that are not gone. In it each
// account pays its orders, the weight of its own parts and an equal share of the
// rest; what is left goes to its own change, or to its fee if it is dust.
func (w *Wallet) version(b *batch, rate tx.FeeRate) (*version, error) {
	v := &version{rate: rate, tx: wire.NewMsgTx(2), at: w.tip, since: w.now}
	live := 0
	for _, m := range b.members {
		if !m.gone {
			live++
		}
	}
	var outs []output
	for i, m := range b.members {
		if m.gone {
			continue
		}
		s, more, err := w.share(m, rate, live)
		if err != nil {
			return nil, err
		}
		s.member = i
		v.shares = append(v.shares, s)
		outs = append(outs, more...)
	}
	v.lay(b, outs)
	if w.o.LockTime && w.tip > 0 {
		v.tx.LockTime = uint32(w.tip)
	}
	v.name(b)
	return v, nil
}

// output is one of a version that is not laid out yet.
type output struct {
	wire.TxOut
	share  *share
	change bool
}

// share works out what a member pays.
func (w *Wallet) share(m *member, rate tx.FeeRate, members int) (*share, []output, error) {
	s := &share{inputs: len(m.inputs)}
	need, weight := m.needs(members)
	have := int64(0)
	for _, in := range m.inputs {
		have += in.value
		weight += inputWeight(in.script.Kind)
	}
	a := w.accounts[m.account]
	back, err := a.script(change, m.changeIndex)
	if err != nil {
		return nil, nil, err
	}
	if s.fee = have - need; s.fee < feeFor(rate, weight) {
		return nil, nil, fmt.Errorf("%w: %d sat in the inputs, and %d sat with a fee of %d sat is needed", ErrFunds, have, need+feeFor(rate, weight), feeFor(rate, weight))
	}
	var outs []output
	for _, o := range m.orders {
		outs = append(outs, output{TxOut: wire.TxOut{Value: o.sats(), PkScript: o.Script}, share: s})
	}
	if fee := feeFor(rate, weight+outputWeight(back.Script.Script)); have-need-fee >= dust(back.Script.Script) {
		s.change, s.fee = have-need-fee, fee
		outs = append(outs, output{TxOut: wire.TxOut{Value: s.change, PkScript: back.Script.Script}, share: s, change: true})
	}
	if s.fee > w.o.MaxFee.Sats() {
		return nil, nil, fmt.Errorf("the fee of account %s would be %d sat; the cap is %v (Options.MaxFee)", m.account, s.fee, w.o.MaxFee)
	}
	return s, outs, nil
}

// lay puts inputs and outputs in BIP 69's order, which tells nobody whose they
// are.
func (v *version) lay(b *batch, outs []output) {
	for _, s := range v.shares {
		for _, in := range b.members[s.member].inputs[:s.inputs] {
			t := wire.NewTxIn(&in.point, nil, nil)
			t.Sequence = wire.MaxTxInSequenceNum - 2 // replaceable (BIP 125)
			v.tx.AddTxIn(t)
		}
	}
	slices.SortFunc(v.tx.TxIn, func(x, y *wire.TxIn) int { return comparePoints(x.PreviousOutPoint, y.PreviousOutPoint) })
	order := make([]int, len(outs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(x, y int) int {
		return cmp.Or(cmp.Compare(outs[x].Value, outs[y].Value), bytes.Compare(outs[x].PkScript, outs[y].PkScript))
	})
	place := make([]uint32, len(outs))
	for at, i := range order {
		place[i] = uint32(at)
		v.tx.AddTxOut(wire.NewTxOut(outs[i].Value, outs[i].PkScript))
	}
	for i, o := range outs {
		if o.change {
			o.share.changeOut = place[i]
			continue
		}
		o.share.outs = append(o.share.outs, place[i])
	}
}

// inputOf finds the member's input that spends a point.
func (v *version) inputOf(b *batch, point wire.OutPoint) (*input, *share) {
	for _, s := range v.shares {
		for _, in := range b.members[s.member].inputs[:s.inputs] {
			if in.point == point {
				return in, s
			}
		}
	}
	return nil, nil
}

// check asserts that no satoshi is lost or made.
func (b *batch) check() {
	for _, v := range b.versions {
		in, out := int64(0), int64(0)
		for _, o := range v.tx.TxOut {
			out += o.Value
		}
		for _, s := range v.shares {
			m := b.members[s.member]
			own, orders := int64(0), int64(0)
			for _, i := range m.inputs[:s.inputs] {
				own += i.value
			}
			for i, o := range m.orders {
				orders += o.sats()
				got := v.tx.TxOut[s.outs[i]]
				step.Assert(got.Value == o.sats() && bytes.Equal(got.PkScript, o.Script), "wallet: output %d of transaction %d is not order %v's", s.outs[i], b.n, o.Order)
			}
			step.Assert(own-s.change == orders+s.fee, "wallet: account %s puts %d sat into transaction %d, and has %d in orders, %d in fees and %d in change", m.account, own, b.n, orders, s.fee, s.change)
			in += own
		}
		step.Assert(in == out+v.fee(), "wallet: transaction %d has inputs of %d sat, outputs of %d and fees of %d", b.n, in, out, v.fee())
	}
}

// lock reserves a batch's coins and takes note of its proposals and points.
func (w *Wallet) lock(b *batch) {
	for _, m := range b.members {
		if m.gone {
			continue
		}
		for _, in := range m.inputs {
			other := w.locked[in.point]
			step.Assert(other == nil || other == b, "wallet: coin %v is in two transactions", in.point)
			w.locked[in.point] = b
		}
	}
	for _, v := range b.versions {
		if v.full {
			w.byTx[v.id()] = b
			continue
		}
		for _, s := range v.shares {
			w.proposals[s.id] = b
			if s.held != nil {
				w.proposals[s.open.id] = b
			}
		}
	}
}

// unlock lets go of everything that names a batch.
func (w *Wallet) unlock(b *batch) {
	for _, m := range b.members {
		for _, in := range m.inputs {
			if w.locked[in.point] == b {
				delete(w.locked, in.point)
			}
			if w.follows[in.point] == b {
				delete(w.follows, in.point) // also of versions that were not mined
			}
		}
	}
	for _, v := range b.versions {
		if w.byTx[v.id()] == b {
			delete(w.byTx, v.id())
		}
		for _, s := range v.shares {
			delete(w.proposals, s.id)
			delete(w.proposals, s.open.id)
		}
	}
}

// drop takes a batch out of the wallet.
func (w *Wallet) drop(b *batch) {
	w.unlock(b)
	b.dropped = true
	w.batches = slices.DeleteFunc(w.batches, func(x *batch) bool { return x == b })
	for _, m := range b.members {
		if a := w.accounts[m.account]; !m.gone {
			a.open--
			if len(a.waiting) > 0 {
				w.hungry[a.name] = true
				w.wake(w.now + 1)
			}
		}
	}
	delete(w.touched, b)
}
