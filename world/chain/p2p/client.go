// Package p2p is a chain.Source that asks Bitcoin nodes over their own network
// protocol and believes none of them: the driver of core/bitcoin/light. By
// "p2p://host:port" it uses compact filters (BIP 157 and 158), by
// "spv://host:port" bloom filters (BIP 37).
package p2p

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/bitcoin/light"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/keys"
	"coinop.dev/core/step"
	"coinop.dev/world/chain"
	"coinop.dev/world/drive"
	"coinop.dev/world/store"
	"coinop.dev/world/store/mem"
)

// ScanWait is how long a question about a script that is new waits for the blocks
// to be looked through. Then the answer is chain.ErrSyncing, and Changed tells
// when to ask again.
const ScanWait = 20 * time.Second

// Options of a client.
type Options struct {
	Addrs []string         // of nodes, "host:port", at most light.MaxPeers
	Rules *chaincfg.Params // of the chain; nil means regtest

	// DB keeps what was learned; nil means that it is learned anew.
	DB store.DB

	Birthday int32 // the height below which none of our scripts was paid
	Bloom    bool  // ask by BIP 37

	Now func() step.Time // nil: the computer's clock

	// OnDown is told why a connection ended or was not made, one at a time.
	OnDown func(err error)
}

// A Client follows the best chain of several nodes.
type Client struct {
	options Options
	bell    chain.Bell
	host    *drive.Host
	core    *light.Client // for calls on the host's goroutine
	ownsDB  bool
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	down    sync.Mutex            // held while OnDown is called
	died    atomic.Pointer[error] // a bug of ours: the core is not stepped any more

	old struct { // headers below the tail that were asked for last
		sync.Mutex
		number  int32
		headers []wire.BlockHeader
	}
}

// Open starts a client. It answers chain.ErrSyncing until it has looked through
// the chain, however long the nodes are away.
func Open(o Options) (*Client, error) {
	if o.OnDown == nil {
		o.OnDown = func(error) {}
	}
	if o.Rules == nil {
		o.Rules = &chaincfg.RegressionNetParams
	}
	if len(o.Addrs) == 0 || len(o.Addrs) > light.MaxPeers {
		return nil, fmt.Errorf("%d nodes are named; name from 1 to %d", len(o.Addrs), light.MaxPeers)
	}
	for i, addr := range o.Addrs {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return nil, fmt.Errorf("node %q: %w", addr, err)
		}
		if slices.Contains(o.Addrs[:i], addr) {
			return nil, fmt.Errorf("node %q is named twice; it is no second opinion", addr)
		}
	}
	c := &Client{options: o}
	if o.DB == nil {
		db, err := mem.New(nil)
		if err != nil {
			return nil, err
		}
		c.options.DB, c.ownsDB = db, true
	}
	noise, err := keys.NewSecret(crand.Reader)
	if err != nil {
		return nil, err
	}
	c.core, err = light.Load(c.options.DB, light.Options{Params: o.Rules, Birthday: o.Birthday, Bloom: o.Bloom, Tweak: rand.Uint32(), Noise: noise})
	if err != nil {
		return nil, err
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if o.Now == nil {
		o.Now = func() step.Time { return step.Time(time.Now().UnixMilli()) }
	}
	c.host = drive.NewHost(c.options.DB, o.Now)
	c.host.Outlet(light.Bell, func(step.Packet) { c.bell.Ring() })
	c.host.Outlet(light.Disk, c.fetch)
	c.host.Hear(func(o step.Outcome) {
		if o.ID == drive.Died {
			c.died.Store(&o.Err)
			c.bell.Ring()
		}
	})
	c.running.Go(func() {
		_ = c.host.Run(c.ctx) // Status tells of it
		c.bell.Ring()
	})
	if err := c.host.Add(c.ctx, light.Name, c.core); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	net := newNetwork(c)
	c.host.Outlet(light.Net, net.drop)
	for _, addr := range o.Addrs {
		c.running.Go(func() { net.keep(addr) })
	}
	return c, nil
}

// OpenURL opens "p2p://host:port", and spv: likewise, with these parameters: more
// nodes (peers=host:port,host:port), the chain (net=regtest, testnet3, signet or
// mainnet), the birthday (birthday=800000) and where to keep what was learned
// (store=bbolt:/var/lib/coinop/chain). It is a chain.Opener.
func OpenURL(_ context.Context, u *url.URL) (chain.Source, error) {
	o, err := options(u)
	if err != nil {
		return nil, err
	}
	c, err := Open(o)
	if err != nil {
		return nil, err // not a nil *Client in a Source
	}
	c.ownsDB = true
	return c, nil
}

