package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"testing"
	"time"

	"coinop.dev/interop/peers"
)

// deadline is how long a test with lnd may take once lnd is built.
const deadline = 5 * time.Minute

// lnds starts a chain and so many lnds, the first with coins, and stops them
// with the test. If it fails it shows the end of their logs.
func lnds(t *testing.T, n int, args ...string) (ctx context.Context, chain *peers.Btcd, nodes []*peers.Lnd) {
	t.Helper()
	if testing.Short() {
		t.Skip("lnd takes minutes to build the first time")
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	chain, err := peers.StartBtcd(ctx, peers.BtcdOptions{Home: t.TempDir()})
	must(t, err)
	t.Cleanup(chain.Stop)
	must(t, chain.Mine(1))
	for i := range n {
		// Short, because a rail's URI names files in it.
		home, err := os.MkdirTemp("", "coinop-lnd-")
		must(t, err)
		t.Cleanup(func() { os.RemoveAll(home) })
		node, err := peers.StartLnd(ctx, peers.LndOptions{Home: home, Alias: string(rune('A' + i)), Chain: chain, Args: args})
		must(t, err)
		t.Cleanup(func() {
			node.Stop()
			if t.Failed() {
				t.Logf("%s:\n%s", node.Name, node.Log())
			}
		})
		nodes = append(nodes, node)
	}
	must(t, nodes[0].Wallet(ctx, 400_000_000, 4))
	return ctx, chain, nodes
}

// TestLnds proves the harness: two lnds open a channel, pay, and close it.
func TestLnds(t *testing.T) {
	ctx, chain, nodes := lnds(t, 2)
	a, b := nodes[0], nodes[1]
	point, err := a.OpenChannel(ctx, b, 1_000_000)
	must(t, err)

	const msat = 21_000_000
	bill, hash, err := b.Bill(ctx, msat)
	must(t, err)
	preimage, err := a.Pay(ctx, bill)
	must(t, err)
	if sum := sha256.Sum256(preimage); !bytes.Equal(sum[:], hash) {
		t.Errorf("the preimage %x is not of %x", preimage, hash)
	}
	if _, err := a.Pay(ctx, bill); err == nil {
		t.Error("lnd pays an invoice twice")
	}
	until(t, "b has the money", func() error {
		c, err := b.Channel(ctx, peers.Outpoint(point))
		if err == nil && c.LocalBalance != msat/1000 {
			err = fmt.Errorf("it has %d sat", c.LocalBalance)
		}
		return err
	})

	must(t, a.CloseChannel(ctx, point, false))
	height, err := chain.Height()
	must(t, err)
	t.Logf("closed by block %d", height)
}
