package node

import (
	"bytes"
	"slices"

	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/step"
)

// Questions are asked between steps, by the goroutine that steps.

// Account is an account as its newest block leaves it.
func (n *Node) Account(k Key) (Account, bool) {
	a := n.chainOf(k).tip()
	return a, a.Height > 0
}

// Block finds a block of the ledger.
func (n *Node) Block(h lattice.Hash) (Stored, bool) {
	if e := n.pending[h]; e != nil {
		s := e.Stored
		if at := int(e.Height - e.chain.base.Height); at < len(e.chain.pending) {
			s.Successor = e.chain.pending[at].hash
		}
		return s, true
	}
	raw := n.disk.get(keyBlock(h))
	if raw == nil {
		return Stored{}, false
	}
	s, err := decodeStored(raw)
	step.Assert(err == nil, "%v", err)
	if next := n.disk.get(keyHeight(s.Account, s.Height+1)); next != nil {
		s.Successor = lattice.Hash(next)
	} else if c := n.chainOf(s.Account); c.base.Height == s.Height && len(c.pending) > 0 {
		s.Successor = c.pending[0].hash
	}
	return s, true
}

// History is an account's blocks downwards from a height, or from its newest if
// that is 0.
func (n *Node) History(k Key, from uint64, count int) (list []Stored) {
	c := n.chainOf(k)
	tip := c.tip()
	if from == 0 || from > tip.Height {
		from = tip.Height
	}
	for h := from; h > 0 && len(list) < count; h-- {
		var hash lattice.Hash
		if h > c.base.Height {
			hash = c.pending[h-c.base.Height-1].hash
		} else if raw := n.disk.get(keyHeight(k, h)); raw != nil {
			hash = lattice.Hash(raw)
		}
		s, known := n.Block(hash)
		if !known {
			break
		}
		list = append(list, s)
	}
	return list
}

// Receivable is what waits for an account, largest first: at most so many of at
// least an amount.
func (n *Node) Receivable(k Key, most int, least lattice.Raw, alsoUnconfirmed bool) []lattice.Receivable {
	return n.receivable(k, most, least, alsoUnconfirmed, false)
}

func (n *Node) receivable(k Key, most int, least lattice.Raw, alsoUnconfirmed, now bool) (list []lattice.Receivable) {
	prefix := atReceivable + string(k[:])
	one := func(key string, value []byte) bool {
		v, err := decodeReceivable(lattice.Hash([]byte(key[len(prefix):])), value)
		step.Assert(err == nil, "%v", err)
		if n.taken[taking{k, v.Source}] == nil && v.Amount.Cmp(least) >= 0 {
			list = append(list, v)
		}
		return len(list) < most
	}
	n.disk.scan(prefix, func(key string, value []byte) bool {
		if _, changed := n.disk.put[key]; changed {
			return true
		}
		return one(key, value)
	})
	for i := 0; now && i < len(n.disk.list) && len(list) < most; i++ {
		if r := &n.disk.list[i]; len(r.Key) > len(prefix) && r.Key[:len(prefix)] == prefix && r.Value != nil {
			one(r.Key, r.Value)
		}
	}
	if alsoUnconfirmed {
		for _, e := range n.pending {
			if e.Kind == lattice.Send && Key(e.Link) == k && e.taker == nil && e.Amount.Cmp(least) >= 0 && len(list) < most {
				list = append(list, lattice.Receivable{Source: e.hash, From: e.Account, Amount: e.Amount})
			}
		}
	}
	slices.SortFunc(list, func(a, b lattice.Receivable) int {
		if d := b.Amount.Cmp(a.Amount); d != 0 {
			return d
		}
		return bytes.Compare(a.Source[:], b.Source[:])
	})
	return list
}

// Accounts are cemented accounts from one on, in the order of their keys.
func (n *Node) Accounts(from Key, count int) (list []Account) {
	n.accountsFrom(from, count, func(a Account) { list = append(list, a) })
	return list
}

// Counts says how large things are.
func (n *Node) Counts() Counts {
	return Counts{
		Blocks: n.totals.blocks + uint64(len(n.pending)), Cemented: n.totals.blocks, Accounts: n.totals.accounts,
		Unchecked: len(n.waitsFor.hashes), Elections: len(n.active), Backlog: len(n.pending), Peers: len(n.peers.list),
		Signed: n.signed, Checked: n.checked, Dropped: n.dropped, Switched: n.switched,
	}
}

// Quorum says how many votes it takes now.
func (n *Node) Quorum() Quorum {
	q := Quorum{Delta: n.quorum(), Online: n.delta.online, Trended: n.delta.trended, Minimum: n.Network.OnlineMinimum}
	for rep, p := range n.peers.voices {
		if p != nil {
			q.Peers, _ = q.Peers.Add(n.weight(rep))
		}
	}
	return q
}

// Weight is what accounts have delegated to a representative.
func (n *Node) Weight(rep Key) lattice.Raw { return n.weights[rep] }

// Representatives are those with a thousandth of the weight or more, in the order
// of their keys, and whether each has voted lately.
func (n *Node) Representatives() (list []Rep) {
	for rep, w := range n.weights {
		if n.isPrincipal(rep) {
			_, online := n.online[rep]
			list = append(list, Rep{Key: rep, Weight: w, Online: online})
		}
	}
	slices.SortFunc(list, func(a, b Rep) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	return list
}

// Rep is a principal representative.
type Rep struct {
	Key    Key
	Weight lattice.Raw
	Online bool
}

// Elections are those that are not over.
func (n *Node) Elections() (list []Election) {
	for _, v := range n.active {
		list = append(list, n.describe(v))
	}
	return list
}

// Peer is what is known of one.
type Peer struct {
	Name      string
	ID        Key
	Reps      int    // principal representatives that speak through it
	Faults    uint64 // messages that were none
	Telemetry *lattice.Telemetry
}

// PeerList lists the peers by name.
func (n *Node) PeerList() (list []Peer) {
	for _, p := range n.peers.list {
		list = append(list, Peer{p.name, p.id, p.reps, p.faults, p.telemetry})
	}
	return list
}
