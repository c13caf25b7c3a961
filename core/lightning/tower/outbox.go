package tower

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/step"
)

// Records of a client: a channel's sessions by their numbers, the blobs of each,
// and the commitments that wait for a session.
const (
	coverPrefix = ClientName + "/s/"
	readyPrefix = ClientName + "/b/"
	queuePrefix = ClientName + "/w/"
)

func (v *cover) key() string        { return fmt.Sprintf("%s%v/%08x", coverPrefix, v.channel, v.nth) }
func (v *cover) blobPrefix() string { return fmt.Sprintf("%s%v/%08x/", readyPrefix, v.channel, v.nth) }
func (v *cover) blobKey(n uint32) string {
	return fmt.Sprintf("%s%08x", v.blobPrefix(), n)
}
func (d *guarded) queueKey(n uint64) string {
	return fmt.Sprintf("%s%v/%016x", queuePrefix, d.channel, n)
}

func (v *cover) record() step.Record {
	b := codec.AppendUint([]byte{byte(v.state)}, v.taken)
	if v.state == inForce {
		b = v.terms.append(b)
	}
	return step.Record{Key: v.key(), Value: b}
}

func (v *cover) blobRecord(n uint32, r ready) step.Record {
	return step.Record{Key: v.blobKey(n), Value: r.append(codec.AppendUint(nil, r.number))}
}

func (d *guarded) queueRecord(n uint64, g *Guard) step.Record {
	b := g.State.Append(g.Params.Append(nil))
	return step.Record{Key: d.queueKey(n), Value: append(b, g.Revealed[:]...)}
}

// Durable is everything the client has on disk, in key order.
func (c *Client) Durable() (all []step.Record) {
	for _, v := range c.order {
		all = append(all, v.record())
		for i, r := range v.outbox {
			all = append(all, v.blobRecord(v.taken+uint32(i), r))
		}
	}
	for _, d := range c.channels {
		for i := range d.queue {
			all = append(all, d.queueRecord(d.head+uint64(i), &d.queue[i]))
		}
	}
	return inOrder(all)
}

// split reads "<channel>/<number>" as it stands in a key.
func split(name string) (id ChannelID, number uint64, err error) {
	channel, digits, _ := strings.Cut(name, "/")
	if n, e := hex.Decode(id[:], []byte(channel[:min(len(channel), 2*len(id))])); e != nil || n != len(id) {
		err = fmt.Errorf("channel %.70q is not 64 hex digits", channel)
	}
	number, e := strconv.ParseUint(digits, 16, 64)
	return id, number, errors.Join(err, e)
}

// LoadClient reads a client back.
func LoadClient(db step.Reader, o Options, secret keys.Secret) (*Client, error) {
	c, err := NewClient(o, secret)
	if err != nil {
		return nil, err
	}
	err = codec.Scan(db, coverPrefix, func(name string, r *codec.Reader) {
		id, nth, err := split(name)
		if err != nil || nth >= MaxRenewals {
			r.Fail(fmt.Errorf("session %d of a channel: %w", nth, errors.Join(err)))
			return
		}
		d := c.channels[id]
		if d == nil {
			d = &guarded{channel: id}
			c.channels[id] = d
		}
		v := &cover{guarded: d, nth: uint32(nth), id: c.session(id, uint32(nth)), state: state(r.U8()), taken: readCount(r)}
		if v.state >= states {
			r.Fail(fmt.Errorf("state %d is unknown", v.state))
		}
		if v.state == inForce {
			v.terms = readTerms(r)
		}
		d.leaves = v.state == leaving
		c.add(v)
	})
	if err != nil {
		return nil, err
	}
	for _, v := range c.order {
		err := codec.Scan(db, v.blobPrefix(), func(name string, r *codec.Reader) {
			if n, err := number(name); err != nil || n != v.next() {
				r.Fail(fmt.Errorf("blob %.20q follows %d others: %w", name, v.next(), errors.Join(err)))
			}
			b := ready{number: r.Uvarint()}
			b.read(r)
			v.outbox = append(v.outbox, b)
			c.waiting++
		})
		if err != nil {
			return nil, err
		}
	}
	return c, codec.Scan(db, queuePrefix, func(name string, r *codec.Reader) {
		id, n, err := split(name)
		d := c.channels[id]
		switch {
		case err != nil:
			r.Fail(err)
			return
		case d == nil:
			r.Fail(errors.New("a commitment of a channel that is not guarded waits"))
			return
		case len(d.queue) == 0:
			d.head = n
		case n != d.head+uint64(len(d.queue)):
			r.Fail(fmt.Errorf("commitment %d follows %d others, of which the first is %d", n, len(d.queue), d.head))
		}
		g := Guard{Channel: id, Params: commit.ReadChannel(r), State: commit.ReadState(r)}
		r.Fill(g.Revealed[:])
		d.queue = append(d.queue, g)
		c.queued++
	})
}
