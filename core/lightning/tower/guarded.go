package tower

import (
	"errors"
	"fmt"
	"slices"

	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/step"
)

// A guarded is a channel: its sessions, of which the last one takes what comes
// next, and what waits until there is one that does.
type guarded struct {
	channel  ChannelID
	sessions []*cover
	queue    []Guard // without secrets
	head     uint64  // the number of queue[0]
	secrets  *commit.Secrets
	refusal  bool // the tower gives it no more sessions
	leaves   bool
}

func (d *guarded) last() *cover {
	if len(d.sessions) == 0 {
		return nil
	}
	return d.sessions[len(d.sessions)-1]
}

// first reports whether nothing of the sessions before v waits for the tower.
func (v *cover) first() bool {
	for _, o := range v.sessions {
		if o == v {
			break
		}
		if len(o.outbox) > 0 {
			return false
		}
	}
	return true
}

// cover begins a channel's first session. Asking again is harmless.
func (c *Client) cover(m Cover, fx *step.Effects) {
	d := c.channels[m.Channel]
	if d == nil {
		if len(c.channels) == MaxChannels {
			fail(m.Channel, fmt.Errorf("%w: %d channels are guarded, which is the limit", ErrNoSession, MaxChannels), fx)
			return
		}
		d = &guarded{channel: m.Channel}
		c.channels[m.Channel] = d
		c.begin(d, fx)
	}
	if m.Secrets != nil {
		d.secrets = m.Secrets
	}
	c.drain(d, fx)
}

// begin asks for one session more.
func (c *Client) begin(d *guarded, fx *step.Effects) {
	v := &cover{guarded: d}
	if last := d.last(); last != nil {
		v.nth = last.nth + 1
	}
	v.id = c.session(d.channel, v.nth)
	c.add(v)
	fx.Put = append(fx.Put, v.record())
}

func (c *Client) add(v *cover) {
	v.sessions = append(v.sessions, v)
	c.sessions[v.id] = v
	c.order = append(c.order, v)
	c.waiting += len(v.outbox)
}

// guard seals what punishes one revoked commitment, or queues it.
func (c *Client) guard(g Guard, fx *step.Effects) error {
	d := c.channels[g.Channel]
	if d == nil || d.leaves {
		return ErrNoSession
	}
	d.secrets = &g.Secrets
	v := d.last()
	switch {
	case v == nil:
		return ErrNoSession
	case len(d.queue) > 0 || v.state == asking:
		return c.enqueue(d, g, fx)
	case v.state == leaving:
		return ErrNoSession
	}
	err := c.seal(v, &g, fx)
	if errors.Is(err, ErrFull) && c.renew(d, fx) {
		return c.enqueue(d, g, fx)
	}
	return err
}

// renew asks for a session that follows a full one.
func (c *Client) renew(d *guarded, fx *step.Effects) bool {
	v := d.last()
	if d.refusal || v.next() == 0 || v.nth+1 >= MaxRenewals || len(c.sessions) >= MaxPeerSessions {
		return false
	}
	c.begin(d, fx)
	return true
}

func (c *Client) seal(v *cover, g *Guard, fx *step.Effects) error {
	if c.waiting >= MaxOutbox {
		return ErrBacklog
	}
	point, err := commit.PointOf(g.Revealed)
	if err != nil {
		return err
	}
	k, err := g.Params.Build(commit.Remote, point, g.State)
	if err != nil {
		return err
	}
	j, err := NewJustice(v.terms, &g.Params, k, *v.secrets, g.Revealed, c.Payout)
	if err != nil {
		return err
	}
	if left := v.terms.Blobs - min(v.next(), v.terms.Blobs); j.parts() > int(left) {
		return fmt.Errorf("%w: it has room for %d blobs, and %d are needed", ErrFull, left, j.parts())
	}
	blobs := j.Seal(k.ID)
	for _, b := range blobs {
		r := ready{b, g.State.Number}
		fx.Put = append(fx.Put, v.blobRecord(v.next(), r))
		v.outbox = append(v.outbox, r)
	}
	c.waiting += len(blobs)
	return nil
}

