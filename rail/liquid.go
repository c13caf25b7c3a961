package rail

import (
	"context"

	"coinop.dev/core/money"
)

// A Liquid rail says how much it can move now.
type Liquid interface {
	Liquidity(ctx context.Context) (Liquidity, error)
}

// Liquidity is how much a rail can move, and how much of it is at risk.
type Liquidity struct {
	Channels   int          `json:"channels"`
	Receivable money.Amount `json:"receivable_msat"`
	Spendable  money.Amount `json:"spendable_msat"`
	InFlight   money.Amount `json:"in_flight_msat"`
	// AtRisk is what would be lost if the other side went away now: in flight below
	// dust, credit given, promises without a receipt.
	AtRisk money.Amount `json:"at_risk_msat"`
}
