package light

import (
	"fmt"
	"slices"
	"strings"

	"coinop.dev/core/bitcoin/header"
)

// Durable describes what a client has to find again after a restart.
func (c *Client) Durable() string {
	var b strings.Builder
	tip, hash := c.chain.Tip()
	f := c.believed()
	fmt.Fprintf(&b, "tip %d %v work %v base %d\nscanned %d\nmarks %v\nfilters %d %v\n",
		tip, hash, c.chain.Work(), c.chain.Base(), min(c.scanned, max(tip, c.o.Birthday-1)), f.marks, f.tip(), f.at(f.tip()))
	var scripts []string
	for _, s := range c.scripts {
		if !s.brief {
			next := s.next
			if next > c.scanned {
				next = 0 // whatever it was added in the middle of begins again
			}
			scripts = append(scripts, fmt.Sprintf("script %x from %d next %d", s.script, s.since, next))
		}
	}
	slices.Sort(scripts)
	b.WriteString(strings.Join(scripts, "\n"))
	for _, m := range c.ledger.All() {
		fmt.Fprintf(&b, "\nmined %v %d %d", m.ID, m.Height, m.Index)
	}
	return b.String()
}

// Bounded tells what has grown beyond its limit.
func (c *Client) Bounded() error {
	ours := 0
	for _, w := range c.wanted {
		if w.height == 0 {
			ours++
		}
	}
	type limit struct {
		what      string
		have, max int
	}
	limits := []limit{
		{"peers", len(c.peers), MaxPeers},
		{"scripts", len(c.scripts), MaxScripts},
		{"blocks wanted by callers", len(c.wanted) - ours, MaxWanted},
		{"blocks wanted by us", ours, MaxAtOnce + 2},
		{"publications", len(c.pending), MaxPending},
		{"suspects", len(c.suspect), MaxSuspect},
		{"suspects to read again", len(c.reread), MaxSuspect},
		{"filter headers", len(c.filters.recent), 2*header.Tail + 1},
		{"bytes of transactions", c.ledger.Size(), MaxMined + 4<<20},
	}
	if s := c.scan; s != nil {
		blocks := 0
		for _, h := range s.hits {
			if h.block != nil {
				blocks++
			}
		}
		limits = append(limits, limit{"hits", len(s.hits), header.Interval}, limit{"blocks in memory", blocks, MaxAtOnce})
	}
	for _, p := range c.peers {
		limits = append(limits, limit{"headers of a branch of " + p.name, len(p.branch), MaxBranch})
		if p.hashes != nil {
			limits = append(limits, limit{"filter hashes of " + p.name, len(p.hashes.list), 2000})
		}
	}
	for _, l := range limits {
		if l.have > l.max {
			return fmt.Errorf("%d %s; the limit is %d", l.have, l.what, l.max)
		}
	}
	return nil
}

// Believes tells the filter header at a height.
func (c *Client) Believes(height int32) any { h, _ := c.filters.knows(height); return h }
