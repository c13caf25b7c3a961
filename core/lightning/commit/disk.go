package commit

import (
	"fmt"
	"math"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
)

// Append writes what ReadChannel reads.
func (c *Channel) Append(b []byte) []byte {
	b = append(b, byte(c.Type), byte(c.Opener))
	b = append(b, c.Funding.Hash[:]...)
	b = codec.AppendUint(b, c.Funding.Index)
	b = codec.AppendUint(b, c.Capacity)
	return c.Remote.append(c.Local.append(b))
}

// ReadChannel reads what Append writes.
func ReadChannel(r *codec.Reader) (c Channel) {
	c.Type = Type(r.Int(int(Anchors), "channel type"))
	c.Opener = Owner(r.Int(int(Remote), "opener"))
	r.Fill(c.Funding.Hash[:])
	c.Funding = wire.OutPoint{Hash: c.Funding.Hash, Index: uint32(r.Int(math.MaxUint16, "output index"))}
	c.Capacity = readSats(r, "capacity")
	c.Local = readParty(r)
	c.Remote = readParty(r)
	return c
}

// maxSats bounds a value in satoshi: all the bitcoin there can ever be.
const maxSats = 21_000_000 * 100_000_000

func readSats(r *codec.Reader, what string) int64 { return int64(r.Uint(maxSats, what)) }

func (p *Party) append(b []byte) []byte {
	for _, k := range p.Basepoints.all() {
		b = append(b, k[:]...)
	}
	b = codec.AppendUint(b, p.Dust)
	return codec.AppendUint(b, uint32(p.Delay))
}

func readParty(r *codec.Reader) (p Party) {
	for _, k := range p.Basepoints.all() {
		r.Fill(k[:])
	}
	p.Dust = readSats(r, "dust limit")
	p.Delay = uint16(r.Int(math.MaxUint16, "delay"))
	return p
}

func (b *Basepoints) all() []*keys.Public {
	return []*keys.Public{&b.Funding, &b.Revocation, &b.Payment, &b.Delayed, &b.HTLC}
}

// Append writes what ReadState reads.
func (s *State) Append(b []byte) []byte {
	b = codec.AppendUint(b, s.Number)
	b = codec.AppendUint(b, s.FeeRate)
	b = codec.AppendUint(b, s.Local)
	b = codec.AppendUint(b, s.Remote)
	b = codec.AppendUint(b, len(s.HTLCs))
	for i := range s.HTLCs {
		b = s.HTLCs[i].Append(b)
	}
	return b
}

// ReadState reads what Append writes.
func ReadState(r *codec.Reader) (s State) {
	if s.Number = r.Uvarint(); s.Number > MaxNumber {
		r.Fail(fmt.Errorf("commitment number is %d; the limit is %d", s.Number, uint64(MaxNumber)))
	}
	s.FeeRate = int64(r.Uint(uint64(MaxFeeRate), "fee rate"))
	s.Local, s.Remote = r.Amount(), r.Amount()
	for range r.Int(MaxHTLCs, "number of HTLCs") {
		if r.Err() != nil {
			break
		}
		s.HTLCs = append(s.HTLCs, ReadHTLC(r))
	}
	return s
}

// Append writes what ReadHTLC reads.
func (h *HTLC) Append(b []byte) []byte {
	ours := byte(0)
	if h.Ours {
		ours = 1
	}
	b = append(b, ours)
	b = codec.AppendUint(b, h.Amount)
	b = append(b, h.Hash[:]...)
	return codec.AppendUint(b, h.Expiry)
}

// ReadHTLC reads what Append writes.
func ReadHTLC(r *codec.Reader) (h HTLC) {
	h.Ours = r.Int(1, "direction") == 1
	h.Amount = r.Amount()
	r.Fill(h.Hash[:])
	h.Expiry = uint32(r.Uint(math.MaxUint32, "expiry"))
	return h
}
