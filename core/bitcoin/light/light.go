// Package light is a light client of the Bitcoin chain as one Step: headers and
// their work, compact filters and their headers (BIP 157 and 158), the blocks
// that match, and from those what the watched scripts were paid and who spent it.
//
// No peer is believed. Headers carry their work, and the heaviest valid chain is
// followed. Filters are not committed to by blocks, so several peers are asked
// for their headers; where two differ the block itself tells who lies, and that
// peer is dropped for good. Who comes later is asked too, and if what was agreed
// about before was false, blocks are looked through once more. A block proves its
// transactions by its header.
//
// What it keeps is bounded whatever the length of the chain: the last 2,016
// headers, one filter header in a thousand, the scripts and what they were paid.
// The hashes of older blocks from the birthday on are on disk, 32 bytes each, and
// read a thousand at a time while a script that is new is looked for.
package light

import (
	"fmt"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/filter"
	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/bitcoin/ledger"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/keys"
	"coinop.dev/core/step"
)

// Name is the core's, and Prefix is where its records are.
const (
	Name   = "light"
	Prefix = "light/"
)

// Outlets besides the peers.
const (
	Net  = "net"  // takes Drop
	Disk = "disk" // takes Fetch and answers Fetched
	Bell = "bell" // takes Changed
)

// Limits.
const (
	// MaxPeers bounds those that are connected at a time.
	MaxPeers = 8

	// MaxScripts bounds the scripts that are watched.
	MaxScripts = 16_384

	// MaxMined bounds the bytes of the transactions that are kept.
	MaxMined = 16 << 20

	// MaxBranch bounds the headers of a peer's branch that has less work than
	// our chain. A branch that forks below the tail is another matter: see rival.
	MaxBranch = header.Tail

	// MaxOrphans bounds the messages in a row whose headers follow nothing of ours.
	MaxOrphans = 3

	// MaxAtOnce bounds the blocks that are asked for at once, of one peer. A block
	// takes some four times its size in memory: with two of 1 MB the process needs
	// 27 MB now and then, with one 23 MB.
	MaxAtOnce = 1

	// MaxWanted bounds the blocks that are asked for by callers.
	MaxWanted = 256
)

// Patience.
const (
	// AnswerTime is how long a peer may take from one message of an answer to
	// the next. Then it is dropped, and another is asked.
	AnswerTime = 30 * step.Second

	// StaleAfter is how old the tip may be before the machine may have been cut
	// off from the chain: twelve intervals of ten minutes, which happens by chance
	// once in eighteen years.
	StaleAfter = 2 * step.Hour
)

// Options are what the chain's rules are and where to begin.
type Options struct {
	Params *chaincfg.Params

	// Birthday is the height below which no script of ours was ever paid.
	Birthday int32

	// Bloom makes it ask for blocks by BIP 37 instead of by compact filters. The
	// filter's tweak and its noise, which is secret, are kept with the records;
	// Tweak and Noise are used the first time, and must be random.
	Bloom bool
	Tweak uint32
	Noise keys.Secret
}

// Events, besides step.Recv of a wire.Message from a peer and step.Unlinked.
type (
	// Hello is a connection that has exchanged versions.
	Hello struct {
		Peer     string
		Services wire.ServiceFlag
	}
	// Watch has scripts watched.
	Watch struct{ Scripts []watch.Script }
	// Publish is answered by an outcome with the transaction's ID.
	Publish struct{ Tx *wire.MsgTx }
	// Want is answered by an outcome with WantID(Height), a *wire.MsgBlock.
	Want struct{ Height int32 }
	// Fetched answers Fetch: the hashes of an interval, or nothing.
	Fetched struct {
		Interval int32
		Hashes   []chainhash.Hash
	}
)

// Messages to outlets.
type (
	// Drop ends a connection. Who is banned is not to be connected to again.
	Drop struct {
		Peer string
		Why  error
		Ban  bool
	}
	// Fetch asks for the hashes of the blocks above Interval*header.Interval.
	Fetch struct{ Interval int32 }
	// Changed says that the tip, or what is known of a script, has changed.
	Changed struct{}
)

// WantID is the outcome's for the block at a height.
func WantID(height int32) string { return fmt.Sprintf("block/%d", height) }

