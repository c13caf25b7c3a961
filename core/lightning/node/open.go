package node

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/commit"
	ln "coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

// Open asks for a channel to a peer that is linked. The outcome with the ID
// FundID and the tag is a Funding: whoever has the money then sends Fund. The
// outcome with OpenID and the tag is an Opened, or says why not.
type Open struct {
	Tag      string
	Peer     keys.Public
	Capacity int64 // satoshi
	Push     money.Amount
	Public   bool
	// Static asks for static_remotekey where the peer would take anchors.
	Static  bool
	FeeRate int64 // satoshi per 1,000 weight; 0: the node's
}

// Fund brings the signed transaction, not yet published, that pays a Funding's
// output. It is published when the peer's signature is on disk.
type Fund struct {
	Tag string
	Tx  *wire.MsgTx // nil: there is no money after all
}

// Close closes a channel: with the peer, or alone if Force is set. FeeRate is in
// satoshi per 1,000 weight; 0 is that of the commitment.
type Close struct {
	ID      ln.ChannelID
	FeeRate int64
	Force   bool
}

// SetFee asks for another fee rate of the commitments of a channel that we
// opened.
type SetFee struct {
	ID      ln.ChannelID
	FeeRate int64
}

// IDs of outcomes, to which a tag or a channel's ID in hex is added.
const (
	FundID  = "fund/"
	OpenID  = "open/"
	CloseID = "close/"
	// ReadyID has the tag, too: the channel takes payments.
	ReadyID = "ready/"
)

// Values of outcomes.
type (
	Funding struct{ Output *wire.TxOut }
	Opened  struct {
		ID    ln.ChannelID
		Index uint64
		Point wire.OutPoint
	}
	// Broke says that a channel is being closed on the chain, and why.
	Broke struct {
		ID    ln.ChannelID
		Index uint64
		Why   string
	}
)

// An opening is a channel that is being agreed on with a peer.
type opening struct {
	*channel.Opening
	peer *peer
	tag  string // of the caller's, if it is ours
	ours bool
}

func (n *Node) command(cmd any) {
	switch m := cmd.(type) {
	case Open:
		n.open(m)
	case Fund:
		n.fund(m)
	case Close:
		n.close(m)
	case SetFee:
		if c := n.byID[m.ID]; c != nil {
			n.touch(c)
			if err := c.SetFeeRate(m.FeeRate); err != nil {
				n.failed(CloseID+m.ID.String(), money.Refused, "set fee", err)
			}
		}
	case Restore:
		n.restore(m)
	case Reached:
		n.reached(m)
	case Kept:
		if _, err := n.judge("", m.Sealed); err != nil {
			n.failed(OutdatedID, money.Invalid, "start", err)
		}
	case Bill:
		n.bill(m)
	case Settle:
		n.settleHeld(m)
	case Cancel:
		n.cancelHeld(m)
	case receipt.Release:
		n.release(m.Order)
	case receipt.Cancel:
		n.cancel(m.Order)
	case Found:
		n.found(m)
	case Erase:
		n.erase(m)
	default:
		panic(fmt.Sprintf("lightning: the node cannot handle %T", cmd))
	}
}

func (n *Node) proposal(p *peer) channel.Proposal {
	n.next++
	n.changed = true
	return channel.Proposal{
		Index: n.next - 1, Peer: p.key, Chain: n.Chain, Payout: n.Payout, Upfront: p.features.Offers(ln.UpfrontShutdownScript),
		Large: p.features.Offers(ln.LargeChannel), MinDepth: n.MinDepth, FeeRate: n.FeeRate, Type: typeFor(p.features), Delay: n.Delay,
	}
}

func (n *Node) open(m Open) {
	p := n.peers[m.Peer.PeerName()]
	refuse := func(err error) { n.refuseOpen(m.Tag, err) }
	switch {
	case p == nil || !p.greeted:
		refuse(channel.ErrNoLink)
		return
	case len(n.channels) >= MaxChannels || len(n.openings) >= MaxOpenings:
		refuse(fmt.Errorf("%d channels are open and %d being opened; the limits are %d and %d", len(n.channels), len(n.openings), MaxChannels, MaxOpenings))
		return
	}
	q := n.proposal(p)
	q.Capacity, q.Push, q.Announce = m.Capacity, m.Push, m.Public
	q.Alias = !m.Public && p.features.Offers(ln.SCIDAlias)
	if m.FeeRate != 0 {
		q.FeeRate = m.FeeRate
	}
	if m.Static {
		q.Type = commit.StaticRemoteKey
	}
	o, msg, err := channel.Offer(q, n.secretOf(q.Index))
	if err != nil {
		refuse(err)
		return
	}
	n.openings[o.Temp] = &opening{Opening: o, peer: p, tag: m.Tag, ours: true}
	n.autoBegun(m.Tag)
	n.say(p, msg)
}

// forsake ends an opening.
func (n *Node) forsake(temp ln.ChannelID, err error) {
	o := n.openings[temp]
	delete(n.openings, temp)
	if o.ours {
		n.refuseOpen(o.tag, err)
	}
}

// refuseOpen answers whoever waits for one step of an opening or the other.
func (n *Node) refuseOpen(tag string, err error) {
	n.autoEnded(tag, err)
	n.failed(FundID+tag, money.Refused, "open a channel", err)
	n.failed(OpenID+tag, money.Refused, "open a channel", err)
}

// NotGreeted reports whether an opening failed only because the peer is not
// linked, or has not said hello: the same again may do.
func NotGreeted(err error) bool { return errors.Is(err, channel.ErrNoLink) }

