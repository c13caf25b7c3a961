package node

import (
	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/step"
)

// A peer is another node, while it is linked or has channels with us.
type peer struct {
	name     string
	key      keys.Public
	link     uint64
	features wire.Features
	greeted  bool   // its init is here
	gossiped bool   // ours has been told
	keeps    uint64 // the backup of ours that was sent over this link
	small    bool   // it keeps no large blobs
	heard    int    // messages about other nodes' channels over this link
}

// maxHeard is how much gossip a stranger may bring over one connection: each
// message costs some signatures to check. A peer with a channel has more to lose.
const maxHeard = 512

// hears reports whether gossip of a peer's is looked at.
func (n *Node) hears(p *peer) bool {
	p.heard++
	return p.heard <= maxHeard || len(n.with(p)) > 0
}

// ours is what this node offers (BOLT 9).
var ours = wire.NewFeatures(
	wire.DataLossProtect.Optional(), wire.UpfrontShutdownScript.Optional(), wire.GossipQueries.Optional(), wire.VarOnion.Optional(),
	wire.StaticRemoteKey.Optional(), wire.PaymentSecret.Optional(), wire.BasicMPP.Optional(), wire.LargeChannel.Optional(),
	wire.Anchors.Optional(), wire.ShutdownAnySegwit.Optional(), wire.ChannelTypes.Optional(), wire.SCIDAlias.Optional(),
	wire.Keysend.Optional(), wire.SimpleClose.Optional(), wire.ProvideStorage.Optional(),
)

func (n *Node) peerOf(name string) *peer {
	p := n.peers[name]
	if p == nil {
		p = &peer{name: name}
		p.key, _ = keys.ParsePublicHex(name[len("peer/"):])
		n.peers[name] = p
	}
	return p
}

// linked greets a peer. Until it has answered nothing else is said.
func (n *Node) linked(ev step.Linked) {
	if n.peers[ev.Peer] == nil && len(n.peers) >= MaxPeers {
		return
	}
	p := n.peerOf(ev.Peer)
	n.lose(p)
	p.link = ev.Link
	n.say(p, &wire.Init{Features: ours, Networks: []chainhash.Hash{n.Chain}})
	n.askAgain(p)
}

func (n *Node) unlinked(ev step.Unlinked) {
	if p := n.peers[ev.Peer]; p != nil && p.link == ev.Link {
		n.lose(p)
		if len(n.with(p)) == 0 && len(n.asking[p.name]) == 0 {
			delete(n.peers, p.name)
		}
	}
}

// lose forgets the connection to a peer.
func (n *Node) lose(p *peer) {
	p.link, p.greeted, p.gossiped, p.keeps, p.heard = 0, false, false, 0, 0
	for _, temp := range sortedHashes(n.openings) {
		if n.openings[temp].peer == p {
			n.forsake(temp, channel.ErrNoLink)
		}
	}
	for _, c := range n.with(p) {
		n.touch(c)
		c.Unlinked()
		c.gossip.sent = false
	}
}

// with is the channels with a peer.
func (n *Node) with(p *peer) (list []*chanState) {
	for _, c := range n.ordered() {
		if c.peer == p {
			list = append(list, c)
		}
	}
	return list
}

// say sends a message over the connection of the moment.
func (n *Node) say(p *peer, m wire.Message) {
	if p.link != 0 {
		n.fx.Send = append(n.fx.Send, step.Packet{To: p.name, Msg: m, Link: p.link})
	}
}

// warn tells a peer that something it sent is dropped.
func (n *Node) warn(p *peer, id wire.ChannelID, why string) {
	n.say(p, &wire.Warning{ChannelID: id, Data: why})
}

