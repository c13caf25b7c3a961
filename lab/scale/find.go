package scale

import "math"

// What a path costs besides its fee, in msat, as core/lightning/graph has it.
const (
	hopCost  = 500
	missCost = 500
	missPart = 1000 // a failed attempt costs this part of the amount besides
)

// A finder finds the cheapest path, from both ends at a time.
type finder struct {
	g       *network
	side    [2]search // from the payer, from the payee
	avoided map[arc]bool
	gen     uint32
}

// A search is what one direction knows.
type search struct {
	labels []label
	heap   heap
}

type label struct {
	cost uint64
	via  arc // by which it was reached
	gen  uint32
	done bool
}

const labelBytes = 24

func newFinder(g *network) *finder {
	f := &finder{g: g, avoided: map[arc]bool{}}
	for i := range f.side {
		f.side[i].labels = make([]label, g.nodes())
	}
	return f
}

func (f *finder) bytes() int64 { return 2 * int64(f.g.nodes()) * labelBytes }

func (f *finder) forget()     { clear(f.avoided) }
func (f *finder) avoid(a arc) { f.avoided[a] = true }

// cost is that of an arc for a payer, or false if it cannot be used. The amount is
// what arrives: that fees are paid on fees is left out of the choice.
func (f *finder) cost(a arc, payer int32, amount int64) (uint64, bool) {
	c := &f.g.channels[a>>1]
	if f.avoided[a] {
		return 0, false
	}
	if c.ends[a&1] == payer { // who knows its own balance, and asks for nothing
		return 1, c.spendable(a&1) >= amount
	}
	p := c.policy[a&1]
	if p.ppm == off || amount >= c.capacity {
		return 0, false
	}
	// The chance that a uniform balance carries it is (capacity-amount)/capacity: so
	// many attempts more are to be expected.
	miss := float64(missCost+amount/missPart) * float64(amount) / float64(c.capacity-amount)
	return uint64(hopCost+p.fee(amount)) + uint64(min(miss, 1<<50)), true
}

// path is the cheapest from one node to another; nil if there is none.
func (f *finder) path(from, to int32, amount int64) []arc {
	f.gen++
	if f.gen == 0 { // the labels of four thousand million searches ago would be good again
		for i := range f.side {
			clear(f.side[i].labels)
		}
		f.gen = 1
	}
	f.start(0, from)
	f.start(1, to)
	best, meet := uint64(math.MaxUint64), int32(-1)
	for len(f.side[0].heap) > 0 && len(f.side[1].heap) > 0 {
		a, b := f.side[0].heap[0].cost, f.side[1].heap[0].cost
		if a+b >= best {
			break
		}
		now := 0
		if len(f.side[1].heap) < len(f.side[0].heap) {
			now = 1
		}
		s := &f.side[now]
		n := s.heap.pop()
		l := &s.labels[n]
		if l.done {
			continue
		}
		l.done = true
		f.expand(now, n, l.cost, from, amount, &best, &meet)
	}
	if meet < 0 {
		return nil
	}
	return f.join(from, to, meet)
}

func (f *finder) start(side int, n int32) {
	s := &f.side[side]
	s.heap = s.heap[:0]
	s.labels[n] = label{gen: f.gen, via: -1}
	s.heap.push(0, n)
}

// expand goes on from a node: along the arcs that leave it, or, from the payee, along
// those that come to it.
func (f *finder) expand(side int, n int32, cost uint64, payer int32, amount int64, best *uint64, meet *int32) {
	s, other := &f.side[side], &f.side[side^1]
	for _, a := range f.g.arcs[f.g.first[n]:f.g.first[n+1]] {
		if side == 1 {
			a ^= 1
		}
		step, ok := f.cost(a, payer, amount)
		if !ok {
			continue
		}
		far := f.g.channels[a>>1].ends[a&1^1]
		if side == 1 {
			far = f.g.channels[a>>1].ends[a&1]
		}
		l := &s.labels[far]
		if l.gen != f.gen {
			*l = label{cost: math.MaxUint64, gen: f.gen}
		}
		if total := cost + step; total < l.cost && !l.done {
			l.cost, l.via = total, a
			s.heap.push(total, far)
			if o := &other.labels[far]; o.gen == f.gen && o.cost != math.MaxUint64 && total+o.cost < *best {
				*best, *meet = total+o.cost, far
			}
		}
	}
}

// join is the path by way of a node that both have reached.
func (f *finder) join(from, to, meet int32) (path []arc) {
	for n := meet; n != from; {
		a := f.side[0].labels[n].via
		path = append(path, a)
		n = f.g.from(a)
	}
	for i, j := 0, len(path)-1; i < j; i, j = i+1, j-1 {
		path[i], path[j] = path[j], path[i]
	}
	for n := meet; n != to; {
		a := f.side[1].labels[n].via
		path = append(path, a)
		n = f.g.to(a)
	}
	return path
}

// heap is a binary heap of nodes by cost, then by number.
type heap []ranked

type ranked struct {
	cost uint64
	node int32
}

func (a ranked) before(b ranked) bool {
	return a.cost < b.cost || a.cost == b.cost && a.node < b.node
}

func (h *heap) push(cost uint64, node int32) {
	q := append(*h, ranked{cost, node})
	for i := len(q) - 1; i > 0; {
		up := (i - 1) / 2
		if !q[i].before(q[up]) {
			break
		}
		q[i], q[up] = q[up], q[i]
		i = up
	}
	*h = q
}

func (h *heap) pop() int32 {
	q := *h
	top := q[0].node
	last := len(q) - 1
	q[0] = q[last]
	q = q[:last]
	for i := 0; ; {
		least := i
		for _, down := range []int{2*i + 1, 2*i + 2} {
			if down < last && q[down].before(q[least]) {
				least = down
			}
		}
		if least == i {
			break
		}
		q[i], q[least] = q[least], q[i]
		i = least
	}
	*h = q
	return top
}
