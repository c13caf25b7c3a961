package node

import (
	"strings"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/claim"
	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/step"
)

// A channel that is failed, or whose funding output is spent, has a claim: the
// node steps it as a part of itself, so an HTLC that the chain decides goes back
// to where it came from in the same durable write.

// Outcomes of a channel's end.
type (
	// Traces asks whoever has the disk for the traces of a channel (package
	// channel), whose peer has published the revoked commitment Number. Answer
	// with Found.
	Traces struct{ Index, Number uint64 }
	// Buried says that a channel is over. Answer with Erase.
	Buried struct {
		Index uint64
		claim.Finished
	}
)

// IDs of those outcomes.
const (
	TracesID = "traces"
	BuriedID = "buried"
)

// Found brings the traces of a channel.
type Found struct {
	Index  uint64
	Traces []claim.Trace
}

// Erase brings the keys of records of a channel that is over, to be deleted. The
// last one, which may have none, has Last set.
type Erase struct {
	Index uint64
	Keys  []string
	Last  bool
}

// A closed is a claim and what belongs to it.
type closed struct {
	*claim.Claim
	over bool
}

// pursue opens the claim of a channel. With force our commitment is published.
func (n *Node) pursue(c *chanState, force bool) {
	if c.claim != nil {
		return
	}
	f := c.Final()
	k := claim.Case{
		Channel: c.Commit, Local: f.Local, LocalSig: f.LocalSig, LocalHTLCSigs: f.LocalHTLCSigs, Remote: f.Remote, RemotePoint: f.RemotePoint,
		Next: f.Next, NextPoint: f.NextPoint, Revealed: f.Revealed, HTLCs: live(c), Payout: c.Payout,
		FeeRate: tx.FeeRate(n.FeeRate * 4), Depth: n.ClaimDepth, Height: n.tip, Force: force,
	}
	for _, t := range f.Live {
		k.Traces = append(k.Traces, claim.Trace(t))
	}
	core, err := claim.New(k, commit.NewSecrets(n.secretOf(c.Index)), tx.WalletKey(n.key))
	step.Assert(err == nil, "lightning: the claim of channel %d: %v", c.Index, err)
	c.claim = &closed{Claim: core}
	events := []any{step.Rang{ID: step.Start}}
	_, theirs := c.HTLCs()
	for _, h := range theirs {
		if h.Settle != nil && h.Settle.Preimage != nil {
			events = append(events, step.Recv{From: Name, Msg: claim.Preimage{Preimage: *h.Settle.Preimage}})
		}
	}
	if c.status.Tip > 0 {
		events = append(events, step.Recv{From: watch.Chain, Msg: c.status})
	}
	n.stepClaim(c, events...)
}

// live is the HTLCs of a channel in the order that claim's indices count.
func live(c *chanState) []commit.HTLC {
	ours, theirs := c.HTLCs()
	list := make([]commit.HTLC, 0, len(ours)+len(theirs))
	for _, l := range [...][]*channel.HTLC{ours, theirs} {
		for _, h := range l {
			list = append(list, commit.HTLC{Ours: h.Ours, Amount: h.Amount, Hash: h.Hash, Expiry: h.Expiry})
		}
	}
	return list
}

// stepClaim steps a claim and carries its effects over into the node's.
func (n *Node) stepClaim(c *chanState, events ...any) {
	fx := c.claim.Step(step.Input{At: n.at, Events: events})
	n.fx.Put = append(n.fx.Put, fx.Put...)
	for _, p := range fx.Send {
		switch m := p.Msg.(type) {
		case watch.Output:
			n.watchers[m.Point.String()] = c
		case claim.Bump:
			n.watchers[m.For.String()] = c
		}
		n.fx.Send = append(n.fx.Send, p)
	}
	for _, a := range fx.Wake {
		n.fx.Wake = append(n.fx.Wake, step.Alarm{ID: alarmClaim + c.ID.String() + "/" + a.ID, At: a.At})
	}
	for _, d := range fx.Done {
		switch v := d.Value.(type) {
		case claim.Resolved:
			n.resolved(c, v)
		case claim.Revoked:
			n.done(TracesID, Traces{c.Index, v.Number})
		case claim.Finished:
			c.claim.over = true
			n.endParts(c)
			n.done(BuriedID, Buried{c.Index, v})
		}
	}
}

