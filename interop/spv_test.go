package interop

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/p2p"
	"coinop.dev/world/store/mem"
)

// TestLightClients has our light client follow btcd in both of its modes, by
// compact filters (BIP 157) and by bloom filters (BIP 37), and then btcd and our
// node at once, which must tell the same.
func TestLightClients(t *testing.T) {
	for _, bloom := range []bool{false, true} {
		for _, both := range []bool{false, true} {
			t.Run(fmt.Sprintf("bloom %v, our node too %v", bloom, both), func(t *testing.T) { lightClient(t, bloom, both) })
		}
	}
}

func lightClient(t *testing.T, bloom, both bool) {
	n := openNode(t)
	mine(t, n, 250)
	coins := paid(t, n, 3)
	mine(t, n, 120)
	b := startBtcd(t, n.Addr())
	b.follows(n)

	db, err := mem.New(nil)
	must(t, err)
	var mu sync.Mutex
	var down []string
	o := p2p.Options{Addrs: []string{b.peer}, Bloom: bloom, DB: db, OnDown: func(err error) {
		mu.Lock()
		defer mu.Unlock()
		down = append(down, err.Error())
	}}
	if both {
		o.Addrs = append(o.Addrs, n.Addr())
	}
	c, err := p2p.Open(o)
	must(t, err)
	t.Cleanup(func() { c.Close() })

	t.Log("what was paid before it came is found")
	must(t, chaintest.Agree(t.Context(), c, n))
	sees(t, c, coins[0], func(s watch.Status) bool { return s.Depth == 121 && s.Spender == nil })

	t.Log("it publishes through btcd, and sees the spend with its witness")
	spend := chaintest.Spend(coins[0].Point, chaintest.Value, 1, 2)
	must(t, c.Publish(t.Context(), spend))
	b.pooled(spend)
	must(t, b.call("generate", new([]string), 1))
	b.follows(n)
	if got := sees(t, c, coins[0], func(s watch.Status) bool { return s.SpendDepth == 1 }); got.Spender.WitnessHash() != spend.WitnessHash() {
		t.Error("the witness was lost on the way")
	}

	t.Log("a payment and its spend in one block, and a script that is new to it")
	point, err := n.Faucet(chaintest.Script(7), chaintest.Value)
	must(t, err)
	next := watch.Output{Point: point, Script: chaintest.Script(7)}
	quick := chaintest.Spend(point, chaintest.Value, 7, 2)
	must(t, n.Publish(t.Context(), quick))
	mine(t, n, 1)
	b.follows(n)
	sees(t, c, next, func(s watch.Status) bool { return s.Depth == 1 && s.SpendDepth == 1 })

	t.Log("a reorganisation takes both away, and its blocks bring them back")
	must(t, n.Reorg(2))
	b.follows(n)
	sees(t, c, coins[0], func(s watch.Status) bool { return s.Spender == nil })
	must(t, chaintest.Agree(t.Context(), c, n))
	mine(t, n, 1)
	b.follows(n)
	sees(t, c, coins[0], func(s watch.Status) bool { return s.SpendDepth == 1 })

	t.Log("after a restart it sees the spend of a coin that it knew")
	must(t, c.Close())
	last := chaintest.Spend(coins[1].Point, chaintest.Value, 1, 2)
	must(t, n.Publish(t.Context(), last))
	mine(t, n, 1)
	b.follows(n)
	c, err = p2p.Open(o)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	sees(t, c, coins[1], func(s watch.Status) bool { return s.SpendDepth == 1 })

	mu.Lock()
	defer mu.Unlock()
	for _, why := range down {
		// One may be asked for a block in the moment in which it leaves it.
		if !strings.Contains(why, "has not block") && !strings.Contains(why, "closed") && !strings.Contains(why, "EOF") && !strings.Contains(why, context.Canceled.Error()) {
			t.Errorf("a node was dropped: %s", why)
		}
	}
	s, err := c.Summary(t.Context())
	must(t, err)
	t.Logf("summary: %+v", s)
}

func sees(t *testing.T, c *p2p.Client, o watch.Output, want func(watch.Status) bool) watch.Status {
	t.Helper()
	got, err := chaintest.Await(t.Context(), c, o, want)
	must(t, err)
	return got
}
