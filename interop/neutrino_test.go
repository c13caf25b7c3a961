package interop

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcutil/v2/gcs/builder"
	"github.com/btcsuite/btcd/wire/v2"
	"github.com/btcsuite/btcwallet/walletdb"
	_ "github.com/btcsuite/btcwallet/walletdb/bdb" // the driver that walletdb.Create finds by name
	"github.com/lightninglabs/neutrino"

	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/regtest"
)

// TestNeutrino lets lnd's light client follow our node (BIP 157 and 158). Both
// may be in one process, because ours does not use btcd's peer package.
func TestNeutrino(t *testing.T) {
	n := openNode(t)
	coins := paid(t, n, 1)
	_, block, err := n.Tip(t.Context())
	must(t, err)
	mine(t, n, 200)
	s := startNeutrino(t, n)
	matches(t, s, n)

	filter, err := s.GetCFilter(block, wire.GCSFilterRegular)
	must(t, err)
	found, err := filter.Match(builder.DeriveKey(&block), chaintest.Script(1))
	must(t, err)
	if !found {
		t.Error("the filter does not match a script of its block")
	}
	whole, err := s.GetBlock(block)
	must(t, err)
	if got := whole.MsgBlock().Transactions[1].TxHash(); got != coins[0].Point.Hash {
		t.Errorf("the block has %v; want %v", got, coins[0].Point.Hash)
	}

	spend := chaintest.Spend(coins[0].Point, chaintest.Value, 1, 2)
	must(t, s.SendTransaction(spend))
	until(t, "we have neutrino's transaction", func() error {
		if got, _ := n.Tx(spend.TxHash()); got == nil {
			return errors.New("it is unknown")
		}
		return nil
	})

	mine(t, n, 1)
	matches(t, s, n)
	must(t, n.Reorg(3))
	matches(t, s, n)
}

func startNeutrino(t *testing.T, n *regtest.Node) *neutrino.ChainService {
	t.Helper()
	dir := t.TempDir()
	db, err := walletdb.Create("bdb", filepath.Join(dir, "neutrino.db"), true, time.Minute, false)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	neutrino.DisableDNSSeed = true
	s, err := neutrino.NewChainService(neutrino.Config{
		DataDir: dir, Database: db, ChainParams: *regtest.Params(), ConnectPeers: []string{n.Addr()},
	})
	must(t, err)
	must(t, s.Start(t.Context()))
	t.Cleanup(func() { s.Stop() })
	return s
}

// matches waits until neutrino has our tip, with its filter header.
func matches(t *testing.T, s *neutrino.ChainService, n *regtest.Node) {
	t.Helper()
	until(t, "neutrino has our tip", func() error {
		height, hash, err := n.Tip(t.Context())
		if err != nil {
			return err
		}
		best, err := s.BestBlock()
		if err != nil || best.Hash == hash {
			return err
		}
		return fmt.Errorf("neutrino is at %d %v, we are at %d %v", best.Height, best.Hash, height, hash)
	})
}
