package payword

import (
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

// A batch is what one stamp settled.
type batch struct {
	*receipt.Batch
	tickets []ticket
}

// place is where an order is: in a stamped batch, or (batch nil) pending or
// waiting.
type place struct {
	batch *receipt.Batch
	i     int
}

// A meter is what a session has been stamped for.
type meter struct {
	coins uint64
	told  uint64
	kept  int // its ticks in the batches that are remembered
}

func entries(tickets []ticket) (all []receipt.Entry) {
	n := 0
	for i := range tickets {
		n += len(tickets[i].entries)
	}
	all = make([]receipt.Entry, 0, n)
	for i := range tickets {
		all = append(all, tickets[i].entries...)
	}
	return all
}

// taken settles the tickets that a stamp covers. A stale, repeated or forged
// stamp changes nothing; a missing one is asked for again by resending.
func (p *Payer) taken(s receipt.Stamped, fx *step.Effects) {
	if s.From > p.acked && s.To <= p.seq {
		p.again = p.again || p.now >= p.sent+askAfter
		return
	}
	if s.From != p.acked || s.To > p.seq || s.To-s.From > uint64(len(p.pending)) {
		return
	}
	tickets := p.pending[:s.To-s.From]
	last := tickets[len(tickets)-1]
	if s.Total != p.worth(last.total) {
		return
	}
	b := p.batch(s, tickets)
	if !s.Verify(p.Payee.Stamp, p.id, b.Tree.Root()) {
		return
	}
	p.pending = append([]ticket(nil), p.pending[len(tickets):]...)
	p.pendingOrders -= len(b.Entries)
	p.acked, p.ackedTotal, p.sent, p.dirty = s.To, last.total, p.now, true
	p.remember(b)
	fx.Put = append(fx.Put, step.Record{Key: p.stampKey(s.To), Value: s.Append(nil)})
	p.answer(b, fx)
	p.forget(fx)
}

// batch puts tickets under their stamp.
func (p *Payer) batch(s receipt.Stamped, tickets []ticket) batch {
	all := entries(tickets)
	b := batch{&receipt.Batch{Channel: p.id, Payee: p.Payee, Stamped: s, Entries: all, Tree: receipt.NewTree(all)}, append([]ticket(nil), tickets...)}
	for i := range b.tickets {
		n := len(b.tickets[i].entries)
		b.tickets[i].entries, all = all[:n:n], all[n:]
	}
	return b
}

// each walks a batch's entries, orders and ticks.
func (b batch) each(order func(i int, e *receipt.Entry), tick func(e *receipt.Entry)) {
	i := 0
	for _, t := range b.tickets {
		for k := range t.entries {
			if k < t.orders {
				order(i, &b.Entries[i])
			} else {
				tick(&b.Entries[i])
			}
			i++
		}
	}
}

func (p *Payer) remember(b batch) {
	p.stamped = append(p.stamped, b)
	p.stampedOrders += len(b.Entries)
	b.each(
		func(i int, e *receipt.Entry) { p.where[e.Order] = place{b.Batch, i} },
		func(e *receipt.Entry) {
			m := p.meters[e.Order]
			if m == nil {
				m = &meter{}
				p.meters[e.Order] = m
			}
			m.kept++
		})
}

// answer tells whoever waits for the orders and ticks of a new batch.
func (p *Payer) answer(b batch, fx *step.Effects) {
	b.each(
		func(i int, _ *receipt.Entry) { fx.Done = append(fx.Done, paid(b.Batch, i)) },
		func(e *receipt.Entry) { p.meters[e.Order].coins += uint64(e.Amount / p.Coin) })
	b.each(func(int, *receipt.Entry) {}, func(e *receipt.Entry) {
		m := p.meters[e.Order]
		if n := m.coins - m.told; n > 0 {
			m.told = m.coins
			fx.Put = append(fx.Put, p.meterRecord(e.Order, m))
			fx.Done = append(fx.Done, step.Outcome{ID: MeterID(e.Order), Value: Metered{e.Order, m.coins, n}})
		}
	})
}

func paid(b *receipt.Batch, i int) step.Outcome {
	return step.Outcome{ID: b.Entries[i].Order.Key(), Value: receipt.Paid{Batch: b, I: i}}
}

// forget drops the oldest batches while the rest still hold Keep orders.
func (p *Payer) forget(fx *step.Effects) {
	n := 0
	for n < len(p.stamped) && p.stampedOrders-len(p.stamped[n].Entries) >= Keep {
		b := p.stamped[n]
		b.each(
			func(_ int, e *receipt.Entry) { delete(p.where, e.Order) },
			func(e *receipt.Entry) {
				m := p.meters[e.Order]
				if m.kept--; m.kept == 0 {
					delete(p.meters, e.Order)
					fx.Put = append(fx.Put, step.Record{Key: p.meterKey(e.Order)})
				}
			})
		for _, t := range b.tickets {
			fx.Put = append(fx.Put, step.Record{Key: p.ticketKey(t.seq)})
		}
		fx.Put = append(fx.Put, step.Record{Key: p.stampKey(b.Stamped.To)})
		p.stampedOrders -= len(b.Entries)
		n++
	}
	p.stamped = p.stamped[n:]
}
