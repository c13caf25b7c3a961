package lab

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/step"
	tanglenet "coinop.dev/engine/tangle"
)

const (
	// tanglePart is what every account has at first, in base units.
	tanglePart = 1_000_000
	// tangleFan is how many accounts share what one transaction gives out, and
	// tangleRoots how many outputs the genesis has; a hub is given one of its parts.
	tangleFan   = 120
	tangleRoots = 100
	// maxTangleAccounts is what that comes to.
	maxTangleAccounts = tangleRoots * tangleFan * tangleFan
	// tangleWindow is how many transactions all nodes have under way at most when there
	// is no rate: they are final by the second, all at once.
	tangleWindow = 12_000
	// txPrefix is how the outcome of a transaction begins.
	txPrefix = "tx/"
)

// tangleNetwork is one whose keys everybody knows: it lives for a measurement. Every
// account spends once, because what it gets is known only when a milestone has
// confirmed it.
type tangleNetwork struct {
	o        LedgerOptions
	network  *tangle.Network
	accounts []tangleAccount
	turn     int
	deeds    []sighting
}

type tangleAccount struct {
	key     eddsa.Secret
	address tangle.Address
	output  tangle.OutputID
}

func newTangleAccount(name string) tangleAccount {
	key := tangleSecret(name)
	return tangleAccount{key: key, address: tangle.NewAddress(key.Public())}
}

func tangleSecret(name string) eddsa.Secret {
	var key [32]byte
	copy(key[:], name)
	return eddsa.NewSecret(eddsa.SHA512, key)
}

func coordinatorKey(i int) eddsa.Secret { return tangleSecret(fmt.Sprint("coordinator", i)) }

// tangleGenesis is what every node makes by itself.
func tangleGenesis(o LedgerOptions) (*tangle.Network, error) {
	var genesis []tangle.BasicOutput
	for i := range tangleRoots {
		genesis = append(genesis, tangle.BasicOutput{Amount: tanglePart * tangleFan * tangleFan, Address: newTangleAccount(fmt.Sprint("root", i)).address})
	}
	var coordinators [][32]byte
	for i := range o.Nodes {
		coordinators = append(coordinators, coordinatorKey(i).Public())
	}
	n, err := tangle.NewNetwork("lab", "lab", o.Nodes*2/3+1, coordinators, genesis)
	if err == nil {
		n.MinZeros = o.Zeros
	}
	return n, err
}

func newTangleNetwork(o LedgerOptions) (network, error) {
	t := &tangleNetwork{o: o}
	accounts := o.Transfers + min(o.Accounts, o.Transfers/2+1)
	if accounts > maxTangleAccounts {
		return nil, fmt.Errorf("%d transfers and %d to warm up; a network for a measurement has %d accounts, and each spends once", o.Transfers, accounts-o.Transfers, maxTangleAccounts)
	}
	for i := range accounts {
		t.accounts = append(t.accounts, newTangleAccount(fmt.Sprint("account", i)))
	}
	var err error
	t.network, err = tangleGenesis(o)
	return t, err
}

func (t *tangleNetwork) units() int { return 1 }

// task leaves the genesis out: a node makes it by itself.
func (t *tangleNetwork) task(int) ledgerTask {
	raw, err := json.Marshal(t.o)
	step.Assert(err == nil, "lab network: %v", err)
	return ledgerTask{Network: raw}
}

// setup gives a part of the genesis to hubs, and then every account its own.
func (t *tangleNetwork) setup() [][]unit {
	var hubs []tangleAccount
	for i := range (len(t.accounts) + tangleFan - 1) / tangleFan {
		hubs = append(hubs, newTangleAccount(fmt.Sprint("hub", i)))
	}
	var first, second []unit
	for i := range min(tangleRoots, len(hubs)) {
		var to []*tangleAccount
		for j := i; j < len(hubs); j += tangleRoots {
			to = append(to, &hubs[j])
		}
		root := newTangleAccount(fmt.Sprint("root", i))
		root.output = tangle.GenesisOutput(uint16(i))
		first = append(first, t.share(i, root, t.network.Genesis[i].Amount, tanglePart*tangleFan, to))
	}
	for i, hub := range hubs {
		var to []*tangleAccount
		for j := i * tangleFan; j < min(len(t.accounts), (i+1)*tangleFan); j++ {
			to = append(to, &t.accounts[j])
		}
		second = append(second, t.share(i, hub, tanglePart*tangleFan, tanglePart, to))
	}
	return [][]unit{first, second}
}

// share gives each a part of what one has, who keeps the rest.
func (t *tangleNetwork) share(at int, from tangleAccount, has, part uint64, to []*tangleAccount) unit {
	var out []tangle.BasicOutput
	for _, a := range to {
		out = append(out, tangle.BasicOutput{Amount: part, Address: a.address})
	}
	if rest := has - part*uint64(len(to)); rest > 0 {
		out = append(out, tangle.BasicOutput{Amount: rest, Address: from.address})
	}
	u, id := t.spend(at, from, has, out)
	for i, a := range to {
		a.output = tangle.NewOutputID(id, uint16(i))
	}
	return u
}

func (t *tangleNetwork) spend(at int, from tangleAccount, has uint64, out []tangle.BasicOutput) (unit, tangle.TransactionID) {
	spent := []tangle.BasicOutput{{Amount: has, Address: from.address}}
	e, err := tangle.NewEssence(t.network, []tangle.OutputID{from.output}, spent, out, nil)
	step.Assert(err == nil, "lab transaction: %v", err)
	tx, err := e.Sign(spent, from.key)
	step.Assert(err == nil, "lab transaction: %v", err)
	return unit{at % t.o.Nodes, [32]byte(tx.ID()), tx.Append(nil)}, tx.ID()
}

