package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/gossip"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
)

const (
	latticeNodes = 5 // honest, with a representative each
	latticeUsers = 6 // of whom the last steals
	// latticeEvil is the weight of the representative that votes for everything, in
	// percent.
	latticeEvil   = 30
	latticeSupply = 1_000_000
	// latticeWork is the least work that is any.
	latticeWork = 0x8000000000000000
	// latticeSettle is how long everything may take to be cemented when faults end.
	latticeSettle = 2 * step.Minute
)

// Lattice is the world of a block lattice: five nodes vote, one representative with
// almost a third of the weight votes finally for whatever it sees, users send and
// receive through any node and say it again until it is cemented, and one of them
// signs two sends for the same place and gives them to different nodes.
type Lattice struct {
	*World
	network lattice.Network
	nodes   []*Machine
	reps    []eddsa.Secret
	users   []*latticeUser
	sends   int // still to be made

	// cemented is which block follows a root, by whoever said so first, and by whom.
	cemented map[lattice.Hash]cementedBy
	doubles  int // forks that were submitted
}

type cementedBy struct {
	hash lattice.Hash
	who  string
}

// latticeUser is a wallet: it knows its own chain.
type latticeUser struct {
	name     string
	key      eddsa.Secret
	frontier lattice.Hash
	balance  lattice.Raw
	thief    bool
	open     []lattice.Block // blocks for the same place, one of which is to be cemented
	stalled  bool            // a thief's forks may hold each other up for good
}

func latticeKey(name string) eddsa.Secret {
	var key [32]byte
	copy(key[:], name)
	return lattice.NewSecret(key)
}

// NewLattice sets the world up: the supply is shared out before faults begin.
func NewLattice(seed uint64, f Faults, b Bug) (*Lattice, error) {
	l := &Lattice{World: NewWorld(seed, Faults{DelayMax: 5}), cemented: map[lattice.Hash]cementedBy{}}
	l.Bug, l.Sample, l.OnDone, l.MaxEvents = b, 25, l.heard, 2_000_000
	genesis := latticeKey("genesis")
	l.network = lattice.NewNetwork("sim", genesis, lattice.RawOf(latticeSupply), latticeWork, latticeWork)
	for i := range latticeNodes {
		l.reps = append(l.reps, latticeKey(fmt.Sprint("rep", i)))
	}
	for i := range latticeNodes {
		m, err := l.Add(nodeName(i), l.boot(i))
		if err != nil {
			return nil, err
		}
		l.nodes = append(l.nodes, m)
	}
	if _, err := l.Add("evil", func(step.Reader) (*drive.Machine, error) {
		m := drive.NewMachine()
		m.Add(node.Core, &evilRep{key: latticeKey("evil"), network: &l.network, random: l.Random("evil"), to: l.names()})
		return m, nil
	}); err != nil {
		return nil, err
	}
	if err := l.share(genesis); err != nil {
		return nil, err
	}
	l.Faults = f
	return l, nil
}

func nodeName(i int) string { return fmt.Sprint("node", i) }

func (l *Lattice) names() (all []string) {
	for i := range latticeNodes {
		all = append(all, nodeName(i))
	}
	return all
}

// boot makes node i from its disk. Its peers are all others, and the evil one.
func (l *Lattice) boot(i int) func(step.Reader) (*drive.Machine, error) {
	return func(r step.Reader) (*drive.Machine, error) {
		c := node.Config{Network: l.network, ID: latticeKey(fmt.Sprint("id", i)), Reps: []eddsa.Secret{l.reps[i]}, Peers: []string{"evil"}}
		if i == 0 {
			c.Reps = append(c.Reps, latticeKey("genesis"))
		}
		for j := range latticeNodes {
			if j != i {
				c.Peers = append(c.Peers, nodeName(j))
			}
		}
		n, err := node.Load(r, c)
		if err != nil {
			return nil, err
		}
		m := drive.NewMachine()
		m.Add(node.Core, l.wrap(node.Core, n))
		return m, nil
	}
}

