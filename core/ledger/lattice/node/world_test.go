package node_test

import (
	"fmt"
	"testing"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/gossip"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
	"coinop.dev/world/store/mem"
)

// What is the least work that still is some.
const (
	workSend    = 0xc000000000000000
	workReceive = 0x8000000000000000
)

// world is some nodes on a wire that loses nothing, a millisecond a message.
type world struct {
	t       *testing.T
	network lattice.Network
	genesis *wallet
	reps    []eddsa.Secret
	nodes   []*end
	now     step.Time
	wire    []parcel
	cut     func(from, to string) bool
	seen    func(from *end, m lattice.Message)
}

type parcel struct {
	at       step.Time
	from, to string
	frame    gossip.Frame
}

// end is a node with its disk.
type end struct {
	*node.Node
	*world
	name     string
	config   node.Config
	db       *mem.DB
	alarm    step.Time
	outcomes []step.Outcome
	told     []step.Packet // to wallets
	puts     int
}

func secret(name string) eddsa.Secret {
	var key [32]byte
	copy(key[:], name)
	return lattice.NewSecret(key)
}

// newWorld has so many nodes, each with a representative, that share the supply.
func newWorld(t *testing.T, nodes int, change ...func(*node.Config)) *world {
	w := &world{t: t, now: 1_700_000_000_000}
	genesis := secret("genesis")
	w.network = lattice.NewNetwork("test", genesis, lattice.RawOf(1_000_000_000), workSend, workReceive)
	w.network.OnlineMinimum = w.network.Supply()
	w.genesis = w.wallet("genesis")
	w.genesis.frontier, w.genesis.balance, w.genesis.rep = w.network.Genesis.Hash(), w.network.Supply(), lattice.Key(genesis.Public())
	for i := range nodes {
		w.reps = append(w.reps, secret(fmt.Sprint("rep", i)))
	}
	for i := range nodes {
		c := node.Config{Network: w.network, ID: secret(fmt.Sprint("id", i))}
		for j := range nodes {
			if j != i {
				c.Peers = append(c.Peers, fmt.Sprint("node", j))
			}
		}
		c.Reps = []eddsa.Secret{w.reps[i]}
		if i == 0 {
			c.Reps = append(c.Reps, genesis)
		}
		for _, f := range change {
			f(&c)
		}
		db := newStore(t)
		e := &end{world: w, name: fmt.Sprint("node", i), config: c, db: db}
		w.nodes = append(w.nodes, e)
		e.start()
	}
	return w
}

