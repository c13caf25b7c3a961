package light

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"github.com/btcsuite/btcd/btcutil/v2/bloom"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/step"
)

// The filter has one size and one tweak for the life of the store, and decoys
// that half fill it, however little is watched. So it matches one output in 512
// by chance, tells nothing of how many scripts there are, and is the same after a
// restart: two filters with different tweaks would match in common hardly
// anything but the truth.
//
// The decoys are made of a secret, because the tweak is not one: who knew them
// could tell which bits are not theirs.
const (
	bloomBytes  = 32 << 10 // of at most 36,000 (BIP 37)
	bloomHashes = 9
	bloomDecoys = 20_189 // 8 * bloomBytes * ln 2 / bloomHashes
	decoySize   = 20     // as a key's hash has

	// maxNoise bounds what false matches add to a peer's filter, which they do by
	// themselves (BLOOM_UPDATE_ALL), before it is loaded afresh.
	maxNoise = bloomDecoys / 8

	// spentRoom is how many coins that are spent for good stay in the filter: what
	// leaves it stands out, but what never leaves fills it.
	spentRoom = bloomDecoys / 8
)

// BloomWarning is shown to who uses BIP 37. A peer tries scripts of the chain on
// the filter; how many of 100,000 match is printed by
//
//	go test ./core/bitcoin/light -run TestBloomObserver -v
//
// One filter: ours and about 200 others, before and after a restart. Two filters
// with different tweaks would leave ours and one. What is added later stands out
// as much, to who has seen the filter before; and so does a script that was paid,
// whose output must be in the filter too: hardly any other has both.
const BloomWarning = "BIP 37 tells the peers which scripts are ours: of the others 1 in 512 matches the filter by chance, and hardly any once ours were paid or added later; use compact filters (p2p:) where peers have them"

// BloomFinds tells whether BIP 37 can find what pays a script: it must push data.
func BloomFinds(script []byte) bool { return len(pushed(script)) > 0 }

// pushed is the longest data that a script pushes, which is what a filter has of
// it.
func pushed(script []byte) (longest []byte) {
	all, err := txscript.PushedData(script)
	if err != nil {
		return nil
	}
	for _, data := range all {
		if len(data) > len(longest) {
			longest = data
		}
	}
	return longest
}

// loadFilter gives a peer the filter, if its own lacks something or has too much.
// An output is added by the peer itself when it tells of it, so a payment rarely
// takes a new filter.
func (c *Client) loadFilter(p *peer) {
	scripts := make(map[string]bool, len(c.scripts))
	lacks := p.bloom.scripts == nil || p.bloom.noise > maxNoise
	for s := range c.scripts {
		scripts[s] = BloomFinds([]byte(s)) // a store of the other mode may have some that it does not find
		lacks = lacks || scripts[s] && !p.bloom.scripts[s]
	}
	points := c.points()
	for o := range points {
		lacks = lacks || !p.bloom.points[o]
	}
	if !lacks {
		return
	}
	f := bloom.LoadFilter(wire.NewMsgFilterLoad(bytes.Clone(c.decoys()), bloomHashes, c.tweak, wire.BloomUpdateAll))
	for s, finds := range scripts {
		if finds {
			f.Add(pushed([]byte(s)))
		}
	}
	for o := range points {
		f.AddOutPoint(&o)
	}
	p.bloom.scripts, p.bloom.points, p.bloom.noise = scripts, points, 0
	c.send(p.name, f.MsgFilterLoad())
}

// points are the outputs that pay watched scripts. A spend is found by nothing
// else.
func (c *Client) points() map[wire.OutPoint]bool {
	points, spent := map[wire.OutPoint]bool{}, 0
	all := c.ledger.All()
	for i := len(all) - 1; i >= 0; i-- { // the newest of the spent ones stay
		for n, out := range all[i].Tx.TxOut {
			if c.scripts[string(out.PkScript)] == nil {
				continue
			}
			o := wire.OutPoint{Hash: all[i].ID, Index: uint32(n)}
			if _, depth := c.ledger.Spender(o); depth > Settled {
				if spent++; spent > spentRoom {
					continue
				}
			}
			points[o] = true
		}
	}
	return points
}

// decoys are the bits that are set whatever is watched. What they are made of is
// on disk before a filter is sent.
func (c *Client) decoys() []byte {
	step.Assert(!c.bloom.noise.IsZero(), "BIP 37 was chosen without Options.Noise")
	if !c.bloom.kept {
		c.bloom.kept = true
		value := append(binary.BigEndian.AppendUint32(nil, c.tweak), c.bloom.noise.Reveal()...)
		c.fx.Put = append(c.fx.Put, step.Record{Key: tweakKey, Value: value})
	}
	if c.bloom.base != nil {
		return c.bloom.base
	}
	c.bloom.base = make([]byte, bloomBytes)
	f := bloom.LoadFilter(wire.NewMsgFilterLoad(c.bloom.base, bloomHashes, c.tweak, wire.BloomUpdateNone))
	seed := c.bloom.noise.MAC("bloom decoys", nil)
	for i := range uint32(bloomDecoys) {
		sum := sha256.Sum256(binary.BigEndian.AppendUint32(seed[:len(seed):len(seed)], i))
		f.Add(sum[:decoySize])
	}
	return c.bloom.base
}
