package payword

import (
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// due is how many coins the next settlement should be of. Only stamped coins
// are settled, so the payee never gets money for coins it has not seen.
func (p *Payer) due() uint64 {
	switch unsettled := p.stamped() - p.settled; {
	case unsettled >= p.Every:
		return p.Every
	case p.state == closing && p.total == p.stamped():
		return unsettled
	}
	return 0
}

// stamped is how many coins the payee has acknowledged.
func (p *Payer) stamped() uint64 { return uint64(p.ledger.Stamped / p.Coin) }

// settle starts the settlement that is due. One is under way at a time, so the
// payee can count them; Every should be enough for the other rail's round trip.
func (p *Payer) settle(fx *step.Effects) {
	if p.owed == 0 {
		if p.owed = p.due(); p.owed > 0 {
			p.settlement = SettlementID(p.id, p.settlements+1)
			p.retry, p.dirty = true, true
		}
	}
	if p.owed > 0 && p.retry {
		o := money.Order{ID: p.settlement, To: p.peer, Amount: p.worth(p.owed), For: "payword " + p.id.String(), Units: p.owed}
		again := p.now + retryAfter
		if p.asked == p.now {
			again = p.now + 1 // the last one was paid within the round; leave it an end
		} else {
			fx.Send = append(fx.Send, step.Packet{To: p.Settle, Msg: o})
			p.asked = p.now
		}
		fx.Wake = append(fx.Wake, step.Alarm{ID: "settle", At: again})
		p.retry = false
	}
	if p.state == closing && p.total == p.settled {
		p.state, p.dirty = shut, true
		fx.Done = append(fx.Done, step.Outcome{ID: Shut})
	}
}

// outcome hears how the settlement under way ended. One that failed is tried
// again under the same ID, so it cannot be paid twice; meanwhile, if it is
// certain that it is unpaid, nothing more is promised.
func (p *Payer) outcome(d step.Outcome, fx *step.Effects) {
	if p.owed == 0 || d.ID != p.settlement.Key() {
		return
	}
	if d.Err != nil {
		if money.KindOf(d.Err) == money.Unpaid {
			p.stalled = d.Err
		}
		fx.Wake = append(fx.Wake, step.Alarm{ID: "settle", At: p.now + retryAfter})
		return
	}
	p.settled += p.owed
	p.settlements++
	p.owed, p.stalled, p.dirty = 0, nil, true
	p.settle(fx)
	p.drain(fx)
}

// close takes no more orders; the rest is settled when nothing is pending.
func (p *Payer) close(fx *step.Effects) {
	if p.state == shut {
		fx.Done = append(fx.Done, step.Outcome{ID: Shut})
		return
	}
	p.state, p.dirty = closing, true
}

// Summary is what people ask of a channel end.
type Summary struct {
	ID          ID           `json:"id"`
	State       string       `json:"state"`
	Coin        money.Amount `json:"coin_msat"`
	Paid        money.Amount `json:"paid_msat"`    // promised and stamped
	Pending     money.Amount `json:"pending_msat"` // promised and not stamped
	Settled     money.Amount `json:"settled_msat"`
	Settling    money.Amount `json:"settling_msat"`
	AtRisk      money.Amount `json:"at_risk_msat"`
	Left        money.Amount `json:"left_msat"` // of the credit
	Settlements uint64       `json:"settlements"`
	Tickets     uint64       `json:"tickets"`
	Waiting     int          `json:"waiting"`
	Epoch       uint64       `json:"epoch"`
	Index       uint64       `json:"index"`
	Length      uint64       `json:"length"`
	Signatures  uint64       `json:"signatures"` // made since this end was loaded, stamps included
}

// Summary reads the channel. The payer risks what it promised without a stamp.
func (p *Payer) Summary() Summary {
	return Summary{
		ID: p.id, State: p.state.String(), Coin: p.Coin,
		Paid: p.worth(p.stamped()), Pending: p.worth(p.total - p.stamped()), AtRisk: p.worth(p.total - p.stamped()),
		Settled: p.worth(p.settled), Settling: p.worth(p.owed), Left: p.worth(p.settled + p.Credit - p.total),
		Settlements: p.settlements, Tickets: p.ledger.Seq, Waiting: len(p.waiting),
		Epoch: p.commit.Epoch, Index: p.chain.Index(), Length: p.Length, Signatures: p.signs,
	}
}

func (p *Payer) check() {
	step.Assert(p.settled+p.owed <= p.stamped() && p.stamped() <= p.total && p.total <= p.settled+p.Credit,
		"payword %v: settled %d, settling %d, stamped %d, promised %d, credit %d", p.id, p.settled, p.owed, p.stamped(), p.total, p.Credit)
	step.Assert(p.commit.Start+p.chain.Index() == p.total, "payword %v: chain is at %d+%d, promised %d", p.id, p.commit.Start, p.chain.Index(), p.total)
	step.Assert(len(p.waiting) == 0 || p.settling() && len(p.waiting) <= MaxWaiting, "payword %v: %d orders wait for %d coins", p.id, len(p.waiting), p.owed)
	step.Assert(p.worth(p.total) == p.ledger.Total, "payword %v: promised %d coins, tickets for %v", p.id, p.total, p.ledger.Total)
	p.ledger.Check()
}
