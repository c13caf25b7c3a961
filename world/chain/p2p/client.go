// Package p2p is a chain.Source that follows one node over Bitcoin's network
// protocol and keeps the whole chain in memory. It is for private chains, where
// two processes share one; a public chain wants the light client.
//
// The node is believed as a miner is: headers, proof of work, transactions and
// witnesses are checked, scripts are not.
package p2p

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/internal/peer"
)

const (
	// HandshakeTimeout is from dialling to the verack.
	HandshakeTimeout = 10 * time.Second

	// IdleTimeout is how long the node may say nothing. We ping at half of it.
	IdleTimeout = 2 * time.Minute

	// MessageTimeout is from a message's first byte to its last, either way.
	MessageTimeout = 30 * time.Second

	// BlockTimeout is how long a block that was asked for may take.
	BlockTimeout = time.Minute

	// MinBackoff and MaxBackoff bound the wait before dialling again.
	MinBackoff = 100 * time.Millisecond
	MaxBackoff = 5 * time.Second

	// MaxInFlight bounds the blocks asked for at once.
	MaxInFlight = 16

	// MaxAstray bounds the headers messages in a row that do not follow our
	// chain, after which the node is on a chain of another kind.
	MaxAstray = 3
)

// Options of a client.
type Options struct {
	Addr string // the node, "host:port"

	// Params are the rules of the chain, which must be one without
	// retargeting; nil means regtest.
	Params *chaincfg.Params

	// OnDown is told why a connection ended or was not made, one at a time.
	OnDown func(err error)
}

// A Client is one node's chain.
type Client struct {
	options Options
	rules   *chaincfg.Params
	bell    chain.Bell
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	ledger  *chain.Ledger
	headers []wire.BlockHeader // by height
	heights map[chainhash.Hash]int32
	synced  bool  // has once had all the node has
	trouble error // why there is no connection; nil while there is
	failed  error // why there will be no more
	node    *node // the connection, or nil
	pending []*publication
}

// Open starts a client. It answers chain.ErrSyncing until it has the chain,
// however long the node is away.
func Open(o Options) (*Client, error) {
	if o.OnDown == nil {
		o.OnDown = func(error) {}
	}
	rules := cmp.Or(o.Params, &chaincfg.RegressionNetParams)
	if !rules.PoWNoRetargeting {
		return nil, fmt.Errorf("chain %s has retargeting; use the light client", rules.Name)
	}
	if _, _, err := net.SplitHostPort(o.Addr); err != nil {
		return nil, fmt.Errorf("node %q: %w", o.Addr, err)
	}
	c := &Client{
		options: o,
		rules:   rules,
		ledger:  chain.NewLedger(*rules.GenesisHash),
		headers: []wire.BlockHeader{rules.GenesisBlock.Header},
		heights: map[chainhash.Hash]int32{*rules.GenesisHash: 0},
		trouble: errors.New("not connected yet"),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.running.Go(c.run)
	return c, nil
}

// OpenURL opens "p2p://host:port", a node of a regtest chain. It is a
// chain.Opener.
func OpenURL(_ context.Context, u *url.URL) (chain.Source, error) {
	if u.Opaque != "" || u.Path != "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("write p2p://host:port and nothing after it")
	}
	c, err := Open(Options{Addr: u.Host})
	if err != nil {
		return nil, err // not a nil *Client in a Source
	}
	return c, nil
}

// Close hangs up. What was published and not mined is forgotten.
func (c *Client) Close() error {
	c.cancel()
	c.running.Wait()
	c.bell.Ring()
	return nil
}

// run connects and connects again.
func (c *Client) run() {
	for ceiling := 2 * MinBackoff; ; ceiling = min(2*ceiling, MaxBackoff) {
		progress, err := c.once()
		if progress {
			ceiling = 2 * MinBackoff
		}
		c.lost(err)
		if c.ctx.Err() != nil {
			return
		}
		c.options.OnDown(err)
		if errors.Is(err, chain.ErrTooLong) {
			return
		}
		select {
		case <-time.After(ceiling/2 + rand.N(ceiling/2)):
		case <-c.ctx.Done():
			return
		}
	}
}

