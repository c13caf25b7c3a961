package scale

import (
	"math"
	"math/rand/v2"

	"coinop.dev/core/money"
)

// A network is channels and who is at their ends. A node's channels are
// arcs[first[n]:first[n+1]].
type network struct {
	channels []channel
	first    []int32
	arcs     []arc
}

// A channel is between two nodes; side 0 pays from ends[0] to ends[1].
type channel struct {
	ends     [2]int32
	capacity int64 // msat
	balance  int64 // msat of side 0
	policy   [2]policy
}

// A policy is what the node at a side asks for forwarding over it.
type policy struct {
	base uint32 // msat
	ppm  uint32 // millionths; off is none
}

const off = math.MaxUint32 // the side forwards nothing

const (
	channelBytes = 4*2 + 8 + 8 + 8*2
	arcBytes     = 4
)

// An arc is a channel in one direction: twice its number, and the side it pays from.
type arc int32

func (g *network) nodes() int           { return len(g.first) - 1 }
func (g *network) degree(n int32) int32 { return g.first[n+1] - g.first[n] }
func (g *network) from(a arc) int32     { return g.channels[a>>1].ends[a&1] }
func (g *network) to(a arc) int32       { return g.channels[a>>1].ends[a&1^1] }

func (g *network) bytes() int64 {
	return int64(len(g.channels))*channelBytes + int64(len(g.arcs))*arcBytes + int64(len(g.first))*4
}

// spendable is what the side an arc pays from has.
func (c *channel) spendable(side arc) int64 {
	if side == 0 {
		return c.balance
	}
	return c.capacity - c.balance
}

// index makes the lists of nodes' arcs: those that leave a node.
func (g *network) index(nodes int) {
	g.first = make([]int32, nodes+1)
	for i := range g.channels {
		for _, n := range g.channels[i].ends {
			g.first[n+1]++
		}
	}
	for n := range nodes {
		g.first[n+1] += g.first[n]
	}
	g.arcs = make([]arc, 2*len(g.channels))
	next := append([]int32(nil), g.first[:nodes]...)
	for i := range g.channels {
		for side, n := range g.channels[i].ends {
			g.arcs[next[n]] = arc(2*i + side)
			next[n]++
		}
	}
}

// fee is what forwarding costs over an arc.
func (p policy) fee(amount int64) int64 {
	return int64(p.base) + amount/1_000_000*int64(p.ppm) + amount%1_000_000*int64(p.ppm)/1_000_000
}

// try pays over a path if all channels can, and returns what the payer sent; else the
// place in the path of the first one, from the payer, that cannot.
func (g *network) try(path []arc, amount int64) (stuck int, sent int64) {
	amounts := make([]int64, len(path))
	sent = amount
	for i := len(path) - 1; i >= 0; i-- {
		amounts[i] = sent
		if i > 0 {
			sent += g.channels[path[i]>>1].policy[path[i]&1].fee(sent)
		}
	}
	for i, a := range path {
		if g.channels[a>>1].spendable(a&1) < amounts[i] {
			return i, 0
		}
	}
	for i, a := range path {
		c := &g.channels[a>>1]
		c.balance += []int64{-amounts[i], amounts[i]}[a&1]
	}
	return -1, sent
}

// split gives each channel a balance, anything being as likely.
func (g *network) split(random *rand.Rand) {
	for i := range g.channels {
		c := &g.channels[i]
		c.balance = random.Int64N(c.capacity + 1)
	}
}

// depleted is the share of channels of which a side has next to nothing.
func (g *network) depleted() float64 {
	n := 0
	for i := range g.channels {
		c := &g.channels[i]
		if least := c.capacity / depleted; c.balance < least || c.capacity-c.balance < least {
			n++
		}
	}
	return share(n, len(g.channels))
}

// describe says what the network is like.
func (g *network) describe(r *Result) {
	var degrees, sizes tally
	for n := range int32(g.nodes()) {
		degrees.add(float64(g.degree(n)))
	}
	for i := range g.channels {
		sat := g.channels[i].capacity / int64(money.Sat)
		r.Capacity += sat
		sizes.add(float64(sat))
	}
	r.Degrees, r.Sizes = degrees.ranks(), sizes.ranks()
}

// The synthetic network.
const (
	// medianCapacity and spreadCapacity are of the logarithm's normal distribution:
	// half of the channels are below two million satoshi, one of six above nine.
	medianCapacity = 2_000_000
	spreadCapacity = 1.5
	minCapacity    = 20_000
	maxCapacity    = 1_000_000_000

	maxPPM   = 1500
	baseFee  = 1000 // msat, of every other side; the others ask for none
	closed   = 20   // one side of so many forwards nothing
	anywhere = 4    // one channel of so many ends at a node that was not chosen by its channels
)

// synthetic makes a network by preferential attachment: every node begins with a
// channel to a node that is chosen in proportion to its channels; the other channels
// have both ends chosen so, one of anywhere from all nodes alike. The number of a
// node's channels has a tail like a power of it: few have thousands, most have one
// or two.
func synthetic(nodes, channels int, random *rand.Rand) *network {
	g := &network{channels: make([]channel, channels)}
	ends := make([]int32, 1, 2*channels+1) // a node as often as it has channels
	by := func() int32 { return ends[random.IntN(len(ends))] }
	for i := range g.channels {
		a, b := int32(i+1), by()
		if int(a) >= nodes {
			if a, b = by(), by(); random.IntN(anywhere) == 0 {
				a = int32(random.IntN(nodes))
			}
		}
		for a == b {
			b = int32(random.IntN(nodes))
		}
		ends = append(ends, a, b)
		sat := medianCapacity * math.Exp(spreadCapacity*random.NormFloat64())
		c := &g.channels[i]
		c.ends = [2]int32{a, b}
		c.capacity = int64(min(max(sat, minCapacity), maxCapacity)) * int64(money.Sat)
		for side := range c.policy {
			c.policy[side] = policy{base: uint32(random.IntN(2) * baseFee), ppm: uint32(math.Exp(random.Float64() * math.Log(maxPPM)))}
			if random.IntN(closed) == 0 {
				c.policy[side].ppm = off
			}
		}
	}
	g.index(nodes)
	return g
}
