package interop

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"coinop.dev/core/money"
)

// TestLdkPunishes: coinop publishes a commitment that it has revoked, in which it
// was rich, and a payment hung each way. LDK takes everything.
func TestLdkPunishes(t *testing.T) {
	ctx, btcd, nodes := ldks(t, 1)
	e := edge{newBox(t, ctx, btcd, "coinop", 60_000_000), nodes[0]}
	before, _, err := e.n.Balance(ctx)
	must(t, err)
	e.open("coinop", 5_000_000, 500_000, false)
	out, in := e.holdAt(300_000), e.hold(200_000)
	old := e.commitment()
	must(t, out.settle(ctx))
	must(t, in.settle(ctx))
	must(t, <-out.paid)
	must(t, <-in.paid)
	bill, err := e.n.Bill(ctx, 3_000_000_000, nil)
	must(t, err)
	e.pay("lightning:"+bill, 3_000_000*money.Sat)
	e.idle()

	e.m.Cut(e.peer(), true)
	publish(t, btcd, old)
	must(t, btcd.Mine(1))
	t.Logf("over after %d blocks", e.over(2))
	until(t, "LDK has taken all 5000000 sat of the channel", func() error {
		now, _, err := e.n.Balance(ctx)
		if got := now - before; err == nil && got < 5_000_000-50_000 {
			err = errors.Join(fmt.Errorf("it has %d sat more", got), btcd.Mine(1), e.follow())
		}
		return err
	})
}

// TestLdkIsPunished: LDK comes back with a database that is old, while coinop is
// away, and closes by a commitment that it has revoked. When coinop is back it
// takes everything, also what was on its way in the old commitment.
func TestLdkIsPunished(t *testing.T) {
	ctx, btcd, nodes := ldks(t, 1)
	b := newBox(t, ctx, btcd, "coinop", 60_000_000)
	e := edge{b, nodes[0]}
	b.stop()
	b.delay = 40 // it has to be back before
	b.start()
	before := b.coins()
	point := e.open("coinop", 5_000_000, 4_000_000, false)
	out, in := e.holdAt(300_000), e.hold(200_000)

	database := filepath.Join(e.n.Home, "ldk_node_data.sqlite")
	e.n.Stop()
	old, err := os.ReadFile(database)
	must(t, err)
	must(t, e.n.Start(ctx))
	must(t, b.m.Connect(ctx, e.n.Peer, e.peer()))
	e.active(point)
	must(t, out.settle(ctx))
	must(t, in.settle(ctx))
	must(t, <-out.paid)
	<-in.paid // LDK was stopped while it waited
	_, _, err = e.n.Pay(ctx, b.bill(3_000_000*money.Sat, false))
	must(t, err)

	b.stop()
	e.n.Stop()
	must(t, os.WriteFile(database, old, 0o600))
	must(t, e.n.Start(ctx))
	e.close("ldk", point, true)
	must(t, btcd.MineMempool(ctx, 1, 1))
	b.start()
	blocks := 0
	for ; len(b.summary().Channels) > 0; blocks++ {
		if blocks == 100 {
			t.Fatalf("after %d blocks the channels are not over: %+v", blocks, b.summary().Channels)
		}
		must(t, btcd.Mine(1))
		must(t, e.follow())
	}
	t.Logf("over after %d blocks", blocks)
	if got := b.coins() - before; got < -50_000 {
		t.Errorf("coinop has %d sat more; all of the channel is its own", got)
	}
}

// TestLdkKeepsABackup: coinop loses its store and has its key. LDK hands back the
// backup that it has kept, closes the channel, and coinop has its money.
func TestLdkKeepsABackup(t *testing.T) {
	ctx, btcd, nodes := ldks(t, 1)
	b := newBox(t, ctx, btcd, "coinop", 60_000_000)
	e := edge{b, nodes[0]}
	before := b.coins()
	point := e.open("coinop", 5_000_000, 2_000_000, true)
	e.trade(300_000)
	e.idle()

	b.stop()
	b.dir = t.TempDir()
	b.start()
	must(t, b.m.Connect(ctx, e.n.Peer, e.peer()))
	until(t, "coinop has its channel again", func() error {
		if s := b.summary(); len(s.Channels) != 1 || s.Channels[0].Funding != point {
			return fmt.Errorf("it has %+v", s.Channels)
		}
		return nil
	})
	must(t, btcd.MineMempool(ctx, 1, 1))
	t.Logf("over after %d blocks", e.over(4))
	if got := b.coins() - before; got > -2_000_000 || got < -2_050_000 {
		t.Errorf("coinop has %d sat more", got)
	}
}
