package lnrail

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/claim"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/lightning/tower"
	"coinop.dev/core/step"
	"coinop.dev/engine"
)

// hands do for the node what a core cannot: read the disk in the middle of a
// step, and lend coins of the wallet.
type hands struct {
	ctx  context.Context // until the machine stops
	m    *engine.Machine
	auto string // where the peer of automatic openings is found, host:port

	mu   sync.Mutex
	lent map[wire.OutPoint]tx.Coin // by what they pay the fee of
}

// attach lets the node of a machine be served.
func attach(ctx context.Context, m *engine.Machine, auto string) {
	h := &hands{ctx: untilStopped(ctx, m), m: m, auto: auto, lent: map[wire.OutPoint]tx.Coin{}}
	m.Host.Hear(h.hear)
	m.Host.Outlet(claim.Wallet, h.wallet)
}

// hear runs on the host's goroutine, so it leaves the work to another.
func (h *hands) hear(o step.Outcome) {
	switch v := o.Value.(type) {
	case node.Traces:
		go h.traces(v)
	case node.Buried:
		go h.erase(v)
	case node.Open:
		go h.topUp(v)
	}
	switch {
	case o.Core == tower.ClientName || o.Core == tower.ServerName:
		logTower(h.m, o)
	case o.Core == node.Name && o.ID == node.AutoID && o.Err != nil:
		h.m.Log.Warn("liquidity", "err", o.Err)
	}
}

// traces reads what is known of the HTLCs of a revoked commitment.
func (h *hands) traces(t node.Traces) {
	f := node.Found{Index: t.Index}
	err := channel.Traces(h.m.DB, t.Index, func(x channel.Trace) bool {
		if x.First <= t.Number && t.Number <= x.Last {
			f.Traces = append(f.Traces, claim.Trace(x))
		}
		return len(f.Traces) < claim.MaxTraces
	})
	if err != nil {
		h.m.Log.Error("read traces", "channel", t.Index, "err", err)
	}
	h.m.Host.Tell(h.ctx, node.Name, f)
}

// erase lists the records of a channel that is over, piece by piece.
func (h *hands) erase(b node.Buried) {
	e := node.Erase{Index: b.Index}
	err := h.m.DB.Scan(channel.Prefix(b.Index), func(key string, _ []byte) bool {
		e.Keys = append(e.Keys, key)
		if len(e.Keys) == node.MaxErase {
			h.m.Host.Tell(h.ctx, node.Name, e)
			e.Keys = nil
		}
		return true
	})
	if err != nil {
		h.m.Log.Error("erase a channel", "channel", b.Index, "err", err)
		return
	}
	e.Last = true
	h.m.Host.Tell(h.ctx, node.Name, e)
}

// topUp opens a channel that the node asks for.
func (h *hands) topUp(o node.Open) {
	ctx, stop := context.WithTimeout(h.ctx, openingPatience)
	defer stop()
	err := h.m.Connect(ctx, h.auto, o.Peer)
	if err == nil {
		_, err = OpenChannel(ctx, h.m, o)
	}
	if err != nil {
		h.m.Log.Warn("open a channel automatically", "peer", o.Peer, "err", err)
		return
	}
	h.m.Log.Info("opened a channel automatically", "peer", o.Peer, "sat", o.Capacity)
}

// openingPatience is how long an automatic opening may take.
const openingPatience = time.Minute

// wallet lends a coin for a fee. The same purpose always gets the same coin, and
// no coin has two purposes.
func (h *hands) wallet(p step.Packet) {
	switch msg := p.Msg.(type) {
	case claim.Bump:
		go func() {
			coin, err := h.lend(msg)
			if err != nil {
				h.m.Log.Warn("no coin to pay a fee", "for", msg.For, "err", err)
				return
			}
			h.m.Host.Tell(h.ctx, node.Name, step.Recv{From: claim.Wallet, Msg: claim.Funds{For: msg.For, Coin: coin}})
		}()
	case claim.Release:
		h.mu.Lock()
		defer h.mu.Unlock()
		for purpose, coin := range h.lent {
			if coin == msg.Coin {
				delete(h.lent, purpose)
			}
		}
	}
}

func (h *hands) lend(b claim.Bump) (tx.Coin, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if coin, ok := h.lent[b.For]; ok {
		return coin, nil
	}
	coins, err := h.m.Chain.Coins(h.ctx, tx.P2WPKH(tx.WalletKey(h.m.Key).Public()))
	if err != nil {
		return tx.Coin{}, err
	}
	taken := map[wire.OutPoint]bool{}
	for _, c := range h.lent {
		taken[c.Point] = true
	}
	best := tx.Coin{}
	for _, c := range coins {
		if c.Spendable() && c.Depth > 0 && !taken[c.Point] && c.Value >= b.Sats && (best.Value == 0 || c.Value < best.Value) {
			best = c.Coin
		}
	}
	if best.Value == 0 {
		return best, fmt.Errorf("%w: a coin of %d sat is needed", tx.ErrFunds, b.Sats)
	}
	h.lent[b.For] = best
	return best, nil
}
