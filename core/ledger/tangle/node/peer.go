package node

import (
	"cmp"
	"slices"

	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/step"
)

// A peer is a node that this one exchanges frames with.
type peer struct {
	name    string
	fixed   bool // from Config
	greeted bool // speaks this network's protocol
	latest  uint32
	oldest  uint32
	unsolid share
	wanted  int // blocks asked for on its behalf
	bad     uint64
	dropped uint64
	served  int // bytes, as of served At
	at      step.Time
	asks    []tangle.BlockID // of this step
}

// join finds a peer or makes one, if there is room.
func (n *Node) join(name string) *peer {
	if p := n.peers[name]; p != nil {
		return p
	}
	if name == "" || len(n.peers) >= MaxPeers {
		return nil
	}
	p := &peer{name: name}
	n.peers[name] = p
	at, _ := slices.BinarySearchFunc(n.order, name, func(p *peer, name string) int { return cmp.Compare(p.name, name) })
	n.order = slices.Insert(n.order, at, p)
	return p
}

// leave forgets a peer that is gone, and what waits on its behalf. One that the
// configuration names stays, and is asked for nothing before it greets again.
func (n *Node) leave(name string) {
	p := n.peers[name]
	if p == nil {
		return
	}
	if p.greeted, p.asks = false, nil; p.fixed {
		return
	}
	for len(p.unsolid.list) > 0 {
		n.dropOldest(p)
	}
	delete(n.peers, name)
	n.order = slices.DeleteFunc(n.order, func(q *peer) bool { return q == p })
	n.later = slices.DeleteFunc(n.later, func(s said) bool { return s.by == p })
}

func (n *Node) send(to string, m Message) {
	n.fx.Send = append(n.fx.Send, step.Packet{To: to, Msg: Frame(m)})
}

// broadcast sends to all that speak the protocol but one.
func (n *Node) broadcast(m Message, but *peer) {
	f := Frame(m)
	for _, p := range n.order {
		if p.greeted && p != but {
			n.fx.Send = append(n.fx.Send, step.Packet{To: p.name, Msg: f})
		}
	}
}

// greet tells a peer where the node stands.
func (n *Node) greet(peer string) {
	m := Greet{Network: n.net.ID, Latest: n.head.Index, Oldest: n.head.Oldest}
	if n.load == nil {
		tips := n.dag.Tips()
		m.Tips = blockIDs(tips[:min(len(tips), MaxGreetTips)])
	}
	n.send(peer, m)
}

// greeted notes where a peer stands, and what it has that this node does not.
func (n *Node) greeted(p *peer, m Greet) {
	if m.Network != n.net.ID {
		n.rejected.Malformed++
		p.greeted = false
		return
	}
	if !p.greeted {
		p.greeted = true
		n.greet(p.name) // it may have missed ours
	}
	p.latest, p.oldest = m.Latest, m.Oldest
	if n.load != nil || m.Latest > n.head.Index+1 {
		return // milestones first
	}
	for _, id := range m.Tips {
		if !n.knows(id) {
			n.want(id, p)
		}
	}
}
