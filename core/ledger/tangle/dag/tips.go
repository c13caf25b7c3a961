package dag

import (
	"math/bits"

	"coinop.dev/core/step"
)

// TIP-3 and HORNET's settings.
const (
	DefaultYoung    = 8               // C1
	DefaultOld      = 13              // C2
	DefaultMaxDepth = 15              // M, below max depth
	DefaultChildren = 30              // HORNET's; TIP-3 says 2
	DefaultAge      = 3 * step.Second // after the first approval
	DefaultKeep     = 100             // HORNET's retention limit
)

// A Score says how far in the past the cone of a block begins (TIP-3).
type Score uint8

const (
	Lazy     Score = iota // approves only what is old, or something too old: never chosen
	SemiLazy              // approves something old: for those who want it confirmed
	NonLazy
)

// Pool says which tips may be chosen uniformly (TIP-3), and how long after they
// are approved. All fields 0 is TIP-3 with HORNET's settings.
type Pool struct {
	// A block is lazy if the last milestone is more than Young after the youngest
	// one that confirmed a root of its past, or more than MaxDepth after the
	// oldest; it is semi-lazy if more than Old after the oldest.
	Young, Old, MaxDepth uint32

	// An approved block can be chosen until it has so many Children or is so much
	// older than its first approval, as long as there are no more than Keep like it.
	// That makes the Tangle wider.
	Children uint32
	Age      step.Time
	Keep     int
	// Strict takes a block out as soon as it is approved, as the white paper does.
	Strict bool
}

