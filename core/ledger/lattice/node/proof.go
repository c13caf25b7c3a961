package node

import (
	"errors"
	"slices"

	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

const (
	// MaxProofs bounds the blocks that final votes are gathered for at a time.
	MaxProofs = 8192
	// proofAgain is when representatives that have not answered are asked again, and
	// maxProofAsks how often.
	proofAgain   = 500 * step.Millisecond
	maxProofAsks = 20
	// MaxFollowed bounds the accounts that cores of this machine follow.
	MaxFollowed = 4096
)

// proofs are certificates in the making.
type proofs struct {
	by    map[lattice.Hash]*proof
	order []*proof // oldest first
}

type proof struct {
	hash    lattice.Hash
	root    lattice.Hash
	votes   []lattice.Vote
	wallets []string // cores that wait for a Final
	asked   step.Time
	asks    int
	done    bool
}

func (p *proofs) busy() bool { return len(p.by) > 0 }

// Table is the weights that certificates are checked by.
func (n *Node) Table() lattice.Weights {
	if len(n.Network.Reps) > 0 {
		return n.Network.Reps
	}
	return lattice.Weights{{Rep: n.Network.Genesis.Representative, Weight: n.Network.Supply()}}
}

// proven begins the certificate of a block that is cemented now, if a wallet waits
// for it.
func (n *Node) proven(e *entry) {
	for _, w := range e.wallets {
		n.certify(e.hash, w)
	}
}

// certify gathers final votes on one block: each representative of the table is
// asked for one of its own, because what it has said in the election names others
// too, and a certificate should be small.
func (n *Node) certify(h lattice.Hash, wallet string) {
	fail := func(kind money.Kind, err error) {
		if wallet == "" {
			n.fx.Done = append(n.fx.Done, step.Outcome{ID: CertifyID(h), Err: &money.Error{Kind: kind, Op: "certify " + h.String(), Err: err}})
			return
		}
		n.fx.Send = append(n.fx.Send, step.Packet{To: wallet, Msg: lattice.Rejected{Hash: h, Why: lattice.TooManyUnproven}})
	}
	if p := n.proofs.by[h]; p != nil {
		p.addWallet(wallet)
		return
	}
	s, known := n.Block(h)
	if !known || !s.Confirmed {
		if wallet == "" {
			fail(money.Refused, errors.New("the block is not cemented"))
		}
		return
	}
	if len(n.proofs.by) >= MaxProofs {
		fail(money.Refused, Refused{lattice.TooManyUnproven})
		return
	}
	p := &proof{hash: h, root: lattice.Hash(s.Block.Root())}
	p.addWallet(wallet)
	if n.proofs.by == nil {
		n.proofs.by = map[lattice.Hash]*proof{}
	}
	n.proofs.by[h] = p
	n.proofs.order = append(n.proofs.order, p)
	for i, rep := range n.Reps {
		if n.Table().Of(n.reps[i]).IsZero() {
			continue
		}
		v := lattice.Vote{Timestamp: lattice.FinalTimestamp, Hashes: []lattice.Hash{h}}
		v.Sign(rep)
		n.signed++
		p.votes = append(p.votes, v)
	}
	n.proofs.ask(n, p)
	n.finish(p)
}

func (p *proof) addWallet(core string) {
	if core != "" && !slices.Contains(p.wallets, core) {
		p.wallets = append(p.wallets, core)
	}
}

// ask asks the peers through whom representatives of the table speak, or all if
// that is not known.
func (ps *proofs) ask(n *Node, p *proof) {
	p.asked = n.now
	p.asks++
	m := &lattice.ConfirmReq{Pairs: []lattice.Pair{{Hash: p.hash, Root: p.root}}}
	for _, peer := range n.peers.list {
		if peer.reps > 0 || p.asks > 2 {
			n.send(peer, m)
		}
	}
}

// prove takes a vote for what it may be worth to a certificate.
func (n *Node) prove(v *lattice.Vote) {
	if !v.Final() || len(n.proofs.by) == 0 {
		return
	}
	table := n.Table()
	if table.Of(v.Account).IsZero() {
		return
	}
	for _, h := range v.Hashes {
		p := n.proofs.by[h]
		if p == nil {
			continue
		}
		at := slices.IndexFunc(p.votes, func(o lattice.Vote) bool { return o.Account == v.Account })
		switch {
		case at < 0:
			p.votes = append(p.votes, *v)
		case len(v.Hashes) < len(p.votes[at].Hashes):
			p.votes[at] = *v
		}
		n.finish(p)
	}
}

// finish gives the certificate out once the quorum has spoken.
func (n *Node) finish(p *proof) {
	table := n.Table()
	var sum lattice.Raw
	for i := range p.votes {
		sum, _ = sum.Add(table.Of(p.votes[i].Account))
	}
	if p.done || sum.Cmp(table.Quorum()) < 0 {
		return
	}
	slices.SortFunc(p.votes, func(a, b lattice.Vote) int { return slices.Compare(a.Account[:], b.Account[:]) })
	c := lattice.Certificate{Hash: p.hash, Votes: p.votes}
	n.proofs.remove(p)
	n.fx.Done = append(n.fx.Done, step.Outcome{ID: CertifyID(p.hash), Value: c})
	if len(p.wallets) == 0 {
		return
	}
	s, _ := n.Block(p.hash)
	final := lattice.Final{Block: s.Block, Proof: c}
	if !s.Previous.IsZero() {
		previous, _ := n.Block(s.Previous)
		final.Previous = previous.Block
	}
	for _, w := range p.wallets {
		n.fx.Send = append(n.fx.Send, step.Packet{To: w, Msg: final})
	}
}

func (ps *proofs) remove(p *proof) {
	p.done = true
	delete(ps.by, p.hash)
	if len(ps.order) > 2*len(ps.by)+64 {
		ps.order = slices.DeleteFunc(ps.order, func(o *proof) bool { return o.done })
	}
}

// again asks once more for what is still open, and gives up in the end: wallets ask
// again.
func (ps *proofs) again(n *Node) {
	for _, p := range slices.Clone(ps.order) {
		switch {
		case p.done || n.now < p.asked+proofAgain:
		case p.asks >= maxProofAsks:
			ps.remove(p)
			n.fx.Done = append(n.fx.Done, step.Outcome{ID: CertifyID(p.hash), Err: &money.Error{
				Kind: money.Pending, Op: "certify " + p.hash.String(), Err: errors.New("representatives of the quorum do not answer; ask again"),
			}})
		default:
			ps.ask(n, p)
		}
	}
}

// follow is who wants to know how accounts are.
type follow struct {
	by      map[Key][]string
	touched []Key // accounts that have changed in this step
	is      map[Key]bool
}

func (n *Node) followBy(core string, k Key) {
	f := &n.follow
	if f.by == nil {
		f.by, f.is = map[Key][]string{}, map[Key]bool{}
	}
	if !slices.Contains(f.by[k], core) && len(f.by) < MaxFollowed {
		f.by[k] = append(f.by[k], core)
	}
	n.changed(k)
}

// changed notes that an account is not what it was.
func (n *Node) changed(k Key) {
	if len(n.follow.by[k]) > 0 && !n.follow.is[k] {
		n.follow.is[k] = true
		n.follow.touched = append(n.follow.touched, k)
	}
}

// tellFollowers says how accounts are that have changed.
func (n *Node) tellFollowers() {
	for _, k := range n.follow.touched {
		a, _ := n.Account(k)
		state := lattice.State{
			Account: k, Frontier: a.Frontier, Height: a.Height, Confirmed: a.ConfirmedHeight, Representative: a.Representative, Balance: a.Balance,
			Receivable: n.receivable(k, lattice.MaxReceivable, lattice.Raw{}, false, true),
		}
		for _, core := range n.follow.by[k] {
			n.fx.Send = append(n.fx.Send, step.Packet{To: core, Msg: state})
		}
	}
	n.follow.touched = n.follow.touched[:0]
	clear(n.follow.is)
}
