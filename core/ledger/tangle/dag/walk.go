package dag

import "math"

const (
	// DefaultAlpha is IRI's, per unit of cumulative weight.
	DefaultAlpha = 0.001
	// DefaultDepth is W, in blocks. It must be more than what the network attaches
	// while a block becomes known and approved by all, and more than an attacker
	// can show at once.
	DefaultDepth = 5000
	// DefaultWalkers are N: two, so that all who start arrive.
	DefaultWalkers = 2
	// MaxWalkers is a limit of what one selection costs.
	MaxWalkers = 64
)

// A Walk says how walkers choose tips (white paper 1.4.3, section 4.1).
type Walk struct {
	// Alpha is how much walkers prefer weight: a step from x goes to an approver y
	// with a probability proportional to exp(-Alpha (H_x - H_y)), H being
	// cumulative weight. 0 is a uniform walk, which a parasite chain catches.
	Alpha float64
	// Model, if not 0, is the alpha of one more walk that goes before: Joint is
	// asked about its tip and each that is chosen, so that a low Alpha spreads
	// approvals and a high Model decides between conflicting branches.
	Model float64
	// Depth is W: a walk starts at a block that is W to 2W slots before the newest,
	// each as likely, or at the confirmed past if there are not so many.
	// 0 is DefaultDepth.
	Depth int
	// Walkers is how many start; the first two that arrive choose. 0 is
	// DefaultWalkers. More make up for those that MinSteps or Joint discard, but they
	// race: of two branches the one with the shorter ways is chosen more often, as is
	// a lazy tip, so they need MinSteps.
	Walkers int
	// MinSteps discards walkers that arrive after fewer steps: they may have met a
	// lazy tip, which approves something old. If all do, the slowest count.
	MinSteps int
	// Back is the probability of a step backwards instead, to a random parent;
	// 1/3 in the white paper. It must be below 1/2.
	Back float64

	// Valid, if not nil, says whether a walker may step on a block. Where it may
	// step on none it ends.
	Valid func(ID) bool
	// Joint, if not nil, says whether two tips may be approved together.
	Joint func(a, b ID) bool
}

// withDefaults fills in what is 0.
func (w Walk) withDefaults() Walk {
	set(&w.Depth, DefaultDepth)
	set(&w.Walkers, DefaultWalkers)
	w.Walkers, w.Depth = min(w.Walkers, MaxWalkers), min(w.Depth, MaxLimit)
	return w
}

// A choice is a step that can be taken.
type choice struct {
	slot   int32
	weight uint64
	factor float64
}

// A walker stands on a slot.
type walker struct {
	at    int32
	steps int
	done  bool
}

// MCMC lets walkers choose two tips that Valid and Joint allow; the second may equal
// the first. There is only one if Joint allows no other, and none if the DAG is
// empty or nothing in it is valid.
//
// Weights are exact. A step costs time with the number of approvers of its block,
// and a call a pass over the last 2W slots if blocks were attached since the last.
func (d *DAG) MCMC(w Walk, random Random) (tips []ID) {
	w = w.withDefaults()
	model := int32(none)
	if w.Model > 0 && w.Joint != nil {
		high := w
		high.Alpha, high.Back = w.Model, 0
		arrived := d.race(high, random, func(int32) bool { return true })
		if len(arrived) == 0 {
			return nil
		}
		model = arrived[0]
	}
	first := model
	joint := func(i int32) bool {
		if w.Joint == nil {
			return true
		}
		for _, j := range [...]int32{model, first} {
			if j != none && j != i && !w.Joint(d.ids[j], d.ids[i]) {
				return false
			}
		}
		first = i
		return true
	}
	arrived := d.race(w, random, joint)
	if len(arrived) == 0 && model != none {
		arrived = []int32{model}
	}
	for _, i := range arrived {
		tips = append(tips, d.ids[i])
	}
	return tips
}

// race lets walkers go in turn, and returns the slots on which the first two arrive
// that accept takes.
func (d *DAG) race(w Walk, random Random, accept func(int32) bool) (arrived []int32) {
	walkers, floor := d.starts(w, random)
	if w.Alpha > 0 && !d.options.Unweighted {
		d.settle(floor)
	}
	take := func(i int32) {
		if i != root && accept(i) {
			arrived = append(arrived, i)
		}
	}
	var lazy []int32
	for left := len(walkers); left > 0 && len(arrived) < 2; {
		for k := range walkers {
			x := &walkers[k]
			if x.done || len(arrived) == 2 {
				continue
			}
			if d.step(&w, x, floor, random) {
				x.steps++
				continue
			}
			x.done = true
			left--
			if x.steps < w.MinSteps {
				lazy = append(lazy, x.at)
				continue
			}
			take(x.at)
		}
	}
	for k := len(lazy) - 1; k >= 0 && len(arrived) < 2; k-- {
		take(lazy[k])
	}
	return arrived
}

// starts places walkers, and says down to which slot weights are needed.
func (d *DAG) starts(w Walk, random Random) (walkers []walker, floor int) {
	walkers = make([]walker, w.Walkers)
	floor = len(d.ids)
	for k := range walkers {
		i := len(d.ids) - w.Depth - random.below(w.Depth+1)
		for i >= d.low && d.nodes[i].own == 0 {
			i-- // an empty slot; the one before is at least as deep
		}
		if i < d.low || w.Valid != nil && !w.Valid(d.ids[i]) {
			floor = d.low
			continue // at root
		}
		walkers[k].at, floor = int32(i), min(floor, i)
	}
	return walkers, floor
}

