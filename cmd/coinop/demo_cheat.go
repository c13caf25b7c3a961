//go:build !omit_demo

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/cmd/coinop/page"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/lightning/node"
	"coinop.dev/rail/lnrail"
	"coinop.dev/world/drive"
)

const (
	// cheatDrain is how long what is in flight may take before a cheat.
	cheatDrain = 12 * time.Second
	// cheatCaught is how long the charger may take to punish one.
	cheatCaught = 20 * time.Second
	// cheatReopen bounds the opening of a new channel afterwards.
	cheatReopen = 20 * time.Second
)

// remember keeps the router's commitment of this moment. Once there is a later
// one it is revoked, and worth everything to the charger if it is published.
func (d *relay) remember(ctx context.Context) error {
	d.mu.Lock()
	id, m := d.far.ID, d.router.station
	d.mu.Unlock()
	return m.Engine.Host.Do(ctx, func(machine *drive.Machine) {
		n, ok := machine.Core(node.Name).(*node.Node)
		if !ok {
			return
		}
		for _, c := range n.Channels() {
			if c.ID == id {
				d.mu.Lock()
				d.early = c.Commitment()
				d.mu.Unlock()
			}
		}
	})
}

// cheatNow publishes the router's early commitment to the chain, by which it had
// not paid the charger anything yet.
func (d *relay) cheatNow(ctx context.Context) error {
	d.mu.Lock()
	switch {
	case d.phase != page.Paying || d.down() || d.linkDown:
		d.mu.Unlock()
		return errors.New("the router cheats while it is paid; wait until all three run")
	case d.paused:
		d.mu.Unlock()
		return errors.New("the router is cheating already")
	case d.early == nil || d.far.Remote == 0:
		d.mu.Unlock()
		return errors.New("the router has passed nothing on yet: there is nothing to cheat for")
	}
	d.paused = true
	d.mu.Unlock()
	if err := d.commitFraud(ctx); err != nil {
		d.resume()
		return err
	}
	go func() {
		defer d.resume()
		ctx, stop := context.WithTimeout(context.Background(), cheatCaught+cheatReopen)
		defer stop()
		d.await(ctx)
		if err := d.reopen(ctx); err != nil {
			d.note(page.Warn, "the router gets no new channel: "+err.Error())
		}
	}()
	return nil
}

// uncheated waits until a cheat has had its end.
func (d *relay) uncheated(ctx context.Context) error {
	for d.isPaused() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the router's cheat has no end: %w", ctx.Err())
		}
	}
	return nil
}

func (d *relay) isPaused() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.paused
}

func (d *relay) resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.paused = false
}

// commitFraud waits until nothing hangs in the channels, so that the only thing
// at stake is the balance, and publishes.
func (d *relay) commitFraud(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, cheatDrain)
	defer stop()
	for d.airborne() > 0 {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%d orders are still under way; the router waits for a better moment", d.airborne())
		}
	}
	if err := d.quiet(ctx); err != nil {
		return err
	}
	d.look(ctx)
	d.mu.Lock()
	old, far := d.early, d.far
	d.mu.Unlock()
	mine := int64(0) // the largest output is the router's
	for _, out := range old.TxOut {
		mine = max(mine, out.Value)
	}
	if err := d.node.Publish(ctx, old); err != nil {
		return fmt.Errorf("publish the revoked commitment: %w", err)
	}
	if _, err := d.node.Mine(1); err != nil {
		return err
	}
	d.mu.Lock()
	d.early, d.cheated, d.far.Usable = nil, true, false
	d.relayed += far.Remote
	d.cheat = &page.Cheat{
		RevokedTxid: old.TxHash().String(), Owed: far.Remote.Sats(), Claimed: mine, CapacitySat: far.Capacity,
		FeesSat: far.Capacity - sumOf(old),
	}
	d.mu.Unlock()
	d.note(page.Warn, fmt.Sprintf("the router publishes a commitment it has revoked: by it the %d sat it has passed on are its own", far.Remote.Sats()))
	return nil
}

func sumOf(t *wire.MsgTx) (sum int64) {
	for _, out := range t.TxOut {
		sum += out.Value
	}
	return sum
}

func (d *relay) airborne() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.flying
}

// await mines until the outputs of the revoked commitment are taken, or the
// charger has had its time, and shows who has them.
func (d *relay) await(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, cheatCaught)
	defer stop()
	d.mu.Lock()
	c := *d.cheat
	d.mu.Unlock()
	id, _ := chainhash.NewHashFromStr(c.RevokedTxid)
	for {
		if d.caught(ctx, *id, c) {
			d.note(page.Good, "the charger has seen it, and takes everything by penalty")
			return
		}
		select {
		case <-time.After(150 * time.Millisecond):
			d.node.Mine(1)
		case <-ctx.Done():
			d.note(page.Warn, "the charger has not punished the router")
			return
		}
	}
}

// caught looks for the transactions that spend a revoked commitment, and reports
// whether its largest output, the router's, is spent.
func (d *relay) caught(ctx context.Context, revoked chainhash.Hash, c page.Cheat) (done bool) {
	t, _ := d.node.Tx(revoked)
	if t == nil {
		return false
	}
	counted := map[chainhash.Hash]bool{}
	for i, out := range t.TxOut {
		s, err := d.node.Status(ctx, watch.Output{Point: wire.OutPoint{Hash: revoked, Index: uint32(i)}, Script: out.PkScript})
		if err != nil || s.Spender == nil {
			c.LeftSat += out.Value
			continue
		}
		c.FeesSat += out.Value
		id := s.Spender.TxHash()
		if out.Value == c.Claimed {
			c.PenaltyTxid, done = id.String(), true
		}
		if counted[id] {
			continue
		}
		counted[id] = true
		for _, paid := range s.Spender.TxOut {
			c.FeesSat -= paid.Value
			switch d.wallets[string(paid.PkScript)] {
			case &d.seller:
				c.SellerSat += paid.Value
			case &d.router:
				c.RouterSat += paid.Value
			default:
				c.LeftSat += paid.Value
			}
		}
	}
	if done {
		d.mu.Lock()
		d.cheat = &c
		d.mu.Unlock()
	}
	return done
}

// reopen buys a new channel to the charger, with what the router has left.
func (d *relay) reopen(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, cheatReopen)
	defer stop()
	mining, quit := context.WithCancel(ctx)
	defer quit()
	go d.mineEvery(mining, 150*time.Millisecond)
	d.mu.Lock()
	s := d.router.station
	d.mu.Unlock()
	if s == nil {
		return errors.New("the router is down")
	}
	before := d.graph(ctx)
	o := node.Open{Peer: d.sellerKey, Capacity: relayCapacity.Sats(), Public: true}
	if _, err := lnrail.OpenChannel(ctx, s.Engine, o); err != nil {
		return err
	}
	if err := d.known(ctx, before); err != nil {
		return err
	}
	d.note(page.Good, "the router has paid for a new channel to the charger, and paying goes on")
	return nil
}
