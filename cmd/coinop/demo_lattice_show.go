//go:build !omit_demo && !omit_ledger

package main

import (
	"bytes"
	"slices"
	"sync"
	"time"

	"coinop.dev/cmd/coinop/page"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	latticewallet "coinop.dev/core/ledger/lattice/wallet"
	nanonet "coinop.dev/engine/lattice"
)

// maxSeen bounds the blocks that a picture remembers.
const maxSeen = 4096

// A latticePicture is what the page shows of a lattice: what its nodes tell of, in the
// order in which the first of them has.
type latticePicture struct {
	grid *grid

	mu    sync.Mutex
	seq   uint64
	names map[lattice.Key]string
	rows  []*latticeRow
	seen  map[lattice.Hash]*latticeSeen
	order []lattice.Hash // of seen, oldest first
	over  []page.Election
	open  []page.Election
}

type latticeRow struct {
	key     lattice.Key
	account node.Account
	blocks  []*latticeSeen
}

// latticeSeen is a block, and when a node first told of it.
type latticeSeen struct {
	page.LatticeBlock
	lattice.Block
	at time.Time
}

func newLatticePicture(g *grid) *latticePicture {
	return &latticePicture{grid: g, names: map[lattice.Key]string{}, seen: map[lattice.Hash]*latticeSeen{}}
}

// called gives an account a name, name gives it a row as well.
func (p *latticePicture) called(k lattice.Key, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.names[k] = name
}

func (p *latticePicture) name(k lattice.Key, name string) {
	p.called(k, name)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rows = append(p.rows, &latticeRow{key: k})
}

// hear takes what a node tells of, until it is closed.
func (p *latticePicture) hear(s *nanonet.Subscription) {
	for news := range s.C {
		switch news := news.(type) {
		case node.Unconfirmed:
			p.see(news.Hash, news.Block, news.Kind)
		case node.Confirmed:
			p.see(news.Hash, news.Block, news.Kind)
			p.final(news)
		}
	}
}

// known is a block of before.
func (p *latticePicture) known(s node.Stored) {
	hash := s.Hash()
	p.see(hash, s.Block, s.Kind)
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.seen[hash]
	b.State, b.LatticeBlock.Height = page.Final, s.Height
	b.Msat = msatOf(s.Amount)
}

// msatOf is the nearest whole msat: what is below tells orders apart. Of more than
// fit it is 0.
func msatOf(r lattice.Raw) uint64 {
	r, _ = r.Add(lattice.RawOf(latticewallet.Unit / 2))
	if a, ok := latticewallet.Amount(r); ok {
		return uint64(a)
	}
	return 0
}

// see notes a block that is new.
func (p *latticePicture) see(hash lattice.Hash, b lattice.Block, k lattice.Kind) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen[hash] != nil {
		return
	}
	p.seq++
	s := &latticeSeen{Block: b, at: time.Now()}
	s.LatticeBlock = page.LatticeBlock{Seq: p.seq, Hash: hash.String(), Kind: k.String(), State: page.Waits, Height: 1}
	balance := lattice.Raw{}
	if before := p.seen[b.Previous]; before != nil {
		s.LatticeBlock.Height, balance = before.LatticeBlock.Height+1, before.Balance
	}
	switch k {
	case lattice.Send:
		if moved, ok := balance.Sub(b.Balance); ok {
			s.Msat = msatOf(moved)
		}
		s.To = p.names[b.Link]
	case lattice.Receive, lattice.Open:
		if moved, ok := b.Balance.Sub(balance); ok {
			s.Msat = msatOf(moved)
		}
		s.From = lattice.Hash(b.Link).String()
	}
	p.seen[hash] = s
	p.order = append(p.order, hash)
	if len(p.order) > maxSeen {
		for _, old := range p.order[:maxSeen/2] {
			delete(p.seen, old)
		}
		p.order = slices.Clone(p.order[maxSeen/2:])
	}
	for _, r := range p.rows {
		if r.key == b.Account {
			r.blocks = append(r.blocks, s)
			r.blocks = r.blocks[max(0, len(r.blocks)-page.MaxRow):]
		}
	}
}

