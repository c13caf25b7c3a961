package node

import (
	"slices"

	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/step"
)

// A want is a block that is asked for.
type want struct {
	id    tangle.BlockID
	by    *peer // who knows of it
	tries int
	next  step.Time
	gone  bool
}

// want asks a peer for a block, now and, if it does not come, others later.
func (n *Node) want(id tangle.BlockID, by *peer) {
	if n.wants[id] != nil || by.wanted >= MaxWanted {
		return
	}
	by.wanted++
	w := &want{id: id, by: by, next: n.now + AskAgain}
	n.wants[id] = w
	n.wantList = append(n.wantList, w)
	by.asks = append(by.asks, id)
}

// got ends the asking for a block.
func (n *Node) got(id tangle.BlockID) {
	if w := n.wants[id]; w != nil {
		w.gone = true
		w.by.wanted--
		delete(n.wants, id)
	}
}

// askAgain asks for what did not come, each time another peer.
func (n *Node) askAgain() {
	n.wantList = slices.DeleteFunc(n.wantList, func(w *want) bool { return w.gone })
	for _, w := range n.wantList {
		if w.gone || w.next > n.now {
			continue
		}
		w.tries++
		if w.tries > MaxTries {
			n.rejected.Unsolid++
			n.got(w.id)
			n.dropWaiters(w.id)
			continue
		}
		w.next = n.now + AskAgain
		if p := n.other(int(w.id[0]) + w.tries); p != nil && len(p.asks) < MaxAsk {
			p.asks = append(p.asks, w.id)
		}
	}
}

// other is the k-th of the peers that speak the protocol.
func (n *Node) other(k int) *peer {
	count := 0
	for _, p := range n.order {
		if p.greeted {
			count++
		}
	}
	if count == 0 {
		return nil
	}
	k %= count
	for _, p := range n.order {
		if p.greeted {
			if k == 0 {
				return p
			}
			k--
		}
	}
	return nil
}

// flushAsks sends what this step wants to be asked.
func (n *Node) flushAsks() {
	for _, p := range n.order {
		for len(p.asks) > 0 {
			part := p.asks[:min(len(p.asks), MaxAsk)]
			p.asks = p.asks[len(part):]
			n.send(p.name, Ask{part})
		}
		p.asks = nil
	}
}
