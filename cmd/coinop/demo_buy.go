//go:build !omit_demo

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"coinop.dev/cmd/coinop/page"
	"coinop.dev/core/money"
	"coinop.dev/core/trade"
	"coinop.dev/purse"
	"coinop.dev/rail/bitcoinrail"
)

// pay buys at the rate asked for until ctx ends, and then waits for what is in
// flight. No order is given up: one that may be paid is asked again.
func (d *demo) pay(ctx, life context.Context) error {
	var flying sync.WaitGroup
	room := make(chan struct{}, d.most)
	every := time.Duration(float64(time.Second) / d.rate)
	draining, stop := context.WithCancel(life)
	defer stop()
	failed := make(chan error, 1)
	next := time.Now()
	d.began = next
	for ctx.Err() == nil && len(failed) == 0 {
		select {
		case <-ctx.Done():
			continue
		case room <- struct{}{}:
		}
		if !d.takeOff() {
			<-room
			next = time.Now().Add(every)
			time.Sleep(min(every, 20*time.Millisecond))
			continue
		}
		flying.Go(func() {
			defer func() { <-room }()
			defer d.land()
			if err := d.buy(draining); err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
		if next = next.Add(every); time.Until(next) < -time.Second {
			next = time.Now() // the machines were down: do not catch up in a rush
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Until(next)):
		}
	}
	d.mu.Lock()
	d.ended = time.Now()
	d.mu.Unlock()
	d.mend()
	timer := time.AfterFunc(d.drain, stop)
	defer timer.Stop()
	flying.Wait()
	select {
	case err := <-failed:
		if d.spent(err) {
			d.note(page.Warn, "the channel's capacity is spent")
			return nil
		}
		return err
	default:
		return nil
	}
}

// takeOff counts a purchase that begins, unless none may now.
func (d *demo) takeOff() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.paused {
		return false
	}
	d.flying++
	return true
}

func (d *demo) land() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flying--
}

// buy buys once, exactly once, whatever happens to the machines meanwhile.
func (d *demo) buy(ctx context.Context) error {
	units := d.scenario.units(d.rate)
	amount, _ := d.item.Price.Times(units)
	o := money.Order{ID: purse.NewOrderID(), Amount: amount, For: d.item.Name, Units: units}
	d.mu.Lock()
	d.inFlight += amount
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.inFlight -= amount
		d.mu.Unlock()
	}()
	begin := time.Now()
	for {
		d.mu.Lock()
		buyer, seller := d.buyer.station, d.seller.config.Listen
		d.mu.Unlock()
		if buyer != nil {
			o.To = fmt.Sprintf("%s://%v@%s", d.demoOptions.rail, d.sellerKey, seller)
			r, goods, err := buyer.Purse.Buy(ctx, o, d.sellerKey)
			if err == nil {
				d.bought(o, r, goods, time.Since(begin))
				return nil
			}
			d.u.log("demo").Debug("buy", "order", o.ID, "err", err)
			if d.spent(err) {
				return err
			}
			if d.demoOptions.rail == bitcoinrail.Scheme && errors.Is(err, money.Unpaid) {
				o.ID = purse.NewOrderID() // the gateway remembers an order that it could not pay
			}
		}
		// Killed, cut off, or the funding was reorganised away: ask again.
		select {
		case <-ctx.Done():
			return fmt.Errorf("order %v is not settled: %w", o.ID, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (d *demo) bought(o money.Order, r money.Receipt, goods trade.Goods, took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.payments++
	d.units += o.Units
	d.paid += o.Amount
	d.receipt = r
	if len(d.latencies) == maxLatencies {
		d.latencies = d.latencies[maxLatencies/2:]
	}
	d.latencies = append(d.latencies, float64(took.Microseconds())/1000)
	var read reading
	if json.Unmarshal(goods.Payload, &read) == nil {
		d.readings = append(d.readings, page.Reading{AtMs: d.sinceMs(), Name: read.Name, Value: read.Value, PaidMsat: uint64(o.Amount)})
		d.readings = d.readings[max(0, len(d.readings)-page.MaxReadings):]
	}
}