// once is one connection, from dialling to the error that ends it. It reports
// whether the node was of any use.
func (c *Client) once() (progress bool, err error) {
	dialer := net.Dialer{Timeout: HandshakeTimeout}
	conn, err := dialer.DialContext(c.ctx, "tcp", c.options.Addr)
	if err != nil {
		return false, err
	}
	n := &node{
		client: c,
		conn: peer.New(conn, c.rules.Net, peer.Timeouts{
			Handshake: HandshakeTimeout, Idle: IdleTimeout, Message: MessageTimeout,
		}),
	}
	defer n.conn.Close()
	defer context.AfterFunc(c.ctx, func() { n.conn.Close() })()
	theirs, err := n.conn.Greet(c.version())
	if err != nil {
		return false, err
	}
	if need := wire.SFNodeNetwork | wire.SFNodeWitness; theirs.Services&need != need {
		return false, fmt.Errorf("node %s serves %v; whole blocks with witnesses are needed", n.conn.Addr(), theirs.Services)
	}
	return n.run()
}

func (c *Client) version() *wire.MsgVersion {
	c.mu.Lock()
	height, _ := c.ledger.Tip()
	c.mu.Unlock()
	// btcd reads transactions with witnesses only from who says to have them.
	nowhere := wire.NewNetAddressIPPort(net.IPv4zero, 0, wire.SFNodeWitness)
	v := wire.NewMsgVersion(nowhere, nowhere, rand.Uint64(), height)
	v.Services = wire.SFNodeWitness
	v.ProtocolVersion = int32(peer.ProtocolVersion)
	v.UserAgent = "/coinop-p2p:1/"
	v.DisableRelayTx = true // other people's payments are no concern of ours
	return v
}

// lost notes that there is no connection. Who waits for a verdict learns that
// there is none.
func (c *Client) lost(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.node, c.trouble = nil, err
	if errors.Is(err, chain.ErrTooLong) {
		c.failed = err
	}
	for _, p := range c.pending {
		p.forgetNode(fmt.Errorf("kept, and sent again to the next connection: %w", err))
	}
	if !c.synced {
		c.bell.Ring() // so that who waits for the chain sees the trouble
	}
}

// ready tells why there is no answer, or nil.
func (c *Client) ready() error {
	switch {
	case c.ctx.Err() != nil:
		return chain.ErrClosed
	case c.failed != nil:
		return c.failed
	case !c.synced && c.trouble != nil:
		return fmt.Errorf("%w: %w", chain.ErrSyncing, c.trouble)
	case !c.synced:
		return chain.ErrSyncing
	}
	return nil
}

var (
	_ chain.Source  = (*Client)(nil)
	_ chain.Blocker = (*Client)(nil)
)

// Status implements chain.Source.
func (c *Client) Status(_ context.Context, o watch.Output) (watch.Status, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ledger.Status(o), c.ready()
}

// Coins implements chain.Source. Of what waits for a block it knows only what
// was published here.
func (c *Client) Coins(_ context.Context, script []byte) ([]chain.Coin, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var waiting []*wire.MsgTx
	for _, p := range c.pending {
		if mined, _ := c.ledger.Tx(p.id); mined == nil && p.known {
			waiting = append(waiting, p.tx)
		}
	}
	return c.ledger.Coins(script, waiting), c.ready()
}

// Tip implements chain.Source.
func (c *Client) Tip(context.Context) (height int32, hash chainhash.Hash, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	height, hash = c.ledger.Tip()
	return height, hash, c.ready()
}

// Block implements chain.Blocker.
func (c *Client) Block(_ context.Context, height int32) (hash chainhash.Hash, txs []*wire.MsgTx, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.ready(); err != nil {
		return hash, nil, err
	}
	return c.ledger.Block(height)
}

// Changed implements chain.Source.
func (c *Client) Changed() <-chan struct{} { return c.bell.Next() }

// Trouble is why there is no connection to the node, or nil while there is. The
// chain is then as it was when the connection was lost.
func (c *Client) Trouble() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble
}
