package payword

import (
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

// A meter is what a session has been stamped for.
type meter struct {
	coins uint64
	told  uint64
	kept  int // its ticks in the batches that are remembered
}

// taken settles the tickets that a stamp covers, and tells whoever waits for
// their orders and ticks.
func (p *Payer) taken(s receipt.Stamped, fx *step.Effects) {
	settled, forgotten := p.ledger.Taken(s, fx)
	for _, b := range settled {
		p.sent, p.later = p.now, true
		p.meter(b)
		p.answer(b, fx)
	}
	for _, b := range forgotten {
		p.forget(b, fx)
	}
}

// meter counts a batch's ticks as remembered.
func (p *Payer) meter(b receipt.Settled) {
	b.Each(func(int) {}, func(e receipt.Entry) {
		m := p.meters[e.Order]
		if m == nil {
			m = &meter{}
			p.meters[e.Order] = m
		}
		m.kept++
	})
}

// answer tells whoever waits for the orders and ticks of a new batch.
func (p *Payer) answer(b receipt.Settled, fx *step.Effects) {
	b.Each(
		func(i int) { fx.Done = append(fx.Done, b.Outcome(i)) },
		func(e receipt.Entry) { p.meters[e.Order].coins += uint64(e.Amount / p.Coin) })
	b.Each(func(int) {}, func(e receipt.Entry) {
		m := p.meters[e.Order]
		if n := m.coins - m.told; n > 0 {
			m.told = m.coins
			record := p.meterRecord(e.Order, m)
			record.Lazy = true // as the stamp it counts
			fx.Put = append(fx.Put, record)
			fx.Done = append(fx.Done, step.Outcome{ID: MeterID(e.Order), Value: Metered{e.Order, m.coins, n}})
		}
	})
}

// forget drops the meters of which no tick is remembered any more.
func (p *Payer) forget(b receipt.Settled, fx *step.Effects) {
	b.Each(func(int) {}, func(e receipt.Entry) {
		m := p.meters[e.Order]
		if m.kept--; m.kept == 0 {
			delete(p.meters, e.Order)
			fx.Put = append(fx.Put, step.Record{Key: p.meterKey(e.Order), Lazy: true})
		}
	})
}
