package light

import (
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/core/bitcoin/header"
)

// An interval is hashes of blocks, the first of them at a height. Those that are
// read from disk are header.Interval many, or none if they have not come yet.
type interval struct {
	first  int32
	hashes []chainhash.Hash
	vital  bool // we cannot do without them
}

func (i *interval) at(height int32) (hash chainhash.Hash, ok bool) {
	if n := int(height - i.first); n >= 0 && n < len(i.hashes) {
		return i.hashes[n], true
	}
	return hash, false
}

// hashAt is the hash of the block at a height, if it is at hand. If it is not, it
// is fetched from disk.
func (c *Client) hashAt(height int32) (hash chainhash.Hash, ok bool) { return c.hashOf(height, true) }

// hashOf is hashAt; vital means that it is for ourselves and must be on disk.
func (c *Client) hashOf(height int32, vital bool) (hash chainhash.Hash, ok bool) {
	if hash, ok = c.chain.Hash(height); ok {
		return hash, true
	}
	number := (height - 1) / header.Interval
	switch first := number*header.Interval + 1; {
	case c.disk != nil && c.disk.first == first:
		c.disk.vital = c.disk.vital || vital
		return c.disk.at(height)
	case c.disk != nil && len(c.disk.hashes) == 0:
		return hash, false // first come those that were asked for
	default:
		c.disk = &interval{first: first, vital: vital}
		c.send(Disk, Fetch{number})
		return hash, false
	}
}

// fetched takes hashes from disk. Callers' blocks are found at once, because
// others may need another interval next.
func (c *Client) fetched(f Fetched) {
	d := c.disk
	if d == nil || d.first != f.Interval*header.Interval+1 || len(d.hashes) > 0 {
		return
	}
	if len(f.Hashes) == header.Interval {
		d.hashes = f.Hashes
		for _, w := range c.wanted {
			if !w.known {
				w.hash, w.known = d.at(w.height)
			}
		}
		return
	}
	c.disk = nil
	c.wanted = slices.DeleteFunc(c.wanted, func(w *wanted) bool {
		if w.known || (w.height-1)/header.Interval != f.Interval {
			return false
		}
		c.give(w.height, nil, ErrOlder)
		return true
	})
	if d.vital { // the disk has lost it, or the birthday was higher then
		c.trouble = fmt.Errorf("the hashes of blocks from height %d on are not on disk: starting again", d.first)
		c.restart()
	}
}
