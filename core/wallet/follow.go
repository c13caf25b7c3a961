package wallet

import (
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/step"
)

// sighted takes note of a coin that a transaction of ours made: a node has the
// transaction, or a block has it, and this is the proof.
func (w *Wallet) sighted(c *watch.Coin) {
	b := w.byTx[c.Point.Hash]
	if b == nil {
		return
	}
	b.accepted = true
	if c.Proof != nil && c.Depth > 0 {
		b.merkle, b.proves = c.Proof, c.Point.Hash
	}
}

// status takes in what the chain says of a coin that a batch spends.
func (w *Wallet) status(s watch.Status, fx *step.Effects) {
	w.tip = s.Tip
	b := w.follows[s.Point]
	if b == nil {
		return
	}
	if b.spends == nil {
		b.spends = map[wire.OutPoint]watch.Status{}
	}
	b.spends[s.Point] = s
	first, _ := b.versions[0].inputOf(b, s.Point)
	switch i := b.spentBy(s.Spender); {
	case i >= 0:
		b.mined, b.at, b.deep = i, s.Tip-s.SpendDepth+1, s.SpendDepth
		w.wantHeaders = w.wantHeaders || w.tip > w.tail.tip()
	case b.mined >= 0 && first != nil: // a reorganisation took it out
		b.mined, b.deep = -1, 0
		w.publish(b, fx)
	}
}

// spentBy finds the version that a transaction is; -1 if none.
func (b *batch) spentBy(t *wire.MsgTx) int {
	if t == nil {
		return -1
	}
	id := t.TxHash()
	return slices.IndexFunc(b.versions, func(v *version) bool { return v.full && v.id() == id })
}

// conflict finds a coin of every version that somebody else has spent, too deep
// to be undone.
func (w *Wallet) conflict(b *batch) (culprit *member, err error) {
	if b.mined >= 0 || len(b.spends) == 0 {
		return nil, nil
	}
	first := b.versions[0]
	for _, t := range first.tx.TxIn {
		s, ok := b.spends[t.PreviousOutPoint]
		if !ok || s.Spender == nil || s.SpendDepth < max(w.o.Depth, ConflictDepth) {
			continue
		}
		_, share := first.inputOf(b, t.PreviousOutPoint)
		return b.members[share.member], fmt.Errorf("%w: %v by %v", ErrConflict, t.PreviousOutPoint, s.Spender.TxHash())
	}
	return nil, nil
}

// settle ends what the chain has decided.
func (w *Wallet) settle(fx *step.Effects) {
	for _, b := range slices.Clone(w.batches) {
		quiet := b.mined < 0 && len(b.spends) == 0 && (b.answered || !b.accepted)
		if quiet || b.dropped || b.complete() == nil {
			continue
		}
		if culprit, err := w.conflict(b); err != nil {
			w.dead(b, culprit, err, fx)
			continue
		}
		if w.o.Depth == 0 && !b.answered && (b.accepted || b.mined >= 0) {
			w.answerAll(b, b.complete(), nil, fx)
		}
		if b.deep < max(w.o.Depth, 1) {
			continue
		}
		v := b.versions[b.mined]
		var headers []wire.BlockHeader
		if !b.answered && w.o.Depth > 0 {
			var ok bool
			if headers, ok = w.headersFor(b, v); !ok && b.deep < w.o.Depth+ProofGrace {
				w.seek(b, v, fx)
				continue
			}
		}
		if w.hangOn(b, v) != nil && b.deep < ConflictDepth {
			if !b.answered {
				w.answerAll(b, v, headers, fx)
			}
			continue // until it is certain that they cannot be mined
		}
		w.close(b, v, headers, fx)
	}
	if w.wantHeaders {
		w.wantHeaders = false
		w.askHeaders(fx)
	}
}

// seek asks, once for each tip, for what a proof lacks: headers, or a Merkle
// branch. A coin shows one only while it is unspent, and after a reorganisation
// the block that has it may also have who spends our change; so the payees'
// coins are asked for, too.
func (w *Wallet) seek(b *batch, v *version, fx *step.Effects) {
	if b.sought == w.tip {
		return
	}
	b.sought, w.wantHeaders = w.tip, true
	for _, s := range v.shares {
		for _, out := range s.outs {
			w.send(watch.Chain, watch.Script{Script: v.tx.TxOut[out].PkScript, Since: max(b.at-1, 0), Prove: true}, fx)
		}
	}
}

// headersFor finds the headers that prove a version, if the Merkle proof leads
// to the first.
func (w *Wallet) headersFor(b *batch, v *version) ([]wire.BlockHeader, bool) {
	if b.merkle == nil || b.proves != v.id() {
		return nil, false
	}
	headers := w.tail.from(b.merkle.Height, min(int(b.deep), MaxProofHeaders))
	if len(headers) == 0 || len(headers) < min(int(w.o.Depth), MaxProofHeaders) {
		return nil, false
	}
	root, err := b.merkle.Branch.Root(v.tx)
	return headers, err == nil && root == headers[0].MerkleRoot
}

// answerAll answers the orders of a batch with one proof.
func (w *Wallet) answerAll(b *batch, v *version, headers []wire.BlockHeader, fx *step.Effects) {
	b.answered = true
	b.proof = commonProof(v.tx, b, headers)
	w.touched[b] = true
	for _, s := range v.shares {
		for i, o := range b.members[s.member].orders {
			w.done(o)
			o.state, o.out = settled, s.outs[i]
			b.holds++
			fx.Put = append(fx.Put, o.record())
			w.answer(o, nil, fx)
		}
	}
}