// transfers go from each account once, to the one half way round.
func (t *tangleNetwork) transfers(n int) (units []unit) {
	for range n {
		from, to := t.accounts[t.turn], t.accounts[(t.turn+len(t.accounts)/2)%len(t.accounts)]
		u, _ := t.spend(t.turn, from, tanglePart, []tangle.BasicOutput{{Amount: 1000, Address: to.address}, {Amount: tanglePart - 1000, Address: from.address}})
		units = append(units, u)
		t.deeds = append(t.deeds, sighting{Payer: from.address[:], Payee: to.address[:], Amount: 1000})
		t.turn++
	}
	return units
}

func (t *tangleNetwork) made() []sighting { return t.deeds }

// tangleNode is one that runs here.
type tangleNode struct {
	e    *end
	net  *tanglenet.Node
	at   string
	sent uint64
}

func openTangleNode(ctx context.Context, e *end, t *ledgerTask) (ledgerNode, error) {
	var o LedgerOptions
	if err := json.Unmarshal(t.Network, &o); err != nil {
		return nil, err
	}
	network, err := tangleGenesis(o)
	if err != nil {
		return nil, err
	}
	c := node.Config{Network: network, Tips: node.Tips{MCMC: o.Alpha > 0, Alpha: o.Alpha}}
	c.Coordinator = node.Coordinator{Secret: coordinatorKey(t.Node), Primary: t.Node == 0, Interval: step.Time(o.Interval.Milliseconds())}
	if t.Node > 0 {
		c.Coordinator.Follows = coordinatorKey(0).Public()
	}
	addr, err := e.machine.Listen(t.Listen)
	if err != nil {
		return nil, err
	}
	n := &tangleNode{e: e, at: e.machine.Key.Public().String() + "@" + addr.String()}
	e.machine.Host.Hear(func(o step.Outcome) {
		switch v := o.Value.(type) {
		case node.Settled:
			if id, err := txOf(o.ID); err == nil {
				e.finals.finalBy(id, uint64(v.Milestone.Index))
			}
		case node.Confirmed:
			e.finals.mark(uint64(v.Index))
		}
	})
	n.net, err = tanglenet.Open(ctx, e.machine, tanglenet.Options{Config: c, Peers: t.Peers})
	return n, err
}

func txOf(outcome string) (id [32]byte, err error) {
	text, ok := strings.CutPrefix(outcome, txPrefix)
	if !ok || hex.DecodedLen(len(text)) != len(id) {
		return id, errors.New("it is of no transaction")
	}
	_, err = hex.Decode(id[:], []byte(text))
	return id, err
}

func (t *tangleNode) addr() string { return t.at }
func (t *tangleNode) close()       { t.net.Close() }

// lost is none that anybody counts: what a link does not take is said again.
func (t *tangleNode) lost() uint64 { return 0 }

func (t *tangleNode) state() (text string) {
	t.net.Look(context.Background(), func(n *node.Node) { text = fmt.Sprintf("%+v", n.Info()) })
	return text
}

func (t *tangleNode) submit(ctx context.Context, raw []byte) error {
	tx, err := tangle.DecodeTransaction(raw)
	if err != nil {
		return err
	}
	t.sent++
	return t.e.machine.Host.Tell(ctx, node.Core, node.Submit{ID: fmt.Sprint("lab/", t.sent), Payload: tx})
}

// seen is a transaction: who had its first input pays, and whoever else gets an output
// is paid.
func (t *tangleNode) seen(units [][32]byte) (s sighting, ok bool) {
	t.net.Look(context.Background(), func(n *node.Node) {
		at, included := n.Included(units[0])
		if !included {
			return
		}
		b, err := tangle.DecodeBlock(n.Block(at))
		if err != nil {
			return
		}
		tx, is := b.Payload.(*tangle.Transaction)
		if !is {
			return
		}
		var payer tangle.Address
		for i, id := range tx.Essence.Inputs {
			spent, known := n.Output(id)
			if !known {
				return
			}
			if i == 0 {
				payer = spent.Address
			}
			s.Taken += spent.Amount
		}
		s.Payer = payer[:]
		for _, out := range tx.Essence.Outputs {
			if out.Address != payer {
				s.Payee, s.Amount = out.Address[:], s.Amount+out.Amount
			}
			s.Taken -= out.Amount
		}
		ok = true
	})
	return s, ok
}

func (t *tangleNode) verify(units []unit) (n int, err error) {
	batch := eddsa.NewBatch(eddsa.SHA512)
	for len(units) > 0 {
		some := units[:min(len(units), latticeVerify)]
		units = units[len(some):]
		for _, u := range some {
			tx, err := tangle.DecodeTransaction(u.raw)
			if err != nil {
				return 0, err
			}
			for _, c := range tx.Checks() {
				batch.Add(c.Public, c.Message[:], c.Signature)
				n++
			}
		}
		if all, _ := batch.Verify(); !all {
			return 0, errors.New("a signature of the lab's own is bad")
		}
		batch.Reset()
	}
	return n, nil
}

// mark notes when a milestone was confirmed here.
func (f *finals) mark(index uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.marks == nil {
		f.marks = map[uint64]int64{}
	}
	f.marks[index] = time.Now().UnixNano()
}

// finalBy is final, by a milestone.
func (f *finals) finalBy(id [32]byte, index uint64) {
	f.mu.Lock()
	if f.by == nil {
		f.by = map[[32]byte]uint64{}
	}
	f.by[id] = index
	f.mu.Unlock()
	f.final(id)
}
