package channel

import (
	"crypto/sha256"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/commit"
	ln "coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

func sha(b []byte) [32]byte { return sha256.Sum256(b) }

// Recv takes a message of this channel's peer. note is what the node wants to
// keep with an update_add_htlc.
func (c *Channel) Recv(m ln.Message, note []byte) {
	if c.status >= Failed {
		return // the chain decides now, or the peer
	}
	switch m := m.(type) {
	case *ln.ChannelReestablish:
		c.recvReestablish(m)
		return
	case *ln.ChannelReady:
		c.recvReady(m)
		return
	}
	if !c.synced {
		return // said before the peer knew where we are: it says it again
	}
	switch m := m.(type) {
	case *ln.UpdateAddHTLC:
		c.recvAdd(m, note)
	case *ln.UpdateFulfillHTLC:
		c.recvFulfill(m)
	case *ln.UpdateFailHTLC:
		c.recvFail(m)
	case *ln.UpdateFailMalformedHTLC:
		c.recvMalformed(m)
	case *ln.UpdateFee:
		c.recvFee(m)
	case *ln.CommitmentSigned:
		c.recvSigned(m)
	case *ln.RevokeAndAck:
		c.recvRevoke(m)
	case *ln.Shutdown:
		c.recvShutdown(m)
	case *ln.ClosingSigned:
		c.recvClosingSigned(m)
	case *ln.ClosingComplete:
		c.recvClosingComplete(m)
	case *ln.ClosingSig:
		c.recvClosingSig(m)
	}
}

// recvSigned takes the peer's signatures over our next commitment, and revokes
// the one before at once: nothing is gained by waiting.
func (c *Channel) recvSigned(m *ln.CommitmentSigned) {
	s := c.state(commit.Local, false, theySign)
	s.Number++
	k, err := c.secrets.Build(&c.Commit, commit.Local, c.ourPoint(s.Number), s)
	if err == nil {
		err = k.Verify(m.Signature, m.HTLCSignatures)
	}
	if err != nil {
		c.fail("commitment_signed %d: %v", s.Number, err)
		return
	}
	c.move(theySign)
	for _, h := range c.theirs.all {
		if h.Stage == Signed {
			c.save(h)
		}
	}
	for _, h := range c.ours.all {
		if h.Stage == Unsigned && !h.fulfilled() {
			c.saveSettle(h)
		}
	}
	c.number, c.sig, c.htlcSig, c.sigChanged = s.Number, m.Signature, m.HTLCSignatures, true
	c.move(weRevoke)
	c.lastRevoke = true
	c.sendRevoke()
}

// sendRevoke says that our commitment before the newest is void.
func (c *Channel) sendRevoke() {
	c.send(&ln.RevokeAndAck{
		ChannelID: c.ID, PerCommitmentSecret: c.secrets.PerCommitment(c.number - 1),
		NextPerCommitmentPoint: c.ourPoint(c.number + 1),
	})
}

// ourPoint is secrets.Point, which the next signature of the peer's asks for
// again.
func (c *Channel) ourPoint(n uint64) keys.Public {
	if c.lastPointOf != n || n == 0 {
		c.lastPointOf, c.lastPoint = n, c.secrets.Point(n)
	}
	return c.lastPoint
}

func (c *Channel) recvRevoke(m *ln.RevokeAndAck) {
	if !c.outstanding {
		c.fail("revoke_and_ack without a commitment_signed")
		return
	}
	if point, err := pointOf(m.PerCommitmentSecret); err != nil || point != c.point {
		c.fail("revoke_and_ack has a secret that is not that of commitment %d", c.theirNumber)
		return
	}
	if _, err := keys.ParsePublic(m.NextPerCommitmentPoint[:]); err != nil {
		c.fail("revoke_and_ack: next_per_commitment_point: %v", err)
		return
	}
	if err := c.revealed.Add(c.theirNumber, m.PerCommitmentSecret); err != nil {
		c.fail("revoke_and_ack: %v", err)
		return
	}
	revoked := Revoked{Number: c.theirNumber, Secret: m.PerCommitmentSecret}
	if c.Guarded {
		s := c.state(commit.Remote, true)
		revoked.State = &s
	}
	c.secretAdded = true
	c.event(revoked)
	c.theirNumber++
	c.point, c.next = c.next, m.NextPerCommitmentPoint
	c.outstanding = false
	c.move(theyRevoke)
}

// pointOf is the per-commitment point of a secret that the peer reveals.
func pointOf(secret [32]byte) (keys.Public, error) {
	s, err := keys.SecretFromBytes(secret[:])
	if err != nil {
		return keys.Public{}, err
	}
	return s.Public(), nil
}

// Flush signs what waits, if the peer's last revocation is there, and puts what
// has changed on disk. It ends a step.
func (c *Channel) Flush() {
	if c.synced && c.status < Closing && !c.outstanding && c.gotReady && c.sentReady {
		if updates := c.promote(); len(updates) > 0 || c.owes() {
			c.sign(updates)
		}
	}
	c.close()
	c.check()
	c.persist()
}

// owes reports whether the peer's commitment lacks something that both have
// agreed to.
func (c *Channel) owes() bool {
	for _, h := range c.theirs.all {
		if h.Stage.after(weSign, false) != h.Stage {
			return true
		}
	}
	for _, h := range c.ours.all {
		if h.Stage.after(weSign, true) != h.Stage {
			return true
		}
	}
	for _, f := range c.fees {
		if f.stage < Committed && f.stage.after(weSign, c.Commit.Opener == commit.Local) != f.stage {
			return true
		}
	}
	return false
}

// promote takes what waits into the lists, and returns the messages that say so.
func (c *Channel) promote() (updates []ln.Message) {
	for _, h := range c.theirs.all {
		if h.awaited && h.Stage == Committed {
			h.Stage, h.awaited = Removing, false
			updates = append(updates, c.removal(h))
		}
	}
	if rate := c.feeWaiting; rate != 0 && c.payable(rate) {
		c.feeWaiting = 0
		c.fees = append(c.fees, fee{rate, Added})
		updates = append(updates, c.updateFee(rate))
	}
	if c.status != Open {
		return updates
	}
	room := min(c.Theirs.MaxHTLCs, MaxHTLCs) - len(c.ours.all)
	n := max(0, min(room, len(c.waiting)))
	for _, h := range c.waiting[:n] {
		h.ID = c.ours.next
		c.ours.next++
		c.ours.all = append(c.ours.all, h)
		c.waitingSum -= h.Amount
		if h.dust {
			c.waitingDust -= h.Amount
		}
		updates = append(updates, c.addition(h))
	}
	clear(c.waiting[:n])
	if c.waiting = c.waiting[n:]; len(c.waiting) == 0 {
		c.waiting = nil
	}
	return updates
}

// payable reports whether we can pay a rate with what is in flight.
func (c *Channel) payable(rate int64) bool {
	ours, n := c.ours.sum()
	_, m := c.theirs.sum()
	return len(c.fees) < maxFees && c.local >= ours+c.fees0(rate, n+m)+money.Amount(c.Theirs.Reserve)*money.Sat
}

func (c *Channel) addition(h *HTLC) ln.Message {
	return &ln.UpdateAddHTLC{
		ChannelID: c.ID, ID: h.ID, AmountMsat: h.Amount, PaymentHash: h.Hash, CLTVExpiry: h.Expiry, OnionRoutingPacket: *h.Onion,
	}
}

func (c *Channel) removal(h *HTLC) ln.Message {
	switch s := h.Settle; {
	case s.Preimage != nil:
		return &ln.UpdateFulfillHTLC{ChannelID: c.ID, ID: h.ID, PaymentPreimage: *s.Preimage}
	case s.Code != 0:
		return &ln.UpdateFailMalformedHTLC{ChannelID: c.ID, ID: h.ID, SHA256OfOnion: s.OnionSum, FailureCode: s.Code}
	default:
		return &ln.UpdateFailHTLC{ChannelID: c.ID, ID: h.ID, Reason: s.Reason}
	}
}

func (c *Channel) updateFee(rate int64) ln.Message {
	return &ln.UpdateFee{ChannelID: c.ID, FeeratePerKW: uint32(rate)}
}

// sign sends updates and the signatures over the peer's next commitment.
func (c *Channel) sign(updates []ln.Message) {
	for _, m := range updates {
		c.send(m)
	}
	c.move(weSign)
	c.outstanding, c.lastRevoke = true, false
	for _, h := range c.ours.all {
		if h.Stage == Signed {
			c.save(h)
		}
	}
	c.sendSigned()
}

// sendSigned signs the peer's next commitment, for the first time or again: the
// signatures are the same each time.
func (c *Channel) sendSigned() {
	s := c.state(commit.Remote, false)
	k, err := c.secrets.Build(&c.Commit, commit.Remote, c.next, s)
	step.Assert(err == nil, "channel %d: the peer's commitment %d: %v", c.Index, s.Number, err)
	m := &ln.CommitmentSigned{ChannelID: c.ID}
	m.Signature, m.HTLCSignatures = k.Sign(c.secrets)
	c.send(m)
}

// unacked are the updates of the outstanding signature, to be sent again.
func (c *Channel) unacked() (updates []ln.Message) {
	for _, h := range c.theirs.all {
		if h.Stage == Unsigned {
			updates = append(updates, c.removal(h))
		}
	}
	if c.Commit.Opener == commit.Local {
		for _, f := range c.fees {
			if f.stage == Signed {
				updates = append(updates, c.updateFee(f.rate))
			}
		}
	}
	for _, h := range c.ours.all {
		if h.Stage == Signed {
			updates = append(updates, c.addition(h))
		}
	}
	return updates
}

// check is the invariant of the package comment.
func (c *Channel) check() {
	if c.Commit.Capacity == 0 {
		return
	}
	step.Assert(int64(c.local+c.remote) == c.Commit.Capacity*1000, "channel %d: %v and %v are not the capacity of %d sat", c.Index, c.local, c.remote, c.Commit.Capacity)
	ours, _ := c.ours.sum()
	theirs, _ := c.theirs.sum()
	step.Assert(ours <= c.local && theirs <= c.remote+c.ours.moved(), "channel %d: %v of %v and %v of %v are in flight", c.Index, ours, c.local, theirs, c.remote)
}
