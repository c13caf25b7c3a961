package transfer_test

import (
	"crypto/sha256"
	"fmt"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice"
	latticewallet "coinop.dev/core/ledger/lattice/wallet"
	"coinop.dev/core/ledger/tangle"
	tanglewallet "coinop.dev/core/ledger/tangle/wallet"
	"coinop.dev/core/ledger/transfer"
	"coinop.dev/core/money"
)

// A ledger is a kind of it, and one node that has the whole: what wallets say to it
// counts after some ticks.
type ledger interface {
	name() string
	open(who string) transfer.Ledger // a wallet's end
	follow(who string) any
	tell(who string, msg any)    // from a wallet
	tick()                       // some time passes
	take() []said                // what is said to wallets since
	has(who string) money.Amount // as the ledger says, with what waits for it
	verify(bill string, proof []byte) error
}

type said struct {
	to  string
	msg any
}

func seed(who string) [32]byte { return sha256.Sum256([]byte(who)) }

// supply is what the rich account begins with.
const supply = 1_000_000

// latticeNode cements a block of each chain at every tick.
type latticeNode struct {
	net      lattice.Network
	rep      eddsa.Secret
	chains   map[lattice.Key][]lattice.Block
	cemented map[lattice.Key]int
	waits    map[lattice.Key][]lattice.Receivable
	names    map[lattice.Key]string
	says     []said
	followed map[lattice.Key]bool
}

func newLattice() ledger {
	rich := lattice.NewSecret(seed("rich"))
	n := &latticeNode{
		net: lattice.NewNetwork("test", rich, latticewallet.Raw(supply), 0, 0), rep: lattice.NewSecret(seed("rep")),
		chains: map[lattice.Key][]lattice.Block{}, cemented: map[lattice.Key]int{}, waits: map[lattice.Key][]lattice.Receivable{},
		names: map[lattice.Key]string{}, followed: map[lattice.Key]bool{},
	}
	n.net.Reps = lattice.Weights{{Rep: lattice.Key(n.rep.Public()), Weight: n.net.Supply()}}
	genesis := n.net.Genesis
	n.chains[genesis.Account], n.cemented[genesis.Account] = []lattice.Block{genesis}, 1
	return n
}

func (n *latticeNode) name() string { return "lattice" }

func (n *latticeNode) open(who string) transfer.Ledger {
	a, err := latticewallet.New(latticewallet.Options{Network: n.net, Key: lattice.NewSecret(seed(who))})
	if err != nil {
		panic(err)
	}
	n.names[a.Key()] = who
	return a
}

func (n *latticeNode) follow(who string) any {
	return lattice.Follow{Account: lattice.Key(lattice.NewSecret(seed(who)).Public())}
}

func (n *latticeNode) say(k lattice.Key, msg any) {
	if who := n.names[k]; who != "" {
		n.says = append(n.says, said{who, msg})
	}
}

func (n *latticeNode) take() []said {
	says := n.says
	n.says = nil
	return says
}

func (n *latticeNode) state(k lattice.Key) {
	if !n.followed[k] {
		return
	}
	s := lattice.State{Account: k, Height: uint64(len(n.chains[k])), Confirmed: uint64(n.cemented[k]), Receivable: append([]lattice.Receivable(nil), n.waits[k]...)}
	if s.Height > 0 {
		b := n.chains[k][s.Height-1]
		s.Frontier, s.Balance, s.Representative = b.Hash(), b.Balance, b.Representative
	}
	n.say(k, s)
}

func (n *latticeNode) tell(_ string, msg any) {
	switch m := msg.(type) {
	case lattice.Follow:
		n.followed[m.Account] = true
		n.state(m.Account)
	case lattice.Submit:
		n.submit(m.Block)
	}
}