func (l *Lattice) node(i int) *node.Node { return l.nodes[i].Core(node.Core).(*node.Node) }

// share gives the evil representative its part, every honest one an equal part of
// the rest, and every user something.
func (l *Lattice) share(genesis eddsa.Secret) error {
	g := &latticeUser{name: "genesis", key: genesis, frontier: l.network.Genesis.Hash(), balance: l.network.Supply()}
	give := func(u *latticeUser, amount uint64, rep lattice.Key) error {
		rest, _ := g.balance.Sub(lattice.RawOf(amount))
		send := g.block(rest, u.key.Public(), lattice.Key(l.reps[0].Public()))
		if err := l.pass(g, send); err != nil {
			return err
		}
		return l.pass(u, u.block(lattice.RawOf(amount), send.Hash(), rep))
	}
	evil := &latticeUser{name: "evil", key: latticeKey("evil")}
	if err := give(evil, latticeSupply*latticeEvil/100, evil.key.Public()); err != nil {
		return err
	}
	part := uint64(latticeSupply * (100 - latticeEvil) / 100 / latticeNodes)
	for i := 1; i < latticeNodes; i++ {
		rep := &latticeUser{name: fmt.Sprint("rep", i), key: l.reps[i]}
		if err := give(rep, part, l.reps[i].Public()); err != nil {
			return err
		}
	}
	for i := range latticeUsers {
		u := &latticeUser{name: fmt.Sprint("user", i), thief: i == latticeUsers-1}
		u.key = latticeKey(u.name)
		l.users = append(l.users, u)
		// All users are poor, and their representative is the first: weights stay.
		if err := give(u, 1000, l.reps[0].Public()); err != nil {
			return err
		}
	}
	return nil
}

// pass has one block cemented while nothing fails.
func (l *Lattice) pass(u *latticeUser, b lattice.Block) error {
	u.frontier, u.balance = b.Hash(), b.Balance
	l.Tell(l.Now+1, l.nodes[0], node.Core, node.Process{ID: "setup", Block: b})
	for range 600 {
		if err := l.Run(l.Now + 100); err != nil {
			return err
		}
		if l.everywhere(u.frontier) {
			return nil
		}
	}
	return fmt.Errorf("the block %v of %s is not cemented a minute after it was made", u.frontier, u.name)
}

func (l *Lattice) everywhere(h lattice.Hash) bool {
	for i := range l.nodes {
		if s, known := l.node(i).Block(h); !known || !s.Confirmed {
			return false
		}
	}
	return true
}

func (u *latticeUser) block(balance lattice.Raw, link [32]byte, rep lattice.Key) lattice.Block {
	b := lattice.Block{Account: u.key.Public(), Previous: u.frontier, Representative: rep, Balance: balance, Link: link}
	b.Work = lattice.Work(b.Root(), latticeWork, 0)
	b.Sign(u.key)
	return b
}

// Play lets users trade while things fail, and then everything be cemented.
func (l *Lattice) Play(orders int) error {
	l.sends = orders
	end := l.Now + step.Time(orders)*4*step.Second
	l.Weather(end)
	for l.Now < end {
		for _, u := range l.users {
			l.act(u)
		}
		if err := l.Run(l.Now + step.Second); err != nil {
			return err
		}
	}
	l.Calm()
	l.sends = 0
	for deadline := l.Now + latticeSettle; !l.settled(); {
		for _, u := range l.users {
			l.act(u)
		}
		if err := l.Run(l.Now + step.Second); err != nil {
			return err
		}
		if l.Now > deadline {
			return l.unsettled()
		}
	}
	return l.audit()
}

