package light

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/bitcoin/ledger"
	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/codec"
	"coinop.dev/core/step"
)

// Records. Nearly all are lazy: what a crash loses is learned again from the
// peers, and nobody was promised anything.
const (
	headersPrefix = Prefix + "header/"
	hashesPrefix  = Prefix + "hashes/" // number of an interval → its hashes and their sum
	marksPrefix   = Prefix + "mark/"   // number of an interval → filter header below it
	scriptsPrefix = Prefix + "script/"
	minedPrefix   = Prefix + "tx/"
	scannedKey    = Prefix + "scanned"
	filterKey     = Prefix + "filter" // height → the last filter header
	tweakKey      = Prefix + "tweak"  // and noise
	aloneKey      = Prefix + "alone"
)

// manyRecords is how many records of one step are put at once instead of lazily:
// while a long chain is fetched they would be what fills the memory.
const manyRecords = 64

// HashesKey is where Fetch finds the hashes of an interval.
func HashesKey(number int32) string { return fmt.Sprintf("%s%08x", hashesPrefix, number) }

// sumSize is the bytes of the sum that ends an interval's hashes: nothing else
// tells that one is broken, and for asking in vain peers would be blamed.
const sumSize = 4

func hashesSum(raw []byte) []byte { return chainhash.HashB(raw)[:sumSize] }

// ReadHashes reads what is there; nothing if that is not an interval's.
func ReadHashes(raw []byte) []chainhash.Hash {
	const size = header.Interval * chainhash.HashSize
	if len(raw) != size+sumSize || !bytes.Equal(raw[size:], hashesSum(raw[:size])) {
		return nil
	}
	list := make([]chainhash.Hash, header.Interval)
	for i := range list {
		copy(list[i][:], raw[i*chainhash.HashSize:])
	}
	return list
}

func markKey(i int) string { return fmt.Sprintf("%s%08x", marksPrefix, i) }

func scriptKey(s []byte) string {
	sum := chainhash.HashB(s)
	return scriptsPrefix + hex.EncodeToString(sum)
}

func minedKey(m ledger.Mined) string {
	return fmt.Sprintf("%s%08x/%08x", minedPrefix, m.Height, m.Index)
}

func (c *Client) put(key string, value []byte) {
	c.fx.Put = append(c.fx.Put, step.Record{Key: key, Value: value, Lazy: true})
}

// storeHashes keeps the hashes of the intervals that ended between two heights.
// Those that the chain has not any more are in kept.
func (c *Client) storeHashes(fork, tip int32, kept interval) {
	for number := fork / header.Interval; (number+1)*header.Interval <= tip; number++ {
		if (number+1)*header.Interval < c.o.Birthday {
			continue
		}
		raw := make([]byte, 0, header.Interval*chainhash.HashSize+sumSize)
		for h := number*header.Interval + 1; h <= (number+1)*header.Interval; h++ {
			hash, ok := c.chain.Hash(h)
			if !ok {
				hash, ok = kept.at(h)
			}
			step.Assert(ok, "hash of height %d is needed to keep an interval, and the tail begins at %d", h, c.chain.Base())
			raw = append(raw, hash[:]...)
		}
		// Not lazy, because it is read from disk, and what waits is not there yet.
		c.fx.Put = append(c.fx.Put, step.Record{Key: HashesKey(number), Value: append(raw, hashesSum(raw)...)})
	}
}

func (c *Client) putScript(s *script) {
	if s.brief {
		return // what it is watched for is not kept either
	}
	b := codec.AppendBytes(nil, s.script)
	c.put(scriptKey(s.script), codec.AppendUint(codec.AppendUint(b, s.since), s.next))
}

func (c *Client) unwatch(s *script) {
	delete(c.scripts, string(s.script))
	c.query.Remove(s.script)
	c.put(scriptKey(s.script), nil)
}

func (c *Client) putMined(m ledger.Mined) {
	b := codec.AppendBytes(nil, tx.Bytes(m.Tx))
	proof := merkle.Proof{Height: m.Height, Branch: m.Branch}
	c.put(minedKey(m), proof.Append(b))
}

func (c *Client) forget(m *ledger.Mined) { c.put(minedKey(*m), nil) }

// save puts what this step has changed.
func (c *Client) save() {
	for _, s := range c.unsaved {
		c.putScript(s)
	}
	c.unsaved = nil
	changes := c.chain.Changes(headersPrefix)
	for _, r := range changes {
		r.Lazy = len(changes) < manyRecords
		c.fx.Put = append(c.fx.Put, r)
	}
	f := c.believed()
	for i := 1; i < max(len(f.marks), len(c.savedMarks)); i++ {
		switch {
		case i >= len(f.marks):
			c.put(markKey(i), nil)
		case i >= len(c.savedMarks) || c.savedMarks[i] != f.marks[i]:
			c.put(markKey(i), f.marks[i][:])
		}
	}
	c.savedMarks = append(c.savedMarks[:0], f.marks...)
	if last := f.at(f.tip()); c.savedTip != last {
		c.savedTip = last
		c.put(filterKey, append(codec.AppendUint(nil, f.tip()), last[:]...))
	}
	if c.savedScan != c.scanned {
		c.savedScan = c.scanned
		c.put(scannedKey, codec.AppendUint(nil, c.scanned))
	}
}

// restart forgets the chain and begins with the first block; what was found is
// looked for again.
func (c *Client) restart() {
	c.chain = header.New(c.o.Params)
	c.filters.reset(c.o.Params)
	c.lookAgain()
	c.dispute, c.doubt, c.deep, c.disk, c.sync, c.synced = nil, nil, nil, nil, "", false
	c.suspect, c.reread = nil, nil
	for _, p := range c.peers {
		p.excuse()
		p.current, p.best, p.branch = false, 0, nil
		p.marksFor, p.marks, p.hashes, p.vetted, p.word, p.differs = 0, nil, nil, 1, 0, 0
	}
	c.wanted = slices.DeleteFunc(c.wanted, func(w *wanted) bool { return w.height == 0 })
	for _, w := range c.wanted {
		w.known, w.peer = false, ""
	}
}
