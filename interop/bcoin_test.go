package interop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/interop/peers"
	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/regtest"
)

// TestBcoin lets somebody else's SPV node live on what we serve (BIP 37): it
// sees its payment proven in a block, follows a reorganisation, and pays.
func TestBcoin(t *testing.T) {
	n := openNode(t)
	mine(t, n, 300)
	b := startBcoin(t, n)
	b.follows(n)

	t.Log("a payment waits for a block, and is proven by one")
	script, err := b.Watch(t.Context())
	must(t, err)
	mine(t, n, 1) // what bcoin has now, it has with the filter
	b.follows(n)
	point, err := n.Faucet(script, chaintest.Value)
	must(t, err)
	id := point.Hash.String()
	until(t, "bcoin hears of the transaction", func() error {
		if !slices.ContainsFunc(b.Events(), func(e peers.BcoinEvent) bool { return e.Event == "tx" && e.ID == id }) {
			return fmt.Errorf("it has not seen %s", id)
		}
		return nil
	})
	blocks, err := n.Mine(1)
	must(t, err)
	b.follows(n)
	b.proven(id, n, blocks[0])

	t.Log("a reorganisation takes the block away, and another proves the payment")
	must(t, n.Reorg(3))
	until(t, "bcoin lets go of the block", func() error {
		gone := func(e peers.BcoinEvent) bool { return e.Event == "disconnect" && e.Hash == blocks[0].String() }
		if !slices.ContainsFunc(b.Events(), gone) {
			return fmt.Errorf("it has not disconnected %v", blocks[0])
		}
		return nil
	})
	// bcoin 1.0.2 falls back to where the branches part, and fetches the other
	// one when it hears of the next block.
	blocks, err = n.Mine(1)
	must(t, err)
	b.follows(n)
	b.proven(id, n, blocks[0])

	t.Log("a transaction of bcoin's reaches us, and a block")
	spend, err := b.Spend(t.Context(), id, 0, chaintest.Fee)
	must(t, err)
	hash, err := chainhash.NewHashFromStr(spend)
	must(t, err)
	until(t, "we have bcoin's transaction", func() error {
		if got, _ := n.Tx(*hash); got == nil {
			return fmt.Errorf("%v is unknown", hash)
		}
		return nil
	})
	blocks, err = n.Mine(1)
	must(t, err)
	if got, depth := n.Tx(*hash); depth != 1 || got.TxIn[0].PreviousOutPoint != point {
		t.Errorf("bcoin's transaction has depth %d and spends %v; want 1 and %v", depth, got.TxIn[0].PreviousOutPoint, point)
	}
	b.follows(n)
	b.proven(spend, n, blocks[0])
}

// A spv is a process of bcoin, whose only peer is ours.
type spv struct {
	*peers.Bcoin
	t *testing.T
}

func startBcoin(t *testing.T, n *regtest.Node) *spv {
	t.Helper()
	b, err := peers.StartBcoin(context.Background(), peers.BcoinOptions{Home: t.TempDir(), Connect: n.Addr()})
	if errors.Is(err, peers.ErrNoNode) {
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(func() {
		b.Stop()
		if t.Failed() {
			t.Logf("bcoin:\n%s", b.Log())
		}
	})
	return &spv{b, t}
}

// follows waits until bcoin has our tip.
func (b *spv) follows(n *regtest.Node) {
	b.t.Helper()
	until(b.t, "bcoin has our tip", func() error {
		height, hash, err := n.Tip(b.t.Context())
		must(b.t, err)
		at, got, err := b.Tip(b.t.Context())
		if err != nil || got == hash.String() && at == int64(height) {
			return err
		}
		return fmt.Errorf("bcoin is at %d %s, we are at %d %v", at, got, height, hash)
	})
}

// proven demands that bcoin took the block at the height we have it at, with a
// proof that leads to this transaction alone, and with the transaction.
func (b *spv) proven(id string, n *regtest.Node, block chainhash.Hash) {
	b.t.Helper()
	height, tip, err := n.Tip(b.t.Context())
	must(b.t, err)
	if tip != block {
		b.t.Fatalf("%v is not our tip", block)
	}
	for _, e := range slices.Backward(b.Events()) {
		if e.Event != "connect" || e.Hash != block.String() {
			continue
		}
		if want := []string{id}; e.Height != int64(height) || !slices.Equal(e.Proven, want) || !slices.Equal(e.Txs, want) {
			b.t.Errorf("bcoin has block %s at %d, which proves %v and brought %v; want %d and %v", e.Hash, e.Height, e.Proven, e.Txs, height, want)
		}
		return
	}
	b.t.Errorf("bcoin never connected %v", block)
}
