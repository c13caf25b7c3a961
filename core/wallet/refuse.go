package wallet

import (
	"slices"

	"coinop.dev/core/consent"
	"coinop.dev/core/step"
)

// refused takes a signer's refusal. One that passes is waited out, unless it is
// the sum of several orders that was too much for a day.
func (w *Wallet) refused(from string, m consent.Refusal, fx *step.Effects) {
	b, v, s := w.asked(from, m.ID)
	switch {
	case s == nil || s.sigs != nil:
		return
	case s.held != nil:
		w.goOn(b, v, s, fx)
		return
	}
	s.refused = true
	orders := b.members[s.member].orders
	tooMuch := m.Reason == consent.ReasonPerDay && len(orders) > 1 && b.complete() == nil
	old := len(orders) > 0 && orders[0].at+GiveUp < w.now
	// In a reorganisation the signer and the proof may be on two branches, for some
	// blocks.
	forked := m.Reason == consent.ReasonProof && w.tip < v.at+ProofGrace
	if (m.Reason.Passes() || forked) && !tooMuch && !old {
		if m.Reason == consent.ReasonLockTime || m.Reason == consent.ReasonDepth || forked {
			w.showTip(from, fx) // its headers may end too early
		}
		return
	}
	if m.Reason == consent.ReasonReplacement && !s.replaces.IsZero() && b.complete() == nil {
		// The signer has forgotten what this was to replace: as a first one, then.
		b.members[s.member].agreed = consent.ID{}
		w.goOn(b, v, s, fx)
		return
	}
	w.no(b, v, s, &ConsentError{m.Reason, m.Text[:min(len(m.Text), maxText/2)]}, fx)
}

// goOn makes a share's proposal, which had waited for the answer to an earlier
// one, the next in line.
func (w *Wallet) goOn(b *batch, v *version, s *share, fx *step.Effects) {
	delete(w.proposals, s.open.id)
	delete(w.proposals, s.id)
	s.open, s.replaces, s.pause = open{}, b.members[s.member].agreed, 0
	id := v.id()
	s.baptize(b.n, id[:], b.members[s.member])
	w.proposals[s.id] = b
	w.touched[b] = true
	w.sendProposal(b, v, s, fx)
}

// no acts on a refusal that stays. A bump is given up; orders that were refused
// in company are tried one by one; the last word on one alone is Unpaid.
func (w *Wallet) no(b *batch, v *version, s *share, why *ConsentError, fx *step.Effects) {
	m := b.members[s.member]
	a := w.accounts[m.account]
	if b.complete() != nil {
		w.dropBump(b)
		return
	}
	if len(v.shares) > 1 && why.Reason == consent.ReasonForeign {
		a.solo = true
		w.dirty[a.name] = true
	}
	company := len(v.shares) > 1 || len(m.orders) > 1
	for _, o := range w.leave(b, []*member{m}, fx)[0].orders {
		if company {
			o.alone = true
			fx.Put = append(fx.Put, o.record())
			continue
		}
		w.unpaidOrder(o, why, fx)
	}
}

// dropBump forgets the version that waits for consents; the one before it runs
// its course.
func (w *Wallet) dropBump(b *batch) {
	v := b.proposed()
	for _, s := range v.shares {
		delete(w.proposals, s.id)
	}
	b.versions = b.versions[:len(b.versions)-1]
	b.stopped = true
	w.touched[b] = true
}

// left is what a member takes along when it leaves a batch: all that is needed
// to go on with the same coins. Where a consent may be on its way, whatever comes
// next has to wait for it: the signer counts an order once, and wants the later
// transaction in place of the earlier one.
type left struct {
	member
	open
}

// open is a proposal that was sent and not answered.
type open struct {
	held []byte // its bytes; nil if there is none
	id   consent.ID
}

