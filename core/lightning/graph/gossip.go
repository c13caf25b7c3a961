package graph

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// Times of gossip, in seconds.
const (
	// Stale is how old a channel's policy may get (BOLT 7: two weeks).
	Stale = 14 * 24 * 60 * 60
	// Ahead is how far a timestamp may be in the future.
	Ahead = 24 * 60 * 60

	// UpdateBurst updates of one direction of a channel are taken at once, and
	// then one every UpdateEvery seconds: each costs a signature check and, at
	// the caller's, a write.
	UpdateBurst = 10
	UpdateEvery = 60 * 60
)

// Why gossip is refused. Whoever relayed what is ErrForged is to be warned and
// may be left (BOLT 7); everything else can happen to honest peers.
var (
	ErrForged  = errors.New("gossip is forged")
	ErrUnknown = errors.New("gossip is about a channel we do not know")
	ErrTooMany = errors.New("more updates of a channel than anybody needs")
)

// tolerated are the features that a channel or node may require and still
// forward a plain payment of ours: every one that has a meaning today (BOLT 9,
// bLIPs), none of which changes an onion or an HTLC in between.
var tolerated = wire.NewFeatures(0, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 34, 36, 38, 40, 42, 44, 46, 48, 50, 54, 56, 60, 62, 80, 180)

// Announce judges a channel_announcement. It checks all four signatures; that
// the funding output exists, is unspent and pays both bitcoin keys is the
// caller's to check, who gives its capacity in satoshi, or 0 if nobody looked.
// Unproven channels make room for proven ones when the graph is full, and give
// way to a proven one of the same short_channel_id.
//
// fresh is false for what is known already. An error says why the message is
// refused: ErrForged, ErrFull, or that it is of another chain.
func (g *Graph) Announce(m *wire.ChannelAnnouncement, capacity int64) (fresh bool, err error) {
	scid, ids := m.ShortChannelID, [2]keys.Public{m.NodeID1, m.NodeID2}
	if m.ChainHash != g.chain {
		return false, fmt.Errorf("channel %v is of chain %v", scid, m.ChainHash)
	}
	if bytes.Compare(ids[0][:], ids[1][:]) >= 0 {
		return false, fmt.Errorf("%w: channel %v: node_id_1 is not below node_id_2", ErrForged, scid)
	}
	if capacity < 0 || capacity > money.MaxAmount.Sats() {
		return false, fmt.Errorf("channel %v: capacity of %d sat is none", scid, capacity)
	}
	at, known := g.bySCID[scid]
	same := false
	if known {
		old := &g.channels[at]
		same = g.nodes[old.node[0]].id == ids[0] && g.nodes[old.node[1]].id == ids[1]
		switch proven := old.capacity != 0; {
		case same && (proven || capacity == 0):
			return false, nil
		case !same && (proven || capacity == 0):
			// Who is right only the chain knows; BOLT 7 would blacklist all
			// four, which lets a thief of one key do it to its peers.
			return false, fmt.Errorf("channel %v is announced by other nodes already", scid)
		}
	}
	if err := g.room(ids); err != nil && !known && (capacity == 0 || g.unproven == 0) {
		return false, fmt.Errorf("channel %v: %w", scid, err)
	}
	digest := m.Digest()
	checks := [4]keys.Check{
		{Key: m.NodeID1, Digest: digest, Sig: m.NodeSignature1}, {Key: m.NodeID2, Digest: digest, Sig: m.NodeSignature2},
		{Key: m.BitcoinKey1, Digest: digest, Sig: m.BitcoinSignature1}, {Key: m.BitcoinKey2, Digest: digest, Sig: m.BitcoinSignature2},
	}
	if bad := keys.VerifyAll(checks[:]); bad >= 0 {
		return false, fmt.Errorf("%w: channel %v is not signed by %s", ErrForged, scid, checks[bad].Key)
	}
	if same {
		g.channels[at].capacity = capacity
		g.unproven--
		return true, nil
	}
	if known {
		g.remove(at)
	}
	for capacity != 0 && g.unproven > 0 && g.room(ids) != nil {
		g.giveUp()
	}
	if err := g.room(ids); err != nil {
		return false, fmt.Errorf("channel %v: %w", scid, err)
	}
	c := g.add(scid, ids, capacity)
	if len(m.Features.Unknown(tolerated)) > 0 {
		c.policy[0].flags, c.policy[1].flags = closed, closed
	}
	return true, nil
}

// giveUp removes an unproven channel, the next one round the slots. There must
// be one.
func (g *Graph) giveUp() {
	for range g.channels {
		g.sweep = (g.sweep + 1) % len(g.channels)
		if c := &g.channels[g.sweep]; c.node[0] != none && c.capacity == 0 {
			g.remove(int32(g.sweep))
			return
		}
	}
	step.Assert(false, "graph: %d channels are unproven, and none is found", g.unproven)
}

