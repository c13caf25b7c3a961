// Package regtest is a Bitcoin node on a private chain, inside this process:
// consensus, mempool and mining by btcd's packages, and the network protocol
// served on loopback by a peer loop of our own.
//
// It is a chain.Source itself, and others share its chain by Addr: our p2p
// client, a light client (BIP 157, or BIP 37), btcd or Bitcoin Core.
package regtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/blockchain/indexers"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/database"
	_ "github.com/btcsuite/btcd/database/ffldb" // the driver that database.Open finds by name
	"github.com/btcsuite/btcd/mempool"
	"github.com/btcsuite/btcd/txscript/v2"

	"coinop.dev/world/chain"
)

const (
	// MaxPool bounds the transactions that wait for a block.
	MaxPool = 5000

	// coinCache is btcd's cache of unspent outputs, in bytes. It keeps the node
	// small; what does not fit is read from disk.
	coinCache = 4 << 20

	// sigCache is how many good signatures are remembered, so that a mined
	// transaction is not verified twice.
	sigCache = 1000
)

// Options of a node. A zero limit means the constant of the same name.
type Options struct {
	Dir    string // where the chain is kept; empty for a temporary place, gone with Close
	Listen string // address to serve peers on; empty for a free port on loopback

	Limits

	// OnDrop is told why a peer was disconnected, from several goroutines at
	// once. It must not close the node.
	OnDrop func(peer string, reason error)
}

// A Node is a full node, a miner and a server of peers.
type Node struct {
	options   Options
	temporary string // a directory to remove with Close
	listener  net.Listener
	bell      chain.Bell
	ctx       context.Context
	cancel    context.CancelFunc
	running   sync.WaitGroup

	// mu is held for every change of the chain or the pool, and for looking at
	// the ledger. Peers' own state is not under it.
	mu     sync.Mutex
	db     database.DB
	chain  *blockchain.BlockChain
	index  *indexers.CfIndex
	pool   *mempool.TxPool
	clock  blockchain.MedianTimeSource
	sigs   *txscript.SigCache
	hashes *txscript.HashCache
	ledger *chain.Ledger
	nonce  uint64
	stored int   // blocks taken in, side branches included
	bytes  int   // their size
	broken error // a bug or a bad disk: the ledger no longer follows the chain

	// What the change in progress has done, for settle.
	connected    []*btcutil.Block // in order
	disconnected []*btcutil.Block // in order, so from the top down

	peersMu sync.Mutex
	peers   map[*remote]bool
}

// Params are the consensus rules: Bitcoin Core's regtest, with segwit and
// taproot active from the first block.
func Params() *chaincfg.Params { return &chaincfg.RegressionNetParams }

// ownParams are Params with deployments of their own: btcd's chain hands each its
// clock, and two nodes in a process would do so at once.
func ownParams() *chaincfg.Params {
	p := *Params()
	for i := range p.Deployments {
		p.Deployments[i].DeploymentStarter = chaincfg.NewMedianTimeDeploymentStarter(time.Time{}) // always
		p.Deployments[i].DeploymentEnder = chaincfg.NewMedianTimeDeploymentEnder(time.Time{})     // never
	}
	return &p
}

