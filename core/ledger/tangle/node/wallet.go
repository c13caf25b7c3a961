package node

import (
	"bytes"
	"errors"
	"slices"

	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/step"
)

// What wallets of this machine say and hear: tangle.Submit, Rejected, Final, Follow
// and State.

// follows are the addresses that wallets follow.
type follows struct {
	by    map[tangle.Address][]string // cores
	dirty []tangle.Address
	asked []told
}

// told is a core that is told of an address.
type told struct {
	core    string
	address tangle.Address
}

func newFollows() follows { return follows{by: map[tangle.Address][]string{}} }

// touch remembers which addresses a milestone has changed.
func (f *follows) touch(changed map[tangle.Address]bool) {
	if len(f.by) == 0 {
		return
	}
	for a := range changed {
		if f.by[a] != nil {
			f.dirty = append(f.dirty, a)
		}
	}
	slices.SortFunc(f.dirty, func(a, b tangle.Address) int { return bytes.Compare(a[:], b[:]) })
	f.dirty = slices.Compact(f.dirty)
}

func (n *Node) walletFollows(from string, m tangle.Follow) {
	f := &n.followers
	cores := f.by[m.Address]
	if cores == nil && len(f.by) >= MaxFollows {
		return // it asks again
	}
	if !slices.Contains(cores, from) {
		f.by[m.Address] = append(cores, from)
	}
	f.asked = append(f.asked, told{from, m.Address})
	n.busy = true
}

// tellStates sends what milestones have changed, and what was asked for. It comes
// first in a step: what the last one wrote is on disk then.
func (n *Node) tellStates() {
	f := &n.followers
	if n.load != nil || n.job != nil && n.job.begun || n.decided != (tangle.MilestoneID{}) {
		return // only between two milestones
	}
	if len(f.asked)+len(f.dirty) > 0 && len(n.db.earlier) > 0 {
		n.busy = true // an earlier step of the same time is not on disk yet
		return
	}
	tell := f.asked
	for _, a := range f.dirty {
		for _, core := range f.by[a] {
			tell = append(tell, told{core, a})
		}
	}
	f.dirty, f.asked = nil, nil
	states := map[tangle.Address]tangle.State{}
	for _, t := range tell {
		state, ok := states[t.address]
		if !ok {
			state = n.State(t.address)
			states[t.address] = state
		}
		n.fx.Send = append(n.fx.Send, step.Packet{To: t.core, Msg: state})
	}
}

// maxScan bounds the outputs of an address that are looked at for a State.
const maxScan = 4 * tangle.MaxUnspent

// State is what an address has, but for what a milestone that is being written spends.
func (n *Node) State(a tangle.Address) tangle.State {
	list := n.OutputsOf(a, tangle.OutputID{}, maxScan)
	slices.SortStableFunc(list, func(a, b Output) int { return int(int64(a.Booked.Index) - int64(b.Booked.Index)) })
	s := tangle.State{Address: a, Index: n.head.Index}
	notes := map[tangle.BlockID]*tangle.TaggedData{}
	for _, o := range list[:min(len(list), tangle.MaxUnspent)] {
		note, ok := notes[o.Block]
		if !ok {
			note = n.note(o.Block)
			notes[o.Block] = note
		}
		s.Unspent = append(s.Unspent, tangle.Unspent{ID: o.ID, Amount: o.Amount, Note: note})
	}
	return s
}

// note is the tagged data of a block's transaction, or nil.
func (n *Node) note(id tangle.BlockID) *tangle.TaggedData {
	raw := n.raw(id)
	if raw == nil {
		return nil
	}
	b, err := tangle.DecodeBlock(raw)
	if err != nil {
		return nil
	}
	t, ok := b.Payload.(*tangle.Transaction)
	if !ok {
		return nil
	}
	return t.Essence.Payload
}

func (n *Node) walletSubmits(from string, m tangle.Submit) {
	if m.Transaction == nil || len(from) > 64 {
		return
	}
	n.submit(submit{Submit: Submit{Payload: m.Transaction}, wallet: from})
}

// answerSubmit answers whoever submitted.
func (n *Node) answerSubmit(s *submit, attached Attached, err error) {
	if s.wallet == "" {
		if err != nil {
			n.done(s.ID, nil, err)
		} else {
			n.done(s.ID, attached, nil)
		}
		return
	}
	id := tangle.TransactionID(s.id)
	if id == (tangle.TransactionID{}) {
		id = s.Payload.(*tangle.Transaction).ID()
	}
	switch {
	case err != nil:
		n.tellRejected(&own{id: id, wallet: s.wallet}, err)
	case n.own[id] == nil:
		n.tellFinal(s.wallet, id)
	}
}

// tellFinal tells a wallet that its transaction is applied.
func (n *Node) tellFinal(wallet string, id tangle.TransactionID) {
	if wallet == "" {
		return
	}
	proof, err := n.Proof(id)
	if err != nil {
		n.tellRejected(&own{id: id, wallet: wallet}, err)
		return
	}
	n.fx.Send = append(n.fx.Send, step.Packet{To: wallet, Msg: tangle.Final{Transaction: id, Proof: proof}})
}

// tellRejected tells a wallet why its transaction is not taken.
func (n *Node) tellRejected(o *own, err error) {
	if o.wallet == "" {
		return
	}
	n.fx.Send = append(n.fx.Send, step.Packet{To: o.wallet, Msg: tangle.Rejected{Transaction: o.id, Why: n.refusal(err)}})
}

// refusal is RefusalOf, of a node that may not be able to say.
func (n *Node) refusal(err error) tangle.Refusal {
	why := RefusalOf(err)
	if why == tangle.Busy && !n.Synced() {
		return tangle.NotSynced
	}
	return why
}

// RefusalOf sorts an error of Submit by what a wallet should do. It is "" if the block is
// wrong, and its payload may be right in another one. Of an error that nobody knows it
// is Busy: only what can never be applied is for ever.
func RefusalOf(err error) tangle.Refusal {
	var c Conflict
	switch {
	case errors.As(err, &c) && (c == AlreadySpent || c == SpentBefore):
		return tangle.SpentInput
	case errors.As(err, &c) && c == NotFound, errors.Is(err, ErrOrphan):
		return tangle.NoInput
	case errors.As(err, &c), errors.Is(err, ErrInvalid):
		return tangle.BadTransaction
	case errors.Is(err, ErrPruned):
		return tangle.Pruned
	case errors.Is(err, ErrBlock), errors.Is(err, ErrUnsolid), errors.Is(err, ErrTooOld):
		return ""
	}
	return tangle.Busy
}
