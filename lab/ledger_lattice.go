package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/core/step"
	nanonet "coinop.dev/engine/lattice"
)

const (
	// latticeWork is the least work that is any: what is measured is the network, and
	// not how long a machine searches.
	latticeWork = 0x8000000000000000
	// latticePart is what every account has at first, in raw.
	latticePart = 1 << 40
	// latticeVerify is how many signatures are checked together when they are timed.
	latticeVerify = 256
)

// latticeNetwork is one whose keys everybody knows: it lives for a measurement.
type latticeNetwork struct {
	o        LedgerOptions
	network  lattice.Network
	genesis  *latticeAccount
	reps     []*latticeAccount
	accounts []*latticeAccount
	turn     int
	deeds    []sighting
}

type latticeAccount struct {
	key      eddsa.Secret
	public   lattice.Key
	rep      lattice.Key
	frontier lattice.Hash
	balance  lattice.Raw
}

func labSecret(name string) eddsa.Secret {
	var key [32]byte
	copy(key[:], name)
	return lattice.NewSecret(key)
}

func newLatticeAccount(name string, rep lattice.Key) *latticeAccount {
	key := labSecret(name)
	return &latticeAccount{key: key, public: key.Public(), rep: rep}
}

func newLatticeNetwork(o LedgerOptions) *latticeNetwork {
	genesis := labSecret("genesis")
	l := &latticeNetwork{o: o, network: lattice.NewNetwork("lab", genesis, lattice.Raw{Hi: 1}, latticeWork, latticeWork)}
	l.genesis = newLatticeAccount("genesis", genesis.Public())
	l.genesis.frontier, l.genesis.balance = l.network.Genesis.Hash(), l.network.Supply()
	for i := range o.Nodes {
		rep := newLatticeAccount(fmt.Sprint("rep", i), lattice.Key{})
		rep.rep = rep.public
		l.reps = append(l.reps, rep)
	}
	for i := range o.Accounts {
		l.accounts = append(l.accounts, newLatticeAccount(fmt.Sprint("account", i), l.reps[i%o.Nodes].public))
	}
	return l
}

func (l *latticeNetwork) units() int { return 2 }

func (l *latticeNetwork) task(int) ledgerTask {
	raw, err := json.Marshal(l.network)
	step.Assert(err == nil, "lab network: %v", err)
	return ledgerTask{Network: raw}
}

func (a *latticeAccount) block(balance lattice.Raw, link [32]byte) *lattice.Block {
	b := &lattice.Block{Account: a.public, Previous: a.frontier, Representative: a.rep, Balance: balance, Link: link}
	b.Work = lattice.Work(b.Root(), latticeWork, 0)
	b.Sign(a.key)
	a.frontier, a.balance = b.Hash(), balance
	return b
}

// give is a send and its receive, both at one node.
func (l *latticeNetwork) give(at int, from, to *latticeAccount, amount lattice.Raw) []unit {
	rest, ok := from.balance.Sub(amount)
	step.Assert(ok, "lab: an account is empty")
	more, _ := to.balance.Add(amount)
	send := from.block(rest, to.public)
	receive := to.block(more, send.Hash())
	return []unit{
		{at, send.Hash(), send.Append(nil)},
		{at, receive.Hash(), receive.Append(nil)},
	}
}

// setup gives every representative an equal part, and then every account one: each
// has it from its representative, whose chain is one of many. What was sent and not
// received yet has no vote, so the genesis account keeps a part as well.
func (l *latticeNetwork) setup() (rounds [][]unit) {
	part, _ := l.network.Supply().Div(uint64(len(l.reps) + 1))
	for _, rep := range l.reps {
		rounds = append(rounds, l.give(0, l.genesis, rep, part))
	}
	// Hubs, so that chains are short: a chain is cemented block by block.
	hubs := min(len(l.accounts), 16*len(l.reps))
	hubPart := uint64(latticePart) * uint64(len(l.accounts)/hubs+2)
	var first, second []unit
	for i, a := range l.accounts {
		at := i % len(l.reps)
		if i < hubs {
			first = append(first, l.give(at, l.reps[at], a, lattice.RawOf(hubPart))...)
		} else {
			second = append(second, l.give(at, l.accounts[i%hubs], a, lattice.RawOf(latticePart))...)
		}
	}
	return append(rounds, first, second)
}

