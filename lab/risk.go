package lab

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"

	"coinop.dev/core/money"
	"coinop.dev/rail/lnrail"
)

// riskEvery is how often an end is asked what it has at risk.
const riskEvery = 100 * time.Millisecond

// risk is what an end has at risk now, in all its rails; nil if one does not say.
func (e *end) risk(ctx context.Context) (*money.Amount, error) {
	sum := money.Amount(0)
	for _, r := range e.rails {
		if r.Scheme() == lightning {
			s, err := lnrail.Summary(ctx, e.machine)
			if err != nil {
				return nil, err
			}
			sum += s.Dust
			continue
		}
		all, err := summaries(ctx, r)
		if err != nil {
			return nil, err
		}
		if len(all) == 0 {
			return nil, nil
		}
		for _, s := range all {
			if s.AtRisk == nil {
				return nil, nil
			}
			sum += *s.AtRisk
		}
	}
	return &sum, nil
}

// observe asks again and again, until stop is called, which returns the most that
// was heard: nil if nothing was, or if it could not be asked.
func observe(ctx context.Context, ask func(context.Context) (*money.Amount, error)) (stop func() *money.Amount) {
	ctx, cancel := context.WithCancel(ctx)
	var most *money.Amount
	var watching sync.WaitGroup
	watching.Go(func() {
		t := time.NewTicker(riskEvery)
		defer t.Stop()
		for {
			// What was begun is finished: a child answers one question at a time.
			now, err := ask(context.WithoutCancel(ctx))
			if err != nil || now == nil {
				most = nil
				return
			}
			if most == nil || *now > *most {
				most = now
			}
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
		}
	})
	return func() *money.Amount {
		cancel()
		watching.Wait()
		return most
	}
}

// watchRisk watches this end while it pays.
func (e *end) watchRisk(ctx context.Context) (stop func() *money.Amount) { return observe(ctx, e.risk) }

// watchPayee watches the payee, who is asked nothing else meanwhile.
func (b *bench) watchPayee(ctx context.Context) (stop func() *money.Amount) {
	return observe(ctx, func(ctx context.Context) (*money.Amount, error) {
		a, err := b.payee().ask(ctx, question{Do: "risk"})
		return a.AtRisk, err
	})
}

func msat(a *money.Amount) *float64 {
	if a == nil {
		return nil
	}
	return figure(float64(*a))
}

// sizes are the bytes of the ends' folders; nil if a store has none.
func (b *bench) sizes() (all []int64, err error) {
	for _, p := range b.ends {
		n, err := size(b.file(p, ""))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

// grown notes by how much the folders did.
func (r *Result) grown(before, after []int64, payments float64) {
	if before == nil || after == nil {
		return
	}
	for i := range r.Ends {
		r.Ends[i].GrowthBytes = figure(float64(after[i]-before[i]) / payments)
	}
}
