package light

import (
	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/step"
)

// State tells whether questions can be answered, and why not: nothing is wrong
// while it has not heard from a peer yet, and the error is nil.
func (c *Client) State() (synced bool, err error) {
	switch {
	case c.failed != nil:
		return false, c.failed
	case !c.synced:
		return false, c.trouble
	}
	if _, near := c.chain.Hash(c.scanned); !near {
		return false, c.trouble // it was without a peer for weeks
	}
	return true, nil
}

// Tip is the best block of those that were looked through.
func (c *Client) Tip() (height int32, hash chainhash.Hash) {
	hash, _ = c.chain.Hash(c.scanned)
	return c.scanned, hash
}

// Looked tells whether a script is watched and nothing is left to look through
// for it from a height on.
func (c *Client) Looked(s []byte, since int32) bool {
	w := c.scripts[string(s)]
	return w != nil && w.next == 0 && w.since <= max(since, c.o.Birthday, 1)
}

// Since is the height that somebody has a script watched from; 0 if nobody has.
func (c *Client) Since(s []byte) int32 {
	if w := c.scripts[string(s)]; w != nil && !w.brief {
		return w.since
	}
	return 0
}

// Full tells whether no more scripts can be watched.
func (c *Client) Full() bool { return len(c.scripts) >= MaxScripts }

// Status is what the best chain says of an output whose script was looked for.
func (c *Client) Status(o watch.Output) watch.Status { return c.ledger.Status(o) }

// Coins lists the unspent outputs that pay a script that was looked for, with
// their proofs.
func (c *Client) Coins(s []byte) []watch.Coin {
	coins := c.ledger.Coins(s, c.Waiting())
	for i := range coins {
		if m := c.ledger.Find(coins[i].Point.Hash); m != nil {
			coins[i].Proof = &merkle.Proof{Height: m.Height, Branch: m.Branch}
		}
	}
	return coins
}

// Headers is the chain of headers, to read.
func (c *Client) Headers() *header.Chain { return c.chain }

// Summary is what an operator is shown.
type Summary struct {
	Height  int32  `json:"height"`  // of the best header
	Scanned int32  `json:"scanned"` // blocks looked through
	Filters int32  `json:"filters"` // filter headers that are agreed about
	Peers   int    `json:"peers"`
	Scripts int    `json:"scripts"`
	Rescan  int32  `json:"rescan,omitempty"` // the next older block to look through for new scripts; 0 if none
	Synced  bool   `json:"synced"`
	Stale   bool   `json:"stale"` // no block for so long that the peers may hide the chain
	Trouble string `json:"trouble,omitempty"`
	Warning string `json:"warning,omitempty"`
}

// Summary is as of a time.
func (c *Client) Summary(now step.Time) Summary {
	s := Summary{Scanned: c.scanned, Filters: c.filters.tip(), Peers: len(c.peers), Scripts: len(c.scripts), Synced: c.synced, Stale: c.Stale(now)}
	s.Height, _ = c.chain.Tip()
	for _, w := range c.scripts {
		if w.next != 0 && (s.Rescan == 0 || w.next < s.Rescan) {
			s.Rescan = w.next
		}
	}
	if c.trouble != nil {
		s.Trouble = c.trouble.Error()
	}
	if c.o.Bloom {
		s.Warning = c.bloomWarning()
	}
	return s
}
