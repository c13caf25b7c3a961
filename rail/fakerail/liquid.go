package fakerail

import (
	"context"

	"coinop.dev/core/money"
	"coinop.dev/rail"
)

// Liquidity makes the earning end a rail.Liquid: it takes any amount of play money.
func (*payee) Liquidity(context.Context) (rail.Liquidity, error) {
	return rail.Liquidity{Channels: 1, Receivable: money.MaxAmount}, nil
}
