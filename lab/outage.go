package lab

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"coinop.dev/core/money"
)

// An OutageResult says what payments do while the node after the payer is down,
// the payee or the first router: its process is killed, and started again.
type OutageResult struct {
	Rail  string  `json:"rail"`
	Down  string  `json:"down"` // who was killed
	DownS float64 `json:"down_s"`
	// Tried payments were asked for when it was killed; Paid of them have a receipt
	// before it was started again.
	Tried uint64 `json:"tried"`
	Paid  uint64 `json:"paid_while_down"`
	// BackMs is from the node's process being started again until the next payment
	// is paid. The start of the process, its store and its rails is part of it.
	BackMs *float64 `json:"back_ms"`
	// Conserved: nothing was lost or paid twice, by the channels' own sums. Payments
	// that were cut off either have their receipt now or were never paid.
	Conserved bool `json:"conserved"`
}

const (
	// outageTried payments are asked for as the node dies.
	outageTried = 20
	// MaxOutage bounds how long it is left dead.
	MaxOutage = time.Minute
	// backTimeout is when it will not come back any more.
	backTimeout = time.Minute
)

// Outage kills the node next to the payer for some time. Payments of the options
// are made first.
func Outage(ctx context.Context, o Options, down time.Duration) (r OutageResult, err error) {
	switch {
	case down <= 0 || down > MaxOutage:
		return r, &money.Error{Kind: money.Invalid, Op: "lab", Err: fmt.Errorf("down for %v; it must be more than 0 and at most %v", down, MaxOutage)}
	case o.Store == "mem":
		return r, &money.Error{Kind: money.Invalid, Op: "lab", Err: errors.New("store mem forgets everything when an end is killed")}
	}
	o.Orders = true // a meter's ticks are not asked for again
	err = o.bench(ctx, func(ctx context.Context, b *bench) error {
		defer b.mineOnchain(ctx)()
		if _, err := b.pay(ctx, o.Payments, func(uint64) {}); err != nil {
			return fmt.Errorf("pay: %w", err)
		}
		if err := b.outage(ctx, &r, down); err != nil {
			return fmt.Errorf("outage: %w", err)
		}
		return nil
	})
	return r, err
}

func (b *bench) outage(ctx context.Context, r *OutageResult, down time.Duration) error {
	victim := b.ends[1]
	*r = OutageResult{Rail: b.Rail, Down: victim.name, DownS: down.Seconds(), Tried: outageTried}
	echo := victim.joined.Echo
	victim.child.cmd.Process.Kill()
	victim.child.stop()

	cut, cancel := context.WithCancel(ctx)
	defer cancel()
	var done atomic.Uint64
	over := make(chan error, 1)
	q := question{Do: "pay", Payments: outageTried, Concurrency: outageTried, Amount: b.Amount, Orders: true}
	go func() {
		a, err := b.payer().follow(cut, q, done.Store)
		if err == nil && a.Paid != nil {
			done.Store(outageTried)
		}
		over <- err
	}()
	rest(ctx, down)
	var asked error
	answered := false
	select {
	case asked = <-over:
		answered = true
	default:
	}
	r.Paid = done.Load()

	begin := time.Now()
	if err := b.boot(ctx, victim); err != nil {
		return err
	}
	victim.joined.Echo = echo
	if _, err := victim.ask(ctx, victim.joined); err != nil {
		return err
	}
	wait, stop := context.WithTimeout(ctx, backTimeout)
	defer stop()
	if !answered {
		select {
		case asked = <-over:
		case <-wait.Done():
			return fmt.Errorf("%s is back, and payments still wait after %v", victim.name, backTimeout)
		}
	}
	for asked != nil || answered {
		if _, asked = b.pay(wait, 1, func(uint64) {}); asked == nil {
			break
		}
		select {
		case <-time.After(probeEvery):
		case <-wait.Done():
			return fmt.Errorf("%s is back, and nothing is paid after %v: %w", victim.name, backTimeout, asked)
		}
	}
	r.BackMs = figure(time.Since(begin).Seconds() * 1e3)
	return b.agree(ctx, r)
}

// agree compares the books of payer and payee once nothing is on the way.
func (b *bench) agree(ctx context.Context, r *OutageResult) error {
	for deadline := time.Now().Add(settleTimeout); ; time.Sleep(nodeEvery) {
		spent, err := b.payer().ask(ctx, question{Do: "book"})
		if err != nil {
			return err
		}
		earned, err := b.payee().ask(ctx, question{Do: "book"})
		if err != nil {
			return err
		}
		if r.Conserved = spent.Booked == earned.Booked; r.Conserved || time.Now().After(deadline) {
			return nil
		}
	}
}
