package books

import (
	"context"
	"errors"
	"fmt"

	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// A device's budget is one, however many gateways it spends through. Each of them
// leases a part of it and spends no more than it has leased, so one that is cut
// off from the books spends what it holds and then refuses. A lease whose answer
// is lost counts as given out: the sum of what gateways believe to hold is at
// most the limit, always.

// Lease gives the gateway up to want more of what is left of device's limit in
// the window that begins at window, and returns how much: less than want, or 0,
// if no more is left. After an error nothing may be spent; Leased says later what
// came of it.
func (b *Books) Lease(ctx context.Context, device string, window step.Time, limit, want money.Amount, gateway string) (granted money.Amount, err error) {
	if want == 0 || limit == 0 {
		return 0, nil
	}
	err = b.change(ctx, func(c change) error {
		// One statement decides, on the newest row, while it holds that row.
		least := func(a, b string) string { return "CASE WHEN " + a + " < " + b + " THEN " + a + " ELSE " + b + " END" }
		left := "CAST(? AS BIGINT) - budgets.leased_msat"
		more := least("CAST(? AS BIGINT)", left)
		w, l := number(want), number(limit)
		first := min(w, l)
		found, err := c.one("INSERT INTO budgets (device, window_ms, leased_msat, granted_msat) VALUES (?, ?, ?, ?) ON CONFLICT (device, window_ms) DO UPDATE SET "+
			"granted_msat = "+more+", leased_msat = budgets.leased_msat + "+more+" WHERE budgets.leased_msat < ? RETURNING granted_msat",
			[]any{device, int64(window), first, first, w, l, w, l, w, l, w, l, l}, &granted)
		if err != nil || !found {
			return err
		}
		_, err = c.exec("INSERT INTO leases (device, window_ms, gateway, leased_msat) VALUES (?, ?, ?, ?) ON CONFLICT (device, window_ms, gateway) DO UPDATE SET "+
			"leased_msat = leases.leased_msat + excluded.leased_msat", device, int64(window), gateway, number(granted))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("lease of %s's budget: %w", device, err)
	}
	return granted, nil
}

// Leased is what the gateway holds of device's budget in a window, spent or not:
// all it was ever granted, less what it gave back.
func (b *Books) Leased(ctx context.Context, device string, window step.Time, gateway string) (held money.Amount, err error) {
	_, err = b.one(ctx, "SELECT leased_msat FROM leases WHERE device = ? AND window_ms = ? AND gateway = ?", []any{device, int64(window), gateway}, &held)
	return held, err
}

// ErrNotHeld means that a gateway does not hold what it said it does.
var ErrNotHeld = errors.New("the gateway does not hold that much; ask Leased")

// Unlease gives back what the gateway has not spent and will not: it holds held,
// and keeps keep. It names both so that a repeated one does nothing: it is then
// answered with ErrNotHeld.
func (b *Books) Unlease(ctx context.Context, device string, window step.Time, held, keep money.Amount, gateway string) error {
	if keep >= held {
		return nil
	}
	err := b.change(ctx, func(c change) error {
		// In Lease's order, so that neither waits for the other in a ring.
		if _, err := c.exec("UPDATE budgets SET leased_msat = leased_msat - ? WHERE device = ? AND window_ms = ?", number(held-keep), device, int64(window)); err != nil {
			return err
		}
		n, err := c.exec("UPDATE leases SET leased_msat = ? WHERE device = ? AND window_ms = ? AND gateway = ? AND leased_msat = ?",
			number(keep), device, int64(window), gateway, number(held))
		if err == nil && n == 0 {
			err = ErrNotHeld
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("give back of %s's budget: %w", device, err)
	}
	return nil
}

// ForgetLeases drops windows that began before before, and are over.
func (b *Books) ForgetLeases(ctx context.Context, before step.Time) error {
	return b.change(ctx, func(c change) error {
		for _, table := range []string{"budgets", "leases"} {
			// A window that began at 0 is a limit that never renews.
			if _, err := c.exec("DELETE FROM "+table+" WHERE window_ms > 0 AND window_ms < ?", int64(before)); err != nil {
				return err
			}
		}
		return nil
	})
}