// withDefaults fills in what is 0.
func (p Pool) withDefaults() Pool {
	set(&p.Young, DefaultYoung)
	set(&p.Old, DefaultOld)
	set(&p.MaxDepth, DefaultMaxDepth)
	set(&p.Children, DefaultChildren)
	set(&p.Age, DefaultAge)
	set(&p.Keep, DefaultKeep)
	return p
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// A candidate stands in the pool of its score.
type candidate struct {
	slot     int32
	approved step.Time // first; 0 if never
	children uint32
}

// score finds the score of a slot whose roots are known.
func (d *DAG) score(i int32) Score {
	p, n := &d.options.Pool, &d.nodes[i]
	since := func(milestone uint32) uint32 { return d.milestone - min(milestone, d.milestone) }
	if since(n.young) > p.Young || since(n.old) > p.MaxDepth {
		return Lazy
	}
	if since(n.old) > p.Old {
		return SemiLazy
	}
	return NonLazy
}

// Score is how lazy a block is. A block that is not in the DAG is Lazy.
func (d *DAG) Score(id ID) Score {
	i, ok := d.slots[id]
	if !ok {
		return Lazy
	}
	return d.nodes[i].score
}

// Roots are the indices of the youngest and the oldest milestone that confirmed a
// root of a block's past: TIP-3's YMRSI and OMRSI.
func (d *DAG) Roots(id ID) (youngest, oldest uint32, ok bool) {
	i, ok := d.slots[id]
	if !ok {
		return 0, 0, false
	}
	return d.nodes[i].young, d.nodes[i].old, true
}

// BelowMaxDepth are all blocks whose past begins more than MaxDepth before the last
// milestone, oldest first. Nobody should approve them any more; see DropAll.
func (d *DAG) BelowMaxDepth() (ids []ID) {
	for i := d.low; i < len(d.ids); i++ {
		if n := &d.nodes[i]; n.own != 0 && n.old < d.milestone && d.milestone-n.old > d.options.Pool.MaxDepth {
			ids = append(ids, d.ids[i])
		}
	}
	return ids
}

// enter puts a new tip into the pool of its score, and takes parents out that have
// been approved enough. A lazier child does not count: it would empty the pool of
// the good tips.
func (d *DAG) enter(i int32, at step.Time) {
	d.admit(candidate{slot: i})
	score := d.nodes[i].score
	for _, e := range d.up(i) {
		if e.parent < 0 || d.nodes[e.parent].place == none || d.nodes[e.parent].score != score {
			continue
		}
		c := &d.pools[score][d.nodes[e.parent].place]
		c.children++
		if c.approved == 0 {
			c.approved = at
		}
		if p := &d.options.Pool; p.Strict || c.children >= p.Children || len(d.pools[score]) > p.Keep || d.aged(c, at) {
			d.leave(e.parent)
		}
	}
}

func (d *DAG) aged(c *candidate, at step.Time) bool {
	return c.approved != 0 && at-c.approved > d.options.Pool.Age
}

func (d *DAG) admit(c candidate) {
	pool := &d.pools[d.nodes[c.slot].score]
	d.nodes[c.slot].place = int32(len(*pool))
	*pool = append(*pool, c)
}

// leave takes a slot out of its pool, if it is there.
func (d *DAG) leave(i int32) {
	n := &d.nodes[i]
	if n.place == none {
		return
	}
	pool := &d.pools[n.score]
	last := len(*pool) - 1
	d.swap(*pool, int(n.place), last)
	*pool = (*pool)[:last]
	n.place = none
}

func (d *DAG) swap(pool []candidate, a, b int) {
	pool[a], pool[b] = pool[b], pool[a]
	d.nodes[pool[a].slot].place, d.nodes[pool[b].slot].place = int32(a), int32(b)
}

// rescore finds roots and scores anew after a milestone, from the oldest on.
func (d *DAG) rescore() {
	for i := int32(d.low); int(i) < len(d.ids); i++ {
		if d.nodes[i].own != 0 {
			d.roots(i)
		}
	}
	was := d.pools
	d.pools = [NonLazy + 1][]candidate{}
	for _, pool := range was {
		for _, c := range pool {
			d.nodes[c.slot].score = d.score(c.slot)
			d.admit(c)
		}
	}
	for i := int32(d.low); int(i) < len(d.ids); i++ {
		if d.nodes[i].own != 0 && d.nodes[i].place == none {
			d.nodes[i].score = d.score(i)
		}
	}
}

// Tips are all blocks that nobody approves, best score first; else in no order that
// means anything, but always the same.
func (d *DAG) Tips() []ID {
	ids := make([]ID, 0, d.tips)
	for score := NonLazy; ; score-- {
		for _, c := range d.pools[score] {
			if d.nodes[c.slot].children == 0 {
				ids = append(ids, d.ids[c.slot])
			}
		}
		if score == Lazy {
			return ids
		}
	}
}

// TipCount is the number of Tips.
func (d *DAG) TipCount() int { return d.tips }

// URTS chooses up to n different blocks of a score uniformly from the pool, as of a
// time: uniform random tip selection (TIP-3). There are fewer if the pool has no
// more. The last milestone is a good parent too when there are none.
func (d *DAG) URTS(score Score, n int, at step.Time, random Random) []ID {
	if score > NonLazy {
		return nil
	}
	ids := make([]ID, 0, min(n, len(d.pools[score])))
	for len(ids) < n && len(ids) < len(d.pools[score]) {
		pool := d.pools[score]
		taken := len(ids)
		k := taken + random.below(len(pool)-taken)
		c := &pool[k]
		if d.aged(c, at) && d.nodes[c.slot].children > 0 {
			d.leave(c.slot)
			continue
		}
		d.swap(pool, taken, k)
		ids = append(ids, d.ids[pool[taken].slot])
	}
	return ids
}

// Random returns 64 random bits with every call, such as (*rand.Rand).Uint64. Cores
// that have only a seed use NewRandom.
type Random func() uint64

// NewRandom is the SplitMix64 sequence of a seed: enough to choose tips with, and
// to be the same everywhere.
func NewRandom(seed uint64) Random {
	return func() uint64 {
		seed += 0x9e3779b97f4a7c15
		z := seed
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		return z ^ z>>31
	}
}

// below is uniform over 0 to n-1, up to 2^-64 n.
func (r Random) below(n int) int {
	hi, _ := bits.Mul64(r(), uint64(n))
	return int(hi)
}

// fraction is uniform over [0, 1).
func (r Random) fraction() float64 { return float64(r()>>11) / (1 << 53) }