// enqueue keeps a commitment until there is a session for it.
func (c *Client) enqueue(d *guarded, g Guard, fx *step.Effects) error {
	if c.queued >= MaxQueued {
		return ErrBacklog
	}
	g.Secrets = commit.Secrets{}
	fx.Put = append(fx.Put, d.queueRecord(d.head+uint64(len(d.queue)), &g))
	d.queue = append(d.queue, g)
	c.queued++
	return nil
}

// drain seals what waits, as far as the last session goes.
func (c *Client) drain(d *guarded, fx *step.Effects) {
	for len(d.queue) > 0 && d.secrets != nil && d.last().state == inForce {
		err := c.seal(d.last(), &d.queue[0], fx)
		if errors.Is(err, ErrFull) && c.renew(d, fx) {
			return
		}
		if err != nil {
			fail(d.channel, fmt.Errorf("commitment %d: %w", d.queue[0].State.Number, err), fx)
		}
		c.dequeue(d, fx)
	}
}

func (c *Client) dequeue(d *guarded, fx *step.Effects) {
	fx.Put = append(fx.Put, step.Record{Key: d.queueKey(d.head)})
	d.queue[0] = Guard{}
	d.queue = d.queue[1:]
	d.head++
	c.queued--
}

// refused is for a channel that the tower gives no more sessions: what waits for
// one stays without a guard.
func (c *Client) refused(d *guarded, fx *step.Effects) {
	d.refusal = true
	for len(d.queue) > 0 {
		fail(d.channel, fmt.Errorf("commitment %d: %w", d.queue[0].State.Number, ErrNoSession), fx)
		c.dequeue(d, fx)
	}
}

func (c *Client) forget(id ChannelID, fx *step.Effects) {
	d := c.channels[id]
	if d == nil {
		return
	}
	d.leaves = true
	for len(d.queue) > 0 {
		c.dequeue(d, fx)
	}
	for _, v := range d.sessions {
		c.leave(v, fx)
	}
}

// leave ends a session.
func (c *Client) leave(v *cover, fx *step.Effects) {
	if v.state == leaving {
		return
	}
	c.empty(v, len(v.outbox), fx)
	v.state, v.sent = leaving, 0
	fx.Put = append(fx.Put, v.record())
}

// empty forgets the first n blobs of an outbox.
func (c *Client) empty(v *cover, n int, fx *step.Effects) {
	for range n {
		fx.Put = append(fx.Put, step.Record{Key: v.blobKey(v.taken)})
		v.taken++
	}
	v.outbox = v.outbox[n:]
	v.sent = max(v.sent-n, 0)
	c.waiting -= n
}

// drop forgets a session, and with the last one the channel.
func (c *Client) drop(v *cover, fx *step.Effects) {
	c.empty(v, len(v.outbox), fx)
	fx.Put = append(fx.Put, step.Record{Key: v.key()})
	delete(c.sessions, v.id)
	same := func(o *cover) bool { return o == v }
	c.order = slices.DeleteFunc(c.order, same)
	v.guarded.sessions = slices.DeleteFunc(v.guarded.sessions, same)
	if len(v.sessions) == 0 {
		c.refused(v.guarded, fx)
		delete(c.channels, v.channel)
	}
}

// AtRisk is how many revoked commitments of a channel wait for the tower's word
// that it guards them.
func (c *Client) AtRisk(id ChannelID) (commitments int) {
	d := c.channels[id]
	if d == nil {
		return 0
	}
	for _, v := range d.sessions {
		for i := range v.outbox {
			if i == 0 || v.outbox[i].number != v.outbox[i-1].number {
				commitments++
			}
		}
	}
	return commitments + len(d.queue)
}
