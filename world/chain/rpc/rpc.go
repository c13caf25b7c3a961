// Package rpc is a chain.Source that asks a btcd or a bitcoind over JSON-RPC.
//
// It follows the blocks and keeps the transactions that matter: those that make
// or spend a watched output, or pay a script that was asked about. What it is
// asked about for the first time it looks up in all blocks above one height, so
// a public chain wants that height: one below which this machine has no coin and
// no channel. The node needs no index, and must not have pruned those blocks.
//
// The node is ours: it is believed.
package rpc

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/world/chain"
)

const (
	// Interval is how often the node is asked for its best block: over HTTP
	// neither kind tells by itself.
	Interval = time.Second

	// MinBackoff and MaxBackoff bound the wait after a failure.
	MinBackoff = 200 * time.Millisecond
	MaxBackoff = 10 * time.Second

	// MaxBlocks bounds the blocks that are followed: five years of them, or
	// 16 MB. To look through so many of a public chain takes hours.
	MaxBlocks = 1 << 18

	// MaxInterest bounds the outputs and scripts that are asked about.
	MaxInterest = 16_384

	// MaxPending bounds the published transactions that are remembered until
	// they are Settled blocks deep.
	MaxPending = 256
	Settled    = 6

	// MaxMoves bounds how often a round begins again because the chain has
	// changed in the middle of it.
	MaxMoves = 3

	// ScanWait is how long a question waits for the blocks to be looked through.
	// It takes longer on a public chain: the answer is then chain.ErrSyncing.
	ScanWait = time.Second
)

// AuthEnv is the variable that holds "user:password" when no file is named.
const AuthEnv = "COINOP_CHAIN_AUTH"

// Options of a client.
type Options struct {
	Scheme string // "btcd" or "bitcoind", for what errors say
	Addr   string // the node's RPC, "host:port"

	// Auth is the file that holds "user:password", as bitcoind's .cookie does.
	// It is read for every call, because bitcoind writes another one whenever it
	// starts. Without a file it is AuthEnv that counts.
	Auth string
	// Cert is the file of the node's TLS certificate; "" means no TLS.
	Cert string
	// From is the height above which blocks are looked at.
	From int32

	Interval time.Duration // 0 means the constant

	// OnDown is told why a round failed, one at a time.
	OnDown func(err error)
}

// A Client is one node's chain.
type Client struct {
	options Options
	node    *node
	bell    chain.Bell
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	wake    chan struct{} // holds one token while a question is new
	astray  bool          // of run: the ledger is of another chain

	mu      sync.Mutex
	ledger  *chain.Ledger // nil until all was looked through once
	asked   uint64        // questions so far, each by its number
	scanned uint64        // the ledger answers questions up to this one
	points  map[wire.OutPoint]uint64
	ids     map[chainhash.Hash]bool // of points
	scripts map[string]uint64
	pending []published
	trouble error // why the last round failed
}

type published struct {
	id chainhash.Hash
	tx *wire.MsgTx
}

// Open starts a client. It answers chain.ErrSyncing until it has followed the
// chain, however long the node is away.
func Open(o Options) (*Client, error) {
	if o.OnDown == nil {
		o.OnDown = func(error) {}
	}
	o.Interval = cmp.Or(o.Interval, Interval)
	host, _, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return nil, fmt.Errorf("node %q: %w", o.Addr, err)
	}
	if o.Scheme == "btcd" && o.Cert == "" && !loopback(host) {
		return nil, fmt.Errorf("node %s is not this computer's, and its password must not be sent in the clear: add cert=<a copy of its rpc.cert>", o.Addr)
	}
	if _, _, err := o.auth(); err != nil && o.Auth == "" {
		return nil, err // a file may still be written, the environment does not change
	}
	n, err := newNode(o)
	if err != nil {
		return nil, err
	}
	c := &Client{
		options: o, node: n, wake: make(chan struct{}, 1),
		points: map[wire.OutPoint]uint64{}, ids: map[chainhash.Hash]bool{}, scripts: map[string]uint64{},
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.running.Go(c.run)
	return c, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// OpenURL opens "bitcoind://host:port?auth=<file>&from=<height>", or the same
// with btcd, which takes cert=<file> too. It is a chain.Opener.
func OpenURL(_ context.Context, u *url.URL) (chain.Source, error) {
	if u.User != nil {
		return nil, fmt.Errorf("a URI is logged, so it holds no credentials: write user:password into a file and add auth=<file>, or set %s", AuthEnv)
	}
	if u.Opaque != "" || u.Path != "" || u.Fragment != "" {
		return nil, fmt.Errorf("write %s://host:port?auth=<file>&from=<height>", u.Scheme)
	}
	o := Options{Scheme: u.Scheme, Addr: u.Host}
	for key, values := range u.Query() {
		value := values[len(values)-1]
		switch key {
		case "auth":
			o.Auth = value
		case "cert":
			o.Cert = value
		case "from":
			height, err := strconv.ParseUint(value, 10, 31)
			if err != nil {
				return nil, fmt.Errorf("from=%.20q is not the height of a block", value)
			}
			o.From = int32(height)
		default:
			return nil, fmt.Errorf("%.20q is unknown; there are auth, cert and from", key)
		}
	}
	c, err := Open(o)
	if err != nil {
		return nil, err // not a nil *Client in a Source
	}
	return c, nil
}

// auth reads user and password.
func (o Options) auth() (user, password string, err error) {
	text, where := os.Getenv(AuthEnv), "variable "+AuthEnv
	if o.Auth != "" {
		raw, err := os.ReadFile(o.Auth)
		if err != nil {
			return "", "", fmt.Errorf("user and password of %s: %w", o.Addr, err)
		}
		text, where = string(raw), o.Auth
	}
	user, password, ok := strings.Cut(strings.TrimSpace(text), ":")
	if !ok {
		return "", "", fmt.Errorf("%s does not hold user:password of %s: bitcoind writes them to .cookie in its data folder, btcd has rpcuser and rpcpass in btcd.conf", where, o.Addr)
	}
	return user, password, nil
}

// Close stops following.
func (c *Client) Close() error {
	c.cancel()
	c.running.Wait()
	c.node.client.CloseIdleConnections()
	c.bell.Ring()
	return nil
}

// run follows the chain, round by round.
func (c *Client) run() {
	for wait := MinBackoff; c.ctx.Err() == nil; {
		err, pause := c.round(c.ctx), c.options.Interval
		c.note(err)
		switch {
		case err == nil:
			wait = MinBackoff
		case c.ctx.Err() == nil:
			c.options.OnDown(err)
			pause, wait = wait, min(2*wait, MaxBackoff)
		}
		select {
		case <-time.After(pause):
		case <-c.wake:
		case <-c.ctx.Done():
		}
	}
}

// note keeps what questions are answered with while there is no better answer.
func (c *Client) note(trouble error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trouble == nil && trouble != nil {
		c.bell.Ring() // so that who waits for an answer sees the trouble
	}
	c.trouble = trouble
}
