package chain_test

import (
	"context"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/regtest"
)

// counted counts the whole blocks that are asked for. It has no headers.
type counted struct {
	chain.Source
	node   *regtest.Node
	blocks int
}

func (c *counted) Block(ctx context.Context, height int32) (*wire.MsgBlock, error) {
	c.blocks++
	return c.node.Block(ctx, height)
}

func (c *counted) Header(ctx context.Context, height int32) (wire.BlockHeader, error) {
	b, err := c.node.Block(ctx, height)
	if err != nil {
		return wire.BlockHeader{}, err
	}
	return b.Header, nil
}

// A coin's block is fetched once to prove it, however many blocks come on top;
// after a reorganisation it is proved anew, by the block that it is in now.
func TestProofsAreRemembered(t *testing.T) {
	n, err := regtest.Open(regtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	s := &counted{Source: n, node: n}
	told := make(chan watch.Coins, 100)
	f := chain.NewFollower(s, func(v any) { told <- v.(watch.Coins) }, func(err error) { t.Log(err) })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { f.Run(ctx); close(ended) }()
	if err := f.WatchScript(watch.Script{Script: chaintest.Script(1), Prove: true}); err != nil {
		t.Fatal(err)
	}
	proved := func(depth int32) watch.Coin {
		t.Helper()
		for c := range told {
			if len(c.Coins) == 1 && c.Coins[0].Depth == depth {
				b, err := n.Block(ctx, c.Coins[0].Proof.Height)
				if err != nil {
					t.Fatal(err)
				}
				if root, err := c.Coins[0].Proof.Branch.Root(c.Coins[0].Tx); err != nil || root != b.Header.MerkleRoot {
					t.Fatalf("at depth %d the proof leads to %v, %v; the block has %v", depth, root, err, b.Header.MerkleRoot)
				}
				return c.Coins[0]
			}
		}
		panic("told is never closed")
	}
	// The chain has its first block only, and grows one by one.
	if _, err := n.MineTo(chaintest.Script(1), 1); err != nil {
		t.Fatal(err)
	}
	proved(1)
	for depth := int32(2); depth <= 5; depth++ {
		if _, err := n.Mine(1); err != nil {
			t.Fatal(err)
		}
		proved(depth)
	}
	if err := n.Reorg(5); err != nil {
		t.Fatal(err)
	}
	if _, err := n.MineTo(chaintest.Script(1), 1); err != nil {
		t.Fatal(err)
	}
	proved(1)
	stop()
	<-ended
	if s.blocks != 2 {
		t.Errorf("%d blocks were fetched to prove a coin in one block and, later, in another", s.blocks)
	}
}
