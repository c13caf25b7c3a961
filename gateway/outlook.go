package gateway

import (
	"context"

	"coinop.dev/core/earn"
	"coinop.dev/core/money"
	"coinop.dev/core/tab"
	"coinop.dev/rail"
	"coinop.dev/world/drive"
)

// A Way to be paid or to pay, as an owner looks at it.
type RailOutlook struct {
	Rail string `json:"rail"`
	rail.Liquidity
}

// Outlook is what the machine can do now, and what of its owner's money is where
// it could be lost.
type Outlook struct {
	Rails []RailOutlook `json:"rails"`
	// Receivable and Spendable are the sums over the rails.
	Receivable money.Amount `json:"receivable_msat"`
	Spendable  money.Amount `json:"spendable_msat"`
	// AtRisk is what is in flight without protection on chain, and credit given.
	AtRisk money.Amount `json:"at_risk_msat"`
	// Owed is paid and not delivered: orders, and what sessions have left.
	OwedOrders   int          `json:"owed_orders"`
	OwedSessions money.Amount `json:"owed_sessions_msat"`
}

// Outlook asks every rail.
func (s *Shop) Outlook(ctx context.Context) (o Outlook, err error) {
	o.Rails = []RailOutlook{}
	for _, r := range s.o.Rails() {
		l, ok := rail.As[rail.Liquid](r)
		if !ok {
			continue
		}
		have, err := l.Liquidity(ctx)
		if err != nil {
			return o, err
		}
		o.Rails = append(o.Rails, RailOutlook{r.Scheme(), have})
		o.Receivable += have.Receivable
		o.Spendable += have.Spendable
		o.AtRisk += have.AtRisk
	}
	err = s.m.Host.Do(ctx, func(m *drive.Machine) {
		o.OwedOrders = m.Core(earn.Name).(*earn.Book).Summary().Owed
		if t, ok := m.Core(tab.Name).(*tab.Tabs); ok {
			sum := t.Summary()
			o.OwedSessions = sum.Left + sum.Held
		}
	})
	return o, err
}
