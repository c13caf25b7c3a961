package channel

import (
	"coinop.dev/core/lightning/commit"
	ln "coinop.dev/core/lightning/wire"
)

// Linked begins a connection: each side says which commitment and which
// revocation it waits for (BOLT 2, message retransmission). simple is whether
// both offer option_simple_close.
func (c *Channel) Linked(link uint64, simple bool) {
	c.Unlinked()
	c.link, c.closing.simple = link, simple
	switch c.status {
	case Closed:
		return
	case Stale:
		c.askToClose()
		return
	}
	m := &ln.ChannelReestablish{
		ChannelID: c.ID, NextCommitmentNumber: c.number + 1, NextRevocationNumber: c.theirNumber,
		MyCurrentPerCommitmentPoint: c.secrets.Point(c.number),
	}
	if c.theirNumber > 0 {
		m.YourLastPerCommitmentSecret, _ = c.revealed.Secret(c.theirNumber - 1)
	}
	c.send(m)
	if c.status == Failed || c.status == Closing {
		c.send(&ln.Error{ChannelID: c.ID, Data: "the channel is closed: " + c.failure})
	}
}

// recvReestablish compares notes with the peer and sends again what it lacks.
func (c *Channel) recvReestablish(m *ln.ChannelReestablish) {
	if c.synced || c.link == 0 {
		return
	}
	if m.NextRevocationNumber > c.number {
		c.ahead(m)
		return
	}
	if m.NextRevocationNumber > 0 && m.YourLastPerCommitmentSecret != c.secrets.PerCommitment(m.NextRevocationNumber-1) {
		c.fail("channel_reestablish has a secret that is not that of our commitment %d", m.NextRevocationNumber-1)
		return
	}
	revokeAgain := m.NextRevocationNumber+1 == c.number
	signAgain := c.outstanding && m.NextCommitmentNumber == c.theirNumber+1
	expected := c.theirNumber + 1
	if c.outstanding {
		expected++
	}
	switch {
	case m.NextRevocationNumber != c.number && !revokeAgain:
		c.fail("channel_reestablish asks for revocation %d; we are at %d", m.NextRevocationNumber, c.number)
		return
	case m.NextCommitmentNumber != expected && !signAgain:
		c.fail("channel_reestablish asks for commitment %d; the next one is %d", m.NextCommitmentNumber, expected)
		return
	}
	c.synced = true
	if m.NextCommitmentNumber == 1 && c.number == 0 && c.sentReady {
		c.sendReady()
	}
	// What was said last is said last again.
	if revokeAgain && !c.lastRevoke {
		c.sendRevoke()
	}
	if signAgain {
		for _, u := range c.unacked() {
			c.send(u)
		}
		c.sendSigned()
	}
	if revokeAgain && c.lastRevoke {
		c.sendRevoke()
	}
	if c.sentShutdown {
		c.sendShutdown()
	}
	if c.Usable() {
		c.event(Ready{})
	}
}

// ahead is when the peer knows of a commitment of ours that we do not: this
// state is old, and whoever publishes an old state loses everything. If the peer
// can prove it, nothing of ours is ever published (option_data_loss_protect).
func (c *Channel) ahead(m *ln.ChannelReestablish) {
	if m.YourLastPerCommitmentSecret != c.secrets.PerCommitment(m.NextRevocationNumber-1) {
		c.fail("channel_reestablish claims to know our commitment %d, and cannot show its secret", m.NextRevocationNumber-1)
		return
	}
	c.status = Stale
	c.change()
	c.failure = "this database is older than what the peer has; the peer must close"
	c.unsend(ErrNotOpen)
	c.send(&ln.Error{ChannelID: c.ID, Data: c.failure})
	c.event(Broke{c.failure})
}

// Confirmed tells the channel how deep its funding output is, and where.
func (c *Channel) Confirmed(depth int32, scid ln.SCID) {
	c.depth = depth
	if depth >= max(c.MinDepth, 1) && scid != 0 && c.scid != scid {
		c.scid = scid
		c.change()
	}
	if c.status == Pending && depth >= c.MinDepth && !c.sentReady {
		c.sentReady = true
		c.change()
		if c.funding != nil {
			c.funding = nil
			c.put(keyFunding, nil)
		}
		c.sendReady()
		c.opened()
	}
}

// sendReady sends channel_ready, with the alias by which the peer may mean us.
func (c *Channel) sendReady() {
	if c.synced || c.number == 0 && c.link != 0 {
		c.send(&ln.ChannelReady{ChannelID: c.ID, SecondPerCommitmentPoint: c.secrets.Point(1), ShortChannelID: c.alias})
	}
}

func (c *Channel) recvReady(m *ln.ChannelReady) {
	if m.ShortChannelID != 0 && m.ShortChannelID != c.theirAlias {
		c.theirAlias = m.ShortChannelID
		c.change()
	}
	if c.gotReady {
		return // sent again
	}
	c.gotReady = true
	c.change()
	c.next = m.SecondPerCommitmentPoint
	c.opened()
}

func (c *Channel) opened() {
	if c.status == Pending && c.sentReady && c.gotReady {
		c.status = Open
		if c.Usable() {
			c.event(Ready{})
		}
	}
}

// Funding is the transaction that the opener publishes until it is deep.
func (c *Channel) Funding() (pending bool) {
	return c.funding != nil && c.Commit.Opener == commit.Local && c.status != Stale
}