func (n *Node) message(ev step.Recv, m wire.Message, in *incoming) {
	p := n.peers[ev.From]
	if p == nil || p.link == 0 || ev.Link != p.link {
		return // of a connection that is gone
	}
	if !p.greeted {
		if init, ok := m.(*wire.Init); ok {
			n.greeted(p, init)
		}
		return
	}
	switch m := m.(type) {
	case *wire.Ping:
		if pong := m.Pong(); pong != nil {
			n.say(p, pong)
		}
	case *wire.Error:
		n.errored(p, m)
	case *wire.OpenChannel:
		n.opened(p, m)
	case *wire.AcceptChannel:
		n.accepted(p, m)
	case *wire.FundingCreated:
		n.created(p, m)
	case *wire.FundingSigned:
		n.signed(p, m)
	case *wire.ChannelAnnouncement:
		if n.hears(p) {
			n.graph.Announce(m, 0)
		}
	case *wire.NodeAnnouncement:
		if n.hears(p) {
			n.graph.Node(m)
		}
	case *wire.ChannelUpdate:
		n.heardUpdate(p, m)
	case *wire.AnnouncementSignatures:
		n.countersigned(p, m)
	case *wire.GossipTimestampFilter:
		n.tell(p)
	case *wire.PeerStorage:
		n.keep(p, m)
	case *wire.PeerStorageRetrieval:
		n.handedBack(p, m)
	case *wire.Warning:
		n.handOverLess(p, m)
	case *wire.QueryChannelRange:
		n.queried(p, m)
	case *wire.QueryShortChannelIDs:
		n.say(p, &wire.ReplyShortChannelIDsEnd{ChainHash: m.ChainHash, FullInformation: 1})
	default:
		n.ofChannel(p, m, in)
	}
}

// greeted reads a peer's init and reestablishes the channels with it.
func (n *Node) greeted(p *peer, m *wire.Init) {
	features := m.GlobalFeatures.Or(m.Features)
	if unknown := features.Unknown(ours); len(unknown) > 0 {
		n.warn(p, wire.ChannelID{}, "your init requires features that are unknown here: "+unknown[0].String())
		n.hangUp(p)
		return
	}
	p.features, p.greeted = features, true
	n.handBack(p)
	for _, c := range n.with(p) {
		n.touch(c)
		c.Linked(p.link, features.Offers(wire.SimpleClose))
	}
	if features.Offers(wire.GossipQueries) {
		n.say(p, &wire.GossipTimestampFilter{ChainHash: n.Chain, FirstTimestamp: 0, TimestampRange: 1<<32 - 1})
	}
	n.tell(p)
}

// HangUp asks the machine to end a connection.
type HangUp struct{ Peer string }

// Wires is the outlet that takes HangUp.
const Wires = "links"

func (n *Node) hangUp(p *peer) {
	n.fx.Send = append(n.fx.Send, step.Packet{To: Wires, Msg: HangUp{p.name}})
}

// idOf is the channel a message is about.
func idOf(m wire.Message) (id wire.ChannelID, ok bool) {
	switch m := m.(type) {
	case *wire.ChannelReady:
		return m.ChannelID, true
	case *wire.Shutdown:
		return m.ChannelID, true
	case *wire.ClosingSigned:
		return m.ChannelID, true
	case *wire.ClosingComplete:
		return m.ChannelID, true
	case *wire.ClosingSig:
		return m.ChannelID, true
	case *wire.UpdateAddHTLC:
		return m.ChannelID, true
	case *wire.UpdateFulfillHTLC:
		return m.ChannelID, true
	case *wire.UpdateFailHTLC:
		return m.ChannelID, true
	case *wire.UpdateFailMalformedHTLC:
		return m.ChannelID, true
	case *wire.CommitmentSigned:
		return m.ChannelID, true
	case *wire.RevokeAndAck:
		return m.ChannelID, true
	case *wire.UpdateFee:
		return m.ChannelID, true
	case *wire.ChannelReestablish:
		return m.ChannelID, true
	}
	return id, false
}

func (n *Node) ofChannel(p *peer, m wire.Message, in *incoming) {
	id, ok := idOf(m)
	if !ok {
		return
	}
	c := n.byID[id]
	if c == nil || c.peer != p {
		if _, asks := m.(*wire.ChannelReestablish); asks {
			n.say(p, &wire.Error{ChannelID: id, Data: "this channel is not known here"})
		}
		return
	}
	n.touch(c)
	n.handOver(p)
	var note []byte
	if in != nil {
		note = in.append(nil)
	}
	c.Recv(m, note)
}

// errored ends the channels that a peer gives up. An all-zero channel means all
// of them.
func (n *Node) errored(p *peer, m *wire.Error) {
	if o := n.openings[m.ChannelID]; o != nil && o.peer == p {
		n.forsake(m.ChannelID, textError(m.Text()))
		return
	}
	for _, c := range n.with(p) {
		if m.ChannelID == (wire.ChannelID{}) || m.ChannelID == c.ID {
			n.touch(c)
			if c.Status() != channel.Stale {
				c.Break("the peer says: " + m.Text())
			}
		}
	}
}

type textError string

func (e textError) Error() string { return string(e) }
