package lab

import (
	"context"
	"errors"
	"strings"
	"time"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/engine"
	"coinop.dev/rail/lnrail"
)

// nodeEvery is how often an end looks whether its node is where it should be.
// Paying does not wait for it.
const nodeEvery = 5 * time.Millisecond

// fundsAgain is when an end looks again for money that it is to have: the news of a
// block may be there before its coins are, and no other block comes.
const fundsAgain = 100 * time.Millisecond

// until waits for the node of this machine.
func (e *end) until(ctx context.Context, ready func(*node.Summary) bool) (s node.Summary, err error) {
	for {
		if s, err = lnrail.Summary(ctx, e.machine); err != nil || ready(&s) {
			return s, err
		}
		select {
		case <-time.After(nodeEvery):
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}

// widen opens more channels beside the first, until there are as many as asked
// for and all take payments.
func (e *end) widen(ctx context.Context, q question) error {
	_, peer, _ := strings.Cut(q.To, "://")
	key, _, err := engine.Address(peer)
	if err != nil {
		return err
	}
	s, err := lnrail.Summary(ctx, e.machine)
	if err != nil {
		return err
	}
	for have := len(s.Channels); have < q.Channels; {
		changed := e.chain.Changed()
		_, err := lnrail.OpenChannel(ctx, e.machine, node.Open{Peer: key, Capacity: q.Capacity, Static: q.Static})
		switch {
		case err == nil:
			have++
			continue
		case !errors.Is(err, tx.ErrFunds):
			return err
		}
		select { // for the change of the one before
		case <-changed:
		case <-time.After(fundsAgain):
		case <-ctx.Done():
			return err
		}
	}
	_, err = e.until(ctx, func(s *node.Summary) bool {
		for _, c := range s.Channels {
			if !c.Usable {
				return false
			}
		}
		return true
	})
	return err
}

// balance is what this end has in its Lightning channels, none of it in flight.
// An end without a node has nothing there.
func (e *end) balance(ctx context.Context) (sum money.Amount, err error) {
	s, err := e.until(ctx, func(s *node.Summary) bool {
		for _, c := range s.Channels {
			if c.HTLCs > 0 {
				return false
			}
		}
		return true
	})
	for _, c := range s.Channels {
		sum += c.Local
	}
	return sum, err
}
