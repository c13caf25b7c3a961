package electrum

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/header"
	"coinop.dev/world/chain"
)

const (
	// MaxServers bounds the servers of a client.
	MaxServers = 8

	// MaxScripts bounds the scripts that are asked about. Each is looked at again
	// after every block, which costs 200 bytes per server.
	MaxScripts = 2048

	// MaxItems bounds the history of one script, in transactions.
	MaxItems = 2000

	// MaxWaiting bounds the transactions of one script that wait for a block and are
	// looked at: each is a question of its own.
	MaxWaiting = 64

	// MaxLines bounds the histories of all scripts that a server shows in a round,
	// in transactions.
	MaxLines = 50_000

	// MaxKept bounds the transactions that are kept, in bytes as serialised.
	MaxKept = 32 << 20

	// CallTimeout is how long a server may take for an answer, or for a pipeline of
	// them.
	CallTimeout = 20 * time.Second

	// MinBackoff and MaxBackoff bound the wait before dialling again.
	MinBackoff = 200 * time.Millisecond
	MaxBackoff = 30 * time.Second

	// LiePause is how long a server that has lied is left alone.
	LiePause = 10 * time.Minute

	// PingInterval keeps a connection alive.
	PingInterval = 4 * time.Minute

	// AnswerWait is how long a question waits for a server that was not reached for
	// yet.
	AnswerWait = 2 * time.Second

	// Grace is how long a transaction that was published here counts as waiting
	// although no server shows it.
	Grace = 30 * time.Second
)

// Options of a Client.
type Options struct {
	Servers []Address
	// Params are the rules of the chain; nil means regtest.
	Params *chaincfg.Params
	// Quorum is how many servers must give an answer, 1 at least. With fewer at
	// hand questions are answered with chain.ErrSyncing.
	Quorum int

	CallTimeout time.Duration // 0 means the constant
	LiePause    time.Duration // 0 means the constant

	// OnDown is told why a server was left, one at a time: a *Lie, a *LowWork, a
	// *Fault or another error.
	OnDown func(err error)
}

var errUntried = errors.New("not connected yet")

// ErrNoProof means that the best chain does not have the output.
var ErrNoProof = errors.New("the best chain has no such output")

var (
	_ chain.Source   = (*Client)(nil)
	_ chain.Prover   = (*Client)(nil)
	_ chain.Headerer = (*Client)(nil)
	_ chain.Scanner  = (*Client)(nil)
	_ chain.Ruled    = (*Client)(nil)
)

// A Client asks servers and believes none. Every one of them learns which scripts
// belong together: who minds that runs a server of his own.
type Client struct {
	options Options
	bell    chain.Bell
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	remotes []*remote
	round   chan struct{} // holds one token: who takes it asks the servers

	downMu sync.Mutex

	mu      sync.Mutex
	chain   *header.Chain
	synced  bool // a server was followed to its tip once
	scripts map[chainhash.Hash]*script
	txs     map[chainhash.Hash]*wire.MsgTx // of scripts
	kept    int                            // bytes of txs
	pending []published
}

// published is a transaction that was sent to the servers.
type published struct {
	id   chainhash.Hash
	tx   *wire.MsgTx
	when time.Time
}

