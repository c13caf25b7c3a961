package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"coinop.dev/core/money"
	"coinop.dev/purse"
	"coinop.dev/rail"
	"coinop.dev/world/store"
)

// progressEvery is how often an end says how far it is.
const progressEvery = 100 * time.Millisecond

// A meterer is a rail that pays without orders: coins that add up in a session.
type meterer interface {
	Meter(ctx context.Context, session money.OrderID, coins uint64) error
}

// payment is what one call of the workload does. The rail was opened with the
// amount as its coin, so a metered payment is one coin.
func (e *end) payment(q question) (once func(context.Context) error, metered bool) {
	if m, ok := rail.As[meterer](e.rails[len(e.rails)-1]); ok && !q.Orders {
		session := purse.NewOrderID()
		return func(ctx context.Context) error { return m.Meter(ctx, session, 1) }, true
	}
	return func(ctx context.Context) error {
		_, err := e.purse.Pay(ctx, money.Order{ID: purse.NewOrderID(), To: e.to, Amount: q.Amount})
		return err
	}, false
}

// pay is the workload: so many callers, each paying again and again.
func (e *end) pay(ctx context.Context, q question) (a answer, err error) {
	runtime.GC() // so that every run begins with an equal heap
	once, metered := e.payment(q)
	var done atomic.Int64
	took := new(histogram)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	risk := e.watchRisk(ctx)
	busy := time.Duration(0)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		for left := q.Payments; left > 0 && ctx.Err() == nil; {
			now := left
			if q.Pause > 0 {
				now = min(left, q.Concurrency)
			}
			begin := time.Now()
			callers(ctx, min(q.Concurrency, now), now, func() {
				asked := time.Now()
				if err := once(ctx); err != nil {
					cancel(err)
					return
				}
				took.add(time.Since(asked))
				done.Add(1)
			})
			busy += time.Since(begin)
			if left -= now; left > 0 {
				rest(ctx, q.Pause)
			}
		}
	}()
	e.report(finished, &done)
	if err := context.Cause(ctx); err != nil {
		return a, err
	}
	if metered {
		e.metered += q.Amount * money.Amount(q.Payments)
	}
	a.Paid = &paid{Took: busy, P50: took.quantile(0.50), P95: took.quantile(0.95), P99: took.quantile(0.99), Metered: metered, AtRisk: risk()}
	return a, nil
}

// callers has so many of them call, so often all together.
func callers(ctx context.Context, n, times int, call func()) {
	var next atomic.Int64
	var running sync.WaitGroup
	for range n {
		running.Go(func() {
			for ctx.Err() == nil && next.Add(1) <= int64(times) {
				call()
			}
		})
	}
	running.Wait()
}

// rest waits.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// report says how far the workload is until it is finished.
func (e *end) report(finished <-chan struct{}, done *atomic.Int64) {
	t := time.NewTicker(progressEvery)
	defer t.Stop()
	for {
		select {
		case <-finished:
			return
		case <-t.C:
			if n := done.Load(); n > 0 {
				e.out.Encode(answer{Done: uint64(n)})
			}
		}
	}
}

func (e *end) count(ctx context.Context, rest bool) (*counts, error) {
	if rest {
		debug.FreeOSMemory()
	}
	c := readKernel()
	if counter, ok := e.db.(store.Counter); ok {
		n := counter.Counts()
		c.Store = &n
	}
	c.Wire = e.machine.Wire()
	c.Rounds, c.Events = e.machine.Host.Counts()
	var err error
	c.Signatures, err = e.signatures(ctx)
	return &c, err
}

// A told is what the lab wants from a rail's summaries. A rail that does not
// say leaves it nil.
type told struct {
	Signatures *uint64       `json:"signatures"`
	AtRisk     *money.Amount `json:"at_risk_msat"`
}

// summaries reads a rail's channels.
func summaries(ctx context.Context, r *rail.Rail) (all []told, err error) {
	teller, ok := rail.As[interface {
		Summary(context.Context) ([]any, error)
	}](r)
	if !ok {
		return nil, nil
	}
	channels, err := teller.Summary(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(channels)
	if err != nil {
		return nil, err
	}
	return all, json.Unmarshal(raw, &all)
}

// signatures adds up what the rails' cores say they have signed; nil if one
// does not say.
func (e *end) signatures(ctx context.Context) (*uint64, error) {
	sum := uint64(0)
	for _, r := range e.rails {
		all, err := summaries(ctx, r)
		if err != nil {
			return nil, err
		}
		for _, s := range all {
			if s.Signatures == nil {
				return nil, nil
			}
			sum += *s.Signatures
		}
		if len(all) == 0 {
			return nil, nil
		}
	}
	return &sum, nil
}

// shut closes the rails, the one that settles over another first.
func (e *end) shut(ctx context.Context) error {
	for _, r := range slices.Backward(e.rails) {
		if c, ok := rail.As[rail.Closer](r); ok {
			if err := c.Shut(ctx, false); err != nil {
				return fmt.Errorf("%s: %w", r.Scheme(), err)
			}
		}
	}
	return nil
}

// book is what the till has earned, or else what the purse has paid and what
// went past it through a meter.
func (e *end) book(ctx context.Context) (a answer, err error) {
	if e.till != nil {
		s, err := e.till.Summary(ctx)
		a.Booked = s.Earned
		return a, err
	}
	s, err := e.purse.Summary(ctx)
	a.Booked = s.Paid + e.metered
	return a, err
}
