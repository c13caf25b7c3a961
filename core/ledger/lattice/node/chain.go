package node

import (
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/step"
)

const (
	// MaxBacklog bounds the blocks that are not cemented, in memory (V28's bounded
	// backlog).
	MaxBacklog = 100_000
	// MaxAhead bounds those of one account.
	MaxAhead = 2048
	// chainsKept is how many accounts are remembered at least that have no block in
	// the backlog.
	chainsKept = 32_768
)

// A chain is an account in memory: as the disk has it, and the blocks that follow
// and are not cemented.
type chain struct {
	base    Account // Height 0: no cemented block
	pending []*entry
	dirty   bool
}

// An entry is a block that is not cemented.
type entry struct {
	Stored
	hash   lattice.Hash
	chain  *chain
	before lattice.Raw // the balance
	source *entry      // the send it receives, if that is not cemented
	taker  *entry      // the receive of what it sends, if there is one

	election *election
	queue    *bucket  // it waits for an election
	wallets  []string // cores that have submitted it
}

// tip is the account as its newest block leaves it.
func (c *chain) tip() Account {
	a := c.base
	if n := len(c.pending); n > 0 {
		last := c.pending[n-1]
		a.Frontier, a.Representative, a.Balance, a.Height, a.Modified = last.hash, last.Representative, last.Balance, last.Height, last.Time
		if c.base.Height == 0 {
			a.Open = c.pending[0].hash
		}
	}
	return a
}

// chainOf finds an account, or a place for it.
func (n *Node) chainOf(k Key) *chain {
	if c := n.young[k]; c != nil {
		return c
	}
	c := n.old[k]
	if c == nil {
		c = &chain{base: Account{Key: k}}
		if raw := n.disk.get(keyAccount(k)); raw != nil {
			var err error
			c.base, err = decodeAccount(k, raw)
			step.Assert(err == nil, "%v", err)
		}
	}
	if len(n.young) >= chainsKept {
		kept := make(map[Key]*chain, chainsKept)
		for k, c := range n.old {
			if len(c.pending) > 0 {
				kept[k] = c
			}
		}
		n.old, n.young = n.young, kept
	}
	n.young[k] = c
	return c
}

// facts is what Judge wants to know, from memory before disk.
func (n *Node) facts(b *lattice.Block, c *chain) (f Facts) {
	f.Account = c.tip()
	if f.Account.Height > 0 && b.Previous != f.Account.Frontier && b.Previous != (lattice.Hash{}) {
		f.Previous = n.ownerOf(b.Previous) == b.Account
	}
	if b.Previous != f.Account.Frontier || b.Balance.Cmp(f.Account.Balance) <= 0 {
		return f // it receives nothing, or nobody asks
	}
	link := lattice.Hash(b.Link)
	if e := n.pending[link]; e != nil {
		f.Source = true
		f.Waits, f.Amount = e.Kind == lattice.Send && Key(e.Link) == b.Account && e.taker == nil, e.Amount
		return f
	}
	if raw := n.disk.get(keyReceivable(b.Account, link)); raw != nil {
		waits, err := decodeReceivable(link, raw)
		step.Assert(err == nil, "%v", err)
		f.Source, f.Waits, f.Amount = true, n.taken[taking{b.Account, link}] == nil, waits.Amount
		return f
	}
	f.Source = n.disk.get(keyBlock(link)) != nil
	return f
}

// taking is a receive of what a cemented send has left.
type taking struct {
	account Key
	source  lattice.Hash
}

// ownerOf is the account whose block it is; zero if there is no such block.
func (n *Node) ownerOf(h lattice.Hash) Key {
	if e := n.pending[h]; e != nil {
		return e.Account
	}
	if raw := n.disk.get(keyBlock(h)); raw != nil {
		return Key(raw[:len(Key{})]) // a block begins with its account
	}
	return Key{}
}

// append puts a judged block at the end of its chain.
func (n *Node) append(c *chain, b *lattice.Block, h lattice.Hash, v Verdict) *entry {
	e := &entry{Stored: Stored{Block: *b, Kind: v.Kind, Height: v.Height, Amount: v.Amount, Time: n.now}, hash: h, chain: c, before: c.tip().Balance}
	c.pending = append(c.pending, e)
	n.pending[h] = e
	if v.Kind == lattice.Receive || v.Kind == lattice.Open {
		if e.source = n.pending[lattice.Hash(b.Link)]; e.source != nil {
			e.source.taker = e
		} else {
			n.taken[taking{b.Account, lattice.Hash(b.Link)}] = e
		}
	}
	return e
}

