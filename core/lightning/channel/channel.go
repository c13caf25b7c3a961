// Package channel is one Lightning channel (BOLT 2): opening, HTLCs in both
// directions, commitments, reconnection and closing, as a value that the node
// drives.
//
// A channel moves in batches. Whatever waits (adds, fulfills, fails, a fee)
// leaves together under one commitment_signed, and not before the peer has
// revoked its last commitment; so what has been sent is always signed, and what
// is not signed has not been sent. After a lost connection nothing of ours has
// to be taken back: the updates of the outstanding signature are sent again.
//
// Where an HTLC is in the two commitments is one number, its Stage. Both
// commitments, and the one of the peer's that is signed but not yet valid, are
// functions of the balances and the stages; nothing else is kept of them but the
// peer's signatures.
//
// The node calls Recv for every message, Flush once at the end of a step, and
// reads Events. Whatever changed is put on disk by Flush, before anything that
// depends on it is sent.
//
// Invariants, asserted at every Flush: the balances and the HTLCs add up to the
// capacity; a stage that is only in memory belongs to an update of the peer's
// that it has not signed; neither side pays below the reserve it started above.
package channel

import (
	"fmt"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/commit"
	ln "coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// Limits are what one side demands of the other (BOLT 2, open_channel and
// accept_channel).
type Limits struct {
	Dust        int64        // satoshi, of its own commitment
	Reserve     int64        // satoshi that the other must keep
	MaxInFlight money.Amount // of the other's HTLCs
	MinHTLC     money.Amount
	MaxHTLCs    int    // of the other's
	Delay       uint16 // blocks that the other's to_local waits
}

// Terms are what both sides agreed to when the channel opened. They do not
// change.
type Terms struct {
	// Index is the channel's number on this machine: its secrets and its records
	// are named by it, and it is never used twice.
	Index  uint64
	Peer   keys.Public
	ID     ln.ChannelID
	Commit commit.Channel
	// Ours is what we demand of the peer, Theirs what it demands of us.
	Ours, Theirs Limits
	Announce     bool // announce_channel: a public channel
	ScidAlias    bool // option_scid_alias is in the channel type
	MinDepth     int32
	// FeeRate of the first commitment, in satoshi per 1,000 weight.
	FeeRate int64
	// Payout is where a closing pays us; Upfront is where it must pay the peer,
	// if the peer bound itself when it opened.
	Payout, Upfront []byte
	// Push is what the opener gave away in the first commitment.
	Push money.Amount
}

// Status is where a channel is in its life.
type Status uint8

const (
	// Pending: the funding output is not deep enough.
	Pending Status = iota
	// Open: HTLCs may be added.
	Open
	// Shutdown: HTLCs are only removed, and then the closing is negotiated.
	Shutdown
	// Closing: a closing transaction has both signatures.
	Closing
	// Failed: our commitment is published and the rest is BOLT 5's.
	Failed
	// Stale: this state may be older than the peer's (restore.go). Nothing of ours
	// may be published; the peer is asked to close.
	Stale
	// Closed: the funding output is spent.
	Closed
)

var statusNames = [...]string{"pending", "open", "shutdown", "closing", "failed", "stale", "closed"}

// String is the status in a word.
func (s Status) String() string { return statusNames[s] }

// Bounds of one channel.
const (
	// MaxHTLCs is how many one side may have in flight (BOLT 2).
	MaxHTLCs = 483
	// MaxWaiting bounds the HTLCs that wait for room in a commitment.
	MaxWaiting = 4096
	// MaxExpiry is where a number is no block height any more (BOLT 2).
	MaxExpiry = 500_000_000
	// MaxReason bounds the reason of a failed HTLC, in bytes.
	MaxReason = 1024
)

// An HTLC is one payment that hangs in the channel.
type HTLC struct {
	Ours   bool // offered by us
	ID     uint64
	Amount money.Amount
	Hash   [32]byte
	Expiry uint32
	// Onion is kept until the peer is sure to have it; for the peer's HTLCs it
	// is not kept at all, because Note holds what was inside.
	Onion *[ln.OnionSize]byte
	// Derived means that the node can make the onion again from Note, so it is
	// not put on disk: after Load it is missing where Stage is Signed.
	Derived bool
	// Note is what the node wants to find again with this HTLC.
	Note   []byte
	Stage  Stage
	Settle *Settle
	// Entered is the number of the first commitment of the peer's that has it.
	Entered uint64

	dust    bool
	awaited bool // its Settle waits to be signed
}

// A Settle is how an HTLC ends: by its preimage, by a reason that only the
// origin can read, by a hop that could not read its onion, or by the chain.
type Settle struct {
	Preimage *[32]byte
	Reason   []byte
	Code     uint16 // of update_fail_malformed_htlc
	OnionSum [32]byte
	Chain    bool // it timed out on the chain
}

// fulfilled reports whether the money has moved.
func (h *HTLC) fulfilled() bool { return h.Settle != nil && h.Settle.Preimage != nil }

// A Channel is one channel. Make one with New or Load.
type Channel struct {
	Terms
	secrets commit.Secrets
	prefix  string
	peer    string // the name that packets go to

	status Status
	// Balances, without any HTLC of the lists.
	local, remote money.Amount
	fees          []fee // the last one at stage done is the rate of both commitments

	number  uint64 // of our commitment
	sig     keys.Signature
	htlcSig []keys.Signature

	theirNumber uint64 // of the peer's oldest commitment that is not revoked
	outstanding bool   // theirNumber+1 is signed
	point, next keys.Public
	revealed    commit.Revealed
	lastRevoke  bool // the last of ours was revoke_and_ack, not commitment_signed

	ours, theirs list
	waiting      []*HTLC // ours, not in the list yet
	waitingSum   money.Amount
	waitingDust  money.Amount // the part of it that is dust
	feeWaiting   int64        // a rate we want, 0 if none

	// The funding and what names it.
	funding              *wire.MsgTx // the opener's, until it is deep
	depth                int32
	scid                 ln.SCID
	alias, theirAlias    ln.SCID // short channel ids for invoices and onions (option_scid_alias)
	sentReady, gotReady  bool
	announced            bool
	gotShutdown          []byte // the peer's script
	sentShutdown         bool
	closing              closing
	failure              string
	sigChanged, newTerms bool
	secretAdded          bool
	lastPointOf          uint64 // which of our points lastPoint is
	lastPoint            keys.Public
	dirty                bool
	urgent               bool // the peer would not tell us again what has changed

	// The connection.
	link   uint64
	synced bool

	fx     *step.Effects
	Events []any

	// MaxDust is the most that Add lets hang in the channel, of both sides, that
	// the chain cannot enforce; 0 is no limit. Guarded has Revoked carry what a
	// watchtower needs. Neither is on disk.
	MaxDust money.Amount
	Guarded bool
}

// What a channel tells its node, in Events.
type (
	// Ready: HTLCs may be added from now on, or again after a reconnection.
	Ready struct{}
	// LockedIn: an HTLC of the peer's is irrevocably committed.
	LockedIn struct{ *HTLC }
	// Fulfilled: an HTLC of ours has its preimage.
	Fulfilled struct{ *HTLC }
	// Removed: an HTLC of ours is irrevocably removed and was not fulfilled.
	Removed struct{ *HTLC }
	// Unsent: an HTLC of ours was never sent.
	Unsent struct {
		*HTLC
		Err error
	}
	// Revoked: the peer's commitment with this number can be punished from now
	// on. If the channel is Guarded it comes with what that commitment paid out,
	// and with the secret that punishes it.
	Revoked struct {
		Number uint64
		State  *commit.State
		Secret [32]byte
	}
	// Broke: the channel is failed and our commitment is on its way.
	Broke struct{ Why string }
	// Agreed: both have signed a closing transaction.
	Agreed struct{ Tx *wire.MsgTx }
)

func (c *Channel) event(e any) { c.Events = append(c.Events, e) }

// change notes that the state is not what is on disk, and that nobody would tell
// it to us again.
func (c *Channel) change() { c.dirty, c.urgent = true, true }

// send sends over the connection of the moment, if there is one.
func (c *Channel) send(m ln.Message) {
	c.urgent = true
	if c.link != 0 {
		c.fx.Send = append(c.fx.Send, step.Packet{To: c.peer, Msg: m, Link: c.link})
	}
}

// Usable reports whether HTLCs can be added now.
func (c *Channel) Usable() bool { return c.status == Open && c.synced && c.sentReady && c.gotReady }

// Status is where the channel is in its life.
func (c *Channel) Status() Status { return c.status }

// Number is the number of our current commitment.
func (c *Channel) Number() uint64 { return c.number }

// Link is the connection of the moment, 0 if there is none.
func (c *Channel) Link() uint64 { return c.link }

// Names are the short channel ids by which the peer may mean this channel: the
// alias we gave it, and its place in the chain unless that is private.
func (c *Channel) Names() (names []ln.SCID) {
	if c.alias != 0 {
		names = append(names, c.alias)
	}
	if c.scid != 0 && !c.ScidAlias {
		names = append(names, c.scid)
	}
	return names
}

// Alias is the name by which the peer knows this channel in invoices of ours:
// the one it gave us, or the place in the chain.
func (c *Channel) Alias() ln.SCID {
	if c.theirAlias != 0 && !c.Announce {
		return c.theirAlias
	}
	return c.scid
}

// Begin tells the channel where the effects of this step go.
func (c *Channel) Begin(fx *step.Effects) { c.fx = fx }

// fail gives the channel up: the peer is told why, and our commitment goes to
// the chain. Nothing is published by a channel whose state may be old.
func (c *Channel) fail(format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	c.send(&ln.Error{ChannelID: c.ID, Data: why})
	c.Break(why)
}

// Break publishes our commitment, whatever the peer does.
func (c *Channel) Break(why string) {
	if c.status >= Failed {
		return
	}
	c.status, c.failure, c.synced = Failed, why, false
	c.change()
	c.unsend(fmt.Errorf("the channel failed: %s", why))
	c.event(Broke{why})
}

// unsend gives back what never left.
func (c *Channel) unsend(err error) {
	for _, h := range c.waiting {
		c.event(Unsent{h, err})
	}
	c.waiting, c.waitingSum, c.waitingDust = nil, 0, 0
}

// Unlinked forgets what the peer had not signed when the connection went.
func (c *Channel) Unlinked() {
	c.link, c.synced = 0, false
	for n := len(c.theirs.all); n > 0 && c.theirs.all[n-1].Stage == Added; n-- {
		c.theirs.drop(c.theirs.all[n-1])
		c.theirs.next--
	}
	for _, h := range c.ours.all {
		if h.Stage == Removing {
			h.Stage = Committed
			if !h.fulfilled() && !h.Settle.Chain { // a preimage stays one, whoever forgets that it was said
				h.Settle = nil
			}
		}
	}
	for len(c.fees) > 1 && c.Commit.Opener == commit.Remote && c.fees[len(c.fees)-1].stage == Added {
		c.fees = c.fees[:len(c.fees)-1]
	}
	c.closing.unlink()
	c.unsend(ErrNoLink)
}

// Incoming is the peer's HTLC with an ID, or nil.
func (c *Channel) Incoming(id uint64) *HTLC { return c.theirs.find(id) }

// HTLCs are those that hang in the channel, ours first.
func (c *Channel) HTLCs() (ours, theirs []*HTLC) { return c.ours.all, c.theirs.all }

// Failure is why the channel was given up, in a sentence.
func (c *Channel) Failure() string { return c.failure }

// SCID is the channel's place in the chain; 0 until it is deep enough.
func (c *Channel) SCID() ln.SCID { return c.scid }

// SignFunding signs a digest with the funding key, for announcements.
func (c *Channel) SignFunding(digest [32]byte) keys.Signature { return c.secrets.Funding.Sign(digest) }
