package header

import (
	"fmt"
	"reflect"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// Equal tells where two chains differ in anything at all.
func Equal(a, b *Chain) error {
	x, y := *a, *b
	x.law, y.law = nil, nil
	if x.tail, y.tail = nil, nil; !reflect.DeepEqual(x, y) {
		return fmt.Errorf("base %d and %d, disk %v and %v, work %v and %v, %d and %d marks", a.base, b.base, a.disk, b.disk, a.work, b.work, len(a.marks), len(b.marks))
	}
	if !reflect.DeepEqual(a.tail, b.tail) {
		return fmt.Errorf("tails differ: %d and %d headers", len(a.tail), len(b.tail))
	}
	return nil
}

// A Judge begins in the middle of a chain, with the first header of a period.
type Judge struct{ j judge }

func NewJudge(p *chaincfg.Params, height int32, h *wire.BlockHeader) *Judge {
	j := &Judge{judge{law: newLaw(p)}}
	j.Take(height, h)
	return j
}

func (j *Judge) Take(height int32, h *wire.BlockHeader) {
	j.j.take(height, Hash(h), uint32(h.Timestamp.Unix()), h.Bits)
}

func (j *Judge) Next(h *wire.BlockHeader) error { return j.j.next(h, 1<<32) }

// Required is the bits of the next header.
func (j *Judge) Required(unix uint32) uint32 { return j.j.required(unix) }

// RetargetAfter is the bits that follow a period.
func RetargetAfter(p *chaincfg.Params, bits, first, last uint32) uint32 {
	j := judge{law: newLaw(p), bits: bits, time: last}
	j.first.time, j.first.bits = first, bits
	return j.retarget()
}

var (
	Expand  = expand
	Compact = compact
	Cost    = cost
	Scale   = scale
	FromBig = fromBig
)

// Tails is how many headers a chain holds now, and has room for.
func (c *Chain) Tails() (length, room int) { return len(c.tail), cap(c.tail) }

// Raw is a header as on the wire.
func Raw(h *wire.BlockHeader) (b [Size]byte) {
	put(&b, h)
	return b
}
