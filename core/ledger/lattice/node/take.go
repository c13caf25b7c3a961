package node

import (
	"errors"

	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// MaxWorkTries bounds the search for the work of one block that a wallet has left to
// this node. Where it takes more, wallets have it done elsewhere.
const MaxWorkTries = 1 << 22

// take judges a block whose signature is good, and those that have waited for it.
func (n *Node) take(a *asked) {
	e := n.try(a)
	for freed := n.free(e); len(freed) > 0; {
		next := freed[0]
		freed = append(freed[1:], n.free(n.try(&next))...)
	}
}

// free is what has waited for a block.
func (n *Node) free(e *entry) []asked {
	if e == nil {
		return nil
	}
	return n.waitsFor.take(e.hash)
}

// try takes one block if it fits, and else does what there is to do about it.
func (n *Node) try(a *asked) *entry {
	if e := n.pending[a.hash]; e != nil || n.cemented.has(a.hash) {
		n.again(a, e)
		return nil
	}
	c := n.chainOf(a.block.Account)
	if len(c.pending) >= MaxAhead || !n.makeRoom(&a.block, c) {
		n.dropped++
		n.refuse(a, lattice.Busy)
		return nil
	}
	if a.wallet != "" {
		n.work(&a.block)
	}
	if a.process != nil && a.process.Force {
		if mine := n.follower(&a.block); mine != nil {
			for _, x := range n.rollBack(mine) {
				n.outvoted(x)
			}
		}
	}
	e, why := n.judge(&a.block, a.hash)
	switch why {
	case "":
		n.took(a, e)
		return e
	case lattice.GapPrevious:
		n.waitsFor.add(a, a.block.Previous)
		n.gap(a, why)
	case lattice.GapSource:
		n.waitsFor.add(a, lattice.Hash(a.block.Link))
		n.gap(a, why)
	case lattice.Fork:
		n.fork(a)
	default:
		n.refuse(a, why)
	}
	return nil
}

// judge is Judge with the facts as they are, and puts the block into the ledger.
func (n *Node) judge(b *lattice.Block, h lattice.Hash) (*entry, lattice.Refusal) {
	c := n.chainOf(b.Account)
	v, why := Judge(b, n.facts(b, c))
	if why == "" && !n.Network.EnoughWork(b, v.Kind) {
		why = lattice.BadWork
	}
	if why != "" {
		return nil, why
	}
	e := n.append(c, b, h, v)
	n.changed(b.Account)
	return e, ""
}

// took passes a new block on, and lets it have an election.
func (n *Node) took(a *asked, e *entry) {
	if a.process != nil {
		n.done(a.process, Processed{a.hash, e.Kind}, "")
	}
	if a.wallet != "" {
		e.wallets = append(e.wallets, a.wallet)
	}
	if n.watch.Blocks {
		n.tell(UnconfirmedID, Unconfirmed{a.hash, a.block, e.Kind})
	}
	if a.pulled {
		n.leaps = append(n.leaps, e.chain)
	} else {
		n.flood(&a.block, a.hash, a.from == nil)
	}
	if ballots := n.kept.ballots[a.hash]; len(ballots) > 0 && n.heavy(ballots) {
		n.hint(e)
		return
	}
	n.activate(e)
}

// again is a block that the ledger has, or has had.
func (n *Node) again(a *asked, e *entry) {
	if a.process != nil {
		n.done(a.process, Processed{}, lattice.Old)
	}
	switch {
	case e == nil && a.wallet != "":
		n.certify(a.hash, a.wallet)
	case e != nil && a.from == nil:
		if a.wallet != "" {
			e.addWallet(a.wallet)
		}
		n.flood(&e.Block, e.hash, true) // whoever says it again has not heard of it being final
		n.activate(e)
	}
}

func (e *entry) addWallet(core string) {
	for _, have := range e.wallets {
		if have == core {
			return
		}
	}
	e.wallets = append(e.wallets, core)
}

// gap is a block that waits for another: its account's history is fetched, or its
// source.
func (n *Node) gap(a *asked, why lattice.Refusal) {
	if a.process != nil {
		n.done(a.process, Processed{}, why)
	}
	if why == lattice.GapPrevious {
		n.sync.want(a.block.Account)
	} else {
		n.fetch(lattice.Hash(a.block.Link))
	}
}

// fork is a block whose root has another block already, or the same one long ago.
func (n *Node) fork(a *asked) {
	if raw := n.disk.get(keyBlock(a.hash)); raw != nil {
		n.cemented.add(a.hash)
		n.again(a, nil)
		return
	}
	v, news := n.rival(&a.block, a.hash)
	if news {
		n.flood(&a.block, a.hash, a.from == nil)
	}
	if v == nil {
		n.refuse(a, lattice.Fork)
		return
	}
	if a.process != nil {
		n.done(a.process, Processed{}, lattice.Fork)
	}
}

// refuse says why a block is not taken, to whom it concerns.
func (n *Node) refuse(a *asked, why lattice.Refusal) {
	switch {
	case a.process != nil:
		n.done(a.process, Processed{}, why)
	case a.wallet != "":
		n.fx.Send = append(n.fx.Send, step.Packet{To: a.wallet, Msg: lattice.Rejected{Hash: a.hash, Why: why}})
	case a.from != nil && why == lattice.BadSignature:
		a.from.faults++
	}
}

// tellRejected tells the wallets of a block that was in the ledger.
func (n *Node) tellRejected(e *entry, why lattice.Refusal) {
	for _, w := range e.wallets {
		n.fx.Send = append(n.fx.Send, step.Packet{To: w, Msg: lattice.Rejected{Hash: e.hash, Why: why}})
	}
}

// lost is a candidate that another one was cemented against.
func (n *Node) lost(h lattice.Hash) {
	if e := n.pending[h]; e != nil {
		n.tellRejected(e, lattice.Fork)
	}
}

func (n *Node) done(p *Process, v Processed, why lattice.Refusal) {
	o := step.Outcome{ID: p.ID, Value: v}
	if why != "" {
		kind := money.Invalid
		if why == lattice.Busy {
			kind = money.Refused
		}
		o.Value, o.Err = nil, &money.Error{Kind: kind, Op: "process block", Err: Refused{why}}
	}
	n.fx.Done = append(n.fx.Done, o)
}

// Refused is the cause of an error that a Process ends in.
type Refused struct{ Why lattice.Refusal }

// Error is the refusal's text.
func (r Refused) Error() string { return string(r.Why) }

// AsRefusal is the refusal in an error; "" if there is none.
func AsRefusal(err error) lattice.Refusal {
	var r Refused
	if errors.As(err, &r) {
		return r.Why
	}
	return ""
}

// work does a wallet's block's work where that takes little.
func (n *Node) work(b *lattice.Block) {
	c := n.chainOf(b.Account)
	tip := c.tip()
	need := n.Network.Threshold(b.Kind(tip.Balance, tip.Height == 0))
	if lattice.WorkValue(b.Root(), b.Work) < need {
		if w, ok := lattice.TryWork(b.Root(), need, 0, MaxWorkTries); ok {
			b.Work = w
		}
	}
}

// electByHand starts an election because a user asks for it.
func (n *Node) electByHand(ask Elect) {
	o := step.Outcome{ID: ask.ID}
	e := n.pending[ask.Hash]
	switch {
	case e != nil && n.hint(e) == nil:
		o.Err = &money.Error{Kind: money.Refused, Op: "elect " + ask.Hash.String(), Err: Refused{lattice.Busy}}
	case e == nil && !n.cemented.has(ask.Hash) && n.disk.get(keyBlock(ask.Hash)) == nil:
		o.Err = &money.Error{Kind: money.Invalid, Op: "elect " + ask.Hash.String(), Err: Refused{lattice.NoBlock}}
	}
	n.fx.Done = append(n.fx.Done, o)
}
