package graph

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
)

// Append encodes the graph, about 75 bytes a channel: one record for the next
// start, so that a machine needs not ask its peers for everything again. It is
// what can be learned again, so it may be lazy and late.
func (g *Graph) Append(b []byte) []byte {
	number := make([]int32, len(g.nodes)) // without the free slots
	b = codec.AppendUint(b, len(g.byID))
	next := int32(0)
	for i := range g.nodes {
		n := &g.nodes[i]
		if n.id == (keys.Public{}) {
			continue
		}
		number[i] = next
		next++
		b = append(b, n.id[:]...)
		b = append(b, bit(n.closed))
		b = codec.AppendUint(b, n.updated)
	}
	b = codec.AppendUint(b, len(g.bySCID))
	for i := range g.channels {
		c := &g.channels[i]
		if c.node[0] == none {
			continue
		}
		b = binary.BigEndian.AppendUint64(b, uint64(c.scid))
		b = codec.AppendUint(b, c.capacity)
		for side := range c.node {
			b = codec.AppendUint(b, number[c.node[side]])
			b = c.policy[side].append(b)
		}
	}
	return b
}

func bit(v bool) byte {
	if v {
		return 1
	}
	return 0
}

func (p *policy) append(b []byte) []byte {
	b = append(b, p.flags)
	b = codec.AppendUint(b, p.updated)
	if p.updated == 0 {
		return b
	}
	b = codec.AppendUint(b, p.due)
	b = codec.AppendUint(b, p.base)
	b = codec.AppendUint(b, p.ppm)
	b = codec.AppendUint(b, uint32(p.delta))
	b = codec.AppendUint(b, p.min)
	return codec.AppendUint(b, p.max)
}

// Read reads what Append wrote. A graph that does not fit the limits, or that
// contradicts itself, fails the reader: start with an empty one.
func Read(r *codec.Reader, chain chainhash.Hash, limits Limits) *Graph {
	g := New(chain, limits)
	if err := g.read(r); err != nil {
		r.Fail(fmt.Errorf("graph: %w", err))
	}
	if r.Err() != nil {
		return New(chain, limits)
	}
	return g
}

func (g *Graph) read(r *codec.Reader) error {
	for range r.Int(g.limits.MaxNodes, "nodes") {
		var id keys.Public
		r.Fill(id[:])
		n := node{id: id, closed: r.Int(1, "node flag") == 1, updated: readU32(r), first: none}
		if r.Err() != nil {
			return r.Err()
		}
		if g.HasNode(id) || id == (keys.Public{}) {
			return fmt.Errorf("node %s is there twice, or none", id)
		}
		g.nodes[g.addNode(id)] = n
		if g.Size() > g.limits.MaxBytes {
			return ErrFull
		}
	}
	for range r.Int(g.limits.MaxChannels, "channels") {
		if err := g.readChannel(r); err != nil {
			return err
		}
	}
	for i := range g.nodes {
		if g.nodes[i].first == none {
			return fmt.Errorf("node %s has no channel", g.nodes[i].id)
		}
	}
	return nil
}

func (g *Graph) readChannel(r *codec.Reader) error {
	scid := wire.SCID(r.U64())
	capacity := int64(readUpTo(r, uint64(money.MaxAmount.Sats()), "capacity"))
	var ids [2]keys.Public
	var policies [2]policy
	for side := range ids {
		n := r.Int(math.MaxInt32, "node number")
		if n >= len(g.nodes) {
			r.Fail(errors.New("a channel of a node that is not there"))
		}
		if r.Err() != nil {
			return r.Err()
		}
		ids[side], policies[side] = g.nodes[n].id, readPolicy(r)
	}
	if r.Err() != nil {
		return r.Err()
	}
	if _, twice := g.bySCID[scid]; twice || bytes.Compare(ids[0][:], ids[1][:]) >= 0 {
		return fmt.Errorf("channel %v is there twice, or its nodes are out of order", scid)
	}
	if err := g.room(ids); err != nil {
		return err
	}
	g.add(scid, ids, capacity).policy = policies
	return nil
}

func readPolicy(r *codec.Reader) (p policy) {
	p.flags = uint8(r.Int(disabled|closed|idle, "policy flags"))
	if p.updated = readU32(r); p.updated == 0 {
		return p
	}
	p.due, p.base, p.ppm = readU32(r), readU32(r), readU32(r)
	p.delta = uint16(r.Int(math.MaxUint16, "cltv_expiry_delta"))
	p.min, p.max = r.Uvarint(), r.Uvarint()
	return p
}

func readU32(r *codec.Reader) uint32 { return uint32(readUpTo(r, math.MaxUint32, "number")) }

// readUpTo is codec's Int for numbers beyond the int of a 32-bit machine.
func readUpTo(r *codec.Reader, limit uint64, what string) uint64 {
	v := r.Uvarint()
	if v > limit {
		r.Fail(fmt.Errorf("%s is %d; the limit is %d", what, v, limit))
		return 0
	}
	return v
}
