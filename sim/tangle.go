package sim

import (
	"bytes"
	"fmt"
	"slices"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/gossip"
	stardust "coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/dag"
	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
)

const (
	tangleNodes  = 4 // honest; the first three are coordinators, and the first proposes
	tangleUsers  = 6 // of whom the last steals
	tangleSupply = 6_000
	// tangleSettle is how long everything may take to be confirmed when faults end.
	tangleSettle = 3 * step.Minute
	// tangleInterval is between milestones.
	tangleInterval = 5 * step.Second
)

// Tangle is the world of a Tangle: four nodes, three of which are coordinators; the
// fourth coordinator is evil, and three of the four must sign. Users spend outputs
// through any node and say it again until it is confirmed; one of them signs two
// transactions for the same output and gives them to different nodes.
//
// In every fourth story the primary is silent for a while, in every fourth the keys
// of three coordinators are stolen and sign a second milestone: then all nodes must
// stop.
type Tangle struct {
	*World
	network *stardust.Network
	nodes   []*Machine
	users   []*tangleUser
	sends   int // still to be made
	doubles int // pairs of transactions that exclude each other
	silent  bool
	stolen  bool
	theft   uint32 // index that was signed twice: from there on nodes may differ, until they stop

	txs        map[stardust.TransactionID]*stardust.Transaction
	milestones map[uint32]stardust.MilestoneID // by whoever confirmed it first
	applied    map[stardust.TransactionID]node.Settled
	spent      map[stardust.OutputID]stardust.TransactionID
	signed     map[signing]stardust.MilestoneID
}

// signing is what an honest coordinator may do once.
type signing struct {
	who   string
	index uint32
}

// tangleUser is a wallet: it knows what it has signed away.
type tangleUser struct {
	name    string
	key     eddsa.Secret
	used    map[stardust.OutputID]bool
	open    []*stardust.Transaction // of which one is to be confirmed
	thief   bool
	address stardust.Address
}

func tangleKey(name string) eddsa.Secret {
	return eddsa.NewSecret(eddsa.SHA512, stardust.IDOf([]byte("sim key of "+name)))
}

// NewTangle sets the world up.
func NewTangle(seed uint64, f Faults, b Bug) (*Tangle, error) {
	l := &Tangle{
		World: NewWorld(seed, f), silent: seed%4 == 2, stolen: seed%4 == 3,
		txs: map[stardust.TransactionID]*stardust.Transaction{}, milestones: map[uint32]stardust.MilestoneID{},
		applied: map[stardust.TransactionID]node.Settled{}, spent: map[stardust.OutputID]stardust.TransactionID{},
		signed: map[signing]stardust.MilestoneID{},
	}
	l.Bug, l.Sample, l.OnDone, l.Sent, l.MaxEvents = b, 25, l.heard, l.said, 2_000_000
	var genesis []stardust.BasicOutput
	for i := range tangleUsers {
		u := &tangleUser{name: fmt.Sprint("user", i), used: map[stardust.OutputID]bool{}, thief: i == tangleUsers-1}
		u.key = tangleKey(u.name)
		u.address = stardust.NewAddress(u.key.Public())
		l.users = append(l.users, u)
		for range 2 {
			genesis = append(genesis, stardust.BasicOutput{Amount: tangleSupply / tangleUsers / 2, Address: u.address})
		}
	}
	var keys [][32]byte
	for _, s := range tangleCoordinators() {
		keys = append(keys, s.Public())
	}
	var err error
	if l.network, err = stardust.NewNetwork("sim", "sim", 3, keys, genesis); err != nil {
		return nil, err
	}
	for i := range tangleNodes {
		m, err := l.Add(nodeName(i), l.boot(i))
		if err != nil {
			return nil, err
		}
		l.nodes = append(l.nodes, m)
	}
	_, err = l.Add("evil", func(step.Reader) (*drive.Machine, error) {
		m := drive.NewMachine()
		m.Add(node.Core, &evilTangle{network: l.network, random: l.Random("evil"), to: l.names()})
		return m, nil
	})
	return l, err
}

