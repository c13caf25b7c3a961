package channel

import (
	"fmt"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/backup"
	"coinop.dev/core/lightning/commit"
	ln "coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
)

// A channel that may be older than what its peer has is Stale: it publishes
// nothing, signs nothing and reveals nothing. It asks the peer to close at every
// connection, and what the peer then publishes pays us without any help of ours.

// Restore is a channel of which nothing is left but a backup, with the secret that
// its keys come from. It is Stale. The balances are made up: all of it is the
// opener's.
func Restore(k *backup.Channel, root keys.Secret) (*Channel, error) {
	s := commit.NewSecrets(root)
	t := Terms{
		Index: k.Index, Peer: k.Peer, Commit: k.Commit, Payout: k.Payout, FeeRate: MinFeeRate,
		ID:     ln.NewChannelID(k.Commit.Funding.Hash, uint16(k.Commit.Funding.Index)),
		Ours:   Limits{Dust: k.Commit.Local.Dust, Delay: k.Commit.Remote.Delay},
		Theirs: Limits{Dust: k.Commit.Remote.Dust, Delay: k.Commit.Local.Delay},
	}
	t.Commit.Local.Basepoints = s.Basepoints()
	p := &t.Commit.Remote.Basepoints
	for _, key := range [...]keys.Public{k.Peer, p.Funding, p.Revocation, p.Payment, p.Delayed, p.HTLC} {
		if _, err := keys.ParsePublic(key[:]); err != nil {
			return nil, fmt.Errorf("channel %d of the backup: %w", k.Index, err)
		}
	}
	if backup.Check(t.Commit.Local.Basepoints) != k.Check {
		return nil, fmt.Errorf("channel %d of the backup: the node's key does not give the keys that it was opened with", k.Index)
	}
	if len(k.Payout) == 0 {
		return nil, fmt.Errorf("channel %d of the backup: it has no script to be paid to", k.Index)
	}
	if k.Commit.Capacity < 1 || k.Commit.Capacity > money.MaxAmount.Sats() {
		return nil, fmt.Errorf("channel %d of the backup: its capacity is %d sat", k.Index, k.Commit.Capacity)
	}
	// Any point will do for the peer's commitments: those that can be built with
	// what we know were never signed.
	c := newChannel(t, s, p.Payment)
	c.next, c.sigChanged = p.Payment, true
	c.sentReady, c.gotReady = true, true
	c.status, c.failure = Stale, "restored from a backup; the peer must close"
	return c, nil
}

// Outdated makes the channel Stale, because this state may not be the newest. One
// that is closing already goes on: its state does not change any more.
func (c *Channel) Outdated(why string) {
	if c.status >= Closing {
		return
	}
	c.status, c.failure, c.synced = Stale, why, false
	c.change()
	c.unsend(ErrNotOpen)
	c.event(Broke{why})
	c.askToClose()
}

// askToClose makes an honest peer publish its commitment. A
// next_commitment_number of 0 is what a peer must close for, even if neither side
// has ever updated the channel (BOLT 2, message retransmission); some close for
// an error only (BOLT 1), so they get both. What is said of the peer's
// commitments is true, and my_current_per_commitment_point is a point: with a
// static remote key nobody uses it.
func (c *Channel) askToClose() {
	m := &ln.ChannelReestablish{
		ChannelID: c.ID, NextCommitmentNumber: 0, NextRevocationNumber: c.theirNumber,
		MyCurrentPerCommitmentPoint: c.secrets.Point(c.number),
	}
	if c.theirNumber > 0 {
		m.YourLastPerCommitmentSecret, _ = c.revealed.Secret(c.theirNumber - 1)
	}
	c.send(m)
	c.send(&ln.Error{ChannelID: c.ID, Data: c.failure})
}

// Backup is what a backup keeps of the channel. address is where its peer was last
// reached.
func (c *Channel) Backup(address string) backup.Channel {
	k := backup.Channel{
		Index: c.Index, Peer: c.Peer, Address: address, Commit: c.Commit, Payout: c.Payout,
		Check: backup.Check(c.Commit.Local.Basepoints),
	}
	k.Commit.Local.Basepoints = commit.Basepoints{}
	return k
}
