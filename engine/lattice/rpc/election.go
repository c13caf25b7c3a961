package rpc

import (
	"bytes"
	"slices"
	"sync"

	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/core/step"
)

// MaxHistory bounds the elections that confirmation_history remembers.
const MaxHistory = 2000

// history is the elections that have ended with a cemented block.
type history struct {
	mu   sync.Mutex
	list []ended // newest last
}

type ended struct {
	at step.Time
	e  node.Election
}

func (h *history) add(e ended) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.list) >= MaxHistory {
		h.list = append(h.list[:0], h.list[MaxHistory/10:]...)
	}
	e.e.Votes = nil
	h.list = append(h.list, e)
}

func (c *call) blockConfirm() (*object, error) {
	h := c.hash("hash")
	o, err := c.look(func(n *node.Node, o *object) error {
		s, known := n.Block(h)
		if !known {
			return blockNotFound
		}
		o.put("confirmed", s.Confirmed)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if text(o.fields[0].value) == "false" {
		if err := c.s.Node.Elect(c.ctx, h); err != nil {
			return nil, err
		}
	}
	return new(object).put("started", "1"), nil
}

// qualified is an election's root as Nano writes it: what the work is done on, and
// the block before.
func qualified(n *node.Node, e *node.Election) string {
	var previous lattice.Hash
	if s, known := n.Block(e.Winner); known {
		previous = s.Previous
	}
	return e.Root.String() + previous.String()
}

func (c *call) confirmationActive() (*object, error) {
	least, _ := c.optional("announcements")
	announced, _ := number(least)
	return c.look(func(n *node.Node, o *object) error {
		var roots list
		for _, e := range n.Elections() {
			if uint64(e.Requests) >= announced && len(roots) < MaxCount {
				roots = append(roots, qualified(n, &e))
			}
		}
		o.put("confirmations", roots).put("unconfirmed", len(roots)).put("confirmed", 0)
		return nil
	})
}

func (c *call) confirmationInfo() (*object, error) {
	text := c.text("root")
	if len(text) != 128 {
		c.fail(invalidRoot)
	}
	root, err := lattice.ParseHash(text[:min(64, len(text))])
	if err != nil {
		c.fail(invalidRoot)
	}
	return c.look(func(n *node.Node, o *object) error {
		all := n.Elections()
		at := slices.IndexFunc(all, func(e node.Election) bool { return e.Root == root })
		if at < 0 {
			return electionNotFound
		}
		c.describeElection(n, o, &all[at])
		return nil
	})
}

// weighed is a representative's vote, with what it weighs.
type weighed struct {
	rep lattice.Key
	node.Ballot
}

func heaviest(votes map[lattice.Key]node.Ballot, of lattice.Hash) (list []weighed) {
	for rep, b := range votes {
		if b.Hash == of {
			list = append(list, weighed{rep, b})
		}
	}
	slices.SortFunc(list, func(a, b weighed) int {
		if d := b.Weight.Cmp(a.Weight); d != 0 {
			return d
		}
		return bytes.Compare(a.rep[:], b.rep[:])
	})
	return list
}

func (c *call) describeElection(n *node.Node, o *object, e *node.Election) {
	hashes := []lattice.Hash{e.Winner}
	for _, b := range e.Votes {
		if !slices.Contains(hashes, b.Hash) {
			hashes = append(hashes, b.Hash)
		}
	}
	slices.SortFunc(hashes[1:], func(a, b lattice.Hash) int { return bytes.Compare(a[:], b[:]) })
	var total lattice.Raw
	candidates := new(object)
	for _, h := range hashes {
		var tally lattice.Raw
		reps, finals := new(object), new(object)
		for _, v := range heaviest(e.Votes, h) {
			tally, _ = tally.Add(v.Weight)
			reps.put(v.rep.String(), v.Weight)
			if v.Timestamp == lattice.FinalTimestamp {
				finals.put(v.rep.String(), v.Weight)
			}
		}
		total, _ = total.Add(tally)
		entry := new(object).put("tally", tally)
		if s, known := n.Block(h); known && c.flag("contents", true) {
			entry.putBlock("contents", &s.Block, c.flag("json_block", false))
		}
		if c.flag("representatives", false) {
			entry.put("representatives", reps).put("representatives_final", finals)
		}
		candidates.put(h.String(), entry)
	}
	o.put("announcements", e.Requests).put("voters", e.Voters).put("last_winner", e.Winner).
		put("total_tally", total).put("final_tally", e.Final).put("blocks", candidates)
}

func (c *call) confirmationHistory() (*object, error) {
	var only lattice.Hash
	if c.has("hash") {
		only = c.hash("hash")
	}
	if c.fault != nil {
		return nil, c.fault
	}
	h := &c.s.history
	h.mu.Lock()
	defer h.mu.Unlock()
	var found list
	var took step.Time
	for _, was := range slices.Backward(h.list) {
		if took += was.e.Took; only.IsZero() || was.e.Winner == only {
			found = append(found, new(object).put("hash", was.e.Winner).putElection(was.e, was.at))
		}
	}
	stats := new(object).put("count", len(found))
	if len(found) > 0 {
		stats.put("average", took/step.Time(len(found)))
	}
	return new(object).put("confirmation_stats", stats).put("confirmations", found), nil
}

// putElection puts the figures of an election that has ended.
func (o *object) putElection(e node.Election, at step.Time) *object {
	return o.put("duration", e.Took).put("time", at).put("tally", e.Tally).put("final", e.Final).
		put("blocks", e.Blocks).put("voters", e.Voters).put("request_count", e.Requests)
}

func (c *call) confirmationQuorum() (*object, error) {
	return c.look(func(n *node.Node, o *object) error {
		q := n.Quorum()
		o.put("quorum_delta", q.Delta).put("online_weight_quorum_percent", lattice.QuorumPercent).
			put("online_weight_minimum", q.Minimum).put("online_stake_total", q.Online).
			put("trended_stake_total", q.Trended).put("peers_stake_total", q.Peers)
		return nil
	})
}

func (c *call) representatives() (*object, error) {
	count, sorting := c.countOr(MaxCount, MaxCount), c.flag("sorting", false)
	return c.look(func(n *node.Node, o *object) error {
		reps := n.Representatives()
		if sorting {
			slices.SortStableFunc(reps, func(a, b node.Rep) int { return b.Weight.Cmp(a.Weight) })
		}
		found := new(object)
		for _, r := range reps[:min(count, len(reps))] {
			found.put(r.Key.String(), r.Weight)
		}
		o.put("representatives", found)
		return nil
	})
}

func (c *call) representativesOnline() (*object, error) {
	var only []lattice.Key
	if c.has("accounts") {
		for _, text := range c.texts("accounts") {
			only = append(only, c.accountOf(text, badAccount))
		}
	}
	weight := c.flag("weight", false)
	return c.look(func(n *node.Node, o *object) error {
		var names list
		weights := new(object)
		for _, r := range n.Representatives() {
			if r.Online && (only == nil || slices.Contains(only, r.Key)) {
				names = append(names, r.Key)
				weights.put(r.Key.String(), new(object).put("weight", r.Weight))
			}
		}
		if weight {
			o.put("representatives", weights)
		} else {
			o.put("representatives", names)
		}
		return nil
	})
}
