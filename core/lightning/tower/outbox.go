package tower

import (
	"encoding/hex"
	"errors"
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/step"
)

// Records of a client: a channel's session, and its blobs by their numbers.
const (
	coverPrefix = ClientName + "/s/"
	readyPrefix = ClientName + "/b/"
)

func (v *cover) key() string             { return coverPrefix + v.channel.String() }
func (v *cover) blobKey(n uint32) string { return fmt.Sprintf("%s%v/%08x", readyPrefix, v.channel, n) }

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

// Durable is everything the client has on disk, in key order.
func (c *Client) Durable() (all []step.Record) {
	for _, v := range c.order {
		all = append(all, v.record())
		for i, r := range v.outbox {
			all = append(all, v.blobRecord(v.taken+uint32(i), r))
		}
	}
	return inOrder(all)
}

// LoadClient reads a client back.
func LoadClient(db step.Reader, o Options, secret keys.Secret) (*Client, error) {
	c, err := NewClient(o, secret)
	if err != nil {
		return nil, err
	}
	err = codec.Scan(db, coverPrefix, func(name string, r *codec.Reader) {
		v := &cover{}
		if n, err := hex.Decode(v.channel[:], []byte(name)); err != nil || n != len(v.channel) {
			r.Fail(fmt.Errorf("channel %.70q is not 64 hex digits", name))
			return
		}
		v.id, v.state, v.taken = c.session(v.channel), state(r.U8()), readCount(r)
		if v.state >= states {
			r.Fail(fmt.Errorf("state %d is unknown", v.state))
		}
		if v.state == inForce {
			v.terms = readTerms(r)
		}
		c.add(v)
	})
	if err != nil {
		return nil, err
	}
	for _, v := range c.order {
		err := codec.Scan(db, readyPrefix+v.channel.String()+"/", func(name string, r *codec.Reader) {
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
	return c, nil
}
