package node

import (
	"errors"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/graph"
	"coinop.dev/core/lightning/onion"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
)

// An incoming is what was inside the onion of an HTLC that was offered to us. It
// is the HTLC's note, so an onion is opened once, and never kept at the end of
// its way.
type incoming struct {
	bad     *onion.BadOnion // what we cannot read
	shared  [32]byte
	payload []byte
	next    *onion.Packet // nil: it is for us
}

func peel(key keys.Secret, hash [32]byte, p *onion.Packet) *incoming {
	peeled, err := onion.Peel(key, hash, p)
	if bad := (*onion.BadOnion)(nil); errors.As(err, &bad) {
		return &incoming{bad: bad}
	}
	return &incoming{shared: peeled.Shared, payload: peeled.Payload, next: peeled.Next}
}

const (
	noteBad = iota
	noteFinal
	noteForward
)

func (in *incoming) append(b []byte) []byte {
	if in.bad != nil {
		b = append(b, noteBad, byte(in.bad.Code>>8), byte(in.bad.Code))
		return append(b, in.bad.Hash[:]...)
	}
	kind := byte(noteFinal)
	if in.next != nil {
		kind = noteForward
	}
	b = append(append(b, kind), in.shared[:]...)
	b = codec.AppendBytes(b, in.payload)
	if in.next != nil {
		b = append(b, in.next[:]...)
	}
	return b
}

func readIncoming(note []byte) (*incoming, error) {
	r, in := codec.NewReader(note), new(incoming)
	switch kind := r.U8(); kind {
	case noteBad:
		in.bad = &onion.BadOnion{Code: r.U16()}
		r.Fill(in.bad.Hash[:])
	default:
		r.Fill(in.shared[:])
		in.payload = r.Bytes(onion.PayloadsSize, "payload")
		if kind == noteForward {
			in.next = new(onion.Packet)
			r.Fill(in.next[:])
		}
	}
	return in, r.Close()
}

// An outgoing is the note of an HTLC of ours: whose payment it is.
type outgoing struct {
	// A forward, of this HTLC of another channel's peer. Channels count from 1.
	from, id uint64
	// Our own payment, if from is 0.
	order   money.OrderID
	amount  money.Amount // of the order; the HTLC may be a part of it, with a fee
	attempt uint64       // the onion's session comes from it
	ref     uint64       // of the terms that prove it; 0: none
	place   int          // of the order in those terms
	keysend bool
	payload []byte // of the last hop
	path    []graph.Hop
}

func (o *outgoing) append(b []byte) []byte {
	b = codec.AppendUint(b, o.from)
	if o.from != 0 {
		return codec.AppendUint(b, o.id)
	}
	b = append(b, o.order[:]...)
	b = codec.AppendUint(b, uint64(o.amount))
	b = codec.AppendUint(b, o.attempt)
	b = codec.AppendUint(b, o.ref)
	b = codec.AppendUint(b, o.place)
	kind := byte(0)
	if o.keysend {
		kind = 1
	}
	b = append(b, kind)
	b = codec.AppendBytes(b, o.payload)
	b = codec.AppendUint(b, len(o.path))
	for i := range o.path {
		h := &o.path[i]
		b = append(b, h.Node[:]...)
		b = codec.AppendUint(b, uint64(h.SCID))
		b = codec.AppendUint(b, uint64(h.Amount))
		b = codec.AppendUint(b, h.Expiry)
	}
	return b
}

func readOutgoing(note []byte) (o outgoing, err error) {
	r := codec.NewReader(note)
	if o.from = r.Uvarint(); o.from != 0 {
		o.id = r.Uvarint()
		return o, r.Close()
	}
	r.Fill(o.order[:])
	o.amount = r.Amount()
	o.attempt, o.ref = r.Uvarint(), r.Uvarint()
	o.place = r.Int(maxBatch, "place")
	o.keysend = r.U8() == 1
	o.payload = r.Bytes(onion.PayloadsSize, "payload")
	o.path = make([]graph.Hop, r.Int(onion.MaxHops, "hops"))
	for i := range o.path {
		h := &o.path[i]
		r.Fill(h.Node[:])
		h.SCID = wire.SCID(r.Uvarint())
		h.Amount = r.Amount()
		h.Expiry = uint32(r.Uvarint())
	}
	return o, r.Close()
}
