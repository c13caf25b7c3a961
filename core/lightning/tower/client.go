package tower

import (
	"encoding/hex"
	"errors"
	"fmt"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/step"
)

// ClientName is the name of the client's core.
const ClientName = "ln/tower/client"

// Limits of a client.
const (
	// MaxChannels bounds the channels that one client guards.
	MaxChannels = MaxPeerSessions
	// MaxOutbox bounds the blobs that wait for the tower's word, in all
	// channels: with a tower that is away, 30 MB.
	MaxOutbox = 1 << 16
	// maxInFlight bounds the blobs of a channel that were sent and not
	// acknowledged.
	maxInFlight = 4 * MaxBatch
	// MaxQueued bounds the commitments, in all channels, that wait for a session.
	MaxQueued = 1024
	// MaxRenewals bounds the sessions of one channel: a full one is followed by
	// another.
	MaxRenewals = 64
)

// again is the alarm for sending again what the tower has not answered.
const again = "again"

const resendAfter = 30 * step.Second

// A ChannelID names a channel to its owner; towers do not learn it.
type ChannelID [32]byte

// String is the ID in hex.
func (id ChannelID) String() string { return hex.EncodeToString(id[:]) }

// Cover asks the client for a session for a channel, when it is opened and at
// every start. What Guard brings until the tower grants one waits; the secrets,
// which are not on disk, are for what still waited when the machine stopped. They
// may be nil where nothing can.
type Cover struct {
	Channel ChannelID
	Secrets *commit.Secrets
}

// Guard tells the client that the peer has revoked its commitment to State by
// revealing its per-commitment secret.
type Guard struct {
	Channel  ChannelID
	Params   commit.Channel
	Secrets  commit.Secrets
	State    commit.State
	Revealed [32]byte
}

// Forget tells the client that a channel is closed for good.
type Forget struct{ Channel ChannelID }

// The outcomes of a client, all by the channel's ID in hex.
type (
	// Covered says that Guard works from now on.
	Covered struct {
		Channel ChannelID
		Terms   Terms
	}
	// Guarded says that the tower has all that was given to the client up to a
	// commitment number.
	Guarded struct {
		Channel ChannelID
		Number  uint64
	}
	// Forgotten says that the tower has nothing of a channel any more.
	Forgotten struct{ Channel ChannelID }
)

// Errors of outcomes. With each of them a revoked commitment stays without
// a guard.
var (
	ErrNoSession = errors.New("the tower has not granted a session for this channel")
	ErrFull      = errors.New("the tower's session for this channel is full")
	ErrBacklog   = errors.New("the tower has not answered for too long")
	ErrDear      = errors.New("the tower wants a larger reward than the limit allows")
	ErrLost      = errors.New("the tower has lost the session")
)

// Options say which tower a client uses, and for how much.
type Options struct {
	Tower keys.Public
	Rates [2]tx.FeeRate // of the penalties, as in Terms
	Blobs uint32        // to ask for, for each channel
	// MaxBase (satoshi) and MaxPPM bound the reward.
	MaxBase int64
	MaxPPM  uint32
	Payout  []byte // where penalties pay to: P2WPKH, P2WSH or P2TR
}

// Client seals what is needed to punish every revoked commitment and hands it to
// a tower: numbered, durable until the tower says that it has it.
type Client struct {
	Options
	peer     string
	secret   keys.Secret
	channels map[ChannelID]*guarded
	sessions map[SessionID]*cover
	order    []*cover // as they were added
	waiting  int      // blobs in all outboxes
	queued   int      // commitments that wait for a session
	linked   bool     // the tower can be talked to
	ringing  bool
}

type state uint8

const (
	asking state = iota
	inForce
	leaving
	states
)

// A cover is one session of a channel's.
type cover struct {
	*guarded
	nth    uint32 // from 0: how often it was renewed
	id     SessionID
	state  state
	terms  Terms
	taken  uint32  // blobs that the tower has
	outbox []ready // blobs taken, taken+1, ...
	sent   int     // how many of them, over this link
}

