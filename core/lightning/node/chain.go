package node

import (
	"math"
	"strings"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/lightning/channel"
	ln "coinop.dev/core/lightning/wire"
	"coinop.dev/core/step"
)

// Blocks before an expiry at which the chain has to decide.
const (
	// claimMargin: the peer has not taken a preimage that we know. It is less
	// than any FinalCLTV, or a block that comes while a payment is being settled
	// would close the channel.
	claimMargin = 10
	// timeoutMargin: the peer has not given back what is ours after the expiry.
	timeoutMargin = 3
)

// Alarms.
const (
	alarmAsk   = "ask"
	alarmSets  = "sets"
	alarmPause = "pause"
	alarmKeep  = "keep"
)

func (n *Node) rang(ev step.Rang) {
	switch ev.ID {
	case step.Start:
		n.start()
	case alarmSets:
		n.expireSets()
	case alarmPause:
		n.resume()
	case alarmKeep:
		n.saveKept()
	case alarmAsk: // settle asks
	case alarmAuto: // topUp does
	default:
		if strings.HasPrefix(ev.ID, alarmClaim) {
			n.rangClaim(ev.ID)
		}
	}
}

// start goes on with what a crash has interrupted.
func (n *Node) start() {
	for _, c := range n.ordered() {
		n.touch(c)
		n.watch(c)
		n.publish(c)
		n.cover(c)
		n.startClaim(c)
	}
	n.backups.due = n.backups.change > 0 || len(n.channels) > 0
}

// takeUp decides about the HTLCs that came while nobody knew how high the chain
// is, and so whether they have not expired.
func (n *Node) takeUp() {
	carried := n.carried()
	for _, c := range n.ordered() {
		if c.claim != nil && c.claim.over {
			continue // nothing hangs there any more
		}
		n.touch(c)
		_, theirs := c.HTLCs()
		for _, h := range theirs {
			if c.Status() != channel.Stale && h.Stage == channel.Committed && h.Settle == nil && !carried[[2]uint64{c.Index, h.ID}] {
				n.lockedIn(c, h)
			}
		}
	}
	n.miss()
}

// carried are the HTLCs of peers' that hang in another channel of ours.
func (n *Node) carried() map[[2]uint64]bool {
	set := map[[2]uint64]bool{}
	for _, c := range n.channels {
		ours, _ := c.HTLCs()
		for _, h := range ours {
			if o, err := readOutgoing(h.Note); err == nil && o.from != 0 && !c.Decided(h) {
				set[[2]uint64{o.from, o.id}] = true
			}
		}
	}
	return set
}

// onChain takes the status of a channel's funding output.
func (n *Node) onChain(s watch.Status) {
	if s.Tip > n.tip {
		first := n.tip == 0
		n.tip = s.Tip
		n.expireSets()
		if first {
			n.takeUp()
			n.resume()
		}
	}
	if c := n.watchers[s.Point.String()]; c != nil && c.claim != nil && c.Commit.Funding != s.Point {
		n.stepClaim(c, step.Recv{From: watch.Chain, Msg: s})
		return
	}
	for _, c := range n.ordered() {
		if c.Commit.Funding != s.Point {
			continue
		}
		n.touch(c)
		c.status = s
		scid := ln.SCID(0)
		if s.Depth > 0 && s.Index >= 0 {
			scid, _ = ln.NewSCID(uint32(s.Tip-s.Depth+1), uint32(s.Index), uint16(s.Point.Index))
		}
		c.Confirmed(s.Depth, scid)
		n.name(c)
		n.announce(c)
		if s.Spender != nil && s.SpendDepth > 0 && c.claim == nil {
			n.spent(c)
		}
		n.publish(c)
		n.deadlines(c)
		if c.claim != nil {
			n.stepClaim(c, step.Recv{From: watch.Chain, Msg: s})
		}
	}
}

// deadlines closes a channel whose peer leaves us no other way to what is ours.
func (n *Node) deadlines(c *chanState) {
	if c.Status() >= channel.Closing {
		return
	}
	c.Overdue(uint32(n.tip) + expiryMargin)
	ours, theirs := c.Expiring()
	switch {
	case theirs != math.MaxUint32 && int64(theirs)-claimMargin <= int64(n.tip):
		c.Break("the peer does not take a preimage, and its HTLC is about to expire")
	case ours != math.MaxUint32 && int64(ours)+timeoutMargin <= int64(n.tip):
		c.Break("the peer does not give back an HTLC that has expired")
	}
}
