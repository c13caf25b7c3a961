package interop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/interop/peers"
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/regtest"
	"coinop.dev/world/chain/rpc"
)

// A pair is a btcd and its only peer, a node of ours that mines for it: btcd
// cannot be told whom to pay. Whatever is mined, btcd has it before the call
// returns.
type pair struct {
	*regtest.Node
	b *btcd
}

func (p pair) settled(err error) error {
	if err == nil {
		p.b.follows(p.Node)
	}
	return err
}

func (p pair) Mine(blocks int) ([]chainhash.Hash, error) {
	hashes, err := p.Node.Mine(blocks)
	return hashes, p.settled(err)
}

func (p pair) MineTo(script []byte, blocks int) ([]chainhash.Hash, error) {
	hashes, err := p.Node.MineTo(script, blocks)
	return hashes, p.settled(err)
}

func (p pair) MineOnly(txs ...*wire.MsgTx) (chainhash.Hash, error) {
	hash, err := p.Node.MineOnly(txs...)
	return hash, p.settled(err)
}

func (p pair) Reorg(depth int) error         { return p.settled(p.Node.Reorg(depth)) }
func (p pair) ReorgDropping(depth int) error { return p.settled(p.Node.ReorgDropping(depth)) }

// relayed is a source that lets our node have what btcd was given, before it
// mines the next block.
type relayed struct {
	chain.Source
	n *regtest.Node
	t *testing.T
}

func (r relayed) Publish(ctx context.Context, t *wire.MsgTx) error {
	err := r.Source.Publish(ctx, t)
	if err == nil {
		until(r.t, "our node has the transaction", func() error {
			if got, _ := r.n.Tx(t.TxHash()); got == nil {
				return fmt.Errorf("%v is unknown", t.TxHash())
			}
			return nil
		})
	}
	return err
}

func auth(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "auth")
	must(t, os.WriteFile(name, []byte("u:p\n"), 0o600))
	return name
}

// TestRPC has a source over a real btcd's RPC pass what every source must.
func TestRPC(t *testing.T) {
	chaintest.Test(t, func(t *testing.T) (chain.Source, chaintest.Miner) {
		n := openNode(t)
		b := startBtcd(t, n.Addr())
		must(t, pair{n, b}.settled(nil))
		c, err := rpc.Open(rpc.Options{Scheme: "btcd", Addr: b.rpc, Auth: auth(t), Interval: 50 * time.Millisecond,
			OnDown: func(err error) { t.Log("rpc:", err) }})
		must(t, err)
		t.Cleanup(func() { c.Close() })
		return relayed{c, n, t}, pair{n, b}
	})
}

// TestRPCOverTLS opens a btcd as a configuration would, by URI.
func TestRPCOverTLS(t *testing.T) {
	b, err := peers.StartBtcd(t.Context(), peers.BtcdOptions{Home: t.TempDir()})
	must(t, err)
	t.Cleanup(b.Stop)
	registry := chain.Registry{"btcd": rpc.OpenURL}
	s, err := registry.Open(t.Context(), "btcd://"+b.RPC+"?auth="+auth(t)+"&cert="+b.CertFile)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	must(t, b.Mine(3))
	until(t, "the source has btcd's tip", func() error {
		if height, _, err := s.Tip(t.Context()); err != nil || height != 3 {
			return errors.Join(err, errors.New("not yet"))
		}
		return nil
	})
	wrong := filepath.Join(t.TempDir(), "wrong")
	must(t, os.WriteFile(wrong, []byte("u:no"), 0o600))
	for _, uri := range []string{
		"btcd://" + b.RPC + "?auth=" + wrong + "&cert=" + b.CertFile,
		"btcd://" + b.RPC + "?auth=" + auth(t),
	} {
		s, err := registry.Open(t.Context(), uri)
		must(t, err)
		_, err = s.Status(t.Context(), watch.Output{})
		if err == nil {
			t.Errorf("%s: no error", uri)
		}
		t.Log(err)
		s.Close()
	}
}
