// Package onion is BOLT 4: the onion that tells every hop of a payment its own
// part and nothing else, the payload in each layer, and the failures that come
// back.
//
//	origin                    hop                        final node
//	New ────────────────────▶ Peel ────────────────────▶ Peel, ParsePayload
//	Open ◀─────────────────── Obscure ◀───────────────── Failure.Seal
//
// Everything is a value computed from the arguments: the same onion and key
// always give the same layer. Whether an onion was seen before is for the
// caller to know.
package onion

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
)

// Sizes of an onion in bytes (BOLT 4, "Packet Structure").
const (
	PacketSize = 1366 // version, ephemeral key, payloads, HMAC

	// PayloadsSize is the room for all hops together. Each takes its payload,
	// the length of it and an HMAC.
	PayloadsSize = 1300
)

// MaxHops is the longest route that New builds and Open looks through: 1300
// bytes hold no more than 27 payloads of 15 bytes.
const MaxHops = 27

const (
	keyAt      = 1
	payloadsAt = keyAt + len(keys.Public{})
	macAt      = payloadsAt + PayloadsSize
	macSize    = PacketSize - macAt

	// leastPayload keeps clear of the lengths 0 and 1, which BOLT 4 reserves.
	leastPayload = 2
)

// version is the only packet version there is.
const version = 0

// A Packet is an onion as it travels in update_add_htlc.
type Packet [PacketSize]byte

func (p *Packet) key() *keys.Public             { return (*keys.Public)(p[keyAt:payloadsAt]) }
func (p *Packet) payloads() *[PayloadsSize]byte { return (*[PayloadsSize]byte)(p[payloadsAt:macAt]) }
func (p *Packet) mac() *[macSize]byte           { return (*[macSize]byte)(p[macAt:]) }
func (p *Packet) bad(code Code, err error) error {
	return &BadOnion{uint16(code), sha256.Sum256(p[:]), err}
}
func (p *Packet) sum(mu, assoc *[32]byte) [32]byte { return hmac(mu[:], p.payloads()[:], assoc[:]) }

// A Hop is one stop of the route and what is said to it: a TLV stream without
// its length.
type Hop struct {
	Node    keys.Public
	Payload []byte
	Table   *Table // of Node, or nil; the onion is the same, only sooner done
}

// size is the room that h takes of PayloadsSize.
func (h *Hop) size() int {
	prefix := 1
	if len(h.Payload) >= 0xfd {
		prefix = 3
	}
	return prefix + len(h.Payload) + macSize
}

// New wraps the payloads, that of the first hop outermost. assoc is the payment
// hash, without which no layer opens. session must be random and used for this
// onion only. The secrets are those shared with each hop, for Open. It refuses
// no hops, more than MaxHops, payloads of more than PayloadsSize in all and
// nodes that are no points (BOLT 4, "Packet Construction").
func New(session keys.Secret, assoc [32]byte, hops []Hop) (p *Packet, secrets [][32]byte, err error) {
	if len(hops) == 0 || len(hops) > MaxHops {
		return nil, nil, fmt.Errorf("onion for %d hops; it takes 1 to %d", len(hops), MaxHops)
	}
	total := 0
	for i := range hops {
		if size := len(hops[i].Payload); size < leastPayload {
			return nil, nil, fmt.Errorf("payload of hop %d is %d bytes; the least is %d", i, size, leastPayload)
		}
		total += hops[i].size()
	}
	if total > PayloadsSize {
		return nil, nil, fmt.Errorf("payloads need %d bytes; the limit is %d: take fewer hops or records", total, PayloadsSize)
	}
	p = &Packet{version}
	if secrets, err = agree(session, hops, p.key()); err != nil {
		return nil, nil, err
	}
	p.wrap(session, &assoc, hops, secrets)
	return p, secrets, nil
}

// wrap fills payloads and HMAC, from the last hop to the first.
func (p *Packet) wrap(session keys.Secret, assoc *[32]byte, hops []Hop, secrets [][32]byte) {
	field := p.payloads()[:]
	pad := derive("pad", (*[32]byte)(session.Reveal()))
	c := stream(&pad)
	c.XORKeyStream(field, field)
	for i := len(hops) - 1; i >= 0; i-- {
		size := hops[i].size()
		copy(field[size:], field)
		layer := codec.AppendBigSize(field[:0], uint64(len(hops[i].Payload)))
		layer = append(layer, hops[i].Payload...)
		copy(field[len(layer):], p.mac()[:])
		rho := derive("rho", &secrets[i])
		c := stream(&rho)
		c.XORKeyStream(field, field)
		if i == len(hops)-1 {
			fill(field, hops[:i], secrets)
		}
		mu := derive("mu", &secrets[i])
		*p.mac() = p.sum(&mu, assoc)
	}
}