// ready is a blob, and the number of the commitment it is about.
type ready struct {
	Blob
	number uint64
}

func (v *cover) next() uint32 { return v.taken + uint32(len(v.outbox)) }

// NewClient starts a client that guards nothing. Session names follow from
// secret.
func NewClient(o Options, secret keys.Secret) (*Client, error) {
	t := Terms{Rates: o.Rates, Blobs: o.Blobs}
	if err := t.Check(); err != nil {
		return nil, fmt.Errorf("tower client: %w", err)
	}
	if !payable(o.Payout) {
		return nil, errors.New("tower client: payout script is no P2WPKH, P2WSH or P2TR")
	}
	return &Client{
		Options: o, peer: o.Tower.PeerName(), secret: secret,
		channels: map[ChannelID]*guarded{}, sessions: map[SessionID]*cover{},
	}, nil
}

func (c *Client) session(id ChannelID, nth uint32) SessionID {
	return SessionID(c.secret.Derive(fmt.Sprintf("tower session/%v/%d", id, nth)).Reveal())
}

// Step is the whole client.
func (c *Client) Step(in step.Input) step.Effects {
	c.check()
	var fx step.Effects
	for _, event := range in.Events {
		switch ev := event.(type) {
		case step.Recv:
			c.recv(ev, &fx)
		case step.Linked:
			if ev.Peer == c.peer {
				c.linked = true
				c.resend()
			}
		case step.Unlinked:
			if ev.Peer == c.peer {
				c.linked = false
			}
		case step.Rang:
			c.ringing = c.ringing && ev.ID != again
			c.resend()
		default:
			c.told(event, &fx)
		}
	}
	busy := false
	for _, v := range c.order {
		c.send(v, &fx)
		busy = busy || v.state != inForce || len(v.outbox) > 0
	}
	if busy && c.linked && !c.ringing {
		c.ringing = true
		fx.Wake = append(fx.Wake, step.Alarm{ID: again, At: in.At + resendAfter})
	}
	return fx
}

func (c *Client) recv(ev step.Recv, fx *step.Effects) {
	switch msg := ev.Msg.(type) {
	case Cover, Guard, Forget: // of a core of this machine: they have no encoding
		c.told(msg, fx)
		return
	case step.Outcome:
		return
	}
	if ev.From != c.peer {
		return
	}
	switch msg := ev.Msg.(type) {
	case Grant:
		c.granted(c.sessions[msg.ID], msg, fx)
	case Reject:
		c.rejected(c.sessions[msg.ID], msg, fx)
	case Ack:
		c.acked(c.sessions[msg.ID], msg.Taken, fx)
	case Deleted:
		if v := c.sessions[msg.ID]; v != nil && v.state == leaving {
			c.drop(v, fx)
			if len(v.sessions) == 0 {
				fx.Done = append(fx.Done, step.Outcome{ID: v.channel.String(), Value: Forgotten{v.channel}})
			}
		}
	}
}

func (c *Client) told(event any, fx *step.Effects) {
	switch ev := event.(type) {
	case Cover:
		c.cover(ev, fx)
	case Guard:
		if err := c.guard(ev, fx); err != nil {
			fail(ev.Channel, fmt.Errorf("commitment %d: %w", ev.State.Number, err), fx)
		}
	case Forget:
		c.forget(ev.Channel, fx)
	default:
		panic(fmt.Sprintf("tower: client cannot handle %T", event))
	}
}

func fail(id ChannelID, err error, fx *step.Effects) {
	fx.Done = append(fx.Done, step.Outcome{ID: id.String(), Err: err})
}