// transfers go from each account in its turn to the one half way round.
func (l *latticeNetwork) transfers(n int) (units []unit) {
	for range n {
		i := l.turn % len(l.accounts)
		j := (i + len(l.accounts)/2) % len(l.accounts)
		l.turn++
		l.deeds = append(l.deeds, sighting{Payer: l.accounts[i].public[:], Payee: l.accounts[j].public[:], Amount: 1})
		units = append(units, l.give(i%len(l.reps), l.accounts[i], l.accounts[j], lattice.RawOf(1))...)
	}
	return units
}

func (l *latticeNetwork) made() []sighting { return l.deeds }

// latticeNode is one that runs here.
type latticeNode struct {
	net *nanonet.Node
}

func openLatticeNode(ctx context.Context, e *end, t *ledgerTask) (ledgerNode, error) {
	c := node.Config{ID: labSecret(fmt.Sprint("id", t.Node)), Reps: []eddsa.Secret{labSecret(fmt.Sprint("rep", t.Node))}}
	if err := json.Unmarshal(t.Network, &c.Network); err != nil {
		return nil, err
	}
	if t.Node == 0 {
		c.Reps = append(c.Reps, labSecret("genesis"))
	}
	n, err := nanonet.Open(ctx, e.machine, nanonet.Options{Config: c, Listen: t.Listen, Peers: t.Peers, Closed: true, MaxPerIP: 2 * MaxLedgerNodes})
	if err != nil {
		return nil, err
	}
	e.machine.Host.Hear(func(o step.Outcome) {
		if c, ok := o.Value.(node.Confirmed); ok {
			e.finals.final(c.Hash)
		}
	})
	return &latticeNode{n}, nil
}

func (l *latticeNode) addr() string { return l.net.Addr().String() }
func (l *latticeNode) close()       { l.net.Close() }

func (l *latticeNode) lost() uint64 {
	c := l.net.Counts()
	sum := c.Unsent
	for _, n := range c.Lost {
		sum += n
	}
	return sum
}

func (l *latticeNode) state() (text string) {
	l.net.Look(context.Background(), func(n *node.Node) {
		text = fmt.Sprintf("%+v; elections %.2000s; network %+v", n.Counts(), fmt.Sprintf("%+v", n.Elections()), l.net.Counts())
	})
	return text
}

func (l *latticeNode) submit(ctx context.Context, raw []byte) error {
	b, err := lattice.DecodeBlock(raw)
	if err != nil {
		return err
	}
	return l.net.ProcessLater(ctx, b)
}

// seen is a send, and what became of it.
func (l *latticeNode) seen(units [][32]byte) (s sighting, ok bool) {
	l.net.Look(context.Background(), func(n *node.Node) {
		send, sent := n.Block(units[0])
		receive, received := n.Block(units[1])
		ok = sent && received && send.Kind == lattice.Send && receive.Link == units[0]
		if lost, less := send.Amount.Sub(receive.Amount); ok && less {
			s = sighting{Payer: send.Account[:], Payee: send.Link[:], Amount: send.Amount.Lo, Taken: lost.Lo}
		}
	})
	return s, ok
}

func (l *latticeNode) verify(units []unit) (n int, err error) {
	batch := lattice.NewBatch(eddsa.NewCache(eddsa.DefaultKeys))
	for len(units) > 0 {
		some := units[:min(len(units), latticeVerify)]
		units = units[len(some):]
		for _, u := range some {
			b, err := lattice.DecodeBlock(bytes.Clone(u.raw))
			if err != nil {
				return 0, err
			}
			batch.Add(b.Account, u.id[:], b.Signature)
		}
		if all, _ := batch.Verify(); !all {
			return 0, errors.New("a signature of the lab's own is bad")
		}
		batch.Reset()
		n += len(some)
	}
	return n, nil
}
