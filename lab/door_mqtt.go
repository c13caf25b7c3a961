package lab

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/channel/payword"
	"coinop.dev/core/money"
	"coinop.dev/world/drive"
)

const (
	// coinPrice is a payment. A settlement of coinEvery of them, and a ticket after
	// the first, can be claimed on chain, so it has a signature to make and to check.
	coinPrice  = 50 * money.Sat
	coinEvery  = 20
	coinCredit = 2 * coinEvery
	coinChain  = 1024 // words; a device has two chains laid out
	// firstTicket is what a device pays before it is measured, over rail oneway.
	firstTicket = money.Sat * 1000
	ticketPrice = money.Sat

	paySecond = time.Second // between two payments of a device
	payJitter = 50 * time.Millisecond
	// payQuantum is how much earlier than planned a payment may be made, so that the
	// visitors' process does not wake for each.
	payQuantum = 2 * time.Millisecond

	// channelLife is in blocks.
	channelLife = 2016
	// fundedTogether is how many channels a transaction funds.
	fundedTogether = 250

	connecting = 64 // devices at a time

	// stampTimeout is when a payment without a stamp is lost: a gateway that is
	// offered too much is that far behind.
	stampTimeout = time.Minute
)

// lighten has the devices check fewer stamps from now on, each when its settlement
// is through.
func (c *crowd) lighten(every int) error {
	limit := time.Now().Add(settleTimeout)
	return c.each(func(d *carrier) error {
		for {
			err := d.lighten(every)
			if err == nil || time.Now().After(limit) {
				return err
			}
			time.Sleep(poll)
		}
	})
}

func (d *carrier) lighten(every int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.machine.Core(d.payer).(*payword.Payer)
	if !ok {
		return fmt.Errorf("%s pays without coins", d.name)
	}
	light, err := newLightPayer(p, d.key, d.c.peer, every)
	if err != nil {
		return err
	}
	d.machine.Remove(d.payer)
	d.machine.Add(d.payer, light)
	return nil
}

// pay has every device pay once a second.
func (c *crowd) pay(ctx context.Context, t *doorTask) (*doorPhase, error) {
	c.took, c.late = new(histogram), new(histogram) // nothing is on its way
	c.done.Store(0)
	refused, again := c.refused.Load(), c.again.Load()
	var offered atomic.Uint64
	begin := time.Now()
	workers := 2 * runtime.GOMAXPROCS(0)
	var paying sync.WaitGroup
	for w := range workers {
		paying.Go(func() {
			var mine []*carrier
			for i := w; i < len(c.devices); i += workers {
				mine = append(mine, c.devices[i])
			}
			for second := time.Duration(0); second < t.For && ctx.Err() == nil; second += paySecond {
				offered.Add(c.second(ctx, mine, begin.Add(second), begin.Add(t.For), t.Phase == "first"))
			}
		})
	}
	paying.Wait()
	took := time.Since(begin)
	inTime := c.done.Load()
	err := c.settled(ctx)
	p := &doorPhase{
		Took: took, Offered: offered.Load(), Done: uint64(c.done.Load()), Refused: c.refused.Load() - refused, Reconnects: c.again.Load() - again,
		Late: c.late.quantile(0.99),
	}
	// What came after the end counts where it took its time, not as achieved.
	p.Lost = p.Offered - min(p.Offered, p.Done+p.Refused)
	p.Took = max(took, time.Duration(float64(took)*float64(p.Done)/float64(max(inTime, 1))))
	p.quantiles(c.took)
	if fault := c.fault.Load(); err == nil && fault != nil {
		err = *fault
	}
	return p, err
}

// second has some devices pay once, each at its own time of the second.
func (c *crowd) second(ctx context.Context, mine []*carrier, from, until time.Time, first bool) (offered uint64) {
	type turn struct {
		at time.Time
		d  *carrier
	}
	turns := make([]turn, len(mine))
	for i, d := range mine {
		// A device has its place in the second, and keeps it but for a jitter.
		place := time.Duration(uint64(d.index)*2654435761%uint64(len(c.devices))) * paySecond / time.Duration(len(c.devices))
		turns[i] = turn{from.Add(place + rand.N(payJitter)), d}
	}
	slices.SortFunc(turns, func(a, b turn) int { return a.at.Compare(b.at) })
	for _, t := range turns {
		if wait := time.Until(t.at); wait > 0 {
			time.Sleep(wait + payQuantum)
		}
		if !t.at.Before(until) || ctx.Err() != nil {
			break
		}
		c.late.add(time.Since(t.at))
		t.d.pay(first)
		offered++
	}
	return offered
}