// Open starts a node.
func Open(o Options) (*Node, error) {
	o.Limits = o.filled()
	if o.OnDrop == nil {
		o.OnDrop = func(string, error) {}
	}
	n := &Node{
		options: o,
		clock:   blockchain.NewMedianTime(),
		sigs:    txscript.NewSigCache(sigCache),
		hashes:  txscript.NewHashCache(sigCache),
		ledger:  chain.NewLedger(*Params().GenesisHash),
		nonce:   rand.Uint64() >> 1, // signed in the coinbase
		peers:   map[*remote]bool{},
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if err := n.start(); err != nil {
		n.Close()
		return nil, fmt.Errorf("regtest: %w", err)
	}
	return n, nil
}

// OpenURL opens "regtest:" in a temporary place, or "regtest:///dir", either
// with "?listen=host:port". It is a chain.Opener.
func OpenURL(_ context.Context, u *url.URL) (chain.Source, error) {
	dir, err := u.Path, error(nil)
	if u.Opaque != "" {
		dir, err = url.PathUnescape(u.Opaque)
	}
	options := u.Query()
	listen := options.Get("listen")
	options.Del("listen")
	if err != nil || u.Host != "" || u.User != nil || u.Fragment != "" || len(options) > 0 {
		return nil, errors.New("write regtest:, regtest:dir or regtest:///dir, with ?listen=host:port or nothing after it")
	}
	n, err := Open(Options{Dir: dir, Listen: listen})
	if err != nil {
		return nil, err // not a nil *Node in a Source
	}
	return n, nil
}

func (n *Node) start() (err error) {
	if err := n.openChain(n.options.Dir); err != nil {
		return err
	}
	n.openPool()
	if n.listener, err = net.Listen("tcp", cmp.Or(n.options.Listen, "127.0.0.1:0")); err != nil {
		return err
	}
	n.running.Go(n.accept)
	return nil
}

func (n *Node) openChain(dir string) (err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "coinop-regtest-"); err != nil {
			return err
		}
		n.temporary = dir
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	path := filepath.Join(dir, "blocks")
	n.db, err = database.Open("ffldb", path, Params().Net)
	if unknown := (database.Error{}); errors.As(err, &unknown) && unknown.ErrorCode == database.ErrDbDoesNotExist {
		n.db, err = database.Create("ffldb", path, Params().Net)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	params := ownParams()
	n.index = indexers.NewCfIndex(n.db, params)
	n.chain, err = blockchain.New(&blockchain.Config{
		DB:               n.db,
		UtxoCacheMaxSize: coinCache,
		ChainParams:      params,
		TimeSource:       n.clock,
		SigCache:         n.sigs,
		HashCache:        n.hashes,
		IndexManager:     indexers.NewManager(n.db, []indexers.Indexer{n.index}),
	})
	if err != nil {
		return err
	}
	for h := int32(1); h <= n.chain.BestSnapshot().Height; h++ {
		b, err := n.chain.BlockByHeight(h)
		if err != nil {
			return err
		}
		if err := n.ledger.Connect(*b.Hash(), b.MsgBlock().Transactions); err != nil {
			return err
		}
		if err := n.store(b.MsgBlock().SerializeSize()); err != nil {
			return err
		}
	}
	n.chain.Subscribe(n.follow)
	return nil
}

func (n *Node) openPool() {
	n.pool = mempool.New(&mempool.Config{
		Policy: mempool.Policy{
			MaxTxVersion:         2,
			DisableRelayPriority: true,
			MaxSigOpCostPerTx:    blockchain.MaxBlockSigOpsCost / 4,
			MinRelayTxFee:        mempool.DefaultMinRelayTxFee,
		},
		ChainParams:    Params(),
		FetchUtxoView:  n.chain.FetchUtxoView,
		BestHeight:     func() int32 { return n.chain.BestSnapshot().Height },
		MedianTimePast: func() time.Time { return n.chain.BestSnapshot().MedianTime },
		CalcSequenceLock: func(t *btcutil.Tx, v *blockchain.UtxoViewpoint) (*blockchain.SequenceLock, error) {
			return n.chain.CalcSequenceLock(t, v, true)
		},
		IsDeploymentActive: n.chain.IsDeploymentActive,
		SigCache:           n.sigs,
		HashCache:          n.hashes,
	})
}

// Addr is where peers connect, as "host:port".
func (n *Node) Addr() string { return n.listener.Addr().String() }

// Close disconnects the peers and writes the chain to disk.
func (n *Node) Close() error {
	n.cancel()
	if n.listener != nil {
		n.listener.Close()
	}
	n.running.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	var err error
	if n.db != nil {
		if n.chain != nil {
			err = n.chain.FlushUtxoCache(blockchain.FlushRequired)
		}
		err = errors.Join(err, n.db.Close())
		n.db = nil
	}
	if n.temporary != "" {
		err = errors.Join(err, os.RemoveAll(n.temporary))
	}
	n.bell.Ring()
	return err
}

// change runs one change of the chain, then tells everybody of all of it at
// once.
func (n *Node) change(do func() error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.usable(); err != nil {
		return err
	}
	err := do()
	n.settle()
	return cmp.Or(err, n.broken)
}

func (n *Node) usable() error {
	if n.ctx.Err() != nil {
		return chain.ErrClosed
	}
	return n.broken
}

// follow is called by btcd, within a change, for every block.
func (n *Node) follow(note *blockchain.Notification) {
	b, ok := note.Data.(*btcutil.Block)
	if !ok || n.broken != nil {
		return
	}
	switch note.Type {
	case blockchain.NTBlockConnected:
		if err := n.ledger.Connect(*b.Hash(), b.MsgBlock().Transactions); err != nil {
			n.broken = err
			return
		}
		n.connected = append(n.connected, b)
		for _, t := range b.Transactions()[1:] {
			n.pool.RemoveTransaction(t, false)
			n.pool.RemoveDoubleSpends(t)
		}
	case blockchain.NTBlockDisconnected:
		n.ledger.Disconnect()
		n.disconnected = append(n.disconnected, b)
	}
}

// store makes room for a block, or says that there is none.
func (n *Node) store(size int) error {
	if n.stored == MaxStored || size > chain.MaxBytes-n.bytes {
		return fmt.Errorf("%w: %d blocks with %d bytes are stored", chain.ErrTooLong, n.stored, n.bytes)
	}
	n.stored++
	n.bytes += size
	return nil
}

// settle ends a change: transactions that lost their block wait again, peers
// hear of the new blocks, and watchers of the new tip.
func (n *Node) settle() {
	connected, disconnected := n.connected, n.disconnected
	n.connected, n.disconnected = nil, nil
	if len(connected)+len(disconnected) == 0 {
		return
	}
	if len(disconnected) > 0 {
		n.repool(disconnected)
	}
	n.announceBlocks(connected)
	n.bell.Ring()
}

// repool judges all transactions that have no block anew, because on another
// chain a relative lock may not have run out or an input may be spent. Parents
// come before children: the lost blocks from the bottom up, then the pool in
// the order it was filled.
func (n *Node) repool(lost []*btcutil.Block) {
	var again []*btcutil.Tx
	for i := len(lost) - 1; i >= 0; i-- {
		again = append(again, lost[i].Transactions()[1:]...)
	}
	again = append(again, n.waiting()...)
	for _, t := range again {
		n.pool.RemoveTransaction(t, true)
	}
	for _, t := range again {
		if known, _ := n.ledger.Tx(*t.Hash()); known == nil {
			// One that is refused now is gone, as on any node.
			_, _, _ = n.pool.MaybeAcceptTransaction(t, false, false)
		}
	}
}