func (c *Client) granted(v *cover, m Grant, fx *step.Effects) {
	if v == nil || v.state != asking {
		return
	}
	switch r := m.Terms.Reward; {
	case m.Terms.Rates != c.Rates:
		fail(v.channel, fmt.Errorf("%w: it grants fee rates of %v sat/kvB, and %v were asked for", ErrNoSession, m.Terms.Rates, c.Rates), fx)
		c.drop(v, fx)
		c.refused(v.guarded, fx)
		return
	case r.Base > c.MaxBase || r.PPM > c.MaxPPM:
		fail(v.channel, fmt.Errorf("%w: it wants %d sat and %d ppm; the limit is %d sat and %d ppm", ErrDear, r.Base, r.PPM, c.MaxBase, c.MaxPPM), fx)
		c.leave(v, fx)
		c.refused(v.guarded, fx)
		return
	}
	// Taken is not 0 if the client has lost its disk and starts anew: what the
	// tower has still guards, and numbers go on from there.
	v.taken = m.Taken
	v.state, v.terms, v.sent = inForce, m.Terms, 0
	fx.Put = append(fx.Put, v.record())
	fx.Done = append(fx.Done, step.Outcome{ID: v.channel.String(), Value: Covered{v.channel, v.terms}})
	c.drain(v.guarded, fx)
}

func (c *Client) rejected(v *cover, m Reject, fx *step.Effects) {
	switch {
	case v == nil || v.state == leaving:
	case v.state == asking:
		fail(v.channel, fmt.Errorf("%w: it says %q", ErrNoSession, m.Why), fx)
		c.drop(v, fx)
		c.refused(v.guarded, fx)
	default:
		fail(v.channel, fmt.Errorf("%w: it says %q", ErrLost, m.Why), fx)
		c.drop(v, fx)
	}
}

// acked takes the tower's word that it has the first so many blobs.
func (c *Client) acked(v *cover, taken uint32, fx *step.Effects) {
	if v == nil || v.state != inForce || taken <= v.taken {
		return // it may be an old one
	}
	n := int(min(taken, v.next()) - v.taken)
	if n == 0 {
		return // a lie about blobs that were never made
	}
	number, whole := v.outbox[n-1].number, n == len(v.outbox) || v.outbox[n].number != v.outbox[n-1].number
	c.empty(v, n, fx)
	fx.Put = append(fx.Put, v.record())
	if whole && v.first() {
		fx.Done = append(fx.Done, step.Outcome{ID: v.channel.String(), Value: Guarded{v.channel, number}})
	}
}

// resend forgets that anything was sent.
func (c *Client) resend() {
	for _, v := range c.order {
		v.sent = 0
	}
}

// send says what the tower has not been told.
func (c *Client) send(v *cover, fx *step.Effects) {
	say := func(m Message) { fx.Send = append(fx.Send, step.Packet{To: c.peer, Msg: m}) }
	switch {
	case !c.linked:
	case v.state == asking && v.sent == 0:
		v.sent = 1
		say(Ask{v.id, c.Rates, c.Blobs})
	case v.state == leaving && v.sent == 0:
		v.sent = 1
		say(Delete{v.id})
	case v.state == inForce:
		for v.sent < min(len(v.outbox), maxInFlight) {
			n := min(len(v.outbox)-v.sent, MaxBatch, maxInFlight-v.sent)
			put := Put{ID: v.id, First: v.taken + uint32(v.sent)}
			for _, r := range v.outbox[v.sent : v.sent+n] {
				put.Blobs = append(put.Blobs, r.Blob)
			}
			v.sent += n
			say(put)
		}
	}
}

func (c *Client) check() {
	n := 0
	for _, v := range c.order {
		n += len(v.outbox)
		step.Assert(v.sent <= max(len(v.outbox), 1) && (v.state == inForce || len(v.outbox) == 0), "tower client: %v has sent %d of %d", v.channel, v.sent, len(v.outbox))
		step.Assert(v.state != inForce || v.next() <= v.terms.Blobs, "tower client: %v has %d blobs of %d", v.channel, v.next(), v.terms.Blobs)
	}
	step.Assert(n == c.waiting && len(c.order) == len(c.sessions), "tower client: %d blobs wait, counted %d", n, c.waiting)
	step.Assert(c.queued <= MaxQueued, "tower client: %d commitments are queued", c.queued)
}