// Update judges a channel_update of a channel of the graph. For one's own
// channels that nobody announced there is PolicyOf.
//
// fresh is false for what is older than what is known, or than Stale. An error
// says why the message is refused: ErrForged, ErrUnknown, ErrTooMany, or that it
// is of another chain or of the future.
func (g *Graph) Update(m *wire.ChannelUpdate, at step.Time) (fresh bool, err error) {
	scid := m.ShortChannelID
	if m.ChainHash != g.chain {
		return false, fmt.Errorf("update of channel %v is of chain %v", scid, m.ChainHash)
	}
	slot, ok := g.bySCID[scid]
	if !ok {
		return false, fmt.Errorf("%w: channel %v", ErrUnknown, scid)
	}
	c, side, now := &g.channels[slot], m.ChannelFlags&wire.Direction, seconds(at)
	p := &c.policy[side]
	due := max(int64(p.due), now)
	switch stamp := int64(m.Timestamp); {
	case m.Timestamp <= p.updated || stamp < now-Stale:
		return false, nil
	case stamp > now+Ahead:
		return false, fmt.Errorf("update of channel %v is %d s ahead of the clock; the limit is %d", scid, stamp-now, Ahead)
	case due-now > (UpdateBurst-1)*UpdateEvery:
		return false, fmt.Errorf("%w: channel %v, side %d; the next is taken in %d s", ErrTooMany, scid, side, due-now-(UpdateBurst-1)*UpdateEvery)
	}
	if id := g.nodes[c.node[side]].id; !id.Verify(m.Digest(), m.Signature) {
		return false, fmt.Errorf("%w: update of channel %v is not signed by %s", ErrForged, scid, id)
	}
	flags := p.flags &^ disabled
	if PolicyOf(m).Disabled {
		flags |= disabled
	}
	*p = policy{
		min: uint64(m.HTLCMinimumMsat), max: uint64(m.HTLCMaximumMsat),
		base: m.FeeBaseMsat, ppm: m.FeeProportionalMillionths,
		updated: m.Timestamp, due: uint32(min(due+UpdateEvery, math.MaxUint32)),
		delta: m.CLTVExpiryDelta, flags: flags,
	}
	return true, nil
}

// PolicyOf is what a channel_update says, unverified. A maximum that no HTLC can
// keep to disables the channel.
func PolicyOf(m *wire.ChannelUpdate) Policy {
	return Policy{
		FeeBase: money.Amount(m.FeeBaseMsat), FeePPM: m.FeeProportionalMillionths, CLTVDelta: m.CLTVExpiryDelta,
		Min: m.HTLCMinimumMsat, Max: m.HTLCMaximumMsat,
		Disabled: m.ChannelFlags&wire.Disable != 0 || m.HTLCMaximumMsat == 0 || m.HTLCMaximumMsat < m.HTLCMinimumMsat,
	}
}

// Node judges a node_announcement. The graph keeps its time, and whether the
// node requires features that nobody here knows: then no payment goes through
// it.
//
// fresh is false for what is not newer. An error is ErrForged, or ErrUnknown for
// a node without channels.
func (g *Graph) Node(m *wire.NodeAnnouncement) (fresh bool, err error) {
	at, ok := g.byID[m.NodeID]
	if !ok {
		return false, fmt.Errorf("%w: node %s has none", ErrUnknown, m.NodeID)
	}
	n := &g.nodes[at]
	if m.Timestamp <= n.updated {
		return false, nil
	}
	if !m.NodeID.Verify(m.Digest(), m.Signature) {
		return false, fmt.Errorf("%w: announcement of node %s", ErrForged, m.NodeID)
	}
	n.updated, n.closed = m.Timestamp, len(m.Features.Unknown(tolerated)) > 0
	return true, nil
}

// Forget removes a channel, 12 blocks after its funding output was spent
// (BOLT 7), or at once if that is seen to be ours.
func (g *Graph) Forget(scid wire.SCID) bool {
	at, ok := g.bySCID[scid]
	if ok {
		g.remove(at)
	}
	return ok
}

// Prune removes the channels of which a side has not been heard for Stale, and
// those that the Prune before saw without any policy. Call it about once a day.
func (g *Graph) Prune(at step.Time) (removed int) {
	limit := seconds(at) - Stale
	for i := range g.channels {
		c := &g.channels[i]
		if c.node[0] == none {
			continue
		}
		silent, idled := true, c.policy[0].flags&idle != 0
		old := false
		for _, p := range c.policy {
			silent = silent && p.updated == 0
			old = old || p.updated != 0 && int64(p.updated) < limit
		}
		if old || silent && idled {
			g.remove(int32(i))
			removed++
			continue
		}
		if silent {
			c.policy[0].flags |= idle
		}
	}
	return removed
}

// seconds is a time as gossip counts it.
func seconds(at step.Time) int64 { return max(0, int64(at/step.Second)) }