func newStore(t *testing.T) *mem.DB {
	t.Helper()
	db, err := mem.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func (e *end) start() {
	e.t.Helper()
	n, err := node.Load(e.db, e.config)
	if err != nil {
		e.t.Fatal(err)
	}
	e.Node, e.alarm = n, 0
	e.step(step.Rang{ID: step.Start})
}

// step carries out what the node wants, as the driver would.
func (e *end) step(events ...any) {
	e.t.Helper()
	fx := e.Node.Step(step.Input{At: e.now, Events: events})
	if err := drive.Carry((*hands)(e), fx); err != nil {
		e.t.Fatal(err)
	}
}

type hands end

func (h *hands) Commit(records []step.Record) error {
	h.puts += len(records)
	return h.db.Commit(records)
}

func (h *hands) Send(p step.Packet) {
	f, ok := p.Msg.(gossip.Frame)
	if !ok {
		h.told = append(h.told, p)
		return
	}
	if h.seen != nil {
		m, err := lattice.Decode(f.Raw, h.network.Magic)
		if err != nil {
			h.t.Fatalf("%s sends what is no message: %v", h.name, err)
		}
		h.seen((*end)(h), m)
	}
	if h.cut == nil || !h.cut(h.name, p.To) {
		h.wire = append(h.wire, parcel{h.now + 1, h.name, p.To, f})
	}
}

func (h *hands) Wake(a step.Alarm)   { h.alarm = a.At }
func (h *hands) Done(o step.Outcome) { h.outcomes = append(h.outcomes, o) }

// run lets time pass.
func (w *world) run(d step.Time) {
	w.t.Helper()
	for end := w.now + d; w.now < end; w.now++ {
		arrived := w.wire
		w.wire = nil
		events := map[string][]any{}
		for _, p := range arrived {
			if p.at <= w.now {
				events[p.to] = append(events[p.to], step.Recv{From: p.from, Msg: p.frame})
			} else {
				w.wire = append(w.wire, p)
			}
		}
		for _, e := range w.nodes {
			if e.alarm != 0 && e.alarm <= w.now {
				e.alarm = 0
				events[e.name] = append(events[e.name], step.Rang{ID: "tick"})
			}
			if len(events[e.name]) > 0 {
				e.step(events[e.name]...)
			}
		}
	}
}

// until runs until something is so.
func (w *world) until(what string, so func() bool) {
	w.t.Helper()
	for range 60_000 {
		if so() {
			return
		}
		w.run(1)
	}
	for _, e := range w.nodes {
		w.t.Logf("%s: %+v, %+v, %+v", e.name, e.Counts(), e.Quorum(), e.Elections())
	}
	w.t.Fatalf("a minute later it is not so: %s", what)
}

// everywhere tells whether a block is cemented on all nodes.
func (w *world) everywhere(h lattice.Hash) bool {
	for _, e := range w.nodes {
		if s, known := e.Block(h); !known || !s.Confirmed {
			return false
		}
	}
	return true
}

// conserved checks that what accounts have and what waits for them is the supply,
// and that weights are what accounts have.
func (w *world) conserved() {
	w.t.Helper()
	for _, e := range w.nodes {
		var sum, weights lattice.Raw
		reps := map[lattice.Key]bool{}
		for _, a := range e.Accounts(lattice.Key{}, 100_000) {
			reps[a.Representative] = true
			sum, _ = sum.Add(a.Balance)
		}
		for rep := range reps {
			weights, _ = weights.Add(e.Weight(rep))
		}
		if weights != e.cementedSum() {
			w.t.Errorf("%s: representatives have %v, accounts %v", e.name, weights, e.cementedSum())
		}
		e.db.Scan("lattice/r/", func(_ string, v []byte) bool {
			amount := lattice.Raw{}
			for _, b := range v[32:40] {
				amount.Hi = amount.Hi<<8 | uint64(b)
			}
			for _, b := range v[40:48] {
				amount.Lo = amount.Lo<<8 | uint64(b)
			}
			sum, _ = sum.Add(amount)
			return true
		})
		if sum != w.network.Supply() {
			w.t.Errorf("%s: accounts and what waits for them come to %v of %v", e.name, sum, w.network.Supply())
		}
	}
}

func (e *end) cementedSum() (sum lattice.Raw) {
	for _, a := range e.Accounts(lattice.Key{}, 100_000) {
		sum, _ = sum.Add(a.Balance)
	}
	return sum
}

// wallet makes an account's blocks.
type wallet struct {
	key      eddsa.Secret
	rep      lattice.Key
	frontier lattice.Hash
	balance  lattice.Raw
}

func (w *world) wallet(name string) *wallet {
	return &wallet{key: secret(name), rep: lattice.Key(secret("rep0").Public())}
}

func (a *wallet) account() lattice.Key { return a.key.Public() }

// make signs a block behind the newest, without taking note of it.
func (a *wallet) make(balance lattice.Raw, link [32]byte, threshold uint64) lattice.Block {
	b := lattice.Block{Account: a.account(), Previous: a.frontier, Representative: a.rep, Balance: balance, Link: link}
	b.Work = lattice.Work(b.Root(), threshold, 0)
	b.Sign(a.key)
	return b
}

func (a *wallet) take(b lattice.Block) lattice.Block {
	a.frontier, a.balance = b.Hash(), b.Balance
	return b
}

func (a *wallet) send(to lattice.Key, amount uint64) lattice.Block {
	rest, ok := a.balance.Sub(lattice.RawOf(amount))
	if !ok {
		panic("not so much")
	}
	return a.take(a.make(rest, to, workSend))
}

func (a *wallet) receive(source lattice.Hash, amount uint64) lattice.Block {
	more, _ := a.balance.Add(lattice.RawOf(amount))
	return a.take(a.make(more, source, workReceive))
}

func (a *wallet) change(rep lattice.Key) lattice.Block {
	a.rep = rep
	return a.take(a.make(a.balance, [32]byte{}, workSend))
}

// publish hands a block to a node, as its RPC does.
func (e *end) publish(b lattice.Block) (node.Processed, error) {
	e.t.Helper()
	e.outcomes = nil
	e.step(node.Process{ID: "process", Block: b})
	for _, o := range e.outcomes {
		if o.ID == "process" {
			p, _ := o.Value.(node.Processed)
			return p, o.Err
		}
	}
	e.t.Fatal("a block is not answered")
	return node.Processed{}, nil
}

func (e *end) must(b lattice.Block) lattice.Hash {
	e.t.Helper()
	p, err := e.publish(b)
	if err != nil {
		e.t.Fatalf("%s: %v", e.name, err)
	}
	return p.Hash
}

// share gives every representative but the first, which has the genesis account,
// an equal part of the supply.
func (w *world) share() {
	w.t.Helper()
	part := uint64(1_000_000_000 / len(w.nodes))
	for i := 1; i < len(w.nodes); i++ {
		a := &wallet{key: w.reps[i], rep: w.reps[i].Public()}
		h := w.nodes[0].must(w.genesis.send(a.account(), part))
		w.until("the share is sent", func() bool { return w.everywhere(h) })
		h = w.nodes[0].must(a.receive(h, part))
		w.until("the share is received", func() bool { return w.everywhere(h) })
	}
}
