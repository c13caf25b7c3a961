// Package graph knows the public Lightning network (BOLT 7) and finds paths
// through it.
//
// It keeps what path finding needs, about 200 bytes a channel with its share of
// the nodes, and nothing else: no raw messages, no signatures, no aliases, no
// addresses. So it cannot relay foreign gossip, and does not: a machine is a
// leaf of the gossip network.
// Whoever answers query_short_channel_ids or gossip_timestamp_filter answers
// for its own channels, whose messages it made itself, and says so by not
// offering gossip_queries.
//
// A Graph is a plain value: no clock, no lock, and scratch space of its own, so
// one goroutine at a time. The same messages in the same order give the same
// graph, and the same facts give the same path whatever order they came in.
package graph

import (
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
)

// Limits bound a graph. A field that is 0 takes its default.
type Limits struct {
	MaxNodes    int   // DefaultNodes
	MaxChannels int   // DefaultChannels
	MaxBytes    int64 // DefaultBytes; what Size may reach
}

// The defaults hold the public network of 2020-2026 (at most 40,000 nodes and
// 85,000 channels at its height) on a machine with 64 MiB.
const (
	DefaultNodes    = 50_000
	DefaultChannels = 100_000
	DefaultBytes    = 28 << 20
)

// What a node and a channel count for in Size: the slot, its share of the map
// and of the growth of both, and the scratch of a search. A test compares them
// with the heap.
const (
	nodeBytes    = 200
	channelBytes = 180
)

// maxSlots keeps an edge's number, twice a slot's, inside an int32.
const maxSlots = 1 << 29

func (l Limits) withDefaults() Limits {
	if l.MaxNodes == 0 {
		l.MaxNodes = DefaultNodes
	}
	if l.MaxChannels == 0 {
		l.MaxChannels = DefaultChannels
	}
	if l.MaxBytes == 0 {
		l.MaxBytes = DefaultBytes
	}
	l.MaxNodes, l.MaxChannels = min(l.MaxNodes, maxSlots), min(l.MaxChannels, maxSlots)
	return l
}

// ErrFull means a limit of the graph is reached.
var ErrFull = errors.New("the graph is full")

// A Policy is what a node asks of whoever forwards through one of its channels,
// in one direction (BOLT 7, channel_update).
type Policy struct {
	FeeBase   money.Amount // at most 2^32-1 msat
	FeePPM    uint32       // millionths of the amount forwarded
	CLTVDelta uint16       // blocks
	Min       money.Amount // smallest HTLC
	Max       money.Amount // largest HTLC; 0 is no limit but the capacity
	Disabled  bool
}

// A Channel is what the graph knows of one channel.
type Channel struct {
	SCID     wire.SCID
	Nodes    [2]keys.Public // ascending
	Capacity int64          // sat; 0 is unknown
	Policies [2]Policy      // of Nodes[i], for payments that leave it
	Updated  [2]uint32      // Unix seconds of the policy; 0 is none yet
}

// Graph is the public network as this machine knows it. Make one with New.
type Graph struct {
	limits Limits
	chain  chainhash.Hash

	nodes    []node
	channels []channel
	byID     map[keys.Public]int32
	bySCID   map[wire.SCID]int32

	freeNode, freeChannel int32 // first of the free slots, or none
	unproven              int   // channels whose funding output nobody looked up
	sweep                 int   // where the search for one to give up goes on

	search search // scratch
}

// none ends a list of slots.
const none = -1

// A node in its slot. A free slot has a zero id, and first is the next free one.
type node struct {
	id      keys.Public
	closed  bool   // announced a feature it requires and we do not know
	first   int32  // its first channel
	updated uint32 // Unix seconds of its announcement
}

// A channel in its slot, and in the lists of its two nodes. A free slot has
// none in node[0], and next[0] is the next free one.
type channel struct {
	scid     wire.SCID
	capacity int64    // sat, 0 unknown
	node     [2]int32 // ascending by id
	next     [2]int32 // in the list of node[i]
	policy   [2]policy
}

// policy is one direction of a channel: what node[i] asks of those who forward
// through it.
type policy struct {
	min, max  uint64 // msat
	base, ppm uint32
	updated   uint32 // Unix seconds, 0: no policy yet
	due       uint32 // Unix seconds: when the budget of updates is whole again
	delta     uint16
	flags     uint8
}

// Flags of a policy.
const (
	disabled = 1 << iota // by its node
	closed               // both directions: the channel requires a feature we do not know
	idle                 // direction 0: the last Prune saw it without any policy
	kept     = disabled | closed
)

// New is an empty graph of the chain with this hash (BOLT 0, chain_hash).
func New(chain chainhash.Hash, limits Limits) *Graph {
	return &Graph{
		limits: limits.withDefaults(), chain: chain,
		byID: map[keys.Public]int32{}, bySCID: map[wire.SCID]int32{},
		freeNode: none, freeChannel: none,
	}
}

