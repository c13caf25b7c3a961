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
	"slices"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/filter"
	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/bitcoin/ledger"
	"coinop.dev/core/bitcoin/merkle"
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
		Height   int32 // as it claims
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

	ledger  *ledger.Ledger
	scripts map[string]*script
	scanned int32   // all blocks up to here were looked through for all scripts that are done
	suspect []int32 // blocks whose filter may be false, which are looked through whole
	reread  []int32 // those of them that were looked through before
	back    *back   // scripts that are looked for in older blocks
	scan    *scan   // the range that is looked through now
	query   *filter.Query
	disk    *interval // hashes that were read
	finds   int       // transactions found so far

	wanted    []*wanted
	oldWanted []int32 // intervals
	pending   []*publication
	tweak     uint32
	bloom     bloomState

	savedMarks []chainhash.Hash
	savedScan  int32
	savedTip   chainhash.Hash // of the filter headers
	unsaved    []*script      // whose record is out of date since Load
	synced     bool
	trouble    error // why the last peer was lost
	failed     error // why it cannot go on

	now step.Time
	fx  *step.Effects
}

// a peer, while it is connected.
type peer struct {
	name     string
	services wire.ServiceFlag
	height   int32

	headersAsked step.Time          // when getheaders was sent; 0 if it is answered
	current      bool               // has told us all the headers it has
	best         int32              // the height up to which it has shown to have our chain
	branch       []wire.BlockHeader // of its chain, with less work than ours
	orphans      int                // messages in a row whose headers lead nowhere

	request  *request       // what it was asked for besides headers
	stale    chainhash.Hash // the last block of an answer that nobody waits for any more
	marks    []chainhash.Hash
	marksFor int32 // marks are an answer about this height; 0 if none
	hashes   *filterHashes
	vetted   int   // how many of our checkpoints are its own
	word     int32 // the height up to which its filter headers are ours
	differs  int32 // a height at which they are not; 0 if none is known
	bloom    bloomPeer
}

// A request is what a peer was asked and has not answered in full.
type request struct {
	kind        requestKind
	start, stop int32
	blocks      []chainhash.Hash // that it owes; of filters the last one's
	last        step.Time        // when it said something of it
}

type requestKind uint8

const (
	forMarks requestKind = iota + 1
	forHashes
	forFilters
	forVersion // one filter that is disputed
	forBlocks
	forBloom
	forWord    // the filter header at the tip
	forHeaders // that are below the tail
)

