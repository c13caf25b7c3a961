package light

import (
	"cmp"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/filter"
)

// MaxSuspect bounds the blocks whose filter was in doubt and that are looked
// through whole.
const MaxSuspect = 64

// A dispute is about the filter of one block, of which peers have told different
// hashes.
type dispute struct {
	height   int32
	hash     chainhash.Hash // of the block, once it is at hand
	block    *wire.MsgBlock
	versions []*version
}

type version struct {
	hash  chainhash.Hash
	peers []string
	raw   []byte // the filter, once it has come
	odd   bool   // it lacks what an input seems to spend
}

// open begins a dispute about the filter at a height.
func (c *Client) open(height int32, i int, witnesses []*peer) {
	c.dispute = &dispute{height: height}
	for _, p := range witnesses {
		hash := p.hashes.list[i]
		at := slices.IndexFunc(c.dispute.versions, func(v *version) bool { return v.hash == hash })
		if at < 0 {
			at = len(c.dispute.versions)
			c.dispute.versions = append(c.dispute.versions, &version{hash: hash})
		}
		v := c.dispute.versions[at]
		v.peers = append(v.peers, p.name)
	}
}

// settle brings a dispute forward: the block, and the filter in each version,
// are fetched, and the block tells which cannot be its filter. It reports whether
// the dispute is over.
func (c *Client) settle() bool {
	d := c.dispute
	var ok bool
	if d.hash, ok = c.hashAt(d.height); !ok {
		return false // it is read from disk
	}
	d.versions = slices.DeleteFunc(d.versions, func(v *version) bool { return len(v.peers) == 0 })
	if len(d.versions) <= 1 {
		c.dispute = nil
		return true
	}
	ready := d.block != nil
	if d.block == nil {
		c.need(d.hash, d.height)
	}
	for _, v := range d.versions {
		if v.raw != nil {
			continue
		}
		ready = false
		if p := c.peers[v.peers[0]]; p.request == nil {
			c.ask(p, request{kind: forVersion, blocks: []chainhash.Hash{d.hash}}, wire.NewMsgGetCFilters(wire.GCSFilterRegular, uint32(d.height), &d.hash))
		}
	}
	if !ready {
		return false
	}
	c.dispute = nil
	c.rule(d)
	return true
}

// rule drops who told a filter that cannot be the block's. If that leaves more
// than one, none of them can hide an output, because all that is sure to be in
// the block is in each. Then what the inputs seem to spend counts, which is no
// proof, so nobody is banned for it; then how many peers tell a filter; then its
// elements. The block is looked through whole.
func (c *Client) rule(d *dispute) {
	var left []*version
	for _, v := range d.versions {
		if lies, how := filter.Disproves(v.raw, d.block); lies {
			for _, name := range slices.Clone(v.peers) {
				c.drop(name, true, "its filter of the block at height %d is false: %s", d.height, how)
			}
			continue
		}
		v.odd, _ = filter.Contradicts(v.raw, d.block)
		left = append(left, v)
	}
	if len(left) <= 1 {
		return
	}
	slices.SortStableFunc(left, func(a, b *version) int {
		switch {
		case a.odd != b.odd && b.odd:
			return -1
		case a.odd != b.odd:
			return 1
		}
		return cmp.Or(len(b.peers)-len(a.peers), len(b.raw)-len(a.raw))
	})
	c.suspects(d.height)
	for _, v := range left[1:] {
		for _, name := range slices.Clone(v.peers) {
			c.drop(name, false, "its filter of the block at height %d differs from that of %s, and the block does not tell which is true", d.height, left[0].peers[0])
		}
	}
}

// suspects has a block looked through whole, now if its filter was believed.
func (c *Client) suspects(height int32) {
	if slices.Contains(c.suspect, height) {
		return
	}
	if len(c.suspect) == MaxSuspect {
		c.suspect = slices.Delete(c.suspect, 0, 1)
	}
	c.suspect = append(c.suspect, height)
	if height <= c.scanned && len(c.reread) < MaxSuspect {
		c.reread = append(c.reread, height)
	}
}

// versionCame takes one filter that is disputed.
func (c *Client) versionCame(p *peer, msg *wire.MsgCFilter) {
	if msg.BlockHash != p.request.blocks[0] {
		return // of an answer that nobody waits for any more
	}
	p.request = nil
	d := c.dispute
	if d == nil {
		return
	}
	for _, v := range d.versions {
		if !slices.Contains(v.peers, p.name) {
			continue
		}
		if hash := filter.Hash(msg.Data); hash != v.hash {
			c.drop(p.name, true, "the hash of its filter at height %d is %v; before it said %v", d.height, hash, v.hash)
			return
		}
		v.raw = append([]byte{}, msg.Data...) // not nil
	}
}

// gone takes a peer out of the dispute.
func (c *Client) gone(p *peer) {
	if c.dispute == nil {
		return
	}
	for _, v := range c.dispute.versions {
		v.peers = slices.DeleteFunc(v.peers, func(name string) bool { return name == p.name })
	}
}