// Nodes is how many nodes the graph knows.
func (g *Graph) Nodes() int { return len(g.byID) }

// Channels is how many channels the graph knows.
func (g *Graph) Channels() int { return len(g.bySCID) }

// Size is the memory of the graph in bytes, an upper estimate. Slots once used
// count for ever: their memory is used again and never given back.
func (g *Graph) Size() int64 {
	return int64(len(g.nodes))*nodeBytes + int64(len(g.channels))*channelBytes
}

// Channel looks a channel up.
func (g *Graph) Channel(scid wire.SCID) (c Channel, ok bool) {
	at, ok := g.bySCID[scid]
	if !ok {
		return c, false
	}
	k := &g.channels[at]
	c = Channel{SCID: k.scid, Capacity: k.capacity}
	for i := range k.node {
		p := &k.policy[i]
		c.Nodes[i] = g.nodes[k.node[i]].id
		c.Updated[i] = p.updated
		c.Policies[i] = Policy{
			FeeBase: money.Amount(p.base), FeePPM: p.ppm, CLTVDelta: p.delta,
			Min: money.Amount(p.min), Max: money.Amount(p.max), Disabled: p.flags&kept != 0,
		}
	}
	return c, true
}

// HasNode reports whether a node has a channel in the graph.
func (g *Graph) HasNode(id keys.Public) bool {
	_, ok := g.byID[id]
	return ok
}

// room is an error if a channel of these two does not fit.
func (g *Graph) room(ids [2]keys.Public) error {
	nodes := 0
	for _, id := range ids {
		if !g.HasNode(id) {
			nodes++
		}
	}
	switch l := g.limits; {
	case len(g.bySCID) >= l.MaxChannels:
		return fmt.Errorf("%w: %d channels; raise MaxChannels", ErrFull, l.MaxChannels)
	case len(g.byID)+nodes > l.MaxNodes:
		return fmt.Errorf("%w: %d nodes; raise MaxNodes", ErrFull, l.MaxNodes)
	}
	freeNodes, freeChannels := len(g.nodes)-len(g.byID), len(g.channels)-len(g.bySCID)
	grow := int64(max(0, nodes-freeNodes))*nodeBytes + int64(max(0, 1-freeChannels))*channelBytes
	if g.Size()+grow > g.limits.MaxBytes {
		return fmt.Errorf("%w: %d bytes; raise MaxBytes", ErrFull, g.limits.MaxBytes)
	}
	return nil
}

// add puts a channel in that is not there yet. The caller has asked room.
func (g *Graph) add(scid wire.SCID, ids [2]keys.Public, capacity int64) *channel {
	c := channel{scid: scid, capacity: capacity}
	for i, id := range ids {
		c.node[i] = g.addNode(id)
	}
	at := g.freeChannel
	if at != none {
		g.freeChannel = g.channels[at].next[0]
	} else {
		at = int32(len(g.channels))
		g.channels = append(g.channels, channel{})
	}
	for i, n := range c.node {
		c.next[i], g.nodes[n].first = g.nodes[n].first, at
	}
	g.channels[at] = c
	g.bySCID[scid] = at
	if capacity == 0 {
		g.unproven++
	}
	return &g.channels[at]
}

func (g *Graph) addNode(id keys.Public) int32 {
	if at, ok := g.byID[id]; ok {
		return at
	}
	at := g.freeNode
	if at != none {
		g.freeNode = g.nodes[at].first
	} else {
		at = int32(len(g.nodes))
		g.nodes = append(g.nodes, node{})
	}
	g.nodes[at] = node{id: id, first: none}
	g.byID[id] = at
	return at
}

// remove frees a channel's slot, and those of nodes that had no other.
func (g *Graph) remove(at int32) {
	c := g.channels[at]
	if c.capacity == 0 {
		g.unproven--
	}
	delete(g.bySCID, c.scid)
	for i, n := range c.node {
		g.unlink(n, at, c.next[i])
		if g.nodes[n].first == none {
			delete(g.byID, g.nodes[n].id)
			g.nodes[n], g.freeNode = node{first: g.freeNode}, n
		}
	}
	g.channels[at] = channel{node: [2]int32{none, none}, next: [2]int32{g.freeChannel, none}}
	g.freeChannel = at
}

// unlink takes channel at out of n's list, where next follows it.
func (g *Graph) unlink(n, at, next int32) {
	for link := &g.nodes[n].first; *link != none; {
		if *link == at {
			*link = next
			return
		}
		c := &g.channels[*link]
		link = &c.next[c.side(n)]
	}
}

// side is which of the channel's two nodes n is.
func (c *channel) side(n int32) int {
	if c.node[0] == n {
		return 0
	}
	return 1
}
