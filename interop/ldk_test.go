package interop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/interop/peers"
	"coinop.dev/rail/lnrail"
)

// ldks starts a chain and so many LDK Nodes, each with coins: LDK takes a
// channel with anchors only if it could pay for closing it. They stop with the
// test.
func ldks(t *testing.T, n int) (ctx context.Context, chain *peers.Btcd, nodes []*peers.Ldk) {
	t.Helper()
	if testing.Short() {
		t.Skip("LDK Node is 30 MB to fetch the first time")
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	chain, err := peers.StartBtcd(ctx, peers.BtcdOptions{Home: t.TempDir()})
	must(t, err)
	t.Cleanup(chain.Stop)
	must(t, chain.Mine(1))
	front, err := peers.StartBitcoind(chain)
	must(t, err)
	t.Cleanup(func() { front.Close() })
	for i := range n {
		home, err := os.MkdirTemp("", "coinop-ldk-")
		must(t, err)
		t.Cleanup(func() { os.RemoveAll(home) })
		node, err := peers.StartLdk(ctx, peers.LdkOptions{Home: home, Alias: string(rune('A' + i)), Chain: front})
		if errors.Is(err, peers.ErrNoCompiler) {
			t.Skip(err)
		}
		must(t, err)
		t.Cleanup(func() {
			node.Stop()
			if t.Failed() {
				t.Logf("%s:\n%s", node.Name, node.Log())
			}
		})
		must(t, node.Wallet(ctx, 100_000_000, 5))
		nodes = append(nodes, node)
	}
	return ctx, chain, nodes
}

// An edge is a machine of ours and an LDK Node that have channels.
type edge struct {
	*box
	n *peers.Ldk
}

func (e edge) peer() keys.Public {
	e.t.Helper()
	key, err := keys.ParsePublicHex(e.n.Key)
	must(e.t, err)
	return key
}

// open opens a public channel, by either side, with a part of it for the other,
// and waits until both can use it.
func (e edge) open(opener string, sat, push int64, public bool) (point string) {
	e.t.Helper()
	must(e.t, e.follow())
	if opener == "coinop" {
		must(e.t, e.m.Connect(e.ctx, e.n.Peer, e.peer()))
		opened, err := lnrail.OpenChannel(e.ctx, e.m, node.Open{Peer: e.peer(), Capacity: sat, Push: money.Amount(push) * money.Sat, Public: public})
		must(e.t, err)
		point = opened.Point.String()
	} else {
		var id string
		must(e.t, e.n.Ask(e.ctx, "open", peers.LdkArgs{Node: e.key.Public().String(), Addr: e.addr, Sat: sat, PushMsat: push * 1000, Public: public}, &id))
		until(e.t, "LDK funds the channel", func() error {
			all, err := e.n.Channels(e.ctx)
			i := slices.IndexFunc(all, func(c peers.LdkChannel) bool { return c.ID == id })
			if err != nil || i < 0 || all[i].Funding == "" {
				return fmt.Errorf("it has %+v: %v", all, err)
			}
			point = all[i].Funding
			return nil
		})
	}
	must(e.t, e.chain.MineMempool(e.ctx, 1, 6))
	must(e.t, e.follow())
	e.active(point)
	return point
}

// active waits until both ends can use a channel.
func (e edge) active(point string) {
	e.t.Helper()
	until(e.t, "the channel is active", func() error {
		c, err := e.n.Channel(e.ctx, point)
		if err != nil || !c.Usable || c.PeerFeeMsat == nil {
			return fmt.Errorf("LDK says it is not: %+v: %v", c, err)
		}
		for _, c := range e.summary().Channels {
			if c.Funding == point && c.Usable {
				return nil
			}
		}
		return fmt.Errorf("coinop says it is not: %+v", e.summary().Channels)
	})
}

// follow waits until both ends have the best block, and a moment longer, for
// what they publish upon it.
func (e edge) follow() error {
	height, err := e.chain.Height()
	if err != nil {
		return err
	}
	until(e.t, "coinop has the best block", func() error {
		s := e.summary()
		tip, _, err := e.source.Tip(e.ctx)
		if len(s.Channels) > 0 {
			tip = min(tip, s.Tip)
		}
		if err == nil && int64(tip) < height {
			err = fmt.Errorf("it is at block %d of %d", tip, height)
		}
		return err
	})
	defer time.Sleep(50 * time.Millisecond)
	return e.n.Synced(e.ctx)
}

// over mines until neither end has anything of a channel left, so many blocks at
// a time.
func (e edge) over(step int) (blocks int) {
	e.t.Helper()
	until(e.t, "the channels are over", func() error {
		all, err := e.n.Channels(e.ctx)
		if err != nil {
			return err
		}
		_, closing, err := e.n.Balance(e.ctx)
		if err != nil {
			return err
		}
		if s := e.summary(); len(all)+closing+len(s.Channels) > 0 {
			err = fmt.Errorf("after %d blocks LDK has %+v and waits for %d outputs; coinop has %+v", blocks, all, closing, s.Channels)
			blocks += step
			return errors.Join(err, e.chain.Mine(step), e.follow())
		}
		return nil
	})
	return blocks
}

// trade pays both ways, by invoice.
func (e edge) trade(sats ...int64) {
	e.t.Helper()
	for _, sat := range sats {
		bill, err := e.n.Bill(e.ctx, sat*1000, nil)
		must(e.t, err)
		r := e.pay("lightning:"+bill, money.Amount(sat)*money.Sat)
		must(e.t, e.rail.Verify(r))
		_, _, err = e.n.Pay(e.ctx, e.bill(money.Amount(sat)*money.Sat, false))
		must(e.t, err)
	}
}

// idle waits until nothing hangs in coinop's channels.
func (e edge) idle() {
	e.t.Helper()
	until(e.t, "nothing hangs in "+e.name+"'s channels", func() error {
		for _, c := range e.summary().Channels {
			if c.HTLCs > 0 {
				return fmt.Errorf("%+v", c)
			}
		}
		return nil
	})
}

// close ends a channel, by either side.
func (e edge) close(closer, point string, force bool) {
	e.t.Helper()
	if closer == "ldk" {
		c, err := e.n.Channel(e.ctx, point)
		must(e.t, err)
		must(e.t, e.n.Ask(e.ctx, "close", peers.LdkArgs{Channel: c.ID, Node: c.Peer, Force: force}, nil))
		return
	}
	for _, c := range e.summary().Channels {
		if c.Funding == point {
			must(e.t, e.m.Host.Tell(e.ctx, node.Name, node.Close{ID: c.ID, Force: force}))
		}
	}
}

// TestCoinopAndLdk: a channel with anchors, opened by either side; payments both
// ways by invoice and keysend, above and below dust; a restart of either side;
// and a close by agreement, asked for by either.
func TestCoinopAndLdk(t *testing.T) {
	ctx, btcd, nodes := ldks(t, 1)
	e := edge{newBox(t, ctx, btcd, "coinop", 40_000_000), nodes[0]}
	for _, opener := range []string{"coinop", "ldk"} {
		t.Logf("%s opens", opener)
		point := e.open(opener, 5_000_000, 2_000_000, true)
		e.trade(1, 100, 5_000, 300_000)
		must(t, e.n.Keysend(ctx, e.key.Public().String(), 777_000))
		e.pay("lightning://"+e.n.Key+"@"+e.n.Peer+"?keysend=1", 888*money.Sat)

		e.stop()
		e.start()
		must(t, e.m.Connect(ctx, e.n.Peer, e.peer()))
		e.active(point)
		e.trade(4_000)
		must(t, e.n.KillAtRest(ctx))
		must(t, e.n.Start(ctx))
		must(t, e.m.Connect(ctx, e.n.Peer, e.peer()))
		e.active(point)
		e.trade(3_000)

		e.close(opener, point, false)
		must(t, btcd.MineMempool(ctx, 1, 1))
		t.Logf("over after %d blocks", e.over(1))
	}
}
