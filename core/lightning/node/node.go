// Package node is a Lightning node: its channels, the payments it makes, takes
// and forwards, and what it says of itself to others, as one core.
//
// A step takes everything that waited. All onions that arrived with it are
// opened together, all that leave are wrapped together, and each channel that
// was touched signs once at the end. A payment that comes in over one channel
// and goes out over another is one step, so one durable write covers both.
//
// What the node must find again after a crash hangs on the HTLCs themselves:
// each carries a note (note.go). Besides, the node keeps the last orders it paid
// (so that paying one twice pays once), the last payments it took, and the terms
// it was given. Nothing grows with the number of payments.
//
// Files: peer.go talks to peers, open.go opens and closes channels, pay.go pays,
// route.go finds the way, proof.go proves it, receive.go is paid, hold.go makes
// bills and keeps payments for the till's word, forward.go is in between, terms.go asks a payee what to
// pay, chain.go listens to the chain, gossip.go to the network, guard.go speaks
// to a watchtower's client, auto.go opens channels by itself, backup.go keeps what
// a lost database is restored from, and keep.go the same of peers.
package node

import (
	"fmt"
	"maps"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/claim"
	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/lightning/graph"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

// Name is the node's name among a machine's cores.
const Name = wire.Core

// Limits of a node.
const (
	// MaxChannels bounds the channels, open or closing.
	MaxChannels = 1024
	// MaxPeers bounds the peers it talks to.
	MaxPeers = 1024
	// MaxOpenings bounds the channels that are being agreed on.
	MaxOpenings = 64
	// maxOpeningsEach bounds those that one peer proposes.
	maxOpeningsEach = 16
	// MaxPayments bounds the orders that are not answered.
	MaxPayments = 8192
	// Keep is how many settled orders, and how many payments taken, the node
	// remembers: at least what a purse can have open.
	Keep = 8192
	// MaxTries bounds the paths tried for one payment.
	MaxTries = 16
	// MaxParts bounds the HTLCs of one payment.
	MaxParts = 16
)

// Config is what the owner decides.
type Config struct {
	Chain   chainhash.Hash
	Network string // as in package invoice
	Alias   string
	// Policy is what forwarding costs. Its minimum is that of channels, too.
	Policy graph.Policy
	// FinalCLTV is how many blocks the last HTLC to us must have left.
	FinalCLTV uint32
	// MaxDust bounds what may hang in one channel that the chain cannot enforce.
	MaxDust money.Amount
	// MinDepth is how many confirmations a channel opened by others needs.
	MinDepth int32
	// FeeRate is that of commitments, in satoshi per 1,000 weight.
	FeeRate int64
	// Payout is where closings pay us.
	Payout []byte
	// Delay is how many blocks a peer's money waits if it closes alone.
	Delay uint16
	// ClaimDepth is how many blocks make something on the chain final.
	ClaimDepth int32
	// MaxFeePPM and MaxFeeBase bound what a payment may cost on the way.
	MaxFeePPM  uint32
	MaxFeeBase money.Amount
	// Listens is what node_announcement says, if anything.
	Listens []wire.Address
	// Generation is the start of the machine that this is (world/generation); 0 if
	// it does not count.
	Generation uint64
	// Tower says that the machine has the client of a watchtower.
	Tower bool
	// Auto opens channels by itself.
	Auto Auto
}

// Defaults of Config.
func (c Config) withDefaults() Config {
	set := func(v *uint32, d uint32) {
		if *v == 0 {
			*v = d
		}
	}
	set(&c.FinalCLTV, 18)
	set(&c.MaxFeePPM, 10_000)
	if c.MaxFeeBase == 0 {
		c.MaxFeeBase = 10 * money.Sat
	}
	if c.Policy == (graph.Policy{}) {
		c.Policy = graph.Policy{FeeBase: 1000, FeePPM: 100, CLTVDelta: 40, Min: 1}
	}
	if c.MaxDust == 0 {
		c.MaxDust = 50_000 * money.Sat // as other nodes have it
	}
	if c.FeeRate == 0 {
		c.FeeRate = channel.MinFeeRate
	}
	if c.ClaimDepth == 0 {
		c.ClaimDepth = 6
	}
	c.MinDepth = max(c.MinDepth, 1)
	return c
}

// A chanState is a channel and what the node knows about it besides.
type chanState struct {
	*channel.Channel
	peer   *peer
	status watch.Status
	// theirs is what the peer asks for forwarding to us over it.
	theirs  graph.Policy
	heard   bool // the peer has said so
	gossip  announcing
	touched bool
	tag     string  // of whoever asked for it
	claim   *closed // nil until the channel's end
}

// Node is the core. Make one with New or Load.
type Node struct {
	Config
	key  keys.Secret
	id   keys.Public
	root keys.Secret // of channels' secrets

	next     uint64 // index of the next channel
	tip      int32
	peers    map[string]*peer
	channels map[uint64]*chanState
	byID     map[wire.ChannelID]*chanState
	bySCID   map[wire.SCID]*chanState
	watchers map[string]*chanState // by the outpoints that claims watch
	openings map[wire.ChannelID]*opening

	paying      map[money.OrderID]*payment
	byHash      map[[32]byte]*payment
	waiting     []*payment // to be routed in this step
	paused      []*payment // until a channel comes back
	nextAttempt uint64
	tables      tables
	asking      map[string][]*payment
	paid        ring[money.OrderID, *Settled]
	batches     map[uint64]*terms
	nextRef     uint64

	taken   ring[[32]byte, taken]
	sets    map[[32]byte]*set
	holds   map[[32]byte]*hold
	arrived map[[32]byte]*arrived      // what is held, by hash
	holding map[money.OrderID][32]byte // and by order
	vouch   receipt.Payee              // our own word for our stamp key
	vouched receipt.Payee              // the last payee's that was checked
	stamp   keys.Stamp
	seed    keys.Secret
	graph   *graph.Graph
	learnt  graph.Liquidity

	backups backups
	auto    autoState

	changed bool // the head
	touched []*chanState

	// Of one step.
	at step.Time
	fx *step.Effects
}

// New returns a node without channels.
func New(key keys.Secret, c Config) *Node {
	n := &Node{
		Config: c.withDefaults(), key: key, id: key.Public(), root: channelRoot(key), next: 1,
		peers: map[string]*peer{}, channels: map[uint64]*chanState{}, byID: map[wire.ChannelID]*chanState{},
		bySCID: map[wire.SCID]*chanState{}, watchers: map[string]*chanState{}, openings: map[wire.ChannelID]*opening{},
		paying: map[money.OrderID]*payment{}, byHash: map[[32]byte]*payment{}, asking: map[string][]*payment{},
		batches: map[uint64]*terms{}, sets: map[[32]byte]*set{}, holds: map[[32]byte]*hold{},
		arrived: map[[32]byte]*arrived{}, holding: map[money.OrderID][32]byte{},
		seed: key.Derive("lightning/invoices"), graph: graph.New(c.Chain, graph.Limits{}),
	}
	n.backups = newBackups()
	n.paid = newRing[money.OrderID, *Settled](recPaid)
	n.taken = newRing[[32]byte, taken](recTaken)
	n.stamp = key.Stamp("lightning/terms")
	n.vouch = receipt.Bind(key, termsID(n.id), n.stamp.Public())
	return n
}

// root of one channel's secrets.
func (n *Node) secretOf(index uint64) keys.Secret { return channelSecret(n.root, index) }

// ChannelSecret is what the keys of a channel derive from, for who has the node's
// key and a backup.
func ChannelSecret(key keys.Secret, index uint64) keys.Secret {
	return channelSecret(channelRoot(key), index)
}

func channelRoot(key keys.Secret) keys.Secret { return key.Derive("lightning/channels") }

func channelSecret(root keys.Secret, index uint64) keys.Secret {
	return root.Derive(fmt.Sprintf("channel/%d", index))
}

// ID is the node's key.
func (n *Node) ID() keys.Public { return n.id }

// Step is the whole node.
func (n *Node) Step(in step.Input) step.Effects {
	var fx step.Effects
	n.at, n.fx = in.At, &fx
	ready := n.prepare(in.Events)
	for i, event := range in.Events {
		switch ev := event.(type) {
		case step.Recv:
			n.recv(ev, ready[i])
		case step.Linked:
			n.linked(ev)
		case step.Unlinked:
			n.unlinked(ev)
		case step.Rang:
			n.rang(ev)
		case money.Order:
			n.order(ev, ready[i].bill)
		default:
			n.command(ev)
		}
	}
	n.settle()
	n.topUp()
	n.backUp()
	if n.changed {
		n.changed = false
		fx.Put = append(fx.Put, n.head())
	}
	n.fx = nil
	return fx
}

func (n *Node) recv(ev step.Recv, ready prepared) {
	switch msg := ev.Msg.(type) {
	case watch.Status:
		n.onChain(msg)
	case claim.Funds:
		if c := n.watchers[msg.For.String()]; c != nil && c.claim != nil {
			n.stepClaim(c, ev)
		}
	case money.Order:
		n.order(msg, ready.bill)
	case money.Inquiry:
		n.inquiry(msg)
	case Ask:
		n.asked(ev.From, msg)
	case Terms:
		n.given(ev.From, msg)
	case Decline:
		n.declined(ev.From, msg)
	case wire.Message:
		n.message(ev, msg, ready.in)
	default:
		n.command(msg)
	}
}

// settle lets what the events have started come to rest: channels report,
// payments are routed, onions are wrapped, and each channel that was touched
// signs.
func (n *Node) settle() {
	for n.report() || n.dispatch() {
	}
	for len(n.touched) > 0 {
		touched := n.touched
		n.touched = nil
		for _, c := range touched {
			c.touched = false
			c.Flush()
		}
		for n.report() || n.dispatch() {
		}
	}
	n.askTerms()
}

// touch marks a channel as one that must sign or save before the step ends.
func (n *Node) touch(c *chanState) {
	c.Begin(n.fx)
	if !c.touched {
		c.touched = true
		n.touched = append(n.touched, c)
	}
}

// report handles what channels tell, and says whether there was anything.
func (n *Node) report() (any bool) {
	for i := 0; i < len(n.touched); i++ {
		c := n.touched[i]
		for len(c.Events) > 0 {
			events := c.Events
			c.Events = nil
			any = true
			for _, e := range events {
				n.happened(c, e)
			}
		}
	}
	return any
}

func (n *Node) happened(c *chanState, e any) {
	switch e := e.(type) {
	case channel.Ready:
		n.ready(c)
	case channel.LockedIn:
		n.lockedIn(c, e.HTLC)
	case channel.Fulfilled:
		n.fulfilled(e.HTLC)
	case channel.Removed:
		n.removed(c, e.HTLC)
	case channel.Unsent:
		n.unsent(c, e.HTLC, e.Err)
	case channel.Broke:
		n.done(CloseID+c.ID.String(), Broke{c.ID, c.Index, e.Why})
		if c.Status() == channel.Failed {
			n.pursue(c, true)
		}
	case channel.Agreed:
		n.publish(c)
	case channel.Revoked:
		n.revoked(c, e)
	}
}

func (n *Node) done(id string, value any) {
	n.fx.Done = append(n.fx.Done, step.Outcome{ID: id, Value: value})
}

func (n *Node) failed(id string, kind money.Kind, op string, err error) {
	n.fx.Done = append(n.fx.Done, step.Outcome{ID: id, Err: &money.Error{Kind: kind, Op: op, Err: err}})
}

// ordered is the channels by their numbers: maps have no order, and a step must.
func (n *Node) ordered() []*chanState {
	list := make([]*chanState, 0, len(n.channels))
	for _, i := range slices.Sorted(maps.Keys(n.channels)) {
		list = append(list, n.channels[i])
	}
	return list
}

// add makes a channel known.
func (n *Node) add(c *channel.Channel) *chanState {
	s := &chanState{Channel: c, peer: n.peers[c.Peer.PeerName()]}
	c.MaxDust, c.Guarded = n.MaxDust, n.Tower
	if s.peer == nil {
		s.peer = n.peerOf(c.Peer.PeerName())
	}
	n.channels[c.Index] = s
	n.byID[c.ID] = s
	n.name(s)
	return s
}

// name makes a channel known by its short channel ids.
func (n *Node) name(c *chanState) {
	for _, name := range c.Names() {
		n.bySCID[name] = c
	}
}

// typeFor is the best kind of channel that a peer speaks.
func typeFor(fs wire.Features) commit.Type {
	if fs.Offers(wire.Anchors) {
		return commit.Anchors
	}
	return commit.StaticRemoteKey
}