// final notes a block that a node has cemented.
func (p *latticePicture) final(c node.Confirmed) {
	if took, first := p.cemented(c); first {
		p.grid.mu.Lock() // which show takes before p.mu
		defer p.grid.mu.Unlock()
		p.grid.final(took)
	}
}

// cemented notes the block and what stood against it, and says how long it took if
// no node has told of it before.
func (p *latticePicture) cemented(c node.Confirmed) (took time.Duration, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.seen[c.Hash]
	s.LatticeBlock.Height, s.Msat = c.Height, msatOf(c.Amount)
	if s.State == page.Final {
		if c.Active {
			p.tally(s, c.Election)
		}
		return 0, false
	}
	s.State = page.Final
	took = time.Since(s.at)
	rivals := 0
	for _, r := range p.rows {
		for _, b := range r.blocks {
			if b != s && b.Root() == s.Root() {
				b.State = page.Lost
				rivals++
			}
		}
	}
	if c.Active {
		e := page.Election{Hash: s.LatticeBlock.Hash, Whose: p.names[c.Block.Account], Kind: s.LatticeBlock.Kind, Blocks: 1 + rivals, Over: true, TookMs: float64(took.Microseconds()) / 1000}
		e.Final, e.Votes = p.votes(c.Election)
		p.over = append(p.over, e)
		p.over = p.over[max(0, len(p.over)-page.MaxElections):]
	}
	return took, true
}

// tally takes the votes of another node that knows of more of them.
func (p *latticePicture) tally(s *latticeSeen, of node.Election) {
	for i := range p.over {
		if e := &p.over[i]; e.Hash == s.LatticeBlock.Hash {
			if final, votes := p.votes(of); final > e.Final {
				e.Final, e.Votes = final, votes
			}
		}
	}
}

// votes are those of an election, in the order of the nodes.
func (p *latticePicture) votes(e node.Election) (final float64, all []page.Ballot) {
	l := p.grid.ledger.(*latticeGrid)
	supply := l.network.Supply()
	for i, rep := range l.reps {
		b, ok := e.Votes[rep.Public()]
		if !ok {
			continue
		}
		v := page.Ballot{Node: p.grid.nodes[i].name, Share: shareOf(b.Weight, supply), Final: b.Timestamp == lattice.FinalTimestamp, Other: b.Hash != e.Winner}
		if v.Final && !v.Other {
			final += v.Share
		}
		all = append(all, v)
	}
	return final, all
}

// balances are the rows' accounts as a node has them.
func (p *latticePicture) balances(n *node.Node) map[lattice.Key]node.Account {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := map[lattice.Key]node.Account{}
	for _, r := range p.rows {
		all[r.key], _ = n.Account(r.key)
	}
	return all
}

// update takes in what a node has been asked.
func (p *latticePicture) update(accounts map[lattice.Key]node.Account, open []node.Election) {
	slices.SortFunc(open, func(a, b node.Election) int {
		if a.Began != b.Began {
			return int(a.Began - b.Began)
		}
		return bytes.Compare(a.Root[:], b.Root[:])
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.rows {
		if a, ok := accounts[r.key]; ok && a.Height > 0 {
			r.account = a
		}
	}
	p.open = nil
	for _, e := range open[max(0, len(open)-page.MaxElections):] {
		shown := page.Election{Hash: e.Winner.String(), Blocks: e.Blocks, TookMs: float64(e.Took)}
		if s := p.seen[e.Winner]; s != nil {
			shown.Whose, shown.Kind = p.names[s.Account], s.LatticeBlock.Kind
		}
		shown.Final, shown.Votes = p.votes(e)
		p.open = append(p.open, shown)
	}
}

// state is the page's part.
func (p *latticePicture) state([]eddsa.Secret) *page.Lattice {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := &page.Lattice{}
	for _, r := range p.rows {
		a := page.Account{Name: p.names[r.key], Address: r.key.String(), Msat: msatOf(r.account.Balance), Height: r.account.Height}
		for _, b := range r.blocks {
			a.Blocks = append(a.Blocks, b.LatticeBlock)
		}
		l.Accounts = append(l.Accounts, a)
	}
	l.Elections = append(slices.Clone(p.over), p.open...)
	return l
}