func (n *latticeNode) submit(b lattice.Block) {
	chain, hash := n.chains[b.Account], b.Hash()
	for i := range chain {
		if chain[i].Hash() == hash {
			n.final(b.Account, i)
			return
		}
	}
	refuse := func(why lattice.Refusal) { n.say(b.Account, lattice.Rejected{Hash: hash, Why: why}) }
	var previous lattice.Block
	if len(chain) > 0 {
		previous = chain[len(chain)-1]
	}
	switch {
	case !b.Signed():
		refuse(lattice.BadSignature)
		return
	case len(chain) == 0 != b.Previous.IsZero() || len(chain) > 0 && previous.Hash() != b.Previous:
		why := lattice.GapPrevious
		for i := range chain {
			if chain[i].Previous == b.Previous {
				why = lattice.Fork
			}
		}
		refuse(why)
		return
	}
	switch b.Kind(previous.Balance, len(chain) == 0) {
	case lattice.Send:
	case lattice.Open, lattice.Receive:
		at := -1
		for i, r := range n.waits[b.Account] {
			if r.Source == lattice.Hash(b.Link) {
				at = i
			}
		}
		if at < 0 {
			refuse(lattice.Unreceivable)
			return
		}
		if sum, _ := previous.Balance.Add(n.waits[b.Account][at].Amount); sum != b.Balance {
			refuse(lattice.BalanceWrong)
			return
		}
		n.waits[b.Account] = append(n.waits[b.Account][:at:at], n.waits[b.Account][at+1:]...)
	default:
		refuse(lattice.BalanceWrong)
		return
	}
	n.chains[b.Account] = append(chain, b)
	n.state(b.Account)
}

func (n *latticeNode) final(k lattice.Key, i int) {
	if i >= n.cemented[k] {
		return
	}
	b := n.chains[k][i]
	f := lattice.Final{Block: b, Proof: lattice.Certificate{Hash: b.Hash()}}
	if i > 0 {
		f.Previous = n.chains[k][i-1]
	}
	v := lattice.Vote{Timestamp: lattice.FinalTimestamp, Hashes: []lattice.Hash{b.Hash()}}
	v.Sign(n.rep)
	f.Proof.Votes = []lattice.Vote{v}
	n.say(k, f)
}

func (n *latticeNode) tick() {
	for k, who := range n.names {
		i := n.cemented[k]
		if who == "" || i >= len(n.chains[k]) {
			continue
		}
		n.cemented[k]++
		b, had := n.chains[k][i], lattice.Raw{}
		if i > 0 {
			had = n.chains[k][i-1].Balance
		}
		if b.Kind(had, i == 0) == lattice.Send {
			amount, _ := had.Sub(b.Balance)
			n.waits[b.Link] = append(n.waits[b.Link], lattice.Receivable{Source: b.Hash(), From: k, Amount: amount})
			n.state(b.Link)
		}
		n.final(k, i)
		n.state(k)
	}
}

func (n *latticeNode) has(who string) money.Amount {
	k := lattice.Key(lattice.NewSecret(seed(who)).Public())
	var sum lattice.Raw
	if c := n.chains[k]; len(c) > 0 {
		sum = c[len(c)-1].Balance
	}
	for _, r := range n.waits[k] {
		sum, _ = sum.Add(r.Amount)
	}
	a, _ := latticewallet.Amount(sum)
	return a
}

func (n *latticeNode) verify(bill string, proof []byte) error {
	b, err := latticewallet.ParseBill(bill)
	if err != nil {
		return err
	}
	return latticewallet.Verify(b, proof)
}

// tangleNode makes a milestone of all that waits at every tick.
type tangleNode struct {
	net      *tangle.Network
	signer   eddsa.Secret
	index    uint32
	unspent  []tangle.Unspent
	owner    map[tangle.OutputID]tangle.BasicOutput
	waiting  []*tangle.Transaction
	finals   map[tangle.TransactionID]tangle.Final
	by       map[tangle.TransactionID]string
	followed map[tangle.Address]string
	says     []said
}

func newTangle() ledger {
	rich := eddsa.NewSecret(eddsa.SHA512, seed("rich"))
	signer := eddsa.NewSecret(eddsa.SHA512, seed("coordinator"))
	first := tangle.BasicOutput{Amount: supply, Address: tangle.NewAddress(rich.Public())}
	net, err := tangle.NewNetwork("test", "tst", 1, [][32]byte{signer.Public()}, []tangle.BasicOutput{first})
	if err != nil {
		panic(err)
	}
	id := tangle.GenesisOutput(0)
	return &tangleNode{
		net: net, signer: signer, unspent: []tangle.Unspent{{ID: id, Amount: supply}}, owner: map[tangle.OutputID]tangle.BasicOutput{id: first},
		finals: map[tangle.TransactionID]tangle.Final{}, by: map[tangle.TransactionID]string{}, followed: map[tangle.Address]string{},
	}
}

func (n *tangleNode) name() string { return "tangle" }

func (n *tangleNode) open(who string) transfer.Ledger {
	a, err := tanglewallet.New(tanglewallet.Options{Network: n.net, Key: eddsa.NewSecret(eddsa.SHA512, seed(who))})
	if err != nil {
		panic(err)
	}
	return a
}