// pay promises a coin, or signs a ticket. The first time it is as many coins as
// set the device apart from others, so that they do not all settle in one second.
func (d *carrier) pay(first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := sent{at: time.Now(), coins: 1}
	var what any
	if d.c.rail == railPayword {
		if first {
			s.coins = uint64(d.index%(coinEvery-1)) + 1
		}
		what = payword.Tick{Session: d.session, Coins: s.coins}
	} else {
		o := money.Order{Amount: ticketPrice}
		if first && d.orders == 0 && len(d.sent) == 0 {
			o.Amount = firstTicket
		}
		for i := 0; i < len(o.ID); i += 8 {
			putUint64(o.ID[i:], rand.Uint64())
		}
		what = o
	}
	d.sent = append(d.sent, s)
	d.round(drive.Event{Core: d.payer, What: what})
}

func putUint64(b []byte, v uint64) {
	for i := range 8 {
		b[i] = byte(v >> (8 * i))
	}
}

// settled waits for the last stamps; what has none by then is lost.
func (c *crowd) settled(ctx context.Context) error {
	limit := time.Now().Add(stampTimeout)
	for {
		waiting := 0
		for _, d := range c.devices {
			d.mu.Lock()
			waiting += len(d.sent)
			d.mu.Unlock()
		}
		if waiting == 0 || time.Now().After(limit) {
			return nil
		}
		select {
		case <-time.After(10 * poll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// count says what the devices have stamps for.
func (c *crowd) count() (n doorCounts, err error) {
	n.counts = readKernel()
	n.Wire.Sent = c.wirer.Load()
	paid := money.Amount(0)
	for _, d := range c.devices {
		if m := d.client.Load(); m != nil {
			sent, received := m.Bytes()
			n.Wire.Sent += sent
			n.Wire.Received += received
		}
		d.mu.Lock()
		switch p := d.machine.Core(d.payer).(type) {
		case *payword.Payer:
			paid += p.Summary().Paid
		case *lightPayer:
			paid += p.Coin * money.Amount(p.stamped)
		case *oneway.Payer:
			paid += p.Summary().Paid
		}
		d.mu.Unlock()
	}
	n.Booked = &paid
	return n, nil
}

// crowd runs the whole visit of the devices.
func (b *doorBench) crowd(ctx context.Context, r *DoorResult, progress func(uint64)) error {
	at, err := b.count(ctx, true)
	if err != nil {
		return err
	}
	r.StartRSSMiB = mib(at.gate.RSS)
	if _, err := b.ask(ctx, b.gate, "door devices", b.task()); err != nil {
		return err
	}
	n, err := b.ask(ctx, b.load, "door script", b.task())
	if err != nil {
		return err
	}
	t := b.task()
	t.Script, t.Count = n.Script, (b.Devices+fundedTogether-1)/fundedTogether
	t.Sat = (t.capacity() + fundingOutput) * fundedTogether
	if n, err = b.ask(ctx, b.gate, "door fund", t); err != nil {
		return err
	}
	t.Gifts, t.Tip = n.Gifts, n.Tip
	begin := time.Now()
	if _, err = b.ask(ctx, b.load, "door connect", t); err != nil {
		return err
	}
	if n, err = b.ask(ctx, b.load, "door propose", t); err != nil {
		return err
	}
	r.ConnectMs = figure(time.Since(begin).Seconds() * 1e3)
	begin = time.Now()
	t.Txs, t.Gifts = n.Txs, nil
	if n, err = b.ask(ctx, b.gate, "door publish", t); err != nil {
		return err
	}
	t.Tip = n.Tip
	if _, err = b.ask(ctx, b.load, "door channels", t); err != nil {
		return err
	}
	r.ChannelMs = figure(time.Since(begin).Seconds() * 1e3)
	if at, err = b.count(ctx, true); err != nil {
		return err
	}
	r.IdleRSSMiB = mib(at.gate.RSS)
	for _, warm := range []struct {
		phase string
		d     time.Duration
	}{{"first", paySecond}, {"warm", min(b.For/2, doorWarmUp)}} {
		if _, _, _, err := b.phase(ctx, warm.phase, warm.d, func(uint64) {}); err != nil {
			return err
		}
	}
	if b.Verify > 1 {
		if _, err := b.ask(ctx, b.load, "door lighten", b.task()); err != nil {
			return err
		}
	}
	if err := b.profile(ctx); err != nil {
		return err
	}
	p, before, after, err := b.phase(ctx, "pay", b.For, progress)
	if err != nil {
		return err
	}
	r.measured(&p, &before, &after, true)
	if at, err = b.count(ctx, true); err != nil {
		return err
	}
	r.rested(&at)
	if same := *at.gate.Booked == *at.load.Booked; same || p.Lost == 0 {
		r.Conserved = &same // what is still under way may be on one side alone
	}
	return nil
}

// fundingOutput is the fee of an output of a funding transaction, in satoshi, with
// its part of the rest.
const fundingOutput = 100