// unanswered is what a share's signer may still consent to.
func (v *version) unanswered(b *batch, s *share) open {
	switch {
	case s.held != nil:
		return s.open
	case s.sigs == nil && !s.refused:
		return open{v.proposal(b, s).Append(nil), s.id}
	}
	return open{}
}

// leave takes members out of a batch of which nothing is published, and has
// their orders wait again. The others are asked anew, for the transaction
// without them.
func (w *Wallet) leave(b *batch, gone []*member, fx *step.Effects) (all []left) {
	step.Assert(b.complete() == nil, "wallet: a member leaves transaction %d, which is published", b.n)
	before := map[*member]open{}
	for _, s := range b.proposed().shares {
		before[b.members[s.member]] = b.proposed().unanswered(b, s)
	}
	rate := w.rateOfBatch(b)
	w.unlock(b)
	w.touched[b] = true
	b.versions = nil
	for _, m := range gone {
		all = append(all, left{*m, before[m]})
		m.gone, m.orders, m.inputs = true, nil, nil
		w.accounts[m.account].open--
		for _, o := range all[len(all)-1].orders {
			o.batch = nil
			w.enqueue(o)
		}
	}
	w.wake(w.now + 1)
	rest := slices.DeleteFunc(slices.Clone(b.members), func(m *member) bool { return m.gone })
	if len(rest) == 0 {
		w.erase(b, fx)
		return all
	}
	w.lock(b) // raised must not choose these coins
	v, err := w.raised(b, rate)
	if err != nil { // the rest cannot carry the fee together: each alone, if it can
		w.erase(b, fx)
		for _, m := range rest {
			for _, o := range m.orders {
				o.batch = nil
				w.enqueue(o)
			}
			w.alone(left{*m, before[m]}, fx)
		}
		return all
	}
	for _, s := range v.shares {
		s.open = before[b.members[s.member]]
	}
	w.propose(b, v, fx)
	return all
}

func (w *Wallet) erase(b *batch, fx *step.Effects) {
	w.drop(b)
	fx.Put = append(fx.Put, step.Record{Key: batchKey(b.n)})
}

// withdraw takes a revoked account's part back as far as it is not published.
func (w *Wallet) withdraw(b *batch, m *member, fx *step.Effects) {
	switch {
	case b.complete() == nil:
		w.leave(b, []*member{m}, fx)
	case b.proposed() != nil:
		w.dropBump(b)
	default:
		b.stopped = true
		w.touched[b] = true
	}
}

// impatient goes on without the members of a joint transaction whose signers do
// not answer. Each gets a transaction of its own, of the same coins, so that a
// consent that was lost stands for it.
func (w *Wallet) impatient(fx *step.Effects) {
	for _, b := range slices.Clone(w.batches) {
		v := b.proposed()
		if len(b.members) < 2 || v == nil || len(v.shares) < 2 || b.complete() != nil {
			continue
		}
		if v.since == 0 {
			v.since = w.now // a restart begins to count anew
		}
		if v.since+w.o.Patience > w.now {
			w.wake(v.since + w.o.Patience)
			continue
		}
		var silent []*member
		for _, s := range v.shares {
			if s.sigs == nil {
				silent = append(silent, b.members[s.member])
			}
		}
		for _, l := range w.leave(b, silent, fx) {
			w.alone(l, fx)
		}
	}
}

// alone has a member that left go on in a batch of its own.
func (w *Wallet) alone(l left, fx *step.Effects) {
	m := l.member
	b := &batch{n: w.nextBatch, mined: -1, members: []*member{&m}}
	w.lock(b)
	v, err := w.raised(b, w.rateOfBatch(b))
	if err != nil {
		w.unlock(b)
		return // its orders wait for other coins
	}
	w.nextBatch++
	w.head = true
	w.accounts[m.account].open++
	for _, o := range m.orders {
		w.dequeue(o)
		o.batch = b
	}
	w.batches = append(w.batches, b)
	v.shares[0].open = l.open
	w.propose(b, v, fx)
}