// A Client is the light client. Its methods other than Step are for the
// goroutine that steps it.
type Client struct {
	o     Options
	chain *header.Chain
	peers map[string]*peer
	sync  string // the peer whose headers are being fetched; "" if none

	filters filterChain
	dispute *dispute
	doubt   *doubt
	deep    *rival

	ledger   *ledger.Ledger
	scripts  map[string]*script
	scanned  int32   // all blocks up to here were looked through for all scripts that are done
	suspect  []int32 // blocks whose filter may be false, which are looked through whole
	reread   []int32 // those of them that were looked through before
	back     *back   // scripts that are looked for in older blocks
	scan     *scan   // the range that is looked through now
	query    *filter.Query
	disk     *interval // hashes that were read
	finds    int       // transactions found so far
	finished int       // times that nothing was left to look through for a script

	wanted    []*wanted
	oldWanted []int32 // intervals
	pending   []*publication
	tweak     uint32
	bloom     bloomState

	savedMarks []chainhash.Hash
	savedScan  int32
	savedTip   chainhash.Hash // of the filter headers
	unsaved    []*script      // whose record is out of date since Load
	outdated   []string       // records that are of no use since Load
	synced     bool
	trouble    error // why the last peer was lost, or what the disk has lost
	failed     error // why it cannot go on

	now step.Time
	fx  *step.Effects
}

// New returns a client that knows the first block only.
func New(o Options) *Client {
	c := &Client{
		o: o, chain: header.New(o.Params), peers: map[string]*peer{}, scripts: map[string]*script{},
		query: filter.NewQuery(), scanned: max(0, o.Birthday-1), tweak: o.Tweak,
	}
	c.bloom.noise = o.Noise
	c.ledger = ledger.New(c.scanned)
	c.filters.reset(o.Params)
	return c
}

// Step implements the contract of core/step.
func (c *Client) Step(in step.Input) (fx step.Effects) {
	c.now, c.fx = in.At, &fx
	c.discard()
	before, known := c.level(), c.synced
	for _, ev := range in.Events {
		c.take(ev)
	}
	c.advance()
	if c.level() != before || c.synced != known {
		c.send(Bell, Changed{})
	}
	c.save()
	c.alarm()
	c.fx = nil
	return fx
}

// level is what others see change.
func (c *Client) level() [4]any {
	_, hash := c.chain.Tip()
	return [4]any{hash, c.scanned, c.finished, c.finds}
}

func (c *Client) take(ev any) {
	switch ev := ev.(type) {
	case Hello:
		c.hello(ev)
	case step.Unlinked:
		c.lost(ev.Peer, nil)
	case step.Recv:
		if p := c.peers[ev.From]; p != nil {
			c.receive(p, ev.Msg)
		}
	case Watch:
		c.watch(ev.Scripts)
	case Publish:
		c.publish(ev.Tx)
	case Want:
		c.want(ev.Height)
	case WantHeaders:
		c.wantHeaders(ev.Interval)
	case Fetched:
		c.fetched(ev)
	case Unreachable:
		if !c.synced {
			c.trouble = ev.Why
			c.send(Bell, Changed{})
		}
	case Barrier:
		c.fx.Done = append(c.fx.Done, step.Outcome{ID: ev.ID})
	case step.Rang:
	}
}

// Barrier is answered by an outcome with its ID once all events before it were
// taken: so a driver bounds what waits.
type Barrier struct{ ID string }

// Unreachable is the event of a peer that could not be connected to.
type Unreachable struct{ Why error }

func (c *Client) send(to string, msg any) {
	c.fx.Send = append(c.fx.Send, step.Packet{To: to, Msg: msg})
}

// advance does what can be done now, until there is nothing.
func (c *Client) advance() {
	for _, p := range c.sorted() {
		switch {
		case p.request != nil && c.now >= p.request.last+AnswerTime:
			c.drop(p.name, false, "%v, asked for, have not come within %d s", p.request.kind, AnswerTime/step.Second)
		case p.headersAsked != 0 && c.now >= p.headersAsked+AnswerTime:
			c.drop(p.name, false, "headers, asked for, have not come within %d s", AnswerTime/step.Second)
		}
	}
	c.overdue()
	c.syncHeaders()
	if !c.o.Bloom {
		c.syncFilters()
	}
	c.fetchWanted()
	c.fetchOld()
	c.look()
	c.synced = c.synced || c.complete()
	c.prune()
}

// complete tells whether every peer has told all its headers and all blocks were
// looked through.
func (c *Client) complete() bool {
	tip, _ := c.chain.Tip()
	if len(c.peers) == 0 || c.sync != "" || c.deep != nil || c.scanned != tip {
		return false
	}
	for _, p := range c.peers {
		if !p.current {
			return false
		}
	}
	return true
}
