package sim

import (
	"fmt"
	"math"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
)

// LatticeConfirmation simulates a network of nodes, some of which vote with equal
// weight, on an earth, and confirms so many sends at a rate.
func LatticeConfirmation(seed uint64, nodes, voters, blocks int, rate float64, e Earth) (c Confirmation, err error) {
	c = Confirmation{Nodes: nodes, Voters: voters, Rate: rate, Runs: blocks}
	l := &Lattice{World: NewWorld(seed, Faults{DelayMax: 1}), cemented: map[lattice.Hash]cementedBy{}}
	l.Silent, l.Sample, l.MaxEvents = true, math.MaxInt, math.MaxInt
	genesis := latticeKey("genesis")
	l.network = lattice.NewNetwork("study", genesis, lattice.RawOf(latticeSupply), latticeWork, latticeWork)
	for i := range voters {
		l.reps = append(l.reps, latticeKey(fmt.Sprint("rep", i)))
	}
	final := map[lattice.Hash][]step.Time{}
	l.OnDone = func(_ *Machine, o step.Outcome) {
		if c, ok := o.Value.(node.Confirmed); ok {
			final[c.Hash] = append(final[c.Hash], l.Now)
		}
	}
	messages := 0
	l.Sent = func(*Machine, step.Packet) { messages++ }
	for i := range nodes {
		m, err := l.Add(nodeName(i), l.studyBoot(i, nodes, genesis))
		if err != nil {
			return c, err
		}
		l.nodes = append(l.nodes, m)
	}
	senders, err := l.studyShare(genesis)
	if err != nil {
		return c, err
	}
	l.Distance, l.Faults = e.distance(l.World), Faults{DelayMax: e.Jitter, Lose: e.Lose}
	messages = 0
	checked := l.studyChecked()
	began := l.Now
	at := map[lattice.Hash]step.Time{}
	for i := range blocks {
		s := senders[i%voters]
		rest, _ := s.balance.Sub(lattice.RawOf(1))
		b := s.block(rest, genesis.Public(), s.key.Public())
		s.frontier, s.balance = b.Hash(), b.Balance
		due := began + step.Time(float64(i)*1000/rate)
		at[b.Hash()] = due
		l.Tell(due, l.nodes[i%nodes], node.Core, node.Process{ID: "study", Block: b})
	}
	end := began + step.Time(float64(blocks)*1000/rate)
	for l.Now < end+studyPatience && !l.studyDone(at, final) {
		if err := l.Run(l.Now + step.Second); err != nil {
			return c, err
		}
	}
	var here, all []float64
	for h, due := range at {
		if len(final[h]) < nodes {
			return c, fmt.Errorf("%v is final on %d of %d nodes a minute after it was sent", h, len(final[h]), nodes)
		}
		here, all = append(here, float64(final[h][0]-due)), append(all, float64(final[h][nodes-1]-due))
	}
	c.times(here, all)
	c.Messages = float64(messages) / float64(blocks)
	signatures := float64(l.studyChecked()-checked) / float64(blocks*nodes)
	c.Signatures = &signatures
	return c, nil
}

func (l *Lattice) studyDone(at map[lattice.Hash]step.Time, final map[lattice.Hash][]step.Time) bool {
	for h := range at {
		if len(final[h]) < len(l.nodes) {
			return false
		}
	}
	return true
}

func (l *Lattice) studyChecked() (sum uint64) {
	for i := range l.nodes {
		sum += l.node(i).Counts().Checked
	}
	return sum
}

func (l *Lattice) studyBoot(i, nodes int, genesis eddsa.Secret) func(step.Reader) (*drive.Machine, error) {
	return func(r step.Reader) (*drive.Machine, error) {
		c := node.Config{Network: l.network, ID: latticeKey(fmt.Sprint("id", i))}
		if i < len(l.reps) {
			c.Reps = []eddsa.Secret{l.reps[i]}
		}
		if i == 0 {
			c.Reps = append(c.Reps, genesis)
		}
		for j := range nodes {
			if j != i {
				c.Peers = append(c.Peers, nodeName(j))
			}
		}
		n, err := node.Load(r, c)
		if err != nil {
			return nil, err
		}
		m := drive.NewMachine()
		m.Add(node.Core, n)
		return m, nil
	}
}

// studyShare gives every voter an equal part. They are who sends.
func (l *Lattice) studyShare(genesis eddsa.Secret) (voters []*latticeUser, err error) {
	g := &latticeUser{name: "genesis", key: genesis, frontier: l.network.Genesis.Hash(), balance: l.network.Supply()}
	for i, rep := range l.reps {
		u := &latticeUser{name: fmt.Sprint("rep", i), key: rep}
		part := lattice.RawOf(uint64(latticeSupply / (len(l.reps) + 1)))
		rest, _ := g.balance.Sub(part)
		if err := l.pass(g, g.block(rest, rep.Public(), genesis.Public())); err != nil {
			return nil, err
		}
		if err := l.pass(u, u.block(part, g.frontier, rep.Public())); err != nil {
			return nil, err
		}
		voters = append(voters, u)
	}
	return voters, nil
}