// act is what a user does in a second: it says again what is not cemented, receives
// what is there, or sends.
func (l *Lattice) act(u *latticeUser) {
	r := l.Random("users")
	if len(u.open) > 0 {
		for _, b := range u.open {
			if l.someNode(b.Hash()) {
				u.frontier, u.balance, u.open, u.stalled = b.Hash(), b.Balance, nil, false
				return
			}
		}
		for _, b := range u.open {
			l.submit(b, l.nodes[r.IntN(len(l.nodes))])
		}
		return
	}
	// A node that is behind still lists what was received long ago.
	n := l.node(r.IntN(len(l.nodes)))
	if a, _ := n.Account(u.key.Public()); a.ConfirmedFrontier != u.frontier {
		return
	}
	if waits := n.Receivable(u.key.Public(), 1, lattice.Raw{}, false); len(waits) > 0 {
		more, _ := u.balance.Add(waits[0].Amount)
		u.open = []lattice.Block{u.block(more, waits[0].Source, lattice.Key(l.reps[0].Public()))}
		l.submit(u.open[0], l.nodes[r.IntN(len(l.nodes))])
		return
	}
	if l.sends == 0 || u.balance.Cmp(lattice.RawOf(10)) < 0 {
		return
	}
	l.sends--
	sides := 1
	if u.thief {
		sides, u.stalled = 2, true
		l.doubles++
	}
	for range sides {
		rest, _ := u.balance.Sub(lattice.RawOf(1 + r.Uint64N(9)))
		to := l.users[r.IntN(len(l.users))]
		b := u.block(rest, to.key.Public(), lattice.Key(l.reps[0].Public()))
		u.open = append(u.open, b)
		l.submit(b, l.nodes[r.IntN(len(l.nodes))])
	}
}

func (l *Lattice) submit(b lattice.Block, m *Machine) {
	l.Tell(l.Now+1, m, node.Core, node.Process{ID: "submit", Block: b})
}

func (l *Lattice) someNode(h lattice.Hash) bool {
	for i := range l.nodes {
		if s, known := l.node(i).Block(h); known && s.Confirmed {
			return true
		}
	}
	return false
}

// heard checks every cemented block against what others have cemented there.
func (l *Lattice) heard(m *Machine, o step.Outcome) {
	c, ok := o.Value.(node.Confirmed)
	if !ok {
		return
	}
	root := lattice.Hash(c.Block.Root())
	first, known := l.cemented[root]
	if !known {
		l.cemented[root] = cementedBy{c.Hash, m.Name}
	} else if first.hash != c.Hash {
		l.Fail(fmt.Errorf("%s has cemented %v where %s has %v", m.Name, c.Hash, first.who, first.hash))
	}
}

// settled tells whether honest users wait for nothing and all nodes have the same.
func (l *Lattice) settled() bool {
	for _, u := range l.users {
		if len(u.open) > 0 && !u.stalled {
			return false
		}
	}
	count := uint64(len(l.cemented))
	for i := range l.nodes {
		if l.node(i).Counts().Cemented != count {
			return false
		}
	}
	return true
}

func (l *Lattice) unsettled() error {
	for _, u := range l.users {
		if len(u.open) > 0 && !u.stalled {
			return fmt.Errorf("block %v of %s is not cemented %d s after everything works again", u.open[0].Hash(), u.name, latticeSettle/step.Second)
		}
	}
	var counts []uint64
	for i := range l.nodes {
		counts = append(counts, l.node(i).Counts().Cemented)
	}
	return fmt.Errorf("%d blocks were cemented by somebody, and the nodes have %v, %d s after everything works again", len(l.cemented), counts, latticeSettle/step.Second)
}

