package lnrail

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/lightning/tower"
	"coinop.dev/core/step"
	"coinop.dev/engine"
	"coinop.dev/rail"
	"coinop.dev/world/chain"
	"coinop.dev/world/drive"
)

// guards say whom a machine asks to watch its channels, and what it offers to
// watch for others.
type guards struct {
	client  *tower.Options // nil: nobody watches
	address string         // of the tower, host:port
	offer   *tower.Offer   // nil: it watches for nobody
}

// readGuards reads the parameters tower and watch, and what belongs to them.
func readGuards(q *rail.Params, key keys.Secret) (g guards, err error) {
	payout := tx.P2WPKH(tx.WalletKey(key).Public())
	at := q.Text("tower", "")
	o := tower.Options{
		Blobs:   uint32(q.Int("tower_blobs", 2_000, 1, tower.MaxBlobs)),
		MaxBase: q.Amount("tower_base", 10_000_000).Sats(),
		MaxPPM:  uint32(q.Int("tower_ppm", 50_000, 0, 1_000_000)),
		Payout:  payout,
	}
	rate := q.Int("tower_rate", 10, 1, 100)
	o.Rates = [2]tx.FeeRate{tx.FeeRate(rate) * 1000, tx.FeeRate(rate) * 10_000}
	if at != "" {
		if o.Tower, g.address, err = engine.Address(at); err != nil {
			return g, fmt.Errorf("parameter tower: %w", err)
		}
		g.client = &o
	}
	offer := tower.Offer{
		Reward:   tower.Reward{Base: q.Amount("watch_base", 0).Sats(), PPM: uint32(q.Int("watch_ppm", 0, 0, 1_000_000))},
		MaxBlobs: uint32(q.Int("watch_blobs", 20_000, 1, tower.MaxBlobs)),
		Capacity: uint32(q.Int("watch_capacity", 100_000, 1, 1<<31-1)),
		MinRate:  tx.MinFeeRate,
	}
	if offer.Reward.Base > 0 || offer.Reward.PPM > 0 {
		offer.Reward.Script = payout
	}
	if q.Int("watch", 0, 0, 1) == 1 {
		g.offer = &offer
	}
	return g, nil
}

// start puts the tower's client and its server into the machine. The client
// comes before the node, which tells it of every channel at the start.
func (g *guards) start(ctx context.Context, m *engine.Machine) error {
	if g.client != nil {
		c, err := tower.LoadClient(m.DB, *g.client, m.Key.Derive("lightning/tower"))
		if err != nil {
			return err
		}
		if err := m.Host.Add(ctx, tower.ClientName, c); err != nil {
			return err
		}
		tellLinks(ctx, m, tower.ClientName)
		find(m, []node.Contact{{Peer: g.client.Tower, Address: g.address}}) // it may be away: what it must know waits
	}
	if g.offer == nil {
		return nil
	}
	if _, ok := m.Chain.(chain.Blocker); !ok {
		return errors.New("watch=1: a watchtower reads whole blocks, and this chain source shows none; use regtest:, p2p://, btcd:// or bitcoind://")
	}
	s, err := tower.LoadServer(m.DB, *g.offer)
	if err != nil {
		return err
	}
	height := s.Height()
	if err := m.Host.Add(ctx, tower.ServerName, s); err != nil {
		return err
	}
	go feed(untilStopped(ctx, m), m, height)
	return nil
}

// tellLinks tells a core of the links that were there before it.
func tellLinks(ctx context.Context, m *engine.Machine, core string) {
	for _, p := range m.Peers() {
		if p.Link != 0 {
			m.Host.Tell(ctx, core, step.Linked{Peer: p.Key.PeerName(), Link: p.Link})
		}
	}
}

// untilStopped is a context that lives as long as the machine.
func untilStopped(ctx context.Context, m *engine.Machine) context.Context {
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		<-m.Stopped()
		stop()
	}()
	return life
}

// again is how many blocks a tower looks at once more when it starts: it may
// have stopped on a branch that was given up since.
const again = 144

// feed gives the tower the blocks that came while it was away, and then every
// new one.
func feed(ctx context.Context, m *engine.Machine, height int32) {
	trouble := func(err error) { m.Log.Debug("watchtower", "err", err) }
	for height == 0 { // it has seen none, and guards nothing older than itself
		changed := m.Chain.Changed()
		tip, _, err := m.Chain.Tip(ctx)
		if height = tip; err == nil {
			break
		}
		height = 0
		select {
		case <-changed:
		case <-time.After(chain.RetryPause):
		case <-ctx.Done():
			return
		}
	}
	take := func(height int32, txs []*wire.MsgTx) error {
		return m.Host.Tell(ctx, tower.ServerName, tower.Block{Height: height, Txs: txs})
	}
	if err := chain.FollowBlocks(ctx, m.Chain, max(1, height+1-again), take, trouble); ctx.Err() == nil {
		m.Log.Error("the watchtower is blind", "err", err)
	}
}

// unguarded asks the tower's client, if there is one, what the tower lacks.
func unguarded(machine *drive.Machine, s *node.Summary) {
	c, ok := machine.Core(tower.ClientName).(*tower.Client)
	for i := range s.Channels {
		if ok {
			s.Channels[i].Unguarded = c.AtRisk(tower.ChannelID(s.Channels[i].ID))
		}
	}
}

// logTower writes down what a tower, or its client, has to say.
func logTower(m *engine.Machine, o step.Outcome) {
	switch v := o.Value.(type) {
	case tower.Breached:
		m.Log.Warn("a revoked commitment is punished", "txid", v.ID, "height", v.Height, "penalties", v.Penalties)
	case tower.Served:
		m.Log.Info("a breach is over", "txid", v.ID)
	}
	if o.Err != nil {
		m.Log.Warn("watchtower", "about", o.ID, "err", o.Err)
	}
}
