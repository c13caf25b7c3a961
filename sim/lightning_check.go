package sim

import (
	"fmt"
	"slices"

	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// answered files what the purse says of an order, and holds it against the
// payee's till: who has paid was taken from, once; who has not, not.
func (l *Lightning) answered(d *deal, out step.Outcome) {
	if d == nil {
		return
	}
	var got *earned
	if d.to.till() != nil {
		got = d.to.till().by[d.ID]
	}
	switch kind := money.KindOf(out.Err); {
	case out.Err == nil:
		d.answer = "paid"
		if d.to.honest && (got == nil || got.times != 1 || got.amount != d.Amount) {
			l.Fail(fmt.Errorf("order %v of %v is paid, and the %s has earned %+v", d.ID, d.Amount, d.to.name, got))
		}
	case kind == money.Unpaid || kind == money.Refused || kind == money.Invalid:
		d.answer = "unpaid"
		if d.again < 3 && l.Now < l.retry { // what is certainly not paid can be asked for again
			d.again++
			l.At(l.Now+step.Time(5+5*d.again)*step.Second, func() { l.ask(d) })
		}
		if d.from.honest && d.to.honest && got != nil && l.enforced(d) {
			l.Fail(fmt.Errorf("order %v of %v counts as not paid (%w), and the %s has earned %+v", d.ID, d.Amount, out.Err, d.to.name, *got))
		}
	default:
		l.Fail(fmt.Errorf("order %v ends as %w", d.ID, out.Err))
	}
}

// enforced reports whether what the payee counts as earned must be paid for. If a
// channel ends on the chain, what is below dust goes to the miners; and a router
// that lies may pay out of its own pocket.
func (l *Lightning) enforced(d *deal) bool {
	return l.evil.honest() && !l.forced || l.evil.party != l.router && d.Amount > 1_500*money.Sat
}

// late is how many blocks beyond its expiry an HTLC may hang in an open channel:
// the margin of the node, and blocks that it has not heard of yet.
const late = 3 + 8

// invariants hold after every step, whatever has failed.
func (l *Lightning) invariants() error {
	if !l.trading {
		return nil
	}
	sum, paid, earned := money.Amount(0), money.Amount(0), money.Amount(0)
	for _, p := range l.parties {
		worth := p.worth()
		sum += worth
		paid += p.purse(l.Now).Paid
		earned += p.till().total()
		// One that only forwards never has less than before.
		if p.honest && !p.payer && worth < p.began+p.till().total() {
			return fmt.Errorf("the %s had %v, earned %v, paid nothing and has %v", p.name, p.began, p.till().total(), worth)
		}
		for id, e := range p.till().by {
			if d := l.deals[id]; d != nil && p == d.to && (e.times != 1 || e.amount != d.Amount) {
				return fmt.Errorf("order %v of %v was earned %d times, %v", id, d.Amount, e.times, e.amount)
			}
			if d := l.deals[id]; d != nil && p == d.to && d.kind == "invoice" && cancels(id) {
				return fmt.Errorf("order %v of %v was held, cancelled and earned", id, d.Amount)
			}
		}
		if !p.honest {
			continue
		}
		for _, c := range p.node().Channels() {
			if c.Status() > channel.Shutdown {
				continue
			}
			ours, theirs := c.HTLCs()
			for _, h := range append(ours[:len(ours):len(ours)], theirs...) {
				fulfilled := h.Settle != nil && h.Settle.Preimage != nil
				if fulfilled && h.Stage >= channel.Unacked || !h.Ours && !fulfilled {
					continue // its end is agreed, or the peer's to worry about
				}
				if int64(h.Expiry)+late < int64(l.Chain.Tip()) {
					return fmt.Errorf("an HTLC of the %s (ours: %v, stage %d) expired at %d; the chain is at %d and its channel is open", p.name, h.Ours, h.Stage, h.Expiry, l.Chain.Tip())
				}
			}
		}
	}
	if l.evil.honest() && sum < l.began {
		return fmt.Errorf("the nodes had %v and have %v", l.began, sum)
	}
	if l.evil.honest() && paid > earned {
		return fmt.Errorf("the purses have paid %v and the tills earned %v", paid, earned)
	}
	return nil
}

// settled is what must hold once all is calm.
func (l *Lightning) settled() error {
	expect := map[*party]money.Amount{} // less fees
	spent := map[*party]money.Amount{}
	for _, p := range l.parties {
		expect[p] = p.began
	}
	for _, d := range l.sorted() {
		got := d.to.till().by[d.ID]
		switch {
		case d.answer == "" && d.from.honest:
			return fmt.Errorf("order %v (%s, %s to %s) was never answered; at %d there hangs%s", d.ID, d.kind, d.from.name, d.to.name, l.Chain.Tip(), l.hanging())
		case d.answer == "paid":
			expect[d.from] -= d.Amount
			spent[d.from] += d.Amount
		case d.answer == "unpaid" && got != nil && d.from.honest && d.to.honest && l.enforced(d):
			return fmt.Errorf("order %v counts as not paid, and the %s has earned it", d.ID, d.to.name)
		}
		if got != nil {
			expect[d.to] += d.Amount
		}
	}
	sum := money.Amount(0)
	for _, p := range l.parties {
		s := p.purse(l.Now)
		if p.honest && (s.Open != 0 || s.Paid != spent[p]) {
			return fmt.Errorf("the purse of the %s has %d open orders and has paid %v; its orders add up to %v", p.name, s.Open, s.Paid, spent[p])
		}
		sum += p.worth()
	}
	if !l.evil.honest() || l.forced {
		return l.survived()
	}
	if sum != l.began {
		return fmt.Errorf("the nodes had %v and have %v", l.began, sum)
	}
	for _, p := range l.parties {
		worth := p.worth()
		most := expect[p]
		least := most - min(most, l.fees(p))
		if p == l.router { // it takes fees
			most, least = sum, expect[p]
		}
		if worth > most || worth < least {
			return fmt.Errorf("the %s has %v; it should have %v to %v", p.name, worth, least, most)
		}
	}
	return l.idle()
}

// fees is the most that a party's payments may have cost.
func (l *Lightning) fees(p *party) (sum money.Amount) {
	for _, d := range l.deals {
		if d.from == p && d.answer == "paid" {
			sum += 10*money.Sat + d.Amount/100
		}
	}
	return sum
}

// idle is that nothing is in flight between honest nodes and both ends of every
// channel agree.
func (l *Lightning) idle() error {
	for _, pair := range l.cables {
		a, b := pair[0], pair[1]
		if !a.honest || !b.honest {
			continue
		}
		ca, cb := a.with(b), b.with(a)
		if ca == nil || cb == nil {
			return fmt.Errorf("the channel of the %s with the %s is gone", a.name, b.name)
		}
		va, vb := ca.Value(), cb.Value()
		switch {
		case va.HTLCs+vb.HTLCs != 0:
			return fmt.Errorf("%d and %d HTLCs still hang between the %s and the %s", va.HTLCs, vb.HTLCs, a.name, b.name)
		case va.Local != vb.Remote || va.Remote != vb.Local:
			return fmt.Errorf("the %s has %v and %v, the %s %v and %v", a.name, va.Local, va.Remote, b.name, vb.Local, vb.Remote)
		case !ca.Usable() || !cb.Usable():
			return fmt.Errorf("the channel of the %s with the %s cannot be used: %v, %v", a.name, b.name, ca.Status(), cb.Status())
		}
	}
	return nil
}

func (p *party) with(peer *party) *channel.Channel {
	for _, c := range p.node().Channels() {
		if c.Peer == peer.key.Public() {
			return c
		}
	}
	return nil
}

// closingFee is the most that the end of one channel costs a node, in satoshi,
// dust and fractions included.
const closingFee = 2_000

// conserved reads the balances back from the chain.
func (l *Lightning) conserved() error {
	for _, p := range l.parties {
		if !p.honest {
			continue
		}
		want, change := int64(0), int64(0)
		for _, c := range p.node().Channels() {
			if _, over := p.over[c.Index]; over && (l.forced || !l.evil.honest()) || !l.honest(c) {
				continue // what is buried has been looked at
			}
			if c.Status() != channel.Closed {
				return fmt.Errorf("a channel of the %s is %v", p.name, c.Status())
			}
			spender := l.Chain.Status(c.Commit.Funding).Spender
			got := int64(0)
			for _, out := range spender.TxOut {
				if string(out.PkScript) == string(p.config.Payout) {
					got += out.Value
				}
			}
			if local := c.Value().Local.Sats(); got > local || got < local-closingFee {
				return fmt.Errorf("the %s had %d sat in a channel and has %d on the chain", p.name, local, got)
			}
			want += got
		}
		if paid := l.Chain.Paid(p.config.Payout); paid < want+change {
			return fmt.Errorf("the %s has %d sat on the chain, of %d", p.name, paid, want)
		}
	}
	return nil
}

// honest reports whether a channel's peer is.
func (l *Lightning) honest(c *channel.Channel) bool {
	for _, p := range l.parties {
		if p.key.Public() == c.Peer {
			return p.honest
		}
	}
	return false
}

// survived is what must hold of the honest nodes once all is calm, if channels
// ended on the chain: those are over, and what they had is in the wallet.
func (l *Lightning) survived() error {
	for _, p := range l.parties {
		if !p.honest {
			continue
		}
		for _, c := range p.node().Channels() {
			if _, over := p.over[c.Index]; c.Status() > channel.Shutdown && !over {
				spent := l.Chain.Status(c.Commit.Funding)
				return fmt.Errorf("the %s gave up a channel (%v: %s), which is not over: spent at depth %d", p.name, c.Status(), c.Failure(), spent.SpendDepth)
			}
		}
	}
	return nil
}

// hanging lists all HTLCs, for people.
func (l *Lightning) hanging() (text string) {
	for _, p := range l.parties {
		for _, c := range p.node().Channels() {
			ours, theirs := c.HTLCs()
			for _, h := range slices.Concat(ours, theirs) {
				text += fmt.Sprintf("; %s, channel %d (%v): %d %v ours: %v until %d, stage %d, settle %v", p.name, c.Index, c.Status(), h.ID, h.Amount, h.Ours, h.Expiry, h.Stage, h.Settle != nil)
			}
		}
	}
	return text
}