func (k requestKind) String() string {
	return [...]string{"", "filter checkpoints", "filter headers", "filters", "a disputed filter", "blocks", "filtered blocks", "the last filter header", "old headers"}[k]
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
	return [4]any{hash, c.scanned, c.unfinished(), c.finds}
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

// State tells whether questions can be answered, and why not: nothing is wrong
// while it has not heard from a peer yet, and the error is nil.
func (c *Client) State() (synced bool, err error) {
	switch {
	case c.failed != nil:
		return false, c.failed
	case !c.synced:
		return false, c.trouble
	}
	if _, near := c.chain.Hash(c.scanned); !near {
		return false, c.trouble // it was without a peer for weeks
	}
	return true, nil
}

// Tip is the best block of those that were looked through.
func (c *Client) Tip() (height int32, hash chainhash.Hash) {
	hash, _ = c.chain.Hash(c.scanned)
	return c.scanned, hash
}

// Looked tells whether a script is watched and nothing is left to look through
// for it from a height on.
func (c *Client) Looked(s []byte, since int32) bool {
	w := c.scripts[string(s)]
	return w != nil && w.next == 0 && w.since <= max(since, c.o.Birthday, 1)
}

// Since is the height that somebody has a script watched from; 0 if nobody has.
func (c *Client) Since(s []byte) int32 {
	if w := c.scripts[string(s)]; w != nil && !w.brief {
		return w.since
	}
	return 0
}

// Full tells whether no more scripts can be watched.
func (c *Client) Full() bool { return len(c.scripts) >= MaxScripts }

// Status is what the best chain says of an output whose script was looked for.
func (c *Client) Status(o watch.Output) watch.Status { return c.ledger.Status(o) }

// Coins lists the unspent outputs that pay a script that was looked for, with
// their proofs.
func (c *Client) Coins(s []byte) []watch.Coin {
	coins := c.ledger.Coins(s, c.Waiting())
	for i := range coins {
		if m := c.ledger.Find(coins[i].Point.Hash); m != nil {
			coins[i].Proof = &merkle.Proof{Height: m.Height, Branch: m.Branch}
		}
	}
	return coins
}

// Headers is the chain of headers, to read.
func (c *Client) Headers() *header.Chain { return c.chain }

// Summary is what an operator is shown.
type Summary struct {
	Height  int32  `json:"height"`  // of the best header
	Scanned int32  `json:"scanned"` // blocks looked through
	Filters int32  `json:"filters"` // filter headers that are agreed about
	Peers   int    `json:"peers"`
	Scripts int    `json:"scripts"`
	Rescan  int32  `json:"rescan,omitempty"` // the next older block to look through for new scripts; 0 if none
	Synced  bool   `json:"synced"`
	Stale   bool   `json:"stale"` // no block for so long that the peers may hide the chain
	Trouble string `json:"trouble,omitempty"`
	Warning string `json:"warning,omitempty"`
}

// Summary is as of a time.
func (c *Client) Summary(now step.Time) Summary {
	s := Summary{Scanned: c.scanned, Filters: c.filters.tip(), Peers: len(c.peers), Scripts: len(c.scripts), Synced: c.synced, Stale: c.Stale(now)}
	s.Height, _ = c.chain.Tip()
	for _, w := range c.scripts {
		if w.next != 0 && (s.Rescan == 0 || w.next < s.Rescan) {
			s.Rescan = w.next
		}
	}
	if c.trouble != nil {
		s.Trouble = c.trouble.Error()
	}
	if c.o.Bloom {
		s.Warning = c.bloomWarning()
	}
	return s
}

// Unreachable is the event of a peer that could not be connected to.
type Unreachable struct{ Why error }

func (c *Client) send(to string, msg any) {
	c.fx.Send = append(c.fx.Send, step.Packet{To: to, Msg: msg})
}

// receive takes one message of a peer.
func (c *Client) receive(p *peer, msg any) {
	switch msg := msg.(type) {
	case *wire.MsgPing:
		c.send(p.name, wire.NewMsgPong(msg.Nonce))
	case *wire.MsgHeaders:
		c.headers(p, msg)
	case *wire.MsgInv:
		c.inventory(p, msg)
	case *wire.MsgCFCheckpt:
		c.marks(p, msg)
	case *wire.MsgCFHeaders:
		c.hashes(p, msg)
	case *wire.MsgCFilter:
		c.filter(p, msg)
	case *wire.MsgBlock:
		c.block(p, msg)
	case *wire.MsgMerkleBlock:
		c.filtered(p, msg)
	case *wire.MsgTx:
		c.transaction(p, msg)
	case *wire.MsgPong:
		c.pong(p, msg)
	case *wire.MsgGetData:
		c.serve(p, msg)
	case *wire.MsgReject:
		c.rejected(p, msg)
	case *wire.MsgNotFound:
		c.notFound(p, msg)
	}
}

func (c *Client) hello(h Hello) {
	if c.peers[h.Peer] != nil || len(c.peers) == MaxPeers {
		c.drop(h.Peer, false, "%d peers are connected, which is the limit", len(c.peers))
		return
	}
	need := wire.SFNodeNetwork | wire.SFNodeWitness
	if c.o.Bloom {
		need |= wire.SFNodeBloom
	} else {
		need |= wire.SFNodeCF
	}
	if h.Services&need != need {
		c.drop(h.Peer, false, "it serves %v; needed is %v", h.Services, need)
		return
	}
	c.peers[h.Peer] = &peer{name: h.Peer, services: h.Services, height: h.Height, vetted: 1}
	c.trouble = nil
	c.send(h.Peer, wire.NewMsgSendHeaders())
	c.introduce(c.peers[h.Peer])
}

// lost forgets a peer. What it was asked for is asked of another.
func (c *Client) lost(name string, why error) {
	p := c.peers[name]
	if p == nil {
		return
	}
	delete(c.peers, name)
	if why != nil {
		c.trouble = why
	} else if len(c.peers) == 0 {
		c.trouble = fmt.Errorf("node %s: the connection ended", name)
	}
	if c.sync == name {
		c.sync = ""
	}
	if c.deep != nil && c.deep.peer == name {
		c.deep = nil
	}
	c.released(p)
	c.gone(p)
	for _, q := range c.pending {
		delete(q.peers, name) // it may come back without what it took
	}
	if s := c.scan; s != nil && s.toMark && p.request != nil && p.request.kind == forFilters {
		s.restart() // or the next peer would answer for what this one said
	}
}

// drop ends a connection, for good if the peer has lied.
func (c *Client) drop(name string, ban bool, format string, args ...any) {
	why := fmt.Errorf("node %s: %w", name, fmt.Errorf(format, args...))
	c.send(Net, Drop{Peer: name, Why: why, Ban: ban})
	if c.peers[name] == nil {
		c.trouble = why
	}
	c.lost(name, why)
}

// by name, so that the same inputs have the same effects.
func (c *Client) sorted() []*peer {
	all := make([]*peer, 0, len(c.peers))
	for _, p := range c.peers {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *peer) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return all
}

// has tells whether a peer is on our chain and has shown the block at a height.
func (p *peer) has(height int32) bool {
	return p.current && len(p.branch) == 0 && p.best >= height
}

func (c *Client) ask(p *peer, r request, msg wire.Message) {
	r.last = c.now
	p.request = &r
	c.send(p.name, msg)
}

// answered tells whether p was asked for this, and that it still answers.
func (p *peer) answered(kind requestKind, now step.Time) bool {
	if p.request == nil || p.request.kind != kind {
		return false
	}
	p.request.last = now
	return true
}

// alarm asks to be rung when the first peer has taken too long.
func (c *Client) alarm() {
	var first step.Time
	soon := func(t step.Time) {
		if first == 0 || t < first {
			first = t
		}
	}
	for _, p := range c.peers {
		if p.request != nil {
			soon(p.request.last + AnswerTime)
		}
		if p.headersAsked != 0 {
			soon(p.headersAsked + AnswerTime)
		}
	}
	for _, p := range c.pending {
		if due := p.due(); due != 0 {
			soon(due)
		}
	}
	if first != 0 {
		c.fx.Wake = append(c.fx.Wake, step.Alarm{ID: "late", At: first})
	}
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
