package wallet

import (
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev"
	"coinop.dev/core/bitcoin/tx"
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
				w.wantHeaders = true
				continue
			}
		}
		w.close(b, v, headers, fx)
	}
	if w.wantHeaders {
		w.wantHeaders = false
		w.askHeaders(fx)
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

// orphan ends the children of a batch's versions that were not mined.
func (w *Wallet) orphan(b *batch, mined chainhash.Hash, fx *step.Effects) {
	for _, c := range slices.Clone(w.batches) {
		if c.child() && c.parent == b.n && c.parentID() != mined {
			w.erase(c, fx)
		}
	}
}

// Bumps.

// Bump asks for more speed: of the transaction that pays Order, or with Order
// zero of the one that pays Point to an account of ours, which gets a child. The
// outcome's error says why there is none.
type Bump struct {
	Ask   string
	Order coinop.OrderID
	Point wire.OutPoint
	Rate  tx.FeeRate // 0: a quarter more than before
}

func (w *Wallet) bumpAsked(ev Bump, fx *step.Effects) {
	err := w.bumpOne(ev, fx)
	if err != nil {
		w.fail(ev.Ask, coinop.Refused, "bump", err, fx)
		return
	}
	fx.Done = append(fx.Done, step.Outcome{ID: ev.Ask})
}

func (w *Wallet) bumpOne(ev Bump, fx *step.Effects) error {
	if ev.Rate > w.o.MaxFeeRate {
		return fmt.Errorf("the fee rate is %d sat/kvB; the cap is %d (Options.MaxFeeRate)", ev.Rate, w.o.MaxFeeRate)
	}
	if ev.Order == (coinop.OrderID{}) {
		c := w.coinAt(ev.Point)
		if c == nil || c.height > 0 || c.tx == nil {
			return fmt.Errorf("%v is no coin of ours that waits for a block", ev.Point)
		}
		return w.pull(c.input(), tx.VSize(c.tx), 0, ev.Rate, nil, fx)
	}
	o := w.orders[ev.Order]
	if o == nil || o.batch == nil || o.batch.complete() == nil || o.batch.final() {
		return fmt.Errorf("order %v is in no transaction that waits for a block", ev.Order)
	}
	return w.replace(o.batch, ev.Rate, fx)
}

func (w *Wallet) coinAt(p wire.OutPoint) *coin {
	for _, name := range w.names {
		for _, coins := range w.accounts[name].coins {
			for _, c := range coins {
				if c.point == p {
					return c
				}
			}
		}
	}
	return nil
}

// bumpStuck raises the fee of what has waited for BumpAfter blocks. Where a
// signer of a joint transaction is silent, another's change pulls it.
func (w *Wallet) bumpStuck(fx *step.Effects) {
	if w.o.BumpAfter == 0 {
		return
	}
	for _, b := range slices.Clone(w.batches) {
		v := b.complete()
		if v == nil || b.mined >= 0 || b.child() || b.stopped {
			continue
		}
		switch p := b.proposed(); {
		case p == nil && w.tip >= b.height+w.o.BumpAfter:
			if err := w.replace(b, 0, fx); err != nil {
				b.stopped = true
				w.touched[b] = true
			}
		case p != nil && w.tip >= p.at+w.o.BumpAfter:
			w.pullStuck(b, p, fx)
		}
	}
}

// replace proposes a version with a higher fee: the same inputs, and another
// coin if the change does not carry it.
func (w *Wallet) replace(b *batch, rate tx.FeeRate, fx *step.Effects) error {
	old := b.complete()
	switch {
	case b.mined >= 0:
		return fmt.Errorf("transaction %v is in block %d", old.id(), b.at)
	case b.proposed() != nil:
		return fmt.Errorf("a bump of transaction %v waits for consents", old.id())
	case len(b.versions) > w.o.MaxBumps:
		return fmt.Errorf("transaction %v was bumped %d times, which is the limit (Options.MaxBumps)", old.id(), w.o.MaxBumps)
	case b.child():
		return fmt.Errorf("transaction %v is a bump itself", old.id())
	}
	// BIP 125: a higher rate, and a fee that pays for its own way.
	size := int64(tx.VSize(old.tx))
	least := tx.FeeRate((old.fee()+size)*1000/size + 1)
	if rate == 0 {
		rate = old.rate + old.rate/4
	}
	rate = max(rate, least, old.rate+1)
	if rate > w.o.MaxFeeRate {
		return fmt.Errorf("the fee rate would be %d sat/kvB; the cap is %d (Options.MaxFeeRate)", rate, w.o.MaxFeeRate)
	}
	counts := make([]int, len(b.members))
	for i, m := range b.members {
		counts[i] = len(m.inputs)
	}
	v, err := w.raised(b, rate)
	if err == nil && v.fee() < old.fee()+int64(tx.VSize(old.tx)) {
		err = fmt.Errorf("the fee of %d sat does not pay for a replacement of %d sat", v.fee(), old.fee())
	}
	if err != nil {
		for i, m := range b.members {
			m.inputs = m.inputs[:counts[i]]
		}
		return err
	}
	w.propose(b, v, fx)
	return nil
}

// raised makes a version at a rate, adding a coin for each member that needs it.
func (w *Wallet) raised(b *batch, rate tx.FeeRate) (*version, error) {
	v, err := w.version(b, rate)
	for try := 0; err != nil && try < len(b.members); try++ {
		added := false
		for _, m := range b.members {
			if m.gone || len(m.inputs) >= MaxInputs {
				continue
			}
			if _, _, short := w.share(m, rate, 1); short == nil {
				continue
			}
			for _, c := range w.spendable(w.accounts[m.account]) {
				if !slices.ContainsFunc(m.inputs, func(in *input) bool { return in.point == c.point }) {
					m.inputs = append(m.inputs, c.input())
					added = true
					break
				}
			}
		}
		if !added {
			return nil, err
		}
		v, err = w.version(b, rate)
	}
	return v, err
}

// pullStuck has a member that does answer spend its own change of a stuck joint
// transaction (child pays for parent).
func (w *Wallet) pullStuck(b *batch, p *version, fx *step.Effects) {
	silent := false
	for _, s := range p.shares {
		silent = silent || s.sigs == nil
	}
	old := b.complete()
	for _, s := range old.shares {
		m := b.members[s.member]
		mine := p.share(b, m)
		if !silent || s.change == 0 || mine == nil || mine.sigs == nil {
			continue
		}
		script, err := w.accounts[m.account].script(change, m.changeIndex)
		if err != nil {
			continue
		}
		in := &input{point: wire.OutPoint{Hash: old.id(), Index: s.changeOut}, value: s.change, tx: old.tx, script: script}
		if w.pull(in, tx.VSize(old.tx), old.fee(), p.rate, b, fx) == nil {
			w.dropBump(b)
			return
		}
	}
}

// pull spends a coin that waits for a block to its own account, at a fee that
// pays for both transactions.
func (w *Wallet) pull(in *input, size int, paid int64, rate tx.FeeRate, parent *batch, fx *step.Effects) error {
	a := in.script.account
	if rate == 0 {
		rate = w.o.FeeRate + w.o.FeeRate/4
	}
	switch {
	case w.locked[in.point] != nil:
		return fmt.Errorf("%v has a child already", in.point)
	case a.revoked:
		return fmt.Errorf("account %s: %w", a.name, ErrRevoked)
	case a.open >= MaxOpen:
		return fmt.Errorf("%d transactions of account %s are on their way, which is the limit", MaxOpen, a.name)
	}
	m := &member{account: a.name, inputs: []*input{in}, changeIndex: a.next[change]}
	b := &batch{n: w.nextBatch, mined: -1, members: []*member{m}}
	if b.parent = noParent; parent != nil {
		b.parent = parent.n
	}
	// The child's own weight at a rate that makes up for what the parent lacks.
	back, err := a.script(change, m.changeIndex)
	if err != nil {
		return err
	}
	weight := weightBase + inputWeight(in.script.Kind) + outputWeight(back.Script.Script)
	lacks := max(0, rate.For(size)-paid)
	own := rate + tx.FeeRate(lacks*4000/weight)
	v, err := w.version(b, own)
	if err != nil {
		return err
	}
	if v.shares[0].change == 0 {
		return fmt.Errorf("%d sat do not carry a fee of %d sat", in.value, feeFor(own, weight))
	}
	v.rate = rate
	a.next[change]++
	w.dirty[a.name] = true
	if err := w.derive(a, fx); err != nil {
		return err
	}
	w.nextBatch++
	w.head = true
	a.open++
	w.batches = append(w.batches, b)
	w.propose(b, v, fx)
	return nil
}

// noParent is the parent of a child of somebody else's transaction.
const noParent = 1<<64 - 1

// child tells that a batch pays nobody: it pulls another one.
func (b *batch) child() bool {
	for _, m := range b.members {
		if len(m.orders) > 0 {
			return false
		}
	}
	return len(b.members) == 1 && !b.members[0].gone
}

// parentID is the transaction that a child pulls.
func (b *batch) parentID() chainhash.Hash { return b.members[0].inputs[0].point.Hash }

func (w *Wallet) rateOfBatch(b *batch) (rate tx.FeeRate) {
	for _, m := range b.members {
		for _, o := range m.orders {
			rate = max(rate, w.rateOf(o))
		}
	}
	return max(rate, w.o.FeeRate)
}