const alarmClaim = "claim/"

// startClaim goes on with a claim after a restart.
func (n *Node) startClaim(c *chanState) {
	if c.claim == nil {
		return
	}
	n.stepClaim(c, step.Rang{ID: step.Start})
	if f := c.claim.Summary().Finished; f != nil {
		c.claim.over = true
		n.done(BuriedID, Buried{c.Index, *f})
	}
}

// rangClaim passes an alarm to the claim that asked for it.
func (n *Node) rangClaim(id string) {
	channelID, alarm, _ := strings.Cut(strings.TrimPrefix(id, alarmClaim), "/")
	for _, c := range n.ordered() {
		if c.claim != nil && c.ID.String() == channelID {
			n.stepClaim(c, step.Rang{ID: alarm})
		}
	}
}

// resolved is an HTLC of a closed channel whose fate the chain has decided.
func (n *Node) resolved(c *chanState, r claim.Resolved) {
	ours, _ := c.HTLCs()
	if r.Index >= len(ours) {
		return // the peer's: what we knew of it we have claimed
	}
	h := ours[r.Index]
	if c.Decided(h) {
		return // off the chain it was already
	}
	n.touch(c)
	c.Resolve(h, r.Preimage)
	if r.Preimage != nil {
		n.fulfilled(h)
	} else {
		n.removed(c, h)
	}
}

// spent is a channel whose funding output is spent.
func (n *Node) spent(c *chanState) {
	c.Spent()
	n.pursue(c, false)
}

// toldClaim gives a preimage to the claim of a channel that is closing.
func (n *Node) toldClaim(c *chanState, preimage [32]byte) {
	if c.claim != nil {
		n.stepClaim(c, step.Recv{From: Name, Msg: claim.Preimage{Preimage: preimage}})
	}
}

func (n *Node) found(f Found) {
	if c := n.channels[f.Index]; c != nil && c.claim != nil {
		n.stepClaim(c, step.Recv{From: Name, Msg: claim.Traces{Traces: f.Traces}})
	}
}

// MaxErase bounds the keys of one Erase.
const MaxErase = 4096

// erase takes a channel that is over off the disk.
func (n *Node) erase(e Erase) {
	c := n.channels[e.Index]
	if c == nil || c.claim == nil || !c.claim.over {
		return
	}
	for _, key := range e.Keys[:min(len(e.Keys), MaxErase)] {
		if strings.HasPrefix(key, channel.Prefix(e.Index)) {
			n.fx.Put = append(n.fx.Put, step.Record{Key: key})
		}
	}
	if !e.Last {
		return
	}
	n.backups.due = true
	n.fx.Put = append(n.fx.Put, c.claim.Forget()...)
	n.uncover(c)
	delete(n.channels, e.Index)
	delete(n.byID, c.ID)
	for name, s := range n.bySCID {
		if s == c {
			delete(n.bySCID, name)
		}
	}
	for point, s := range n.watchers {
		if s == c {
			delete(n.watchers, point)
		}
	}
}

// loadClaims reads the claims of channels back.
func (n *Node) loadClaims(disk step.Reader) error {
	for _, c := range n.ordered() {
		if c.Status() < channel.Failed {
			continue
		}
		core, err := claim.Load(disk, c.ID, commit.NewSecrets(n.secretOf(c.Index)), tx.WalletKey(n.key))
		if err != nil {
			if c.Status() == channel.Stale {
				continue // it waits for the peer to close
			}
			return err
		}
		c.claim = &closed{Claim: core}
	}
	return nil
}