func options(u *url.URL) (o Options, err error) {
	if u.Opaque != "" || u.Path != "" || u.User != nil || u.Fragment != "" || u.Host == "" {
		return o, fmt.Errorf("write %s://host:port, and parameters after ?: peers=, net=, birthday=, store=", u.Scheme)
	}
	o.Addrs, o.Bloom = []string{u.Host}, u.Scheme == "spv"
	q := u.Query()
	for key, values := range q {
		value := values[0]
		switch key {
		case "peers":
			o.Addrs = append(o.Addrs, strings.Split(value, ",")...)
		case "net":
			if o.Rules, err = chain.Rules(value); err != nil {
				return o, err
			}
		case "birthday":
			if _, err := fmt.Sscanf(value, "%d", &o.Birthday); err != nil || o.Birthday < 0 || fmt.Sprint(o.Birthday) != value {
				return o, fmt.Errorf("birthday=%.40q is not a height", value)
			}
		case "store":
		default:
			return o, fmt.Errorf("parameter %.40q is unknown: peers, net, birthday and store are", key)
		}
	}
	if uri := q.Get("store"); uri != "" {
		o.DB, err = store.Default.Open(uri)
	}
	return o, err
}

// Close hangs up. What was published and not mined is forgotten.
func (c *Client) Close() error {
	c.cancel()
	c.running.Wait()
	c.bell.Ring()
	if c.ownsDB {
		return c.options.DB.Close()
	}
	return nil
}

// fetch reads an interval's hashes for the core.
func (c *Client) fetch(p step.Packet) {
	number := p.Msg.(light.Fetch).Interval
	c.running.Go(func() {
		raw, _ := c.options.DB.Get(light.HashesKey(number)) // none is an answer too
		c.tell(light.Fetched{Interval: number, Hashes: light.ReadHashes(raw)})
	})
}

func (c *Client) tell(ev any) { _ = c.host.Tell(c.ctx, light.Name, ev) } // it fails when all ends

// look runs f on the core, if it can answer questions.
func (c *Client) look(ctx context.Context, f func(*light.Client)) error {
	var synced bool
	var trouble error
	err := c.host.Do(ctx, func(*drive.Machine) {
		if synced, trouble = c.core.State(); synced {
			f(c.core)
		}
	})
	switch {
	case c.ctx.Err() != nil:
		return chain.ErrClosed
	case err != nil:
		return err
	case c.died.Load() != nil:
		return *c.died.Load()
	case errors.Is(trouble, light.ErrFull):
		return fmt.Errorf("%w: %w", chain.ErrTooLong, trouble)
	case !synced && trouble != nil:
		return fmt.Errorf("%w: %w", chain.ErrSyncing, trouble)
	case !synced:
		return chain.ErrSyncing
	}
	return nil
}

// finds tells why what pays a script cannot be found, however long one waits.
func (c *Client) finds(script []byte) error {
	if len(script) == 0 {
		return errors.New("a light client finds outputs by their script, and none is given")
	}
	if c.options.Bloom && !light.BloomFinds(script) {
		return fmt.Errorf("script %x pushes no data, and BIP 37 finds by nothing else: use p2p instead of spv", script)
	}
	return nil
}