// fill puts at the end of field what the hops will put there as each takes its
// layer off: zeros under its own stream and under those of the hops after it
// (BOLT 4, "Filler Generation").
func fill(field []byte, hops []Hop, secrets [][32]byte) {
	total := 0
	for i := range hops {
		total += hops[i].size()
	}
	filler := field[PayloadsSize-total:]
	clear(filler)
	const block = 64
	for i, done := 0, 0; i < len(hops); i++ {
		from := PayloadsSize - done
		done += hops[i].size()
		rho := derive("rho", &secrets[i])
		c := stream(&rho)
		c.SetCounter(uint32(from / block))
		var skip [block]byte
		c.XORKeyStream(skip[:from%block], skip[:from%block])
		c.XORKeyStream(filler[:done], filler[:done])
	}
}

// A Peeled onion is one layer less: what it said to us, the secret that seals
// failures, and what to pass on, which is nil at the final node.
type Peeled struct {
	Payload []byte
	Shared  [32]byte
	Next    *Packet
}

// Peel takes our layer off (BOLT 4, "Packet Forwarding"). At the final node it
// costs one multiplication of a point; the key for the next hop costs another.
// Every error is a *BadOnion.
func Peel(node keys.Secret, assoc [32]byte, p *Packet) (Peeled, error) {
	if p[0] != version {
		return Peeled{}, p.bad(CodeInvalidOnionVersion, fmt.Errorf("version is %d; we read %d", p[0], version))
	}
	shared, err := ecdh(node, p.key())
	if err != nil {
		return Peeled{}, p.bad(CodeInvalidOnionKey, err)
	}
	mu := derive("mu", &shared)
	if sum := p.sum(&mu, &assoc); subtle.ConstantTimeCompare(sum[:], p.mac()[:]) != 1 {
		return Peeled{}, p.bad(CodeInvalidOnionHMAC, errMAC)
	}
	rho := derive("rho", &shared)
	payload, next, err := p.open(&rho)
	if err != nil {
		return Peeled{}, p.bad(CodeInvalidOnionVersion, err)
	}
	if next != nil {
		if *next.key(), err = nextKey(p.key(), &shared); err != nil {
			return Peeled{}, p.bad(CodeInvalidOnionKey, err)
		}
	}
	return Peeled{Payload: payload, Shared: shared, Next: next}, nil
}

var errMAC = errors.New("HMAC does not match: a byte was changed, or it was made for another node or payment hash")

// open reads what is for us and, if that is not all, shifts the rest to the
// front of the next packet. The stream is read no further than needed.
func (p *Packet) open(rho *[32]byte) (payload []byte, next *Packet, err error) {
	field, c := p.payloads()[:], stream(rho)
	var head [3]byte // the longest length of a payload that fits
	c.XORKeyStream(head[:], field[:len(head)])
	r := codec.NewReader(head[:])
	size := r.BigSize()
	if r.Err() != nil || size < leastPayload || size > uint64(PayloadsSize-macSize-len(head)) {
		return nil, nil, fmt.Errorf("length of the payload (%x) is none that fits", head)
	}
	prefix := len(head) - r.Len()
	end := prefix + int(size) + macSize
	layer := make([]byte, end)
	copy(layer, head[:])
	c.XORKeyStream(layer[len(head):], field[len(head):end])
	payload = layer[prefix : end-macSize : end-macSize]
	mac := [macSize]byte(layer[end-macSize:])
	if mac == [macSize]byte{} {
		return payload, nil, nil
	}
	next = &Packet{version}
	copy(next.payloads()[:], field[end:])
	c.XORKeyStream(next.payloads()[:], next.payloads()[:])
	*next.mac() = mac
	return payload, next, nil
}

// BadOnion says why an onion did not peel. Code has the BADONION flag, so it
// travels in update_fail_malformed_htlc with Hash, the SHA256 of the onion.
type BadOnion struct {
	Code uint16
	Hash [32]byte
	err  error
}

func (e *BadOnion) Error() string { return fmt.Sprintf("%s: %v", Code(e.Code), e.err) }

func (e *BadOnion) Unwrap() error { return e.err }
