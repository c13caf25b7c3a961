package light

import (
	"slices"

	"coinop.dev/core/bitcoin/watch"
)

// A script that is watched.
type script struct {
	script []byte
	since  int32 // no block below it matters
	next   int32 // the lowest block not looked through for it; 0 if none is left below the rest
	brief  bool  // only while a transaction of ours waits for a block
}

// watch adds scripts. One that is watched is looked for in older blocks too if
// they matter now.
func (c *Client) watch(all []watch.Script) {
	for _, w := range all {
		since := max(w.Since, c.o.Birthday, 1)
		s := c.scripts[string(w.Script)]
		switch {
		case s != nil && since >= s.since:
			if s.brief {
				s.brief = false
				c.putScript(s)
			}
		case s != nil:
			s.since, s.brief = since, false
			if s.next == 0 {
				s.next = since
			}
			c.rewind(s, since)
		case len(c.scripts) < MaxScripts && len(w.Script) > 0 && (!c.o.Bloom || BloomFinds(w.Script)): // else the driver says so
			s = &script{script: slices.Clone(w.Script), next: since, since: since}
			c.scripts[string(w.Script)] = s
			c.rewind(s, since)
		}
	}
}

// finish notes that nothing is left to look through for a script.
func (c *Client) finish(s *script) {
	s.next = 0
	c.query.Add(s.script)
	c.finished++
}

// rewind has a script that is not finished looked for again from a height on.
func (c *Client) rewind(s *script, height int32) {
	if s.next = min(s.next, height); s.next > c.passed() {
		c.finish(s)
	}
	c.putScript(s)
}

// passed is the height up to which a script that is new was not looked for: what
// came of the range at the tip came without it.
func (c *Client) passed() int32 {
	switch s := c.scan; {
	case s == nil || s.back || s.reread || s.bloom.again:
		return c.scanned
	case !c.o.Bloom:
		return max(c.scanned, s.next-1)
	case len(s.bloom.told) > 0:
		return s.stop
	}
	return c.scanned
}

// lookAgainAbove looks through all blocks above a height once more, for all
// scripts. What was found stays: blocks have proved it.
func (c *Client) lookAgainAbove(height int32) {
	c.stopScan(height)
	for _, s := range c.scripts {
		if s.next == 0 {
			s.next = max(height+1, s.since)
		}
		c.rewind(s, max(height+1, s.since))
	}
}

// lookAgain forgets what was found and looks through everything once more.
func (c *Client) lookAgain() {
	c.stopScan(-1)
	for _, m := range c.ledger.Cut(-1) {
		c.forget(m)
	}
	c.scanned = max(0, c.o.Birthday-1)
	c.ledger.Rise(c.scanned)
	for _, s := range c.scripts {
		if s.next != 0 {
			c.finish(s)
			c.putScript(s)
		}
	}
}
