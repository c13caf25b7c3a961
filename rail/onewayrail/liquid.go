package onewayrail

import (
	"context"

	"coinop.dev/core/channel/oneway"
	"coinop.dev/rail"
)

// Liquidity makes the paying end a rail.Liquid: what is left of its channel can be
// paid.
func (c *payer) Liquidity(ctx context.Context) (rail.Liquidity, error) {
	all, err := c.Summaries(ctx)
	l := sum(all)
	l.Spendable, l.Receivable = l.Receivable, 0
	return l, err
}

// Liquidity makes the earning end a rail.Liquid: what is left of its channels can
// be received.
func (c *payee) Liquidity(ctx context.Context) (rail.Liquidity, error) {
	all, err := c.Summaries(ctx)
	return sum(all), err
}

func sum(all []oneway.Summary) (l rail.Liquidity) {
	for _, s := range all {
		l.Channels++
		l.Receivable += s.Left
		l.InFlight += s.Pending
		l.AtRisk += s.AtRisk
	}
	return l
}