// tangleCoordinators are the keys of milestones; the last is the evil one's.
func tangleCoordinators() (all []eddsa.Secret) {
	for i := range 4 {
		all = append(all, tangleKey(fmt.Sprint("coordinator", i)))
	}
	return all
}

func (l *Tangle) names() (all []string) {
	for i := range tangleNodes {
		all = append(all, nodeName(i))
	}
	return all
}

// boot makes node i from its disk. Its peers are all others, and the evil one. One
// keeps everything, and one walks.
func (l *Tangle) boot(i int) func(step.Reader) (*drive.Machine, error) {
	return func(r step.Reader) (*drive.Machine, error) {
		keys := tangleCoordinators()
		c := node.Config{Network: l.network, Peers: []string{"evil"}, Keep: node.MinKeep(l.network)}
		if i < 3 {
			c.Coordinator = node.Coordinator{Secret: keys[i], Primary: i == 0, Interval: tangleInterval, Follows: keys[0].Public()}
		} else {
			c.Keep = 0
			c.Tips = node.Tips{MCMC: true, Alpha: dag.DefaultAlpha}
		}
		for j := range tangleNodes {
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

func (l *Tangle) node(i int) *node.Node { return l.nodes[i].Core(node.Core).(*node.Node) }

// Play lets users trade while things fail, and then everything be confirmed.
func (l *Tangle) Play(orders int) error {
	l.sends = orders
	end := l.Now + step.Time(orders)*4*step.Second
	l.Weather(end)
	if l.silent {
		l.At(l.Now+20*step.Second, func() {
			l.nodes[0].cutTo = l.Now + 30*step.Second
			l.log("the primary is silent")
		})
	}
	if l.stolen {
		l.At(l.Now+(end-l.Now)*3/4, l.steal)
	}
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
	for deadline := l.Now + tangleSettle; !l.settled(); {
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

// act is what a user does in a second: it says again what is not confirmed, or
// spends.
func (l *Tangle) act(u *tangleUser) {
	r := l.Random("users")
	if len(u.open) > 0 {
		for _, t := range u.open {
			if _, ok := l.applied[t.ID()]; ok {
				u.open = nil
				return
			}
		}
		for _, t := range u.open {
			l.submit(t, l.nodes[r.IntN(len(l.nodes))])
		}
		return
	}
	if l.sends == 0 {
		return
	}
	n := l.node(r.IntN(len(l.nodes))) // which may be behind
	var coins []node.Output
	for _, o := range n.OutputsOf(u.address, stardust.OutputID{}, 100) {
		if !u.used[o.ID] && len(coins) < 1+r.IntN(3) {
			coins = append(coins, o)
		}
	}
	if len(coins) == 0 {
		return
	}
	l.sends--
	sides := 1
	if u.thief {
		sides = 2
		l.doubles++
	}
	for range sides {
		t := l.spend(u, coins, l.users[r.IntN(len(l.users))].address)
		u.open = append(u.open, t)
		l.submit(t, l.nodes[r.IntN(len(l.nodes))])
	}
}

// spend pays a part of some outputs and keeps the rest.
func (l *Tangle) spend(u *tangleUser, coins []node.Output, to stardust.Address) *stardust.Transaction {
	var ins []stardust.OutputID
	var spent []stardust.BasicOutput
	sum := uint64(0)
	for _, o := range coins {
		ins, spent = append(ins, o.ID), append(spent, o.BasicOutput)
		sum += o.Amount
		u.used[o.ID] = true
	}
	outs := []stardust.BasicOutput{{Amount: 1 + l.Random("users").Uint64N(sum), Address: to}}
	if rest := sum - outs[0].Amount; rest > 0 {
		outs = append(outs, stardust.BasicOutput{Amount: rest, Address: u.address})
	}
	e, err := stardust.NewEssence(l.network, ins, spent, outs, nil)
	if err == nil {
		var t *stardust.Transaction
		if t, err = e.Sign(spent, u.key); err == nil {
			l.txs[t.ID()] = t
			return t
		}
	}
	panic(fmt.Sprintf("%s cannot spend: %v", u.name, err))
}

func (l *Tangle) submit(t *stardust.Transaction, m *Machine) {
	l.Tell(l.Now+1, m, node.Core, node.Submit{ID: "submit", Payload: t})
}

// steal signs, with three coordinators' keys, another milestone of the last index,
// or a false one of the next, and gives it to one node.
func (l *Tangle) steal() {
	r := l.Random("theft")
	n := l.node(r.IntN(len(l.nodes)))
	info := n.Info()
	m, _, ok := n.Milestone(info.Latest.Index)
	if !ok {
		l.Fail(fmt.Errorf("no milestone is confirmed after %d s", l.Now/step.Second))
		return
	}
	twin := *m
	twin.Signatures = nil
	if r.IntN(2) == 0 {
		twin.Timestamp++
	} else {
		twin.Index, twin.Previous = m.Index+1, info.Milestone
		twin.AppliedRoot[3] ^= 1
	}
	l.theft = twin.Index
	twin.Sign(tangleCoordinators()[1], tangleCoordinators()[2], tangleCoordinators()[3])
	b := stardust.Block{Protocol: stardust.Protocol, Parents: twin.Parents, Payload: &twin}
	l.log("three coordinators sign milestone %d twice", twin.Index)
	raw := node.Frame(node.Blocks{Raw: [][]byte{b.Append(nil)}})
	for k := range l.nodes { // said again and again: it must get through to one at least
		l.Tell(l.Now+step.Time(1+k*1000), l.nodes[(k+r.IntN(2))%len(l.nodes)], node.Core, step.Recv{From: "evil", Msg: raw})
	}
}

// said checks that an honest coordinator signs once.
func (l *Tangle) said(m *Machine, p step.Packet) {
	f, ok := p.Msg.(gossip.Frame)
	i := slices.Index(l.nodes, m)
	if !ok || i < 0 || i > 2 {
		return
	}
	msg, err := node.Decode(f.Raw)
	if err != nil {
		l.Fail(fmt.Errorf("%s sends what cannot be read: %w", m.Name, err))
		return
	}
	public := tangleCoordinators()[i].Public()
	check := func(index uint32, id stardust.MilestoneID) {
		key := signing{m.Name, index}
		if first, ok := l.signed[key]; ok && first != id {
			l.Fail(fmt.Errorf("%s signs two milestones of index %d", m.Name, index))
		}
		l.signed[key] = id
	}
	switch msg := msg.(type) {
	case node.Sign:
		if msg.Signature.Public == public {
			check(msg.Index, msg.Milestone)
		}
	case node.Propose:
		for _, s := range msg.Milestone.Signatures {
			if s.Public == public {
				check(msg.Milestone.Index, msg.Milestone.ID())
			}
		}
	}
}

// heard checks what a node says is confirmed against what others have.
func (l *Tangle) heard(m *Machine, o step.Outcome) {
	switch v := o.Value.(type) {
	case node.Confirmed:
		if l.twice(v.Index) {
			return
		}
		if first, ok := l.milestones[v.Index]; ok && first != v.ID {
			l.Fail(fmt.Errorf("%s has confirmed another milestone %d than others", m.Name, v.Index))
		}
		l.milestones[v.Index] = v.ID
	case node.Settled:
		l.settledTx(m, o.ID, v)
	}
	if o.ID == node.HaltID && !l.stolen {
		l.Fail(fmt.Errorf("%s stops: %w", m.Name, o.Err))
	}
}

// twice reports whether there may be two histories at an index.
func (l *Tangle) twice(index uint32) bool { return l.theft != 0 && index >= l.theft }

func (l *Tangle) settledTx(m *Machine, id string, s node.Settled) {
	if l.twice(s.Milestone.Index) {
		return
	}
	for tx, t := range l.txs {
		if node.TxID(tx) != id {
			continue
		}
		if first, ok := l.applied[tx]; ok && first != s {
			l.Fail(fmt.Errorf("%s has applied a transaction in block %v, others in %v", m.Name, s.Block, first.Block))
		}
		l.applied[tx] = s
		for _, in := range t.Essence.Inputs {
			if other, ok := l.spent[in]; ok && other != tx {
				l.Fail(fmt.Errorf("%s has applied two transactions that spend output %v", m.Name, in))
			}
			l.spent[in] = tx
		}
	}
}

// settled tells whether users wait for nothing and all nodes have the same; if keys
// were stolen, whether all nodes have stopped.
func (l *Tangle) settled() bool {
	first := l.node(0).Info()
	for i := range l.nodes {
		info := l.node(i).Info()
		if l.stolen {
			if info.Halted == nil {
				return false
			}
			continue
		}
		if info.Milestone != first.Milestone || info.Own > 0 {
			return false
		}
	}
	return l.stolen || !slices.ContainsFunc(l.users, func(u *tangleUser) bool { return len(u.open) > 0 })
}

func (l *Tangle) unsettled() error {
	var state []string
	for i := range l.nodes {
		info := l.node(i).Info()
		state = append(state, fmt.Sprintf("%s: milestone %d, %d unconfirmed, %d unsolid, %d own, halted %v", nodeName(i), info.Latest.Index, info.Unconfirmed, info.Unsolid, info.Own, info.Halted))
	}
	for _, u := range l.users {
		if len(u.open) > 0 {
			state = append(state, fmt.Sprintf("%s waits for %v", u.name, u.open[0].ID()))
		}
	}
	return fmt.Errorf("not settled %d s after everything works again: %q", tangleSettle/step.Second, state)
}

// audit checks what is on the disks: the same order and the same outputs everywhere,
// and the supply.
func (l *Tangle) audit() error {
	for i := range l.nodes {
		a, b := l.node(0), l.node(i)
		if sum := b.Supply(); sum != tangleSupply {
			return fmt.Errorf("%s has outputs of %d; the supply is %d", nodeName(i), sum, tangleSupply)
		}
		for index := max(a.Info().Oldest, b.Info().Oldest); index <= min(a.Info().Latest.Index, b.Info().Latest.Index) && !l.twice(index); index++ {
			x, y := order(a, index), order(b, index)
			if !bytes.Equal(x, y) {
				return fmt.Errorf("%s and %s have different orders in milestone %d", nodeName(0), nodeName(i), index)
			}
		}
		if a.Info().Milestone != b.Info().Milestone {
			continue // stopped at different ones
		}
		for _, u := range l.users {
			x, y := a.OutputsOf(u.address, stardust.OutputID{}, 1000), b.OutputsOf(u.address, stardust.OutputID{}, 1000)
			if !slices.Equal(x, y) {
				return fmt.Errorf("%s and %s have different outputs of %s", nodeName(0), nodeName(i), u.name)
			}
		}
	}
	return l.auditProofs()
}

// auditProofs asks the node that keeps everything to show every transaction.
func (l *Tangle) auditProofs() error {
	for id := range l.applied {
		p, err := l.node(3).Proof(id)
		if l.stolen && err != nil {
			continue // it stopped before
		}
		if err == nil {
			_, err = p.Verify(l.network.Trust())
		}
		if err != nil {
			return fmt.Errorf("transaction %v cannot be shown: %w", id, err)
		}
	}
	return nil
}

func order(n *node.Node, index uint32) (all []byte) {
	ids, applied := n.Order(index)
	for i := range ids {
		all = append(fmt.Append(all, applied[i]), ids[i][:]...)
	}
	return all
}