// lookFor is look once a script was looked for in all blocks.
func (c *Client) lookFor(ctx context.Context, s watch.Script, f func(*light.Client)) error {
	if err := c.finds(s.Script); err != nil {
		return err
	}
	late := time.NewTimer(ScanWait)
	defer late.Stop()
	for told := false; ; told = true {
		changed := c.bell.Next()
		found, full := false, false
		err := c.look(ctx, func(core *light.Client) {
			if found, full = core.Looked(s.Script, s.Since), core.Full(); found {
				f(core)
			}
		})
		switch {
		case err != nil || found:
			return err
		case full:
			return fmt.Errorf("%d scripts are watched, which is the limit", light.MaxScripts)
		case !told:
			c.tell(light.Watch{Scripts: []watch.Script{s}})
		}
		select {
		case <-changed:
		case <-late.C:
			return fmt.Errorf("%w: older blocks are looked through for a new script", chain.ErrSyncing)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var (
	_ chain.Source   = (*Client)(nil)
	_ chain.Blocker  = (*Client)(nil)
	_ chain.Scanner  = (*Client)(nil)
	_ chain.Headerer = (*Client)(nil)
	_ chain.Heighter = (*Client)(nil)
)

// Scan implements chain.Scanner.
func (c *Client) Scan(scripts []watch.Script) { c.tell(light.Watch{Scripts: scripts}) }

// Status implements chain.Source.
func (c *Client) Status(ctx context.Context, o watch.Output) (s watch.Status, err error) {
	err = c.lookFor(ctx, watch.Script{Script: o.Script, Since: o.Since}, func(core *light.Client) { s = core.Status(o) })
	return s, err
}

// Coins implements chain.Source. Of what waits for a block it knows only what
// was published here. A script that is watched already is believed to be of no
// interest before the height that it is watched from; another is looked for from
// the birthday on.
func (c *Client) Coins(ctx context.Context, script []byte) (coins []watch.Coin, err error) {
	if err := c.finds(script); err != nil {
		return nil, err
	}
	since := int32(0)
	if err := c.look(ctx, func(core *light.Client) { since = core.Since(script) }); err != nil {
		return nil, err
	}
	err = c.lookFor(ctx, watch.Script{Script: script, Since: since}, func(core *light.Client) { coins = core.Coins(script) })
	return coins, err
}

// Tip implements chain.Source. It is the best block that was looked through.
func (c *Client) Tip(ctx context.Context) (height int32, hash chainhash.Hash, err error) {
	err = c.look(ctx, func(core *light.Client) { height, hash = core.Tip() })
	return height, hash, err
}

// Publish implements chain.Source. t is announced to every node and sent to who
// asks; a node that gives it back took it. It is kept and sent again to every
// later connection until it is mined, unless it was refused.
func (c *Client) Publish(ctx context.Context, t *wire.MsgTx) error {
	if c.ctx.Err() != nil {
		return chain.ErrClosed
	}
	_, err := c.host.Ask(ctx, light.Name, t.TxHash().String(), light.Publish{Tx: t})
	return err
}

// Block implements chain.Blocker: a node is asked for it.
func (c *Client) Block(ctx context.Context, height int32) (*wire.MsgBlock, error) {
	if c.ctx.Err() != nil {
		return nil, chain.ErrClosed
	}
	v, err := c.host.Ask(ctx, light.Name, light.WantID(height), light.Want{Height: height})
	if errors.Is(err, light.ErrAbove) || errors.Is(err, light.ErrOlder) {
		err = fmt.Errorf("%w: %w", chain.ErrNoBlock, err)
	}
	if err != nil {
		return nil, err
	}
	return v.(*wire.MsgBlock), nil
}

// Header implements chain.Headerer. Headers below the tail are asked of a node
// once more, a thousand at a time, and the last thousand is kept.
func (c *Client) Header(ctx context.Context, height int32) (h wire.BlockHeader, err error) {
	there, tip := false, int32(0)
	err = c.look(ctx, func(core *light.Client) {
		tip, _ = core.Headers().Tip()
		h, there = core.Headers().At(height)
	})
	switch {
	case err != nil || there:
		return h, err
	case height < 0 || height > tip:
		return h, fmt.Errorf("%w: %d is not from 0 to %d", chain.ErrNoBlock, height, tip)
	case height == 0:
		return c.options.Rules.GenesisBlock.Header, nil
	}
	number := (height - 1) / header.Interval
	c.old.Lock()
	defer c.old.Unlock()
	if c.old.headers == nil || c.old.number != number {
		v, err := c.host.Ask(ctx, light.Name, light.WantHeadersID(number), light.WantHeaders{Interval: number})
		if err != nil {
			return h, err
		}
		c.old.number, c.old.headers = number, v.([]wire.BlockHeader)
	}
	return c.old.headers[height-number*header.Interval-1], nil
}

// Height implements chain.Heighter, for hashes of the tail and of checkpoints.
func (c *Client) Height(ctx context.Context, hash chainhash.Hash) (height int32, known bool, err error) {
	err = c.look(ctx, func(core *light.Client) { height, known = core.Headers().Height(hash) })
	return height, known, err
}

// Summary is what an operator is shown.
func (c *Client) Summary(ctx context.Context) (s light.Summary, err error) {
	err = c.host.Do(ctx, func(*drive.Machine) { s = c.core.Summary(c.host.Now()) })
	return s, err
}

// Changed implements chain.Source. It also tells that a question can be answered
// which could not.
func (c *Client) Changed() <-chan struct{} { return c.bell.Next() }

// Rules implements chain.Ruled.
func (c *Client) Rules() *chaincfg.Params { return c.options.Rules }
