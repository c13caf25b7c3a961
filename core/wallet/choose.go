package wallet

import (
	"fmt"
	"slices"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/consent"
	"coinop.dev/core/step"
)

// form puts waiting orders into transactions.
func (w *Wallet) form(fx *step.Effects) {
	if len(w.hungry) == 0 {
		return
	}
	var due, early []*account
	for _, name := range sortedKeys(w.hungry) {
		a := w.accounts[name]
		switch {
		case a.revoked || a.silent > 0 || a.open >= MaxOpen: // a coin's or a settlement's news brings it back
			delete(w.hungry, name)
		case a.waiting[0].at+w.o.Gather <= w.now || len(a.waiting) >= MaxOrders:
			due = append(due, a)
		default:
			early = append(early, a)
			w.wake(a.waiting[0].at + w.o.Gather)
		}
	}
	if len(due) == 0 {
		return
	}
	if w.o.Joint {
		due = append(due, early...)
	}
	for len(due) > 0 {
		var group []*account
		group, due = w.group(due)
		w.gather(group, fx)
	}
}

// group takes the accounts off the front that may share a transaction: one for
// each signer that can answer now.
func (w *Wallet) group(all []*account) (group, rest []*account) {
	signers := map[string]bool{}
	for _, a := range all {
		joins := w.o.Joint && !a.solo && !a.waiting[0].alone && (a.signer == LocalSigner || w.linked[a.signer])
		switch {
		case len(group) == 0:
			group = append(group, a)
			signers[a.signer] = true
			if !joins {
				return group, all[1:]
			}
		case joins && !signers[a.signer] && len(group) < MaxMembers:
			group = append(group, a)
			signers[a.signer] = true
		default:
			rest = append(rest, a)
		}
	}
	return group, rest
}

// gather makes one transaction for the accounts of a group that can pay.
func (w *Wallet) gather(group []*account, fx *step.Effects) {
	b := &batch{n: w.nextBatch, mined: -1}
	rate := tx.FeeRate(0)
	for _, a := range group {
		for _, o := range a.waiting {
			rate = max(rate, w.rateOf(o))
		}
	}
	inputs, outputs := 0, 0
	for _, a := range group {
		m := w.plan(a, rate, fx)
		delete(w.hungry, a.name) // until there is news
		if m == nil {
			continue
		}
		if inputs+len(m.inputs) > consent.MaxInputs || outputs+len(m.orders)+1 > consent.MaxOutputs {
			w.hungry[a.name] = true
			w.wake(w.now + 1)
			continue
		}
		inputs, outputs = inputs+len(m.inputs), outputs+len(m.orders)+1
		b.members = append(b.members, m)
	}
	if len(b.members) == 0 {
		return
	}
	v, err := w.version(b, rate)
	if err != nil {
		return // the fee is above its cap; told by plan
	}
	w.nextBatch++
	w.head = true
	for _, m := range b.members {
		a := w.accounts[m.account]
		a.next[change]++
		w.dirty[a.name] = true
		_ = w.deriveMore(a, fx)
		a.open++
		for _, o := range m.orders {
			w.dequeue(o)
			o.batch = b
		}
		if len(a.waiting) > 0 {
			w.hungry[a.name] = true
			w.wake(w.now + 1)
		}
	}
	w.batches = append(w.batches, b)
	w.lock(b)
	w.propose(b, v, fx)
}

func (w *Wallet) rateOf(o *order) tx.FeeRate {
	if o.Rate != 0 {
		return o.Rate
	}
	return w.o.FeeRate
}

// plan chooses the orders of an account that go into the next transaction, and
// the coins that pay them. An order that no coin in sight could pay is answered.
func (w *Wallet) plan(a *account, rate tx.FeeRate, fx *step.Effects) *member {
	m := &member{account: a.name, changeIndex: a.next[change]}
	coins := w.spendable(a)
	s, err := a.script(change, m.changeIndex)
	if err != nil {
		return nil
	}
	for _, o := range slices.Clone(a.waiting) {
		if len(m.orders) == MaxOrders || o.alone && len(m.orders) > 0 {
			break
		}
		m.orders = append(m.orders, o)
		chosen, err := choose(coins, m, rate, s.Script.Script, w.o.MaxFee.Sats())
		if err != nil {
			m.orders = m.orders[:len(m.orders)-1]
			have := w.balance(a)
			if len(m.orders) == 0 && have.Confirmed+have.Waiting < o.sats()+feeFor(rate, weightBase) {
				w.unpaidOrder(o, fmt.Errorf("%w: account %s has %d sat and %d sat on their way, and %d sat and a fee are to be paid", ErrFunds, a.name, have.Confirmed, have.Waiting, o.sats()), fx)
			} else if len(m.orders) == 0 && have.Waiting == 0 {
				w.unpaidOrder(o, err, fx)
			}
			continue
		}
		m.inputs = chosen
		if o.alone {
			break
		}
	}
	if len(m.orders) == 0 {
		return nil
	}
	return m
}

// choose picks coins for a member's orders: the smallest one that is enough, or
// else the largest ones, at most MaxInputs.
func choose(coins []*coin, m *member, rate tx.FeeRate, changeScript []byte, maxFee int64) ([]*input, error) {
	need, weight := m.needs(1)
	for i := len(coins) - 1; i >= 0; i-- {
		if c := coins[i]; c.value >= need+feeFor(rate, weight+c.weight()) {
			return capped([]*input{c.input()}, feeFor(rate, weight+c.weight()+outputWeight(changeScript)), maxFee)
		}
	}
	var chosen []*input
	have, previous := int64(0), 0
	for _, c := range coins {
		if len(chosen) == MaxInputs {
			break
		}
		if previous += c.tx.SerializeSize(); previous > MaxPrevious {
			previous -= c.tx.SerializeSize()
			continue
		}
		chosen = append(chosen, c.input())
		have += c.value
		weight += c.weight()
		if have >= need+feeFor(rate, weight) {
			return capped(chosen, feeFor(rate, weight+outputWeight(changeScript)), maxFee)
		}
	}
	return nil, fmt.Errorf("%w: %d sat in the %d largest coins that fit a transaction, and %d sat with a fee of %d sat is needed", ErrFunds, have, len(chosen), need+feeFor(rate, weight), feeFor(rate, weight))
}

func capped(chosen []*input, fee, maxFee int64) ([]*input, error) {
	if fee > maxFee {
		return nil, fmt.Errorf("the fee would be %d sat; the cap is %d sat (Options.MaxFee)", fee, maxFee)
	}
	return chosen, nil
}

func (c *coin) weight() int64 { return inputWeight(c.script.Kind) }

func (c *coin) input() *input {
	return &input{point: c.point, value: c.value, tx: c.tx, proof: c.proof, script: c.script}
}

// needs is what a member's orders pay in satoshi, and the weight that it pays
// for besides its inputs and change.
func (m *member) needs(members int) (sats, weight int64) {
	weight = (weightBase + int64(members) - 1) / int64(members)
	for _, o := range m.orders {
		sats += o.sats()
		weight += outputWeight(o.Script)
	}
	return sats, weight
}
