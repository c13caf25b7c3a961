package light

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/bitcoin/ledger"
	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/step"
)

// Load reads a client that was kept, or returns a new one. The error is the
// reader's: records that are broken, or do not fit together, which is what a
// disk leaves that lost some, cost no more than learning again what they held.
// Headers are fetched from the first block on, scripts are watched when somebody
// asks again, and blocks are looked through again from below the first gap on.
// That a transaction's record is missing altogether cannot be seen.
func Load(r step.Reader, o Options) (*Client, error) {
	c, disk := New(o), &reader{Reader: r}
	var err error
	if c.chain, err = header.Load(disk, headersPrefix, o.Params); err != nil {
		c.chain = header.New(o.Params)
		c.broken("headers", err)
	}
	c.loadMarks(disk)
	c.loadScanned(disk)
	c.loadMined(disk)
	c.ledger.Rise(c.scanned)
	c.loadScripts(disk)
	c.loadBloom(disk)
	return c, disk.err
}

// A reader remembers its first error, so that what it could not read is told
// from what is broken.
type reader struct {
	step.Reader
	err error
}

func (r *reader) Get(key string) ([]byte, error) {
	value, err := r.Reader.Get(key)
	if r.err == nil {
		r.err = err
	}
	return value, err
}

func (r *reader) Scan(prefix string, yield func(key string, value []byte) bool) error {
	err := r.Reader.Scan(prefix, yield)
	if r.err == nil {
		r.err = err
	}
	return err
}

// get is what a record holds; nil if there is none.
func (r *reader) get(key string) []byte {
	value, _ := r.Get(key)
	return value
}

// broken notes why something is learned again.
func (c *Client) broken(what string, err error) {
	c.trouble = fmt.Errorf("%s on disk are broken, so they are learned again: %w", what, err)
}

// outdate has a record deleted with the next step, which cannot be used.
func (c *Client) outdate(key string) { c.outdated = append(c.outdated, key) }

// discard deletes them, before the step puts anything under the same key.
func (c *Client) discard() {
	for _, key := range c.outdated {
		c.put(key, nil)
	}
	c.outdated = nil
}

// loadMarks reads the filter headers that were agreed about: the checkpoints up
// to the first that is missing, and the last header as a doubt of what comes
// instead of it.
func (c *Client) loadMarks(r *reader) {
	tip, _ := c.chain.Tip()
	r.Scan(marksPrefix, func(key string, value []byte) bool {
		// The first one is not kept, as everybody can make it.
		if i := len(c.filters.marks); key == markKey(i) && i*header.Interval <= int(tip) && len(value) == chainhash.HashSize {
			c.filters.mark(chainhash.Hash(value))
		} else {
			c.outdate(key)
		}
		return true
	})
	c.savedMarks = slices.Clone(c.filters.marks)
	d := codec.NewReader(r.get(filterKey))
	height := d.Height()
	var hash chainhash.Hash
	d.Fill(hash[:])
	if d.Close() == nil && height <= tip {
		c.savedTip = hash
		c.remembered(height, hash)
	}
}

// loadScanned reads how far blocks were looked through.
func (c *Client) loadScanned(r *reader) {
	tip, _ := c.chain.Tip()
	d := codec.NewReader(r.get(scannedKey))
	height := d.Height()
	c.savedScan = -1
	if d.Close() == nil {
		c.savedScan = height
		c.scanned = max(c.scanned, min(height, tip))
	}
}

// loadMined reads the transactions that were found. If one is broken, those
// above it go too, and are found again.
func (c *Client) loadMined(r *reader) {
	var all []ledger.Mined
	below := max(0, c.o.Birthday-1)
	r.Scan(minedPrefix, func(key string, value []byte) bool {
		m, err := readMined(value)
		if err == nil && minedKey(m) != key {
			err = fmt.Errorf("it is of %s", minedKey(m))
		}
		if err != nil {
			c.broken("transactions", fmt.Errorf("record %s: %w", key, err))
			var height, index int32
			if n, _ := fmt.Sscanf(key, minedPrefix+"%08x/%08x", &height, &index); n < 2 || height < 1 {
				height = 1
			}
			c.scanned = max(below, min(c.scanned, height-1))
			c.outdate(key)
			return true
		}
		all = append(all, m)
		return true
	})
	for _, m := range all {
		if m.Height > c.scanned {
			c.outdate(minedKey(m))
			continue
		}
		c.ledger.Add(m)
	}
}

func readMined(value []byte) (m ledger.Mined, err error) {
	d := codec.NewReader(value)
	raw := bytes.Clone(d.Bytes(tx.MaxSize, "transaction"))
	proof := merkle.ReadProof(d)
	if err := d.Close(); err != nil {
		return m, err
	}
	m = ledger.Mined{Height: proof.Height, Index: int32(proof.Branch.Index), Branch: proof.Branch}
	if m.Tx, err = tx.Parse(raw); err == nil {
		m.ID = m.Tx.TxHash()
	}
	return m, err
}

// loadScripts reads what is watched. Blocks above the last filter header that is
// known are looked through once more: nothing tells that those filters were true.
func (c *Client) loadScripts(r *reader) {
	sure := c.scanned
	if !c.o.Bloom {
		sure = min(sure, c.believed().tip())
	}
	r.Scan(scriptsPrefix, func(key string, value []byte) bool {
		d := codec.NewReader(value)
		s := &script{script: bytes.Clone(d.Bytes(tx.MaxSize, "script")), since: d.Height(), next: d.Height()}
		err := d.Close()
		if err == nil && scriptKey(s.script) != key {
			err = fmt.Errorf("it is of %s", scriptKey(s.script))
		}
		if err != nil {
			c.broken("watched scripts", fmt.Errorf("record %s: %w", key, err))
			c.outdate(key)
			return true
		}
		c.scripts[string(s.script)] = s
		if again := max(sure+1, s.since); sure < c.scanned && (s.next == 0 || s.next > again) {
			s.next = again
			c.unsaved = append(c.unsaved, s)
		}
		if s.next > c.scanned {
			s.next = 0
			c.unsaved = append(c.unsaved, s)
		}
		if s.next == 0 {
			c.query.Add(s.script)
		}
		return len(c.scripts) < MaxScripts
	})
}

// loadBloom reads what BIP 37 needs. Without its tweak and noise it begins with
// new ones, and peers learn from the difference. Without the heights that one
// peer alone has told of it may have been any.
func (c *Client) loadBloom(r *reader) {
	if raw := r.get(tweakKey); raw != nil {
		d := codec.NewReader(raw)
		tweak := d.U32()
		noise, err := keys.SecretFromBytes(d.Take(keys.SecretSize))
		if err == nil {
			err = d.Close()
		}
		if err != nil {
			c.broken("decoys", fmt.Errorf("record %s: %w", tweakKey, err))
		} else {
			c.tweak, c.bloom.noise, c.bloom.kept = tweak, noise, true
		}
	}
	if raw := r.get(aloneKey); raw != nil {
		d := codec.NewReader(raw)
		alone := blockSpan{d.Height(), d.Height()}
		if err := d.Close(); err != nil {
			c.broken("heights", fmt.Errorf("record %s: %w", aloneKey, err))
			alone = blockSpan{max(c.o.Birthday, 1), c.scanned}
		}
		c.bloom.alone = alone
	}
}
