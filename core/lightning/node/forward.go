package node

import (
	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/onion"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
)

// Blocks of forwarding.
const (
	// expiryMargin is how many blocks an HTLC must have left when it leaves here.
	expiryMargin = 3
	// maxLock is how far in the future an HTLC may expire.
	maxLock = 2016
)

// forward offers an HTLC of one peer's to the next, if what the onion says is
// what this node asks for. Its note names where it came from, so whatever
// becomes of it finds its way back, after any crash.
func (n *Node) forward(c *chanState, h *channel.HTLC, in *incoming, p onion.Payload) {
	out := n.bySCID[wire.SCID(p.Next)]
	fail := func(f onion.Failure) { c.Fail(h.ID, f.Seal(in.shared)) }
	if out == nil || out.Status() != channel.Open {
		fail(onion.Failure{Code: onion.CodeUnknownNextPeer})
		return
	}
	update := n.updateOf(out)
	switch fee := n.feeFor(p.Amount); {
	case p.Amount < out.Theirs.MinHTLC || p.Amount < n.Policy.Min:
		fail(onion.AmountBelowMinimum(p.Amount, update))
	case h.Amount < p.Amount || h.Amount-p.Amount < fee:
		fail(onion.FeeInsufficient(h.Amount, update))
	case uint64(h.Expiry) < uint64(p.Expiry)+uint64(n.Policy.CLTVDelta):
		fail(onion.IncorrectCLTVExpiry(h.Expiry, update))
	case int64(p.Expiry) <= int64(n.tip)+expiryMargin:
		fail(onion.ExpiryTooSoon(update))
	case int64(p.Expiry) > int64(n.tip)+maxLock:
		fail(onion.Failure{Code: onion.CodeExpiryTooFar})
	default:
		note := outgoing{from: c.Index, id: h.ID}
		next := &channel.HTLC{Derived: true, Amount: p.Amount, Hash: h.Hash, Expiry: p.Expiry, Onion: (*[wire.OnionSize]byte)(in.next), Note: note.append(nil)}
		n.touch(out)
		if err := out.Add(next); err != nil {
			fail(onion.TemporaryChannelFailure(update))
		}
	}
}

// feeFor is what forwarding an amount costs.
func (n *Node) feeFor(amount money.Amount) money.Amount {
	return n.Policy.FeeBase + amount/1_000_000*money.Amount(n.Policy.FeePPM) + amount%1_000_000*money.Amount(n.Policy.FeePPM)/1_000_000
}

// passBack gives the preimage of an HTLC that we forwarded to where it came
// from.
func (n *Node) passBack(o outgoing, preimage [32]byte) {
	if c := n.channels[o.from]; c != nil {
		n.touch(c)
		c.Fulfill(o.id, preimage)
		n.toldClaim(c, preimage)
	}
}

// failBack passes on why an HTLC that we forwarded failed.
func (n *Node) failBack(o outgoing, s *channel.Settle) {
	c := n.channels[o.from]
	if c == nil {
		return
	}
	if s == nil || s.Code == 0 {
		if shared, ok := n.sharedOf(c, o.id); ok {
			n.touch(c)
			var reason []byte
			if s == nil || s.Chain {
				reason = onion.Failure{Code: onion.CodePermanentChannelFailure}.Seal(shared)
			} else {
				reason = onion.Obscure(shared, s.Reason)
			}
			c.Fail(o.id, reason)
		}
		return
	}
	// The next node could not read its onion: we say so in its place.
	n.refuse(o.from, o.id, onion.Failure{Code: onion.Code(s.Code), Data: s.OnionSum[:]})
}

// refuse fails an HTLC of a peer's with a failure of ours.
func (n *Node) refuse(from, id uint64, f onion.Failure) {
	if c := n.channels[from]; c != nil {
		if shared, ok := n.sharedOf(c, id); ok {
			n.touch(c)
			c.Fail(id, f.Seal(shared))
		}
	}
}

// sharedOf is the secret that we share with the origin of an HTLC.
func (n *Node) sharedOf(c *chanState, id uint64) (shared [32]byte, ok bool) {
	h := c.Incoming(id)
	if h == nil {
		return shared, false
	}
	in, err := readIncoming(h.Note)
	return in.shared, err == nil && in.bad == nil
}
