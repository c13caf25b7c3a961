package interop

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/interop/peers"
	"coinop.dev/world/drive"
)

// commitment is our newest commitment of the only channel, ready to publish.
func (b *box) commitment() (t *wire.MsgTx) {
	b.t.Helper()
	must(b.t, b.m.Host.Do(b.ctx, func(machine *drive.Machine) {
		t = machine.Core(node.Name).(*node.Node).Channels()[0].Commitment()
	}))
	return t
}

// TestRevokedByUs: coinop publishes a commitment that it has revoked, in which it
// was rich, and a payment hung each way. lnd takes everything.
func TestRevokedByUs(t *testing.T) {
	ctx, btcd, nodes := lnds(t, 1, "--bitcoin.defaultremotedelay=30")
	lnd := nodes[0]
	b := newBox(t, ctx, btcd, "coinop", 60_000_000)
	for _, static := range []bool{false, true} {
		before := balance(t, ctx, lnd)
		point := b.open(lnd, node.Open{Capacity: 5_000_000, Push: 500_000_000, Public: true, Static: static})
		out, in := b.holdAt(lnd, 300_000), b.hold(lnd, 200_000)
		old := b.commitment()
		must(t, out.settle(ctx))
		must(t, in.settle(ctx))
		must(t, <-out.paid)
		must(t, <-in.paid)
		bill, _, err := lnd.Bill(ctx, 3_000_000_000)
		must(t, err)
		b.pay("lightning:"+bill, 3_000_000*money.Sat)
		b.idle(lnd, point)

		b.m.Cut(b.peer(lnd), true)
		publish(t, btcd, old)
		must(t, btcd.Mine(1))
		t.Logf("over after %d blocks", b.over(lnd))
		b.m.Cut(b.peer(lnd), false)
		until(t, "lnd has taken all 5000000 sat of the channel", func() error {
			if got := balance(t, ctx, lnd) - before; got < 5_000_000-50_000 {
				err := fmt.Errorf("static_remotekey is %v: lnd has %d sat more", static, got)
				return errors.Join(err, btcd.Mine(1), b.follow(lnd))
			}
			return nil
		})
	}
}

// TestRevokedByLnd: lnd comes back with a database that is old, while coinop is
// away, and closes by a commitment that it has revoked. When coinop is back it
// takes everything, also what was on its way in the old commitment.
func TestRevokedByLnd(t *testing.T) {
	ctx, btcd, nodes := lnds(t, 1)
	lnd := nodes[0]
	b := newBox(t, ctx, btcd, "coinop", 60_000_000)
	b.stop()
	b.delay = 40 // it has to be back before
	b.start()
	for _, static := range []bool{false, true} {
		before := b.coins()
		point := b.open(lnd, node.Open{Capacity: 5_000_000, Push: 4_000_000_000, Public: true, Static: static})
		out, in := b.holdAt(lnd, 300_000), b.hold(lnd, 200_000)

		reboot := func(disturb func(database string)) {
			t.Helper()
			lnd.Stop()
			disturb(filepath.Join(lnd.Home, "data/graph/regtest/channel.db"))
			must(t, lnd.Start(ctx))
		}
		var old []byte
		reboot(func(database string) {
			var err error
			old, err = os.ReadFile(database)
			must(t, err)
		})
		b.connect(lnd)
		b.active(lnd, point)
		must(t, out.settle(ctx))
		must(t, in.settle(ctx))
		must(t, <-out.paid)
		<-in.paid // lnd was stopped while it waited
		_, err := lnd.Pay(ctx, b.bill(3_000_000*money.Sat, false))
		must(t, err)

		b.stop()
		reboot(func(database string) { must(t, os.WriteFile(database, old, 0o600)) })
		must(t, lnd.CloseChannel(ctx, pointOf(point), true))
		b.start()
		t.Logf("over after %d blocks", b.overAlone(ctx, lnd))
		if got := b.coins() - before; got < -50_000 {
			t.Errorf("static_remotekey is %v: coinop has %d sat more; all of the channel is its own", static, got)
		}
	}
}

// publish hands a transaction to btcd.
func publish(t *testing.T, btcd *peers.Btcd, tx *wire.MsgTx) {
	t.Helper()
	var raw bytes.Buffer
	must(t, tx.Serialize(&raw))
	must(t, btcd.Call("sendrawtransaction", new(string), hex.EncodeToString(raw.Bytes())))
}

// overAlone is over for coinop alone: an lnd that has lost everything may wait
// for long.
func (b *box) overAlone(ctx context.Context, n *peers.Lnd) (blocks int) {
	b.t.Helper()
	for ; len(b.summary().Channels) > 0; blocks++ {
		if blocks == 100 {
			b.t.Fatalf("after %d blocks the channels are not over: %+v", blocks, b.summary().Channels)
		}
		must(b.t, b.chain.Mine(1))
		must(b.t, b.follow(n))
	}
	return blocks
}