// rollBack takes a block that is not cemented out of the ledger, with all that
// follows from it, and returns what went.
func (n *Node) rollBack(e *entry) (gone []*entry) {
	work := []*entry{e}
	for len(work) > 0 {
		from := work[len(work)-1]
		work = work[:len(work)-1]
		if n.pending[from.hash] != from {
			continue
		}
		c := from.chain
		cut := int(from.Height - c.base.Height - 1)
		for _, x := range c.pending[cut:] {
			delete(n.pending, x.hash)
			n.dequeue(x)
			if x.source != nil {
				x.source.taker = nil
			} else if x.Kind == lattice.Receive || x.Kind == lattice.Open {
				delete(n.taken, taking{x.Account, lattice.Hash(x.Link)})
			}
			if x.taker != nil {
				work = append(work, x.taker)
			}
			gone = append(gone, x)
		}
		clear(c.pending[cut:])
		c.pending = c.pending[:cut]
		n.changed(c.base.Key)
	}
	return gone
}

// ready tells whether everything that the block depends on is cemented, so that
// this node may vote for it.
func (e *entry) ready() bool { return e.chain.pending[0] == e && e.source == nil }

// cement makes a block permanent, after everything it depends on.
func (n *Node) cement(e *entry) {
	work := []*entry{e}
	for len(work) > 0 {
		x := work[len(work)-1]
		switch {
		case n.pending[x.hash] != x: // twice in the list
			work = work[:len(work)-1]
		case x.chain.pending[0] != x:
			work = append(work, x.chain.pending[x.Height-x.chain.base.Height-2])
		case x.source != nil:
			work = append(work, x.source)
		default:
			n.settle(x, x == e)
			work = work[:len(work)-1]
		}
	}
}

// settle writes one block whose predecessors are written.
func (n *Node) settle(e *entry, active bool) {
	c := e.chain
	step.Assert(c.base.Frontier == e.Previous && c.base.Height+1 == e.Height, "%v follows %v, not %v", e.hash, e.Previous, c.base.Frontier)
	n.disk.set(keyBlock(e.hash), e.encode())
	n.disk.set(keyHeight(e.Account, e.Height), e.hash[:])
	link := lattice.Hash(e.Link)
	switch e.Kind {
	case lattice.Send:
		n.disk.add(keyReceivable(Key(link), e.hash), encodeReceivable(lattice.Receivable{From: e.Account, Amount: e.Amount}))
		if e.taker != nil {
			n.taken[taking{Key(link), e.hash}] = e.taker
		}
	case lattice.Receive, lattice.Open:
		step.Assert(n.disk.get(keyReceivable(e.Account, link)) != nil, "%v receives what is not there", e.hash)
		n.disk.set(keyReceivable(e.Account, link), nil)
		delete(n.taken, taking{e.Account, link})
	}
	n.reweigh(c.base.Representative, c.base.Balance, e.Representative, e.Balance, c.base.Height == 0)
	if c.base.Height == 0 {
		c.base.Open = e.hash
		n.totals.accounts++
	}
	n.totals.blocks++
	c.base.Frontier, c.base.Representative, c.base.Balance, c.base.Height, c.base.Modified = e.hash, e.Representative, e.Balance, e.Height, n.now
	c.base.ConfirmedHeight, c.base.ConfirmedFrontier = e.Height, e.hash
	c.pending[0] = nil
	c.pending = c.pending[1:]
	n.touch(c)
	n.prune(c)

	delete(n.pending, e.hash)
	n.dequeue(e)
	n.cemented.add(e.hash)
	n.confirmed(e, active)
	if len(c.pending) > 0 {
		n.activate(c.pending[0])
	}
	if e.taker != nil {
		e.taker.source = nil
		n.activate(e.taker)
	}
}

// touch has the account written at the end of the step.
func (n *Node) touch(c *chain) {
	if !c.dirty {
		c.dirty = true
		n.dirty = append(n.dirty, c)
	}
	n.changed(c.base.Key)
}

// prune forgets an account's oldest blocks, when more than Config.Keep are
// cemented. What they have sent can be received all the same.
func (n *Node) prune(c *chain) {
	for n.Keep > 0 && c.base.Height-c.base.Pruned > n.Keep {
		key := keyHeight(c.base.Key, c.base.Pruned+1)
		if raw := n.disk.get(key); raw != nil {
			n.disk.set(keyBlock(lattice.Hash(raw)), nil)
			n.disk.set(key, nil)
			n.totals.pruned++
		}
		c.base.Pruned++
	}
}

// reweigh moves what an account has from one representative to another.
func (n *Node) reweigh(from Key, old lattice.Raw, to Key, now lattice.Raw, first bool) {
	if !first {
		less, ok := n.weights[from].Sub(old)
		step.Assert(ok, "representative %v has less than its account", from)
		n.weigh(from, less)
	}
	more, ok := n.weights[to].Add(now)
	step.Assert(ok, "representative %v has more than there is", to)
	n.weigh(to, more)
}

func (n *Node) weigh(rep Key, w lattice.Raw) {
	n.delta.known = false
	n.delegated, _ = n.delegated.Sub(n.weights[rep])
	n.delegated, _ = n.delegated.Add(w)
	if w == (lattice.Raw{}) {
		delete(n.weights, rep)
		n.disk.set(keyWeight(rep), nil)
		return
	}
	n.weights[rep] = w
	n.disk.set(keyWeight(rep), w.Append(nil))
}