// Open starts a client. It answers chain.ErrSyncing until a server is followed.
func Open(o Options) (*Client, error) {
	if len(o.Servers) == 0 || len(o.Servers) > MaxServers {
		return nil, fmt.Errorf("%d Electrum servers: there must be 1 to %d", len(o.Servers), MaxServers)
	}
	o.Quorum = cmp.Or(o.Quorum, 1)
	if o.Quorum < 1 || o.Quorum > len(o.Servers) {
		return nil, fmt.Errorf("quorum of %d with %d Electrum servers", o.Quorum, len(o.Servers))
	}
	for _, a := range o.Servers {
		if _, _, err := net.SplitHostPort(a.Host); err != nil {
			return nil, fmt.Errorf("server %q: %w", a.Host, err)
		}
	}
	o.Params = cmp.Or(o.Params, &chaincfg.RegressionNetParams)
	o.CallTimeout = cmp.Or(o.CallTimeout, CallTimeout)
	o.LiePause = cmp.Or(o.LiePause, LiePause)
	c := &Client{
		options: o, round: make(chan struct{}, 1), chain: header.New(o.Params),
		scripts: map[chainhash.Hash]*script{}, txs: map[chainhash.Hash]*wire.MsgTx{},
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	for _, a := range o.Servers {
		r := &remote{client: c, address: a, told: map[chainhash.Hash]*chainhash.Hash{}, trouble: errUntried}
		c.remotes = append(c.remotes, r)
	}
	for _, r := range c.remotes {
		c.running.Go(r.run)
	}
	return c, nil
}

// OpenURL opens "electrum://host:port,host2:port2?net=mainnet&quorum=2", or
// electrums with TLS, which takes pin=<SHA-256 of a certificate> once for every
// server that is not to be judged by the system's roots. Without net it is
// regtest. It is a chain.Opener.
func OpenURL(_ context.Context, u *url.URL) (chain.Source, error) {
	if u.Path != "" || u.User != nil || u.Fragment != "" {
		return nil, fmt.Errorf("write %s://host:port,host2:port2?net=mainnet", u.Scheme)
	}
	var o Options
	var pins [][sha256.Size]byte
	for key, values := range u.Query() {
		value := values[len(values)-1]
		switch key {
		case "net":
			var err error
			if o.Params, err = chain.Rules(value); err != nil {
				return nil, err
			}
		case "quorum":
			n, err := strconv.ParseUint(value, 10, 8)
			if err != nil || n == 0 {
				return nil, fmt.Errorf("quorum=%.20q is not a number of servers", value)
			}
			o.Quorum = int(n)
		case "pin":
			for _, value := range values {
				raw, err := hex.DecodeString(value)
				if err != nil || len(raw) != sha256.Size || u.Scheme != "electrums" {
					return nil, fmt.Errorf("pin=%.80q is for electrums:// and has 64 hexadecimal digits: the SHA-256 of a certificate", value)
				}
				pins = append(pins, [sha256.Size]byte(raw))
			}
		default:
			return nil, fmt.Errorf("%.20q is unknown; there are net, quorum and pin", key)
		}
	}
	for host := range strings.SplitSeq(cmp.Or(u.Host, u.Opaque), ",") {
		o.Servers = append(o.Servers, Address{Host: host, TLS: u.Scheme == "electrums", Pins: pins})
	}
	c, err := Open(o)
	if err != nil {
		return nil, err // not a nil *Client in a Source
	}
	return c, nil
}

// Close hangs up. What was published is the servers' to keep.
func (c *Client) Close() error {
	c.cancel()
	c.running.Wait()
	c.bell.Ring()
	return nil
}

// Changed implements chain.Source. It also tells that a question can be answered
// which could not.
func (c *Client) Changed() <-chan struct{} { return c.bell.Next() }

// Rules implements chain.Ruled.
func (c *Client) Rules() *chaincfg.Params { return c.options.Params }

// down tells of trouble with a server.
func (c *Client) down(err error) {
	if c.options.OnDown == nil || err == nil || c.ctx.Err() != nil {
		return
	}
	c.downMu.Lock()
	defer c.downMu.Unlock()
	c.options.OnDown(err)
}

// changed is called when a server says that a script has changed.
func (c *Client) changed(h chainhash.Hash) {
	c.mu.Lock()
	s := c.scripts[h]
	if s != nil {
		s.asked++
	}
	c.mu.Unlock()
	if s != nil {
		c.bell.Ring()
	}
}

// ready are the servers that can be asked.
func (c *Client) ready() (all []*remote) {
	for _, r := range c.remotes {
		if r.connection() != nil {
			all = append(all, r)
		}
	}
	return all
}

// untried tells whether a server may still turn out to be there.
func (c *Client) untried() bool {
	return slices.ContainsFunc(c.remotes, func(r *remote) bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.trouble == errUntried
	})
}

// trouble is why too few servers can be asked.
func (c *Client) trouble() error {
	var all []error
	for _, r := range c.remotes {
		r.mu.Lock()
		if r.trouble != nil {
			all = append(all, r.trouble)
		}
		r.mu.Unlock()
	}
	return errors.Join(all...)
}

// jitter spreads what many clients do at once.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2) }

// watched are the hashes of all scripts.
func (c *Client) watched() []chainhash.Hash {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]chainhash.Hash, 0, len(c.scripts))
	for h := range c.scripts {
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b chainhash.Hash) int { return slices.Compare(a[:], b[:]) })
	return all
}
