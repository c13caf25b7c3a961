package node

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/step"
)

// keysCached is how many accounts' keys are kept ready for checking.
const keysCached = 4096

// Load makes a node from what its store has. r stays the node's: it reads from it in
// every step.
func Load(r step.Reader, c Config) (*Node, error) {
	if err := c.Network.Check(); err != nil {
		return nil, fmt.Errorf("lattice network: %w", err)
	}
	n := &Node{
		Config: c, disk: disk{under: r, put: map[string]int{}}, genesis: c.Network.Genesis.Hash(),
		young: map[Key]*chain{}, old: map[Key]*chain{}, pending: map[lattice.Hash]*entry{}, taken: map[taking]*entry{},
		weights: map[Key]lattice.Raw{}, elections: map[lattice.Hash]*election{}, standing: map[lattice.Hash]*election{},
		given: map[lattice.Hash]lattice.Hash{}, online: map[Key]step.Time{},
		checking: lattice.NewBatch(eddsa.NewCache(keysCached)).Lend(c.Spread),
	}
	id := c.ID.Public()
	n.salt = binary.LittleEndian.Uint64(id[:])
	n.MaxBacklog = min(cmp.Or(n.MaxBacklog, MaxBacklog), MaxBacklog)
	n.kept.ballots = map[lattice.Hash][]ballot{}
	for _, rep := range c.Reps {
		n.reps = append(n.reps, rep.Public())
	}
	raw, err := r.Get(atCounts)
	if err != nil || raw == nil {
		return n, err
	}
	if n.totals, err = decodeTotals(raw); err != nil {
		return nil, err
	}
	if raw, err = r.Get(atTrend); err != nil {
		return nil, err
	}
	if n.samples, err = decodeSamples(raw); err != nil {
		return nil, err
	}
	n.delta.trended = median(n.samples)
	if raw, err = r.Get(keyBlock(n.genesis)); err == nil && raw == nil && c.Keep == 0 {
		return nil, fmt.Errorf("the store has a ledger, and not that of network %q", c.Network.Name)
	}
	var bad error
	err = r.Scan(atWeight, func(key string, value []byte) bool {
		r := codec.NewReader(value)
		w := readRaw(r)
		n.weights[Key([]byte(key[len(atWeight):]))] = w
		n.delegated, _ = n.delegated.Add(w)
		bad = broken("weight", r)
		return bad == nil
	})
	return n, errors.Join(err, bad)
}

// start is the first step: the genesis block is cemented in a new ledger, and what
// this node has given its last word on is a candidate again.
func (n *Node) start() {
	n.started = n.now
	for _, name := range n.Peers {
		n.peers.join(Joined{Peer: name})
	}
	if len(n.Peers) > 0 {
		n.greet()
	}
	if n.totals.blocks == 0 {
		n.begin()
	}
	n.disk.scan(atFinal, func(key string, value []byte) bool {
		b, err := lattice.DecodeBlock(value)
		step.Assert(err == nil, "final vote on disk: %v", err)
		n.given[lattice.Hash([]byte(key[len(atFinal):]))] = b.Hash()
		n.batch.add(asked{block: b, hash: b.Hash(), pulled: true, checked: true})
		return true
	})
}

// begin writes the genesis block.
func (n *Node) begin() {
	g := &n.Network.Genesis
	n.disk.add(keyReceivable(g.Account, lattice.Hash(g.Link)), encodeReceivable(lattice.Receivable{From: g.Account, Amount: g.Balance}))
	e, why := n.judge(g, n.genesis)
	step.Assert(why == "", "genesis block: %s", why)
	n.cement(e)
}

// Durable is what the node would find if it started now: what the disk has, as far
// as memory says so, too. It walks the whole ledger, so it is for the simulator.
func (n *Node) Durable() (all []step.Record) {
	n.disk.scan(atAccount, func(key string, value []byte) bool {
		k := Key([]byte(key[len(atAccount):]))
		for _, half := range []map[Key]*chain{n.young, n.old} {
			if c := half[k]; c != nil {
				value = c.base.encode()
				break
			}
		}
		all = append(all, step.Record{Key: key, Value: append([]byte{}, value...)})
		return true
	})
	all = append(all, step.Record{Key: atCounts, Value: n.totals.encode()})
	var sum lattice.Raw
	for _, w := range n.weights {
		sum, _ = sum.Add(w)
	}
	return append(all, step.Record{Key: atWeight, Value: n.delegated.Append(sum.Append(nil))})
}
