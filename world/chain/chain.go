// Package chain is a machine's view of the Bitcoin chain: what became of an
// output, which coins a script has, and a way to publish.
//
// A Source is opened by URI, as stores and rails are: "regtest:" is a node of
// our own inside this process, "p2p://host:port" is a client of somebody's, and
// "btcd://host:port" and "bitcoind://host:port" ask one over JSON-RPC.
// A Follower turns any of them into the statuses that cores are told.
package chain

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/watch"
)

// A Source is one view of the best chain. All methods are safe for use by
// several goroutines. Transactions it returns are shared and must not be
// changed.
type Source interface {
	// Status is what the best chain says of one output, as of one tip.
	Status(ctx context.Context, o watch.Output) (watch.Status, error)
	// Publish hands t to the network. One that is already known or mined is
	// nil. ErrRefused comes with the node's reason; any other error leaves open
	// whether the network has it, and publishing again is harmless.
	Publish(ctx context.Context, t *wire.MsgTx) error
	// Coins lists the unspent outputs that pay script, in the best chain and in
	// the transactions known to wait for a block, oldest first.
	Coins(ctx context.Context, script []byte) ([]watch.Coin, error)
	// Tip is the best block.
	Tip(ctx context.Context) (height int32, hash chainhash.Hash, err error)
	// Changed returns a channel that is closed at the next change of the tip.
	// Take it before asking, or a change in between is missed.
	Changed() <-chan struct{}
	Close() error
}

var (
	// ErrRefused means a node looked at the transaction and will not have it.
	ErrRefused = watch.ErrRefused
	// ErrSyncing means the source has not seen the whole chain yet. Changed
	// tells when to ask again.
	ErrSyncing = errors.New("chain is still being fetched")
	// ErrTooLong means the chain is past MaxBlocks or MaxBytes: a view that
	// keeps whole blocks is for private chains; use the light client.
	ErrTooLong = errors.New("chain is too long to be kept whole; use the light client")
	// ErrClosed is what a closed source answers.
	ErrClosed = errors.New("chain source is closed")
)

// An Opener opens the source that a URI names.
type Opener func(ctx context.Context, u *url.URL) (Source, error)

// A Registry knows how to open chains, by URI scheme.
type Registry map[string]Opener

// Default is filled by the files of world/chain/all.
var Default = Registry{}

// Register panics if open is nil or scheme is taken: both are mistakes in the
// program.
func (r Registry) Register(scheme string, open Opener) {
	if open == nil {
		panic("chain: no opener for " + scheme)
	}
	if _, taken := r[scheme]; taken {
		panic("chain: " + scheme + " is registered twice")
	}
	r[scheme] = open
}

// Open opens regtest:, regtest:relative/dir, p2p://host:port and the like.
func (r Registry) Open(ctx context.Context, uri string) (Source, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, fmt.Errorf("chain %q is not a URI; write for example p2p://127.0.0.1:18444", uri)
	}
	uri = u.Redacted() // a password does not belong there, and never into a log
	open, known := r[u.Scheme]
	if !known {
		schemes := strings.Join(slices.Sorted(maps.Keys(r)), ", ")
		return nil, fmt.Errorf("chain %q: scheme %q is not one this build knows: %s", uri, u.Scheme, schemes)
	}
	s, err := open(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("chain %q: %w", uri, err)
	}
	return s, nil
}

// A Bell wakes everybody who waits for the next change. The zero Bell is ready.
type Bell struct {
	mu   sync.Mutex
	next chan struct{}
}

// Next returns a channel that is closed at the next Ring.
func (b *Bell) Next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

// Ring wakes those who wait.
func (b *Bell) Ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}

// A Scanner is a source that looks for scripts, for which it is cheaper to look
// for many at once: it is told what it will be asked about.
type Scanner interface{ Scan(scripts []watch.Script) }

// A Headerer is a source that knows the headers of the best chain, or the last of
// them, without asking for whole blocks.
type Headerer interface {
	Header(ctx context.Context, height int32) (wire.BlockHeader, error)
}

// Rules are those of a chain by its name.
func Rules(name string) (*chaincfg.Params, error) {
	for _, p := range []*chaincfg.Params{&chaincfg.MainNetParams, &chaincfg.TestNet3Params, &chaincfg.TestNet4Params, &chaincfg.SigNetParams, &chaincfg.RegressionNetParams} {
		if p.Name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("net=%.40q is not a chain: mainnet, testnet3, testnet4, signet and regtest are", name)
}

// A Pooler is a source that shows what waits for a block, parents before
// children.
type Pooler interface{ MempoolTxs() []*wire.MsgTx }

// Ruled is a source that knows which chain's rules it follows.
type Ruled interface{ Rules() *chaincfg.Params }
