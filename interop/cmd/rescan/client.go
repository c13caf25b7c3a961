package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/rpcclient"
	"github.com/btcsuite/btcd/wire/v2"
	"github.com/btcsuite/btcwallet/walletdb"
	_ "github.com/btcsuite/btcwallet/walletdb/bdb" // the driver that walletdb.Create finds by name
	"github.com/lightninglabs/neutrino"
	"github.com/lightninglabs/neutrino/headerfs"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/world/chain"
	_ "coinop.dev/world/chain/all"
	"coinop.dev/world/chain/regtest"
	_ "coinop.dev/world/store/all"
)

// A Task is what a client is to do: follow a peer to a block, and find the
// unspent outputs of the scripts in all of the chain.
type Task struct {
	Peer    string // host:port
	URI     string // the same, for coinop
	Home    string // a folder of the client's own, empty
	Height  int32
	Hash    chainhash.Hash // the block at that height
	Scripts [][]byte
}

// A Client carries out tasks, in a process of its own. It calls synced when it
// has the chain's headers and whatever else comes before the scan, if it can
// tell the two apart.
type Client func(ctx context.Context, t Task, synced func()) (coins []string, err error)

// clients by the name that --who gives them.
var clients = map[string]Client{"coinop": coinop, "neutrino": runNeutrino}

// pause is between two questions to a client that does not tell.
const pause = 5 * time.Millisecond

// coinop opens the chain as any program of ours does.
func coinop(ctx context.Context, t Task, synced func()) (coins []string, err error) {
	src, err := chain.Default.Open(ctx, t.URI)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	if err := arrives(ctx, src, t.Hash); err != nil {
		return nil, err
	}
	synced()
	if s, ok := src.(scanner); ok {
		var scripts []watch.Script
		for _, script := range t.Scripts {
			scripts = append(scripts, watch.Script{Script: script})
		}
		s.Scan(scripts)
	}
	var (
		mu    sync.Mutex
		tasks sync.WaitGroup
	)
	for _, script := range t.Scripts {
		tasks.Go(func() {
			found, fault := coinsOf(ctx, src, script)
			mu.Lock()
			defer mu.Unlock()
			coins, err = append(coins, found...), errors.Join(err, fault)
		})
	}
	tasks.Wait()
	slices.Sort(coins)
	return coins, err
}

// A scanner is a source that looks for many scripts at once if it is told of them
// together.
type scanner interface{ Scan(scripts []watch.Script) }

// arrives waits until the source has the block as its tip.
func arrives(ctx context.Context, src chain.Source, hash chainhash.Hash) error {
	for {
		changed := src.Changed()
		_, tip, err := src.Tip(ctx)
		if err == nil && tip == hash {
			return nil
		}
		if err != nil && !errors.Is(err, chain.ErrSyncing) {
			return err
		}
		select {
		case <-changed:
		case <-time.After(pause):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

func coinsOf(ctx context.Context, src chain.Source, script []byte) (all []string, err error) {
	for {
		coins, err := src.Coins(ctx, script)
		if err == nil {
			for _, c := range coins {
				all = append(all, c.Point.String())
			}
			return all, nil
		}
		if !errors.Is(err, chain.ErrSyncing) {
			return nil, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		}
	}
}

// runNeutrino sets it up as its README and btcwallet do: a database on disk that
// is forced there at every change, filters of the default cache, and one rescan
// for all scripts.
func runNeutrino(ctx context.Context, t Task, synced func()) (coins []string, err error) {
	db, err := walletdb.Create("bdb", filepath.Join(t.Home, "neutrino.db"), true, time.Minute, false)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	neutrino.DisableDNSSeed = true
	s, err := neutrino.NewChainService(neutrino.Config{
		DataDir: t.Home, Database: db, ChainParams: *regtest.Params(), ConnectPeers: []string{t.Peer},
	})
	if err != nil {
		return nil, err
	}
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	defer s.Stop()
	for {
		best, err := s.BestBlock()
		if err != nil {
			return nil, err
		}
		if best.Hash == t.Hash && s.IsCurrent() {
			break
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: neutrino is at %d of %d", ctx.Err(), best.Height, t.Height)
		}
	}
	synced()
	f := &finding{unspent: map[wire.OutPoint]bool{}, scripts: map[string]bool{}}
	var addresses []address.Address
	for _, script := range t.Scripts {
		f.scripts[string(script)] = true
		a, err := address.NewAddressWitnessScriptHash(script[2:], regtest.Params())
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, a)
	}
	scan := neutrino.NewRescan(&neutrino.RescanChainSource{ChainService: s},
		neutrino.StartBlock(&headerfs.BlockStamp{Height: 0, Hash: *regtest.Params().GenesisHash}),
		neutrino.EndBlock(&headerfs.BlockStamp{Height: t.Height, Hash: t.Hash}),
		neutrino.WatchAddrs(addresses...),
		neutrino.NotificationHandlers(rpcclient.NotificationHandlers{OnFilteredBlockConnected: f.connected}),
		neutrino.QuitChan(ctx.Done()),
	)
	if err := <-scan.Start(); err != nil {
		return nil, err
	}
	return f.coins(), nil
}

// A finding is what a rescan has come upon.
type finding struct {
	scripts map[string]bool
	unspent map[wire.OutPoint]bool
}

func (f *finding) connected(_ int32, _ *wire.BlockHeader, txs []*btcutil.Tx) {
	for _, t := range txs {
		for _, in := range t.MsgTx().TxIn {
			delete(f.unspent, in.PreviousOutPoint)
		}
		for i, out := range t.MsgTx().TxOut {
			if f.scripts[string(out.PkScript)] {
				f.unspent[wire.OutPoint{Hash: *t.Hash(), Index: uint32(i)}] = true
			}
		}
	}
}

func (f *finding) coins() (all []string) {
	for point := range f.unspent {
		all = append(all, point.String())
	}
	slices.Sort(all)
	return all
}

// home is a folder for one run.
func home() (string, error) { return os.MkdirTemp("", "coinop-rescan-") }