// step moves a walker, or reports that it has arrived.
func (d *DAG) step(w *Walk, x *walker, floor int, random Random) bool {
	n := &d.nodes[x.at]
	if w.Back > 0 && x.at != root && n.children > 0 && random.fraction() < w.Back {
		up := d.up(x.at)
		if p := up[random.below(len(up))].parent; int(p) >= floor && (w.Valid == nil || w.Valid(d.ids[p])) {
			x.at = p
		}
		return true
	}
	if n.children == 0 {
		return false
	}
	if n.children == 1 && w.Valid == nil {
		x.at = d.edges[n.approver].child
		return true
	}
	if w.Alpha == 0 && w.Valid == nil {
		e := n.approver
		for k := random.below(int(n.children)); k > 0; k-- {
			e = d.edges[e].next
		}
		x.at = d.edges[e].child
		return true
	}
	choices := d.choices[:0]
	for e := n.approver; e != none; e = d.edges[e].next {
		child := d.edges[e].child
		choices = append(choices, choice{slot: child, weight: d.nodes[child].weight})
	}
	d.choices = choices
	sum := factors(choices, w.Alpha)
	for len(choices) > 0 {
		k := draw(choices, sum*random.fraction())
		if next := choices[k].slot; w.Valid == nil || w.Valid(d.ids[next]) {
			x.at = next
			return true
		}
		choices[k] = choices[len(choices)-1]
		choices = choices[:len(choices)-1]
		sum = factors(choices, w.Alpha) // relative to the heaviest that is left
	}
	return false
}

// factors sets exp(alpha (H_y - max H)) of all choices and returns the sum, which is
// at least 1: nothing overflows, and what underflows is never chosen.
func factors(choices []choice, alpha float64) (sum float64) {
	var heaviest uint64
	for _, c := range choices {
		heaviest = max(heaviest, c.weight)
	}
	for k := range choices {
		c := &choices[k]
		const negligible = 40 // exp(-40) is below the resolution of a draw
		switch less := alpha * float64(heaviest-c.weight); {
		case less == 0:
			c.factor = 1
		case less > negligible:
			c.factor = 0
		default:
			c.factor = math.Exp(-less)
		}
		sum += c.factor
	}
	return sum
}

// draw finds the choice in which a point of [0, sum) lies.
func draw(choices []choice, point float64) int {
	last := 0
	for k := range choices {
		if choices[k].factor == 0 {
			continue
		}
		last = k
		if point -= choices[k].factor; point < 0 {
			break
		}
	}
	return last
}

// ExitProbability estimates how likely a walk is to end on a tip that approves a
// block: the confirmation confidence, from that many samples. Its standard error is
// at most 1/(2 sqrt(samples)).
func (d *DAG) ExitProbability(id ID, w Walk, samples int, random Random) float64 {
	i, ok := d.slots[id]
	if !ok || samples <= 0 {
		return 0
	}
	future := d.future(i)
	w = w.withDefaults()
	w.Walkers = 1
	hits := 0
	for range samples {
		for _, tip := range d.race(w, random, func(int32) bool { return true }) {
			if future.has(tip) {
				hits++
			}
		}
	}
	return float64(hits) / float64(samples)
}

// Exit is the same probability without chance, in one pass over 2W slots, for a walk
// without Back, MinSteps, Valid and Joint, which it ignores.
func (d *DAG) Exit(id ID, w Walk) (probability float64) {
	i, ok := d.slots[id]
	if !ok {
		return 0
	}
	w = w.withDefaults()
	here := d.visits(w)
	future := d.future(i)
	for ; int(i) < len(d.ids); i++ {
		if d.nodes[i].children == 0 && d.nodes[i].own != 0 && future.has(i) {
			probability += here[i]
		}
	}
	return probability
}

// visits finds how likely a walk is to come by each slot.
func (d *DAG) visits(w Walk) []float64 {
	here := make([]float64, len(d.ids))
	each := 1 / float64(w.Depth+1)
	here[root] = 1
	floor := len(d.ids) - w.Depth
	for k := floor; k >= max(d.low, floor-w.Depth); k-- {
		i := k
		for i >= d.low && d.nodes[i].own == 0 {
			i--
		}
		if i < d.low {
			break
		}
		here[i] += each
		here[root] -= each
	}
	floor = max(d.low, floor-w.Depth)
	if here[root] > each/2 { // or it is a rounding error
		floor = d.low
	}
	if w.Alpha > 0 && !d.options.Unweighted {
		d.settle(floor)
	}
	d.spread(root, w.Alpha, here)
	for i := floor; i < len(d.ids); i++ {
		d.spread(int32(i), w.Alpha, here)
	}
	return here
}

// spread hands what is here on to approvers.
func (d *DAG) spread(i int32, alpha float64, here []float64) {
	if here[i] == 0 {
		return
	}
	choices := d.choices[:0]
	for e := d.nodes[i].approver; e != none; e = d.edges[e].next {
		child := d.edges[e].child
		choices = append(choices, choice{slot: child, weight: d.nodes[child].weight})
	}
	d.choices = choices
	sum := factors(choices, alpha)
	for _, c := range choices {
		here[c.slot] += here[i] * c.factor / sum
	}
}