func (n *tangleNode) follow(who string) any {
	return tangle.Follow{Address: n.address(who)}
}

func (n *tangleNode) address(who string) tangle.Address {
	return tangle.NewAddress(eddsa.NewSecret(eddsa.SHA512, seed(who)).Public())
}

func (n *tangleNode) take() []said {
	says := n.says
	n.says = nil
	return says
}

func (n *tangleNode) state(a tangle.Address) {
	s := tangle.State{Address: a, Index: n.index}
	for _, u := range n.unspent {
		if n.owner[u.ID].Address == a {
			s.Unspent = append(s.Unspent, u)
		}
	}
	n.says = append(n.says, said{n.followed[a], s})
}

func (n *tangleNode) tell(who string, msg any) {
	switch m := msg.(type) {
	case tangle.Follow:
		n.followed[m.Address] = who
		n.state(m.Address)
	case tangle.Submit:
		id := m.Transaction.ID()
		if f, ok := n.finals[id]; ok {
			n.says = append(n.says, said{who, f})
			return
		}
		if n.by[id] == "" {
			n.by[id] = who
			n.waiting = append(n.waiting, m.Transaction)
		}
	}
}

func (n *tangleNode) at(id tangle.OutputID) int {
	for i, u := range n.unspent {
		if u.ID == id {
			return i
		}
	}
	return -1
}

// apply changes the ledger by a transaction.
func (n *tangleNode) apply(t *tangle.Transaction) bool {
	var spent []tangle.BasicOutput
	for _, in := range t.Essence.Inputs {
		if n.at(in) < 0 {
			return false
		}
		spent = append(spent, n.owner[in])
	}
	if t.Check(n.net) != nil || t.CheckSpent(spent) != nil || t.Verify() != nil {
		return false
	}
	for _, in := range t.Essence.Inputs {
		i := n.at(in)
		n.unspent = append(n.unspent[:i:i], n.unspent[i+1:]...)
	}
	for i, out := range t.Essence.Outputs {
		id := tangle.NewOutputID(t.ID(), uint16(i))
		n.owner[id] = out
		n.unspent = append(n.unspent, tangle.Unspent{ID: id, Amount: out.Amount, Note: t.Essence.Payload})
	}
	return true
}

func (n *tangleNode) tick() {
	n.index++
	var raws [][]byte
	var ids []tangle.BlockID
	var applied []*tangle.Transaction
	for _, t := range n.waiting {
		id := t.ID()
		if !n.apply(t) {
			n.says = append(n.says, said{n.by[id], tangle.Rejected{Transaction: id, Why: tangle.SpentInput}})
			delete(n.by, id)
			continue
		}
		b := tangle.Block{Protocol: tangle.Protocol, Parents: []tangle.BlockID{{}}, Payload: t}
		raw := b.Append(nil)
		raws, ids, applied = append(raws, raw), append(ids, tangle.IDOf(raw)), append(applied, t)
	}
	n.waiting = nil
	m := &tangle.Milestone{
		Index: n.index, Timestamp: 1, Protocol: tangle.Protocol, Parents: []tangle.BlockID{{}},
		InclusionRoot: tangle.MerkleRoot(ids), AppliedRoot: tangle.MerkleRoot(ids),
	}
	m.Sign(n.signer)
	for i, t := range applied {
		in, err := tangle.NewInclusion(ids, i)
		if err != nil {
			panic(err)
		}
		f := tangle.Final{Transaction: t.ID(), Proof: tangle.NewProof(raws[i], m, in)}
		n.finals[f.Transaction] = f
		n.says = append(n.says, said{n.by[f.Transaction], f})
	}
	for a := range n.followed {
		n.state(a)
	}
}

func (n *tangleNode) has(who string) (sum money.Amount) {
	for _, u := range n.unspent {
		if n.owner[u.ID].Address == n.address(who) {
			sum += money.Amount(u.Amount)
		}
	}
	return sum
}

func (n *tangleNode) verify(bill string, proof []byte) error {
	b, err := tanglewallet.ParseBill(bill)
	if err != nil {
		return err
	}
	return tanglewallet.Verify(b, proof)
}

var ledgers = map[string]func() ledger{"lattice": newLattice, "tangle": newTangle}

func orderID(n int) money.OrderID { return money.OrderID{1, byte(n >> 8), byte(n)} }

func orderName(id money.OrderID) string { return fmt.Sprintf("order %d", int(id[1])<<8|int(id[2])) }