func (n *Node) opened(p *peer, m *ln.OpenChannel) {
	refuse := func(err error) { n.say(p, &ln.Error{ChannelID: m.TemporaryChannelID, Data: err.Error()}) }
	if len(n.channels) >= MaxChannels || n.crowded(p) || n.openings[m.TemporaryChannelID] != nil {
		refuse(errors.New("too many channels are open or being opened"))
		return
	}
	if m.ChannelType == "" { // what the features of both imply (BOLT 2)
		m.ChannelType = ln.ChannelStaticRemoteKey
		if typeFor(p.features) == commit.Anchors {
			m.ChannelType = ln.ChannelAnchors
		}
	}
	q := n.proposal(p)
	o, answer, err := channel.Accept(m, q, n.secretOf(q.Index))
	if err != nil {
		refuse(err)
		return
	}
	n.openings[o.Temp] = &opening{Opening: o, peer: p}
	n.say(p, answer)
}

// crowded reports whether too many channels are being agreed on, with everybody
// or with one peer.
func (n *Node) crowded(p *peer) bool {
	with := 0
	for _, o := range n.openings {
		if o.peer == p {
			with++
		}
	}
	return len(n.openings) >= MaxOpenings || with >= maxOpeningsEach
}

// mine finds an opening with a peer.
func (n *Node) mine(p *peer, temp ln.ChannelID, ours bool) *opening {
	if o := n.openings[temp]; o != nil && o.peer == p && o.ours == ours {
		return o
	}
	n.say(p, &ln.Error{ChannelID: temp, Data: "no such channel is being opened"})
	return nil
}

func (n *Node) accepted(p *peer, m *ln.AcceptChannel) {
	o := n.mine(p, m.TemporaryChannelID, true)
	if o == nil {
		return
	}
	if err := o.Accepted(m); err != nil {
		n.say(p, &ln.Error{ChannelID: o.Temp, Data: err.Error()})
		n.forsake(o.Temp, err)
		return
	}
	n.done(FundID+o.tag, Funding{o.Output()})
}

func (n *Node) fund(m Fund) {
	for temp, o := range n.openings {
		if !o.ours || o.tag != m.Tag {
			continue
		}
		err := errors.New("there is no money for it")
		if m.Tx != nil {
			msg, e := o.Fund(m.Tx)
			if err = e; err == nil {
				n.autoFunded(m.Tag, o.Capacity)
				n.say(o.peer, msg)
				return
			}
		}
		n.say(o.peer, &ln.Error{ChannelID: temp, Data: "the channel cannot be funded"})
		n.forsake(temp, err)
		return
	}
}

func (n *Node) created(p *peer, m *ln.FundingCreated) {
	o := n.mine(p, m.TemporaryChannelID, false)
	if o == nil {
		return
	}
	delete(n.openings, o.Temp)
	c, answer, err := o.Created(m)
	if err != nil || n.byID[c.ID] != nil {
		n.say(p, &ln.Error{ChannelID: o.Temp, Data: fmt.Sprintf("funding_created: %v", err)})
		return
	}
	n.begun(p, c)
	n.say(p, answer)
}

func (n *Node) signed(p *peer, m *ln.FundingSigned) {
	for temp, o := range n.openings {
		if o.peer != p || !o.ours {
			continue
		}
		c, err := o.Signed(m)
		if err != nil {
			continue
		}
		delete(n.openings, temp)
		s := n.begun(p, c)
		s.tag = o.tag
		n.autoEnded(o.tag, nil)
		n.done(OpenID+o.tag, Opened{c.ID, c.Index, c.Commit.Funding})
		n.publish(s)
		return
	}
	n.say(p, &ln.Error{ChannelID: m.ChannelID, Data: "funding_signed does not fit any opening"})
}

// begun starts the life of a channel.
func (n *Node) begun(p *peer, c *channel.Channel) *chanState {
	s := n.add(c)
	n.backups.due = true
	n.touch(s)
	c.Begun(p.link, p.features.Offers(ln.SimpleClose))
	n.cover(s)
	n.watch(s)
	return s
}

func (n *Node) watch(c *chanState) {
	n.fx.Send = append(n.fx.Send, step.Packet{To: watch.Chain, Msg: watch.Output{Point: c.Commit.Funding, Script: c.Commit.FundingOutput().PkScript}})
}

// publish hands the chain what a channel wants there.
func (n *Node) publish(c *chanState) {
	for _, t := range c.Publishing() {
		n.fx.Send = append(n.fx.Send, step.Packet{To: watch.Chain, Msg: watch.Publish{Tx: t}})
	}
}

func (n *Node) close(m Close) {
	c := n.byID[m.ID]
	id := CloseID + m.ID.String()
	if c == nil {
		n.failed(id, money.Invalid, "close a channel", fmt.Errorf("no channel is called %s", hex.EncodeToString(m.ID[:8])))
		return
	}
	n.touch(c)
	if m.Force {
		if c.Status() == channel.Stale {
			n.failed(id, money.Refused, "close a channel", errors.New("this database is older than what the peer has; publishing its state would lose everything"))
			return
		}
		c.Break("closed on request")
		return
	}
	if err := c.Shutdown(m.FeeRate); err != nil {
		n.failed(id, money.Refused, "close a channel", err)
	}
}

// ready is a channel that takes payments, for the first time or again.
func (n *Node) ready(c *chanState) {
	n.name(c)
	n.tellPeer(c)
	n.announce(c)
	n.done(ReadyID+c.ID.String(), Opened{c.ID, c.Index, c.Commit.Funding})
	n.resume()
}
