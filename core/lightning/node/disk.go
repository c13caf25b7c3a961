package node

import (
	"fmt"
	"slices"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/onion"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// The node's own records; those of channels are under channel.Channels.
//
//	ln/head    numbers that are never used twice
//	ln/d/<n>   the last orders that were paid
//	ln/e/<n>   the last payments that were taken
//	ln/b/<n>   terms that prove orders
//	ln/i/<hash> invoices whose hash somebody else chose
//	ln/h/<hash> payments that are held, and what the till has said
//	ln/a       channels that were opened automatically
//	ln/k, ln/s/<peer> backups: the number of ours, and those of peers (backup.go)
const recHead = "ln/head"

func (n *Node) head() step.Record {
	b := codec.AppendUint([]byte(nil), n.next)
	b = codec.AppendUint(b, n.nextRef)
	return step.Record{Key: recHead, Value: codec.AppendUint(b, n.nextAttempt)}
}

// Load reads a node back.
func Load(disk step.Reader, key keys.Secret, c Config) (*Node, error) {
	n := New(key, c)
	raw, err := disk.Get(recHead)
	if err != nil {
		return nil, err
	}
	if raw != nil {
		r := codec.NewReader(raw)
		n.next, n.nextRef, n.nextAttempt = r.Uvarint(), r.Uvarint(), r.Uvarint()
		if err := r.Close(); err != nil {
			return nil, fmt.Errorf("record %s: %w", recHead, err)
		}
	}
	for _, load := range []func(step.Reader) error{n.loadBatches, n.loadHolds, n.loadArrived, n.loadPaid, n.loadTaken, n.loadChannels, n.loadClaims, n.loadBackups, n.loadAuto} {
		if err := load(disk); err != nil {
			return nil, err
		}
	}
	n.loadPayments()
	return n, nil
}

func (n *Node) loadPaid(disk step.Reader) error {
	if err := n.paid.load(disk, readSettled); err != nil {
		return err
	}
	for _, s := range n.paid.by {
		if t := n.batches[s.ref]; t != nil {
			t.users++
		}
	}
	return nil
}

func (n *Node) loadTaken(disk step.Reader) error { return n.taken.load(disk, readTaken) }

func (n *Node) loadBatches(disk step.Reader) (fault error) {
	err := disk.Scan(recTerms, func(key string, value []byte) bool {
		t := new(terms)
		if _, fault = fmt.Sscanf(strings.TrimPrefix(key, recTerms), "%016x", &t.ref); fault == nil {
			t.Batch, fault = readBatch(slices.Clone(value))
		}
		if fault != nil {
			fault = fmt.Errorf("record %s: %w", key, fault)
			return false
		}
		n.batches[t.ref] = t
		return true
	})
	if err != nil {
		return err
	}
	return fault
}

func (n *Node) loadHolds(disk step.Reader) (fault error) {
	err := disk.Scan(recHold, func(key string, value []byte) bool {
		var h *hold
		if h, fault = readHold(value); fault != nil {
			fault = fmt.Errorf("record %q: %w", key, fault)
			return false
		}
		n.holds[h.Hash] = h
		return true
	})
	if err != nil {
		return err
	}
	return fault
}

func (n *Node) loadArrived(disk step.Reader) (fault error) {
	err := disk.Scan(recArrived, func(key string, value []byte) bool {
		var a *arrived
		if a, fault = readArrived(value); fault != nil {
			fault = fmt.Errorf("record %q: %w", key, fault)
			return false
		}
		n.arrived[a.hash], n.holding[a.t.order] = a, a.hash
		return true
	})
	if err != nil {
		return err
	}
	return fault
}

func (n *Node) loadChannels(disk step.Reader) error {
	var indices []uint64
	err := disk.Scan(channel.Channels, func(key string, _ []byte) bool {
		var i uint64
		rest := strings.TrimPrefix(key, channel.Channels)
		if _, err := fmt.Sscanf(rest, "%08x/", &i); err == nil && strings.HasSuffix(rest, "/t") {
			indices = append(indices, i)
		}
		return true
	})
	if err != nil {
		return err
	}
	for _, i := range indices {
		c, err := channel.Load(disk, i, n.secretOf(i))
		if err != nil {
			return err
		}
		n.add(c)
	}
	return nil
}

// loadPayments finds what is in flight: the HTLCs say whose they are.
func (n *Node) loadPayments() {
	for _, c := range n.ordered() {
		ours, _ := c.HTLCs()
		for _, h := range ours {
			o, err := readOutgoing(h.Note)
			step.Assert(err == nil, "lightning: the note of HTLC %d: %v", h.ID, err)
			if h.Stage == channel.Signed && c.Status() < channel.Closing {
				h.Onion, h.Derived = n.onionAgain(&o, h), true
			}
			if _, done := n.paid.by[o.order]; o.from != 0 || done || c.Decided(h) {
				continue
			}
			if p := n.paying[o.order]; p != nil {
				p.parts++
				continue
			}
			n.revive(&o, h)
			if t := n.batches[o.ref]; t != nil {
				t.users++
			}
		}
	}
}

// onionAgain makes the onion of an HTLC of ours that the peer may not have: of a
// payment of our own it is computed, of a forward it is inside the other one.
func (n *Node) onionAgain(o *outgoing, h *channel.HTLC) *[wire.OnionSize]byte {
	if o.from == 0 {
		p, _, err := onion.New(n.session(o), h.Hash, o.hops(h.Expiry, nil))
		step.Assert(err == nil, "lightning: the onion of HTLC %d cannot be made again: %v", h.ID, err)
		return (*[wire.OnionSize]byte)(p)
	}
	c := n.channels[o.from]
	if c == nil || c.Incoming(o.id) == nil {
		// Its channel has ended on the chain and is forgotten: nobody waits for
		// this payment any more, and the peer will fail what it cannot read.
		return new([wire.OnionSize]byte)
	}
	in, err := readIncoming(c.Incoming(o.id).Note)
	step.Assert(err == nil && in.next != nil, "lightning: the note of HTLC %d: %v", o.id, err)
	return (*[wire.OnionSize]byte)(in.next)
}

// revive is the payment of an HTLC. After a restart only the HTLC knows of it.
func (n *Node) revive(o *outgoing, h *channel.HTLC) *payment {
	p := n.paying[o.order]
	if p != nil {
		return p
	}
	last := o.path[len(o.path)-1]
	p = &payment{Order: money.Order{ID: o.order, Amount: o.amount, To: Scheme + ":"}, tries: 1, hash: h.Hash, payee: last.Node, delta: last.Expiry, parts: 1, place: o.place}
	p.maxFee = n.MaxFeeBase + p.Amount/1_000_000*money.Amount(n.MaxFeePPM)
	if inner, err := onion.ParsePayload(o.payload); err == nil {
		p.secret, p.meta, p.keysend, p.mpp = inner.Secret, inner.Metadata, inner.Keysend, inner.Secret != [32]byte{}
	}
	p.terms = n.batches[o.ref]
	n.paying[o.order], n.byHash[h.Hash] = p, p
	return p
}

// Durable is everything the node has on disk that a restart reads.
func (n *Node) Durable() (records []step.Record) {
	if n.next > 1 {
		records = append(records, n.head())
	}
	for _, c := range n.ordered() {
		records = append(records, c.Durable()...)
		if c.claim != nil {
			records = append(records, c.claim.Durable()...)
		}
	}
	for seq := n.paid.seq - uint64(len(n.paid.keys)); seq < n.paid.seq; seq++ {
		records = append(records, step.Record{Key: n.paid.key(seq), Value: n.paid.by[n.paid.keys[seq%Keep]].record()})
	}
	for seq := n.taken.seq - uint64(len(n.taken.keys)); seq < n.taken.seq; seq++ {
		records = append(records, step.Record{Key: n.taken.key(seq), Value: n.taken.by[n.taken.keys[seq%Keep]].record()})
	}
	for _, hash := range sortedHashes(n.holds) {
		records = append(records, step.Record{Key: holdKey(hash), Value: n.holds[hash].record()})
	}
	for _, hash := range sortedHashes(n.arrived) {
		records = append(records, n.arrived[hash].record())
	}
	if len(n.auto.spent) > 0 {
		records = append(records, n.auto.record())
	}
	return append(records, n.backups.durable()...)
}
