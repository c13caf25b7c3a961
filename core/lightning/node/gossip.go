package node

import (
	"bytes"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/graph"
	"coinop.dev/core/lightning/onion"
	ln "coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// announceDepth is how many confirmations a channel needs to be announced
// (BOLT 7).
const announceDepth = 6

// announcing is what a channel tells the network. It is made again after a
// restart.
type announcing struct {
	sent   bool // announcement_signatures went out over this connection
	theirs *ln.AnnouncementSignatures
	whole  *ln.ChannelAnnouncement
	update *ln.ChannelUpdate
	others *ln.ChannelUpdate // the peer's, as others may have it
	due    step.Time         // of others: how far its relaying is ahead of its rate
}

// announcement is the unsigned channel_announcement.
func (n *Node) announcement(c *chanState) *ln.ChannelAnnouncement {
	m := &ln.ChannelAnnouncement{
		ChainHash: n.Chain, ShortChannelID: c.SCID(), NodeID1: n.id, NodeID2: c.Peer,
		BitcoinKey1: c.Commit.Local.Funding, BitcoinKey2: c.Commit.Remote.Funding,
	}
	if !n.isFirst(c.Peer) {
		m.NodeID1, m.NodeID2, m.BitcoinKey1, m.BitcoinKey2 = m.NodeID2, m.NodeID1, m.BitcoinKey2, m.BitcoinKey1
	}
	return m
}

// isFirst reports whether we are node 1 of a channel: the one with the lower
// key.
func (n *Node) isFirst(peer keys.Public) bool { return bytes.Compare(n.id[:], peer[:]) < 0 }

// announce goes on with the announcement of a public channel.
func (n *Node) announce(c *chanState) {
	if !c.Announce || c.SCID() == 0 || c.status.Depth < announceDepth || !c.peer.greeted || !c.Usable() {
		return
	}
	g := &c.gossip
	idle := g.theirs == nil || g.whole != nil // nothing to put together, now or any more
	if g.sent && idle {
		return
	}
	m := n.announcement(c)
	digest := m.Digest()
	if !g.sent {
		g.sent = true
		n.say(c.peer, &ln.AnnouncementSignatures{
			ChannelID: c.ID, ShortChannelID: c.SCID(), NodeSignature: n.key.Sign(digest), BitcoinSignature: c.SignFunding(digest),
		})
	}
	if idle {
		return
	}
	if !c.Peer.Verify(digest, g.theirs.NodeSignature) || !c.Commit.Remote.Funding.Verify(digest, g.theirs.BitcoinSignature) {
		n.warn(c.peer, c.ID, "announcement_signatures do not fit the channel")
		g.theirs = nil
		return
	}
	m.NodeSignature1, m.BitcoinSignature1 = n.key.Sign(digest), c.SignFunding(digest)
	m.NodeSignature2, m.BitcoinSignature2 = g.theirs.NodeSignature, g.theirs.BitcoinSignature
	if !n.isFirst(c.Peer) {
		m.NodeSignature1, m.NodeSignature2 = m.NodeSignature2, m.NodeSignature1
		m.BitcoinSignature1, m.BitcoinSignature2 = m.BitcoinSignature2, m.BitcoinSignature1
	}
	g.whole, g.update = m, nil
	self := n.self() // a signature, the same for all
	for _, name := range sortedKeys(n.peers) {
		if p := n.peers[name]; p.greeted {
			n.tellOf(p, c)
			n.say(p, self)
		}
	}
}

func (n *Node) countersigned(p *peer, m *ln.AnnouncementSignatures) {
	if c := n.byID[m.ChannelID]; c != nil && c.peer == p && c.Announce {
		c.gossip.theirs = m
		n.touch(c)
		n.announce(c)
	}
}

// updateFor is our channel_update of a channel, under the name that whoever gets
// it knows it by.
func (n *Node) updateFor(c *chanState) *ln.ChannelUpdate {
	g := &c.gossip
	name := c.SCID()
	if g.whole == nil {
		name = c.Alias()
	}
	disabled := c.Status() != channel.Open
	if u := g.update; u != nil && u.ShortChannelID == name && (u.ChannelFlags&ln.Disable != 0) == disabled {
		return u
	}
	u := &ln.ChannelUpdate{
		ChainHash: n.Chain, ShortChannelID: name, Timestamp: uint32(n.at / step.Second), MessageFlags: ln.MustBeOne,
		CLTVExpiryDelta: n.Policy.CLTVDelta, HTLCMinimumMsat: max(n.Policy.Min, c.Theirs.MinHTLC), FeeBaseMsat: uint32(n.Policy.FeeBase),
		FeeProportionalMillionths: n.Policy.FeePPM, HTLCMaximumMsat: min(c.Theirs.MaxInFlight, money.Amount(c.Commit.Capacity)*money.Sat),
	}
	if g.update != nil && u.Timestamp <= g.update.Timestamp {
		u.Timestamp = g.update.Timestamp + 1
	}
	if g.whole == nil {
		u.MessageFlags |= ln.DontForward
	}
	if !n.isFirst(c.Peer) {
		u.ChannelFlags |= ln.Direction
	}
	if disabled {
		u.ChannelFlags |= ln.Disable
	}
	u.Signature = n.key.Sign(u.Digest())
	g.update = u
	return u
}

// updateOf is updateFor as a failure encloses it.
func (n *Node) updateOf(c *chanState) []byte { return n.updateFor(c).Append(nil) }

// tellPeer sends the other end of a channel our policy for it.
func (n *Node) tellPeer(c *chanState) {
	if c.Alias() != 0 {
		n.say(c.peer, n.updateFor(c))
	}
}

// tellOf sends a peer what it may tell others of a public channel.
func (n *Node) tellOf(p *peer, c *chanState) {
	if c.gossip.whole != nil {
		n.say(p, c.gossip.whole)
		n.say(p, n.updateFor(c))
		n.relay(p, c)
	}
}

// relay sends a peer what the other end of a public channel asks for. Not only
// that end's own peers need it: LDK pays over no channel of which it knows one
// side.
func (n *Node) relay(p *peer, c *chanState) {
	if u := c.gossip.others; u != nil && p != c.peer && u.ShortChannelID == c.SCID() {
		n.say(p, u)
	}
}

// heardOthers takes the peer's channel_update of a public channel, and tells
// it to whoever is connected: no oftener than it could to our own graph, because
// one message in is many out.
func (n *Node) heardOthers(c *chanState, m *ln.ChannelUpdate) {
	g := &c.gossip
	if !c.Announce || m.MessageFlags&ln.DontForward != 0 || m.ShortChannelID != c.SCID() || int64(m.Timestamp) > int64(n.at/step.Second)+graph.Ahead {
		return
	}
	if g.others != nil && m.Timestamp <= g.others.Timestamp {
		return
	}
	if g.due = max(g.due, n.at); g.due-n.at > (graph.UpdateBurst-1)*graph.UpdateEvery*step.Second {
		return
	}
	g.others, g.due = m, g.due+graph.UpdateEvery*step.Second
	if g.whole == nil {
		return // announce will
	}
	for _, name := range sortedKeys(n.peers) {
		if p := n.peers[name]; p.gossiped {
			n.relay(p, c)
		}
	}
}

// tell sends a peer all that is public of us and of our channels. We do not relay
// what others said of theirs.
func (n *Node) tell(p *peer) {
	if p.gossiped {
		return
	}
	p.gossiped = true
	public := false
	for _, c := range n.ordered() {
		n.tellOf(p, c)
		public = public || c.gossip.whole != nil
	}
	if public {
		n.say(p, n.self())
	}
}

// self is our node_announcement.
func (n *Node) self() *ln.NodeAnnouncement {
	m := &ln.NodeAnnouncement{Features: ours, Timestamp: uint32(n.at / step.Second), NodeID: n.id, Addresses: n.Listens, RGBColor: [3]byte(n.id[1:4])}
	copy(m.Alias[:], n.Alias)
	m.Signature = n.key.Sign(m.Digest())
	return m
}

// queried answers for our own channels only.
func (n *Node) queried(p *peer, m *ln.QueryChannelRange) {
	r := &ln.ReplyChannelRange{ChainHash: m.ChainHash, FirstBlocknum: m.FirstBlocknum, NumberOfBlocks: m.NumberOfBlocks, SyncComplete: 1}
	p.gossiped = false
	n.say(p, r)
	n.tell(p)
}

// heardUpdate takes a policy: of a channel with us, or of the public network.
func (n *Node) heardUpdate(p *peer, m *ln.ChannelUpdate) {
	for _, c := range n.with(p) {
		if m.ShortChannelID != c.SCID() && m.ShortChannelID != c.Alias() && m.ShortChannelID != c.edgeName() || m.ChainHash != n.Chain {
			continue
		}
		fromFirst := m.ChannelFlags&ln.Direction == 0
		if fromFirst != n.isFirst(c.Peer) && c.Peer.Verify(m.Digest(), m.Signature) {
			first := !c.heard
			c.theirs, c.heard = graph.PolicyOf(m), true
			n.heardOthers(c, m)
			if first {
				n.tellPeer(c) // lnd forgets what it is told before it has the channel in its graph
			}
		}
		return
	}
	if n.hears(p) {
		n.graph.Update(m, n.at)
	}
}

// enclosed takes the channel_update that a failure brings.
func (n *Node) enclosed(f onion.Failure) {
	d, err := f.Details()
	if err != nil || len(d.Update) == 0 {
		return
	}
	if m, err := ln.Decode(d.Update); err == nil {
		if u, ok := m.(*ln.ChannelUpdate); ok {
			n.graph.Update(u, n.at)
		}
	}
}