// audit checks what is on the disks: the same everywhere, the supply, and every
// block that anybody ever said is cemented.
func (l *Lattice) audit() error {
	first := l.ledgerOf(0)
	for i := range l.nodes {
		if got := l.ledgerOf(i); !slices.Equal(got, first) {
			return fmt.Errorf("%s and %s have different ledgers", nodeName(i), nodeName(0))
		}
		var sum lattice.Raw
		for _, a := range l.node(i).Accounts(lattice.Key{}, 1000) {
			sum, _ = sum.Add(a.Balance)
			for _, r := range l.node(i).Receivable(a.Key, 1000, lattice.Raw{}, false) {
				sum, _ = sum.Add(r.Amount)
			}
		}
		if sum != l.network.Supply() {
			return fmt.Errorf("%s has accounts and receivables of %v; the supply is %v", nodeName(i), sum, l.network.Supply())
		}
		for root, c := range l.cemented {
			if s, known := l.node(i).Block(c.hash); !known || !s.Confirmed || lattice.Hash(s.Root()) != root {
				return fmt.Errorf("%s said that %v is cemented, and %s does not have it", c.who, c.hash, nodeName(i))
			}
		}
	}
	return nil
}

func (l *Lattice) ledgerOf(i int) (all []string) {
	for _, a := range l.node(i).Accounts(lattice.Key{}, 1000) {
		all = append(all, fmt.Sprint(a.Key, a.Frontier, a.Balance, a.Height))
	}
	return all
}

// An evilRep is a representative that votes finally for everything, tells different
// nodes different things, says old votes again, and sends what nobody wants.
type evilRep struct {
	key     eddsa.Secret
	network *lattice.Network
	random  *rand.Rand
	to      []string
	seen    []lattice.Hash
	votes   [][]byte
}

// maxEvil bounds what it remembers.
const maxEvil = 64

// Step answers blocks and questions with votes.
func (e *evilRep) Step(in step.Input) (fx step.Effects) {
	send := func(to string, raw []byte) {
		fx.Send = append(fx.Send, step.Packet{To: to, Msg: gossip.Frame{Ledger: gossip.Lattice, Raw: raw}})
	}
	for _, ev := range in.Events {
		r, ok := ev.(step.Recv)
		if !ok {
			continue
		}
		f, ok := r.Msg.(gossip.Frame)
		if !ok {
			continue
		}
		msg, err := lattice.Decode(f.Raw, e.network.Magic)
		if err != nil {
			continue
		}
		var hashes []lattice.Hash
		switch msg := msg.(type) {
		case *lattice.Publish:
			hashes = []lattice.Hash{msg.Block.Hash()}
		case *lattice.ConfirmReq:
			for _, p := range msg.Pairs {
				hashes = append(hashes, p.Hash)
			}
		default:
			continue
		}
		e.seen = append(e.seen, hashes...)
		e.seen = e.seen[max(0, len(e.seen)-maxEvil):]
		v := lattice.Vote{Timestamp: lattice.FinalTimestamp, Hashes: hashes}
		if e.random.IntN(3) == 0 {
			v.Timestamp = lattice.VoteTimestamp(uint64(in.At), 0)
		}
		v.Sign(e.key)
		raw := (&lattice.ConfirmAck{Vote: v}).Append(nil, e.network.Magic)
		e.votes = append(e.votes, raw)
		e.votes = e.votes[max(0, len(e.votes)-maxEvil):]
		for _, to := range e.to {
			if e.random.IntN(2) == 0 {
				send(to, raw)
			}
		}
		to := e.to[e.random.IntN(len(e.to))]
		switch e.random.IntN(4) {
		case 0: // an old vote again
			send(to, e.votes[e.random.IntN(len(e.votes))])
		case 1: // a block behind one that nobody has
			b := lattice.Block{Account: e.key.Public(), Previous: lattice.Hash{byte(e.random.Uint32()), 1}, Balance: lattice.RawOf(1)}
			b.Work = lattice.Work(b.Root(), latticeWork, 0)
			b.Sign(e.key)
			send(to, (&lattice.Publish{Block: b}).Append(nil, e.network.Magic))
		case 2: // somebody's block, with another signature
			if p, ok := msg.(*lattice.Publish); ok {
				p.Block.Signature[e.random.IntN(64)] ^= 1
				send(to, p.Append(nil, e.network.Magic))
			}
		}
	}
	return fx
}
