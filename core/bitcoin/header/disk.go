package header

import (
	"bytes"
	"fmt"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/codec"
	"coinop.dev/core/step"
)

// leaf is how many hashes of marks make a record on disk.
const leaf = 64

// The records of a chain: what it is as a whole, pages of headers as on the
// wire, leaves of marks.
const (
	stateKey = "chain"
	pageKey  = "page/"
	leafKey  = "leaf/"
)

// maxHeight is more than Bitcoin reaches in twenty thousand years.
const maxHeight = 1 << 30

// format is the first byte of the chain's record.
const format = 1

// disk is what the records on disk hold, given that all Changes were put.
type disk struct {
	base, tip int32 // tip is -1 if there is nothing
	dirty     int32 // the lowest height that differs; tip+1 if none does
}

// Changes returns what to put since the last call: a few kilobytes for a new
// block. Who does not put them must not use the chain any further.
func (c *Chain) Changes(prefix string) []step.Record {
	tip := c.tip()
	if c.disk.dirty > tip && c.disk.tip == tip {
		return nil
	}
	var records []step.Record
	for p := c.disk.base / page; p <= c.disk.tip/page && c.disk.tip >= 0; p++ {
		if p < c.base/page || p > tip/page {
			records = append(records, step.Record{Key: pageName(prefix, p)})
		}
	}
	for l := tip/Interval/leaf + 1; l <= c.disk.tip/Interval/leaf; l++ {
		records = append(records, step.Record{Key: leafName(prefix, l)})
	}
	for p := max(c.base, c.disk.dirty) / page; p <= tip/page; p++ {
		records = append(records, step.Record{Key: pageName(prefix, p), Value: c.page(p)})
	}
	// The first mark that may be new is the one at or after the lowest new height.
	for l := (c.disk.dirty + Interval - 1) / Interval / leaf; int(l)*leaf < len(c.marks); l++ {
		records = append(records, step.Record{Key: leafName(prefix, l), Value: c.leaf(l)})
	}
	records = append(records, step.Record{Key: prefix + stateKey, Value: c.state()})
	c.disk = disk{base: c.base, tip: tip, dirty: tip + 1}
	return records
}

func pageName(prefix string, p int32) string { return fmt.Sprintf("%s%s%08x", prefix, pageKey, p) }
func leafName(prefix string, l int32) string { return fmt.Sprintf("%s%s%08x", prefix, leafKey, l) }

func (c *Chain) page(p int32) []byte {
	var b []byte
	for h := p * page; h < (p+1)*page && h <= c.tip(); h++ {
		raw := c.raw(h)
		b = append(b, raw[:]...)
	}
	return b
}

func (c *Chain) leaf(l int32) []byte {
	var b []byte
	for _, hash := range c.marks[l*leaf : min(int(l+1)*leaf, len(c.marks))] {
		b = append(b, hash[:]...)
	}
	return b
}

func (c *Chain) state() []byte {
	b := []byte{format}
	b = codec.AppendUint(b, c.base)
	b = codec.AppendUint(b, c.tip())
	work, tip := c.work.bytes(), c.tail[len(c.tail)-1].hash
	b = append(b, work[:]...)
	b = append(b, c.prev[:]...)
	return append(b, tip[:]...)
}

// Load returns the chain whose Changes were put under prefix, or a new one if
// none were. It checks that the headers are whole and follow each other; their
// work was checked when they came.
func Load(r step.Reader, prefix string, p *chaincfg.Params) (*Chain, error) {
	c := New(p)
	raw, err := r.Get(prefix + stateKey)
	if err != nil || raw == nil {
		return c, err
	}
	if err := c.load(r, prefix, raw); err != nil {
		return nil, fmt.Errorf("header chain %q of %s: %w; remove its records to fetch it again", prefix, p.Name, err)
	}
	return c, nil
}

func (c *Chain) load(r step.Reader, prefix string, raw []byte) error {
	first, in := c.marks[0], codec.NewReader(raw)
	if v := in.U8(); v != format {
		return fmt.Errorf("format is %d; known is %d", v, format)
	}
	base, tip := in.Height(), in.Height()
	var work [32]byte
	var end chainhash.Hash
	in.Fill(work[:])
	in.Fill(c.prev[:])
	in.Fill(end[:])
	if err := in.Close(); err != nil {
		return err
	}
	if limit := int32(2*Tail) + 2*c.law.period; base%page != 0 || tip < base || tip-base > limit || tip > maxHeight {
		return fmt.Errorf("tail is from height %d to %d; it has at most %d headers and ends at most at %d", base, tip, limit, maxHeight)
	}
	c.base, c.work = base, number(work)
	c.disk = disk{base: base, tip: tip, dirty: tip + 1}
	if err := c.loadMarks(r, prefix, tip); err != nil {
		return err
	}
	if err := c.loadTail(r, prefix, tip); err != nil {
		return err
	}
	if hash := c.tail[len(c.tail)-1].hash; hash != end {
		return fmt.Errorf("tip is %v; its record says %v", hash, end)
	}
	for h := (base + Interval - 1) / Interval * Interval; h <= tip; h += Interval {
		if c.tail[h-base].hash != c.marks[h/Interval] {
			return fmt.Errorf("header at height %d is %v; its mark says %v", h, c.tail[h-base].hash, c.marks[h/Interval])
		}
	}
	if c.marks[0] != first {
		return fmt.Errorf("first block is %v; the network's is %v", c.marks[0], first)
	}
	return nil
}

func (c *Chain) loadMarks(r step.Reader, prefix string, tip int32) error {
	count := int(tip/Interval) + 1
	c.marks = nil // grows by what is there, whatever tip claims
	for l := int32(0); len(c.marks) < count; l++ {
		want := min(leaf, count-len(c.marks)) * chainhash.HashSize
		raw, err := get(r, leafName(prefix, l), want)
		if err != nil {
			return err
		}
		for ; len(raw) > 0; raw = raw[chainhash.HashSize:] {
			c.marks = append(c.marks, chainhash.Hash(raw[:chainhash.HashSize]))
		}
	}
	return nil
}

func (c *Chain) loadTail(r step.Reader, prefix string, tip int32) error {
	count, prev := int(tip-c.base)+1, c.prev
	c.tail = make([]entry, 0, count+page)
	var in bytes.Reader
	for p := c.base / page; len(c.tail) < count; p++ {
		want := min(page, count-len(c.tail)) * Size
		raw, err := get(r, pageName(prefix, p), want)
		if err != nil {
			return err
		}
		for in.Reset(raw); in.Len() > 0; {
			var h wire.BlockHeader
			if err := h.Deserialize(&in); err != nil {
				return err
			}
			if h.PrevBlock != prev {
				return fmt.Errorf("header at height %d follows %v, not %v", c.base+int32(len(c.tail)), h.PrevBlock, prev)
			}
			prev = Hash(&h)
			c.tail = append(c.tail, newEntry(&h, prev))
		}
	}
	return nil
}

func get(r step.Reader, key string, size int) ([]byte, error) {
	raw, err := r.Get(key)
	if err == nil && len(raw) != size {
		err = fmt.Errorf("record %s has %d bytes; wanted are %d", key, len(raw), size)
	}
	return raw, err
}
