package interop

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/interop/peers"
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/p2p"
	"coinop.dev/world/chain/regtest"
)

// patience is how long another program may take.
const patience = time.Minute

// A btcd is a process of the real node, whose only peer is ours.
type btcd struct {
	*peers.Btcd
	t    *testing.T
	peer string // where it listens to peers
	rpc  string
}

// startBtcd runs a node of an empty chain, and shows the end of its log if the
// test fails.
func startBtcd(t *testing.T, ours string) *btcd {
	t.Helper()
	b, err := peers.StartBtcd(context.Background(), peers.BtcdOptions{Home: t.TempDir(), Connect: ours, Plain: true})
	must(t, err)
	t.Cleanup(func() {
		b.Stop()
		if t.Failed() {
			t.Logf("btcd:\n%s", b.Log())
		}
	})
	return &btcd{Btcd: b, t: t, peer: b.Peer, rpc: b.RPC}
}

// call is one call of btcd's JSON-RPC.
func (b *btcd) call(method string, result any, params ...any) error {
	return b.Call(method, result, params...)
}

func (b *btcd) tip() (hash string) {
	b.t.Helper()
	if err := b.call("getbestblockhash", &hash); err != nil {
		b.t.Fatal(err)
	}
	return hash
}

// until asks again and again, because other programs do not tell.
func until(t *testing.T, what string, ask func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); ; {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("after %v not yet: %s: %v", patience, what, err)
		}
	}
}

// lag is how long btcd may not follow. One that has met us when both had no block
// yet sometimes says "No sync peer candidates available" and asks nobody any more,
// until it is connected anew.
const lag = 5 * time.Second

func (b *btcd) follows(n *regtest.Node) {
	b.t.Helper()
	since := time.Now()
	until(b.t, "btcd has our tip", func() error {
		height, hash, err := n.Tip(b.t.Context())
		if err != nil || b.tip() == hash.String() {
			return err
		}
		if time.Since(since) > lag {
			since = time.Now()
			b.t.Log("btcd does not follow; it is connected anew:",
				b.call("node", nil, "remove", n.Addr()), b.call("node", nil, "connect", n.Addr(), "perm"))
		}
		return fmt.Errorf("btcd is at %s, we are at %d %v", b.tip(), height, hash)
	})
}

func (b *btcd) pooled(t *wire.MsgTx) {
	b.t.Helper()
	until(b.t, "btcd has the transaction", func() error {
		var ids []string
		if err := b.call("getrawmempool", &ids); err != nil {
			return err
		}
		if !slices.Contains(ids, t.TxHash().String()) {
			return fmt.Errorf("%v is not in %v", t.TxHash(), ids)
		}
		return nil
	})
}

func openNode(t *testing.T) *regtest.Node {
	t.Helper()
	n, err := regtest.Open(regtest.Options{OnDrop: func(peer string, reason error) { t.Logf("dropped %s: %v", peer, reason) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// paid mines coins that any program may spend.
func paid(t *testing.T, n *regtest.Node, coins int) []watch.Output {
	t.Helper()
	all := make([]watch.Output, coins)
	for i := range all {
		point, err := n.Faucet(chaintest.Script(1), chaintest.Value)
		must(t, err)
		all[i] = watch.Output{Point: point, Script: chaintest.Script(1)}
	}
	mine(t, n, 1)
	return all
}

func mine(t *testing.T, n *regtest.Node, blocks int) {
	t.Helper()
	_, err := n.Mine(blocks)
	must(t, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestBtcd tells one story, because every step needs the chain of the last.
func TestBtcd(t *testing.T) {
	n := openNode(t)
	coins := paid(t, n, 3)
	b := startBtcd(t, n.Addr())
	b.follows(n)

	t.Log("a transaction of ours reaches btcd, and its block")
	first := chaintest.Spend(coins[0].Point, chaintest.Value, 1, 2)
	must(t, n.Publish(t.Context(), first))
	b.pooled(first)
	mine(t, n, 1)
	b.follows(n)

	t.Log("a transaction of btcd's reaches us")
	second := chaintest.Spend(coins[1].Point, chaintest.Value, 1, 2)
	must(t, b.call("sendrawtransaction", new(string), hex.EncodeToString(tx.Bytes(second))))
	until(t, "we have the transaction", func() error {
		if got, _ := n.Tx(second.TxHash()); got == nil {
			return fmt.Errorf("%v is unknown", second.TxHash())
		}
		return nil
	})

	t.Log("a block of btcd's reaches us, with the transaction")
	must(t, b.call("generate", new([]string), 1))
	got, err := chaintest.Await(t.Context(), n, coins[1], func(s watch.Status) bool { return s.SpendDepth == 1 })
	must(t, err)
	if got.Spender.WitnessHash() != second.WitnessHash() {
		t.Error("the witness was lost on the way")
	}
	b.follows(n)

	t.Log("btcd follows a reorganisation of ours")
	must(t, n.Reorg(2))
	b.follows(n)
	mine(t, n, 1)
	b.follows(n)

	t.Log("we follow a reorganisation of btcd's")
	lost := b.tip()
	must(t, b.call("invalidateblock", new(any), lost))
	must(t, b.call("generate", new([]string), 3))
	b.follows(n)

	t.Log("our client follows btcd and publishes through it")
	c, err := p2p.Open(p2p.Options{Addrs: []string{b.peer}, OnDown: func(err error) { t.Log("client:", err) }})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, chaintest.Agree(t.Context(), c, n))
	third := chaintest.Spend(coins[2].Point, chaintest.Value, 1, 2)
	must(t, c.Publish(t.Context(), third))
	b.pooled(third)
	rival := chaintest.Spend(coins[2].Point, chaintest.Value, 1, 3)
	if err := c.Publish(t.Context(), rival); err == nil {
		t.Error("btcd took a double spend")
	} else {
		t.Log("btcd says:", err)
	}
	must(t, b.call("generate", new([]string), 1))
	_, err = chaintest.Await(t.Context(), c, coins[2], func(s watch.Status) bool { return s.SpendDepth == 1 })
	must(t, err)
	if err := c.Publish(t.Context(), rival); !errors.Is(err, chain.ErrRefused) {
		t.Errorf("a double spend of a mined transaction gives %v", err)
	}
	b.follows(n)
	must(t, n.Reorg(2))
	must(t, chaintest.Agree(t.Context(), c, n))
}
