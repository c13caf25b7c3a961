package graph

import (
	"math/bits"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// The search is Dijkstra's from the payee backwards, because what a hop asks
// depends on what must leave it. A label says what must arrive at a node so
// that the payee gets the amount.
//
// Every hop costs at least 1, so a label depends only on labels that were final
// before it, and ties go to the lower short_channel_id: the path does not
// depend on the order in which gossip came.

// What a path costs, in msat, besides its fee.
const (
	// hopCost is what a hop less is worth: each may be slow or gone.
	hopCost = 500
	// A failed attempt costs missCost and a missPart of the amount, once for
	// every halving of the probability.
	missCost = 500
	missPart = 1000
	// Money held up for a block costs riskPPB billionths of it.
	riskPPB = 15
	// maxCost prunes what nobody would pay: 2.8 million bitcoin. It leaves
	// room to sum and shift below 2^64.
	maxCost = 1 << 58
)

// An aim is what a search makes as small as it can.
type aim uint8

const (
	byCost aim = iota // fee, time and probability together
	byFee
	byCLTV
	byHops
)

// A cut is a set of reasons for which a search left something out.
type cut uint8

const (
	cutFee cut = 1 << iota
	cutCLTV
	cutHops
	cutSize // an HTLC too small, too large, or more than a channel can carry
)

// bounds are what a path must keep to.
type bounds struct {
	amount    uint64 // msat, to the payee
	finalCLTV uint32 // blocks, of the last HTLC
	fee       uint64 // msat
	cltv      uint32 // blocks, of the first HTLC
	hops      int
	anySize   bool // as if every channel could carry any amount
}

// label is what a search knows of a node. It is of this search only if gen is.
type label struct {
	cost   uint64
	amount uint64 // msat that must arrive here
	cltv   uint32 // blocks, of the HTLC that brings it
	via    int32  // the edge it leaves by
	gen    uint32
	extra  int32 // first extra edge that ends here
	hops   uint8
	state  uint8
}

// States of a label.
const (
	final = 1 << iota
	avoided
)

// extraEdge is an Edge of the request, numbered.
type extraEdge struct {
	scid     wire.SCID
	from, to int32
	next     int32 // of those that end at to
	capacity uint64
	policy   policy
}

// search is the scratch of path finding, used again by every request.
type search struct {
	gen    uint32
	labels []label
	heap   heap

	from, to  int32
	ownOnly   bool // the payer's channels are those among the extra edges
	extra     []extraEdge
	strangers []keys.Public // nodes that only extra edges know, numbered after the graph's
	number    map[keys.Public]int32
	shunned   []int32     // nodes to avoid
	barred    []wire.SCID // channels to avoid
	used      map[int32]uint64
	miss      uint64 // msat, cost of halving the probability
	learned   *Liquidity
	at        step.Time
}

// An edge is a channel in one direction: twice the slot, plus the side the
// payment leaves from. Edge ^i is the extra edge i.
func edgeOf(slot int32, side int) int32 { return slot<<1 | int32(side) }

// ends is where an edge leads from and to.
func (g *Graph) ends(edge int32) (from, to int32, scid wire.SCID) {
	if edge < 0 {
		x := &g.search.extra[^edge]
		return x.from, x.to, x.scid
	}
	c := &g.channels[edge>>1]
	return c.node[edge&1], c.node[edge&1^1], c.scid
}

func (g *Graph) idOf(n int32) keys.Public {
	if int(n) < len(g.nodes) {
		return g.nodes[n].id
	}
	return g.search.strangers[int(n)-len(g.nodes)]
}

// label is that of node n in this search.
func (s *search) label(n int32) *label {
	l := &s.labels[n]
	if l.gen != s.gen {
		*l = label{cost: maxCost, via: none, gen: s.gen, extra: none}
	}
	return l
}

// reset starts a new search over n nodes.
func (s *search) reset(n int) {
	if n > len(s.labels) {
		s.labels = append(s.labels, make([]label, n-len(s.labels))...)
	}
	if s.gen++; s.gen == 0 {
		clear(s.labels)
		s.gen = 1
	}
	s.heap = s.heap[:0]
	for i := range s.extra {
		l := s.label(s.extra[i].to)
		s.extra[i].next, l.extra = l.extra, int32(i)
	}
	for _, n := range s.shunned {
		s.label(n).state |= avoided
	}
}

// run searches once. A path is in the labels, from s.from on.
func (g *Graph) run(want aim, b bounds) (found bool, why cut) {
	s := &g.search
	s.reset(len(g.nodes) + len(s.strangers))
	start := s.label(s.to)
	start.cost, start.amount, start.cltv = 0, b.amount, b.finalCLTV
	s.heap.push(0, s.to)
	for len(s.heap) > 0 {
		v := s.heap.pop()
		l := s.label(v)
		if l.state&final != 0 {
			continue // an older entry of the heap
		}
		l.state |= final
		if v == s.from {
			return true, why
		}
		if v != s.to && int(v) < len(g.nodes) && g.nodes[v].closed {
			continue
		}
		why |= g.expand(want, &b, v, *l)
	}
	return false, why
}

// expand relaxes every edge that ends at v, whose label is l.
func (g *Graph) expand(want aim, b *bounds, v int32, l label) (why cut) {
	s := &g.search
	for i := l.extra; i != none; i = s.extra[i].next {
		x := &s.extra[i]
		why |= g.relax(want, b, &l, ^i, x.from, &x.policy, x.capacity)
	}
	if int(v) >= len(g.nodes) {
		return why
	}
	for at := g.nodes[v].first; at != none; {
		c := &g.channels[at]
		far := c.side(v) ^ 1
		u := c.node[far]
		if p := &c.policy[far]; p.updated != 0 && p.flags&kept == 0 && (u != s.from || !s.ownOnly) {
			why |= g.relax(want, b, &l, edgeOf(at, far), u, p, uint64(c.capacity)*uint64(money.Sat))
		}
		at = c.next[far^1]
	}
	return why
}

// relax tries to reach u over an edge to the node of label v.
func (g *Graph) relax(want aim, b *bounds, v *label, edge, u int32, p *policy, capacity uint64) cut {
	s := &g.search
	l := s.label(u)
	if l.state != 0 {
		return 0
	}
	own := u == s.from
	if !b.anySize {
		if v.amount < p.min || p.max != 0 && v.amount > p.max {
			return cutSize
		}
		if !own && capacity != 0 && p.max > capacity {
			return cutSize // promises more than there is (BOLT 7): not to be trusted
		}
	}
	if int(v.hops) >= b.hops {
		return cutHops
	}
	fee, delta := uint64(0), uint32(0)
	if !own {
		var ok bool
		if fee, ok = p.fee(v.amount); !ok {
			return cutFee
		}
		delta = uint32(p.delta)
	}
	if fee > maxCost/64 || v.amount-b.amount+fee > b.fee || v.amount+fee > uint64(money.MaxAmount) {
		return cutFee
	}
	if delta > b.cltv-v.cltv {
		return cutCLTV
	}
	cost := v.cost + price(want, own, v.amount, fee, delta)
	if cost >= maxCost {
		return cutFee
	}
	if cost > l.cost { // the rest of it is dear to compute and only adds
		return 0
	}
	num, den := g.odds(edge, own, p, capacity, v.amount)
	if num == 0 && !b.anySize {
		return cutSize
	}
	if want == byCost && num < den {
		miss, _ := mulDiv(s.miss, log2(den)-log2(num), log2One)
		cost += miss
	}
	_, _, scid := g.ends(edge)
	if cost >= maxCost {
		return cutFee
	}
	if cost > l.cost || s.avoids(scid) {
		return 0
	}
	if cost == l.cost { // so below maxCost, and via is set
		if _, _, other := g.ends(l.via); other <= scid {
			return 0
		}
	}
	l.cost, l.amount, l.cltv = cost, v.amount+fee, v.cltv+delta
	l.via, l.hops = edge, v.hops+1
	s.heap.push(cost, u)
	return 0
}

// price is what a hop adds to the cost, besides its chance of failing. The payer
// asks nothing of itself.
func price(want aim, own bool, amount, fee uint64, delta uint32) uint64 {
	switch want {
	case byFee:
		return 1 + fee*32
	case byCLTV:
		return 1 + uint64(delta)<<32
	case byHops:
		return 1 << 40
	}
	if own {
		return 1
	}
	risk, _ := mulDiv(amount, uint64(delta)*riskPPB, 1_000_000_000)
	return 1 + hopCost + fee + risk
}

func (s *search) avoids(scid wire.SCID) bool {
	for _, c := range s.barred {
		if c == scid {
			return true
		}
	}
	return false
}

// odds is the probability that an edge carries amount, as a fraction; num 0 is
// never. What nobody knows is as likely to be here as there: the balance is
// uniform between its bounds (Pickhardt et al., "Security and Privacy of
// Lightning Network Payments with Uncertain Channel Balances", 2021).
func (g *Graph) odds(edge int32, own bool, p *policy, capacity, amount uint64) (num, den uint64) {
	s := &g.search
	if len(s.used) > 0 {
		amount += s.used[edge]
	}
	if own && edge < 0 {
		if amount > capacity {
			return 0, 1
		}
		return 1, 1
	}
	top := capacity
	switch {
	case capacity != 0:
	case p.max != 0 && p.max < uint64(money.MaxAmount)/2:
		top = 2 * p.max
	default:
		top = uint64(money.MaxAmount)
	}
	low, high := uint64(0), top+1
	if s.learned != nil && len(s.learned.known) > 0 {
		from, _, scid := g.ends(edge)
		low, high = s.learned.between(wayOf(scid, g.idOf(from)), top, s.at)
	}
	switch {
	case amount <= low:
		return 1, 1
	case amount >= high:
		return 0, 1
	}
	return high - amount, high - low
}

// fee is what the policy asks for forwarding amount, or false if that is more
// than a number holds.
func (p *policy) fee(amount uint64) (fee uint64, ok bool) {
	part, ok := mulDiv(amount, uint64(p.ppm), 1_000_000)
	fee, carry := bits.Add64(part, uint64(p.base), 0)
	return fee, ok && carry == 0
}

// mulDiv is a*b/c rounded down, or false if that does not fit.
func mulDiv(a, b, c uint64) (uint64, bool) {
	hi, lo := bits.Mul64(a, b)
	if hi >= c {
		return 1<<64 - 1, false
	}
	q, _ := bits.Div64(hi, lo, c)
	return q, true
}

// log2One is 1 in the fixed point of log2.
const log2One = 1 << 10

// log2 of v >= 1, to 1 %: exact at powers of two, a parabola in between, which
// rises throughout. Floats would not do: they differ between machines.
func log2(v uint64) uint64 {
	n := uint64(bits.Len64(v) - 1)
	f := (v << (63 - n) << 1) >> (64 - 10)                   // the fraction, of 1024
	return n*log2One + f + 354*f*(log2One-f)/log2One/log2One // 0.346
}

// heap is a binary heap of nodes by cost, then by number. A node may be in it
// more than once.
type heap []ranked

type ranked struct {
	cost uint64
	node int32
}

func (a ranked) before(b ranked) bool {
	return a.cost < b.cost || a.cost == b.cost && a.node < b.node
}

func (h *heap) push(cost uint64, node int32) {
	x := ranked{cost, node}
	q := append(*h, x)
	i := len(q) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !x.before(q[up]) {
			break
		}
		q[i] = q[up]
		i = up
	}
	q[i] = x
	*h = q
}

func (h *heap) pop() int32 {
	q := *h
	top, x := q[0].node, q[len(q)-1]
	q = q[:len(q)-1]
	i := 0
	for {
		down := 2*i + 1
		if down >= len(q) {
			break
		}
		if down+1 < len(q) && q[down+1].before(q[down]) {
			down++
		}
		if !q[down].before(x) {
			break
		}
		q[i] = q[down]
		i = down
	}
	if len(q) > 0 {
		q[i] = x
	}
	*h = q
	return top
}