// close settles a batch for good: what it spent is history, its proof is kept
// while an order needs it.
func (w *Wallet) close(b *batch, v *version, headers []wire.BlockHeader, fx *step.Effects) {
	if !b.answered {
		w.answerAll(b, v, headers, fx)
	}
	for _, s := range v.shares {
		m := b.members[s.member]
		w.arrived(b, m, fx)
		e := Entry{Point: v.id().String(), Height: b.at, Sats: s.change}
		for _, in := range m.inputs[:s.inputs] {
			e.Sats -= in.value
		}
		if len(m.orders) == 1 {
			e.Order = m.orders[0].Order
		}
		w.note(w.accounts[m.account], e, fx)
	}
	w.spend(b, v)
	w.drop(b)
	w.orphan(b, v.id(), fx)
	b.shelve()
	if b.holds == 0 {
		fx.Put = append(fx.Put, step.Record{Key: batchKey(b.n)})
		return
	}
	w.archive[b.n] = b
	fx.Put = append(fx.Put, b.record())
}

// shelve keeps only the proof of a batch.
func (b *batch) shelve() {
	b.mined, b.members, b.versions, b.spends, b.merkle = finished, nil, nil, nil, nil
}

// arrived notes what a child spent before any block showed it as a coin.
func (w *Wallet) arrived(b *batch, m *member, fx *step.Effects) {
	in := m.inputs[0]
	if a := w.accounts[m.account]; b.child() && in.script.branch == receive && !a.noted[in.point.String()] {
		w.note(a, Entry{Point: in.point.String(), Height: b.at, Sats: in.value}, fx)
	}
}

// spend takes coins that a block has spent off the lists; the chain will say so,
// too, but perhaps not in this step.
func (w *Wallet) spend(b *batch, v *version) {
	for _, t := range v.tx.TxIn {
		in, _ := v.inputOf(b, t.PreviousOutPoint)
		delete(w.follows, in.point)
		a, key := in.script.account, string(in.script.Script.Script)
		before := len(a.coins[key])
		a.coins[key] = slices.DeleteFunc(a.coins[key], func(c *coin) bool { return c.point == in.point })
		a.count -= before - len(a.coins[key])
		if len(a.coins[key]) == 0 {
			delete(a.coins, key)
		}
	}
}

// deadOrLeft ends a batch that spends a coin which will never be. If it is not
// published its orders try again.
func (w *Wallet) deadOrLeft(b *batch, m *member, fx *step.Effects) {
	if b.complete() == nil {
		w.leave(b, []*member{m}, fx)
		return
	}
	w.dead(b, m, fmt.Errorf("%w: the transaction before was replaced", ErrConflict), fx)
}

// dead ends a batch that cannot be mined any more. The orders of whoever spent
// the coin are unpaid for certain; the others go on, each with its own coins.
func (w *Wallet) dead(b *batch, culprit *member, err error, fx *step.Effects) {
	for _, t := range b.versions[0].tx.TxIn {
		delete(w.follows, t.PreviousOutPoint)
	}
	var others []left
	for _, m := range b.members {
		if m.gone || b.answered { // all that Depth 0 says is that a node had it
			continue
		}
		for _, o := range m.orders {
			o.batch = nil
			w.enqueue(o)
			if m == culprit {
				w.unpaidOrder(o, err, fx)
			}
		}
		if m != culprit && len(m.orders) > 0 {
			l := left{member: *m}
			if v := b.proposed(); v != nil {
				if s := v.share(b, m); s != nil {
					l.open = v.unanswered(b, s)
				}
			}
			others = append(others, l)
		}
	}
	w.orphan(b, chainhash.Hash{}, fx)
	w.drop(b)
	if b.holds == 0 {
		fx.Put = append(fx.Put, step.Record{Key: batchKey(b.n)})
	} else {
		b.shelve()
		w.archive[b.n] = b
		fx.Put = append(fx.Put, b.record())
	}
	for _, l := range others {
		w.alone(l, fx)
	}
}

// hangOn finds a batch, of one or more, that spends the change of a version of b
// that is not v. There is one if that version was in a block that a
// reorganisation has taken away.
func (w *Wallet) hangOn(b *batch, v *version) *batch {
	other := map[chainhash.Hash]bool{}
	for _, x := range b.versions {
		if x.full && x != v {
			other[x.id()] = true
		}
	}
	for _, c := range w.batches {
		if len(other) > 0 && !c.child() && c.on(other) != nil {
			return c
		}
	}
	return nil
}

// on finds the member that spends an output of one of some transactions.
func (b *batch) on(txs map[chainhash.Hash]bool) *member {
	for _, m := range b.members {
		for _, in := range m.inputs {
			if txs[in.point.Hash] && !m.gone {
				return m
			}
		}
	}
	return nil
}

// orphan ends what hangs on a batch's versions that were not mined.
func (w *Wallet) orphan(b *batch, mined chainhash.Hash, fx *step.Effects) {
	lost := map[chainhash.Hash]bool{}
	for _, v := range b.versions {
		if v.full && v.id() != mined {
			lost[v.id()] = true
		}
	}
	for _, c := range slices.Clone(w.batches) {
		if m := c.on(lost); m != nil && c != b && !c.child() && !c.dropped {
			w.deadOrLeft(c, m, fx)
		}
	}
	for _, c := range slices.Clone(w.batches) {
		if c.child() && c.parent == b.n && c.parentID() != mined {
			w.erase(c, fx)
		}
	}
}
