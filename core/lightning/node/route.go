package node

import (
	"errors"
	"fmt"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/graph"
	"coinop.dev/core/lightning/onion"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// leastPart bounds from below what a payment is split into, on average: an HTLC
// costs more than a few satoshi are worth.
const leastPart = 10 * money.Sat

// route has a payment sent in this step.
func (n *Node) route(p *payment) {
	n.byHash[p.hash] = p
	n.waiting = append(n.waiting, p)
}

// dispatch finds ways for all payments that wait for one, and wraps their onions
// together.
func (n *Node) dispatch() bool {
	if len(n.waiting) == 0 {
		return false
	}
	waiting := n.waiting
	n.waiting = nil
	var sends []*send
	for _, p := range waiting {
		if p.failed == nil && !p.paid {
			sends = n.plan(p, sends)
		}
	}
	keys.Share(len(sends), func(i int) { sends[i].wrap(n) })
	for _, s := range sends {
		n.launch(s)
	}
	for _, p := range waiting {
		n.conclude(p)
	}
	return true
}

// A send is one HTLC of a payment before it is in a channel.
type send struct {
	p     *payment
	first *chanState
	note  outgoing
	htlc  *channel.HTLC
}

// plan finds paths for what is left of a payment.
func (n *Node) plan(p *payment, sends []*send) []*send {
	p.tries++
	switch {
	case p.tries > MaxTries:
		p.failed = ErrTries
		return sends
	case p.tries > 1 && n.at > p.began+payFor:
		p.failed = ErrTime
		return sends
	}
	if n.tip == 0 && len(n.channels) > 0 { // nobody knows yet which expiry would do
		n.pause(p)
		return sends
	}
	if c := n.direct(p.payee, p.left); c != nil {
		path := []graph.Hop{{Node: p.payee, SCID: c.Alias(), Amount: p.left, Expiry: p.delta}}
		return append(sends, n.part(p, c, path, p.left))
	}
	r := graph.Request{
		From: n.id, To: p.payee, Amount: p.left, FinalCLTV: p.delta, MaxFee: p.maxFee, At: n.at, Extra: n.edges(p),
	}
	paths, err := n.paths(p, r)
	switch {
	case err != nil && n.someAsleep():
		n.pause(p)
		return sends
	case err != nil:
		p.failed = err
		return sends
	}
	for _, path := range paths {
		if c := n.firstOf(path.Hops[0]); c != nil {
			sends = append(sends, n.part(p, c, path.Hops, path.Amount))
		} else {
			p.failed = errors.New("the first channel of the path is gone")
		}
	}
	return sends
}

func (n *Node) paths(p *payment, r graph.Request) ([]graph.Path, error) {
	path, err := n.graph.Route(r, &n.learnt)
	if err == nil {
		return []graph.Path{path}, nil
	}
	if !p.mpp || p.parts >= MaxParts || !errors.Is(err, graph.ErrAmount) && !errors.Is(err, graph.ErrNoPath) {
		return nil, err
	}
	parts := min(MaxParts-p.parts, int(min(p.left/leastPart, MaxParts))+1)
	return n.graph.Split(r, &n.learnt, parts)
}

// direct is a channel with the payee itself that can carry an amount, the one
// with the most room.
func (n *Node) direct(payee keys.Public, amount money.Amount) (best *chanState) {
	p := n.peers[payee.PeerName()]
	if p == nil {
		return nil
	}
	most := money.Amount(0)
	for _, c := range n.with(p) {
		if !c.Usable() || amount < c.Theirs.MinHTLC {
			continue
		}
		if s := c.Spendable(); s >= amount && s > most {
			best, most = c, s
		}
	}
	return best
}

// firstOf is our channel that a path begins with.
func (n *Node) firstOf(h graph.Hop) *chanState {
	for _, c := range n.ordered() {
		if c.edgeName() == h.SCID && c.Peer == h.Node {
			return c
		}
	}
	return nil
}

// edgeName tells our own channels apart in a path. Two peers may give us the
// same alias, so it is ours that counts.
func (c *chanState) edgeName() wire.SCID {
	if names := c.Names(); len(names) > 0 {
		return names[0]
	}
	return c.Alias()
}

// edges are our channels, and the hints of an invoice.
func (n *Node) edges(p *payment) (edges []graph.Edge) {
	for _, c := range n.ordered() {
		if c.Usable() {
			edges = append(edges, graph.Edge{
				SCID: c.edgeName(), From: n.id, To: c.Peer, Capacity: c.Spendable(), Policy: graph.Policy{Min: c.Theirs.MinHTLC},
			})
		}
	}
	for _, route := range p.hints {
		for i, h := range route {
			to := p.payee
			if i+1 < len(route) {
				to = route[i+1].Node
			}
			edges = append(edges, graph.Edge{
				SCID: wire.SCID(h.SCID), From: h.Node, To: to,
				Policy: graph.Policy{FeeBase: money.Amount(h.FeeBase), FeePPM: h.FeePPM, CLTVDelta: h.CLTVDelta},
			})
		}
	}
	return edges
}

// someAsleep reports whether a channel only waits for its peer to be linked.
func (n *Node) someAsleep() bool {
	for _, c := range n.channels {
		if c.Status() == channel.Open && !c.Usable() {
			return true
		}
	}
	return false
}

// patience is how long a payment waits for a channel to come back.
const patience = step.Minute

// pause has a payment wait for a channel.
func (n *Node) pause(p *payment) {
	if p.until == 0 {
		p.until = n.at + patience
		n.fx.Wake = append(n.fx.Wake, step.Alarm{ID: alarmPause, At: p.until})
	}
	p.tries--
	if n.at >= p.until {
		p.failed = channel.ErrNoLink
		n.conclude(p)
		return
	}
	n.paused = append(n.paused, p)
}

// resume routes what was paused.
func (n *Node) resume() {
	n.waiting = append(n.waiting, n.paused...)
	n.paused = nil
}

// part is one HTLC along a path.
func (n *Node) part(p *payment, first *chanState, path []graph.Hop, amount money.Amount) *send {
	last := onion.Payload{Amount: amount, Expiry: uint32(n.tip) + p.delta, Metadata: p.meta}
	if p.keysend != nil {
		last.Keysend = p.keysend
		last.Records = []onion.Record{{Type: orderRecord, Value: p.ID[:]}}
	} else {
		last.Secret, last.Total = p.secret, p.Amount
	}
	o := outgoing{order: p.ID, amount: p.Amount, place: p.place, keysend: p.keysend != nil, payload: last.Append(nil), path: path}
	if p.terms != nil {
		o.ref = p.terms.ref
	}
	for i := range path {
		n.tables.use(path[i].Node)
	}
	n.nextAttempt++
	o.attempt = n.nextAttempt
	n.changed = true
	p.parts++
	p.left -= amount
	return &send{p: p, first: first, note: o, htlc: &channel.HTLC{Derived: true, Amount: path[0].Amount, Hash: p.hash, Expiry: uint32(n.tip) + path[0].Expiry}}
}

// orderRecord carries the order of a keysend payment (custom, odd).
const orderRecord = 0x636f696f

// hops are what each node of a path is told. known may be nil.
func (o *outgoing) hops(expiry uint32, known *tables) []onion.Hop {
	hops := make([]onion.Hop, len(o.path))
	for i := range o.path {
		hops[i].Node = o.path[i].Node
		hops[i].Table = known.of(o.path[i].Node)
		if i == len(o.path)-1 {
			hops[i].Payload = o.payload
			break
		}
		next := &o.path[i+1]
		hops[i].Payload = onion.Payload{Amount: next.Amount, Expiry: expiry - o.path[0].Expiry + next.Expiry, Next: uint64(next.SCID)}.Append(nil)
	}
	return hops
}

func (n *Node) session(o *outgoing) keys.Secret {
	return n.seed.Derive(fmt.Sprintf("onion/%d", o.attempt))
}

// wrap makes the onion. It is called for many sends at once.
func (s *send) wrap(n *Node) {
	p, _, err := onion.New(n.session(&s.note), s.htlc.Hash, s.note.hops(s.htlc.Expiry, &n.tables))
	if err == nil {
		s.htlc.Onion = (*[wire.OnionSize]byte)(p)
	}
	s.htlc.Note = s.note.append(nil)
}

// launch offers the HTLC to the first channel.
func (n *Node) launch(s *send) {
	err := errors.New("the path does not fit an onion")
	if s.htlc.Onion != nil {
		n.touch(s.first)
		if err = s.first.Add(s.htlc); err == nil {
			return
		}
	}
	n.returned(s.p, s.first, s.note, err)
}

// returned is a part that was never sent.
func (n *Node) returned(p *payment, first *chanState, o outgoing, err error) {
	p.parts--
	p.left += o.arrives()
	if !errors.Is(err, channel.ErrDust) && (len(o.path) > 1 || n.direct(p.payee, p.left) == nil) {
		n.learnt.Failed(first.edgeName(), n.id, o.path[0].Amount, n.at)
	}
	if p.failed == nil && !p.paid && errors.Is(err, channel.ErrBalance) && p.tries < 3 {
		n.waiting = append(n.waiting, p) // another channel may do
		return
	}
	if p.failed == nil {
		p.failed = err
	}
}

// arrives is what the part brings to the payee.
func (o *outgoing) arrives() money.Amount { return o.path[len(o.path)-1].Amount }
