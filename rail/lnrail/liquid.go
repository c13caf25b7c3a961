package lnrail

import (
	"context"

	"coinop.dev/core/money"
	"coinop.dev/rail"
)

// Liquidity makes it a rail.Liquid. At risk is what is in flight and too small for
// the chain to enforce.
func (c *conn) Liquidity(ctx context.Context) (l rail.Liquidity, err error) {
	s, err := Summary(ctx, c.m)
	for i := range s.Channels {
		if ch := &s.Channels[i]; !Over(ch) {
			l.Channels++
			l.InFlight += money.Amount(ch.Capacity)*money.Sat - min(money.Amount(ch.Capacity)*money.Sat, ch.Local+ch.Remote)
		}
	}
	l.Receivable, l.Spendable, l.AtRisk = s.CanTake, s.CanSend, s.Dust
	l.InFlight += s.Held
	return l, err
}
