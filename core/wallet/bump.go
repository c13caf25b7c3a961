package wallet

import (
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/consent"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// Bump asks for more speed: of the transaction that pays Order, or with Order
// zero of the one that pays Point to an account of ours, which gets a child. The
// outcome's error says why there is none.
type Bump struct {
	Ask   string
	Order money.OrderID
	Point wire.OutPoint
	Rate  tx.FeeRate // 0: a quarter more than before
}

func (w *Wallet) bumpAsked(ev Bump, fx *step.Effects) {
	err := w.bumpOne(ev, fx)
	if err != nil {
		w.fail(ev.Ask, money.Refused, "bump", err, fx)
		return
	}
	fx.Done = append(fx.Done, step.Outcome{ID: ev.Ask})
}

func (w *Wallet) bumpOne(ev Bump, fx *step.Effects) error {
	if ev.Rate > w.o.MaxFeeRate {
		return fmt.Errorf("the fee rate is %d sat/kvB; the cap is %d (Options.MaxFeeRate)", ev.Rate, w.o.MaxFeeRate)
	}
	if ev.Order == (money.OrderID{}) {
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
			if c := w.another(b, m); c != nil {
				m.inputs = append(m.inputs, c.input())
				added = true
			}
		}
		if !added {
			return nil, err
		}
		v, err = w.version(b, rate)
	}
	return v, err
}

// another is the largest coin that a member may add; nil if there is none.
func (w *Wallet) another(b *batch, m *member) *coin {
	inputs, previous := 0, 0
	for _, x := range b.members {
		inputs += len(x.inputs)
	}
	for _, in := range m.inputs {
		previous += in.tx.SerializeSize()
	}
	for _, c := range w.spendable(w.accounts[m.account]) {
		has := slices.ContainsFunc(m.inputs, func(in *input) bool { return in.point == c.point })
		if !has && inputs < consent.MaxInputs && previous+c.tx.SerializeSize() <= MaxPrevious {
			return c
		}
	}
	return nil
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
	if err := w.deriveMore(a, fx); err != nil {
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
