package sim

import (
	"encoding/binary"
	"math"
	"math/rand/v2"

	"coinop.dev/core/ledger/tangle/dag"
)

// The studies of tanglestudy*.go grow a Tangle in virtual time as the white paper
// does (Popov, "The Tangle" 1.4.3, section 3): blocks are issued as a Poisson process
// of rate lambda, each approves two tips, and everybody sees a block one delay h
// after it was issued. Only core/ledger/tangle/dag runs, no nodes; time is measured
// in h, so that lambda h, the blocks under way, is the only parameter of load.

// An Estimate is a mean over independent seeds, and its 95 % confidence interval.
type Estimate struct {
	Mean float64 `json:"mean"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
	Runs int     `json:"runs"`
}

// Holds reports whether a value lies in the interval.
func (e Estimate) Holds(v float64) bool { return e.Low <= v && v <= e.High }

// A CurvePoint is one estimate of a curve, and what a law says there; 0 if none does.
type CurvePoint struct {
	X float64 `json:"x"`
	Estimate
	Law float64 `json:"law,omitempty"`
}

// Runs are the seeds of a study: from Seed on, so many.
type Runs struct {
	Seed  uint64
	Seeds int // at least 2
}

// estimates runs a study of several figures once per seed.
func (r Runs) estimates(study func(seed uint64) []float64) []Estimate {
	var values [][]float64 // by figure, then seed
	for s := range max(r.Seeds, 2) {
		for k, v := range study(r.Seed + uint64(s)) {
			if k == len(values) {
				values = append(values, nil)
			}
			values[k] = append(values[k], v)
		}
	}
	all := make([]Estimate, len(values))
	for k, v := range values {
		all[k] = interval(v)
	}
	return all
}

// interval is mean plus and minus Student's t times the standard error.
func interval(values []float64) Estimate {
	n := float64(len(values))
	mean, squares := 0.0, 0.0
	for _, v := range values {
		mean += v / n
	}
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	half := student(len(values)-1) * math.Sqrt(squares/(n-1)/n)
	return Estimate{mean, mean - half, mean + half, len(values)}
}

// student is the 97.5 % point of Student's t distribution.
func student(freedom int) float64 {
	table := [...]float64{12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
		2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086}
	if freedom <= len(table) {
		return table[freedom-1]
	}
	f := float64(freedom)
	return 1.96 + 2.4/f + 3/(f*f)
}

// slope is that of the least-squares line through points.
func slope(x, y []float64) float64 {
	mx, my := 0.0, 0.0
	for k := range x {
		mx += x[k] / float64(len(x))
		my += y[k] / float64(len(x))
	}
	above, below := 0.0, 0.0
	for k := range x {
		above += (x[k] - mx) * (y[k] - my)
		below += (x[k] - mx) * (x[k] - mx)
	}
	return above / below
}

// A choose says which tips a new block approves: one or two, by what is visible.
type choose func(*tangle) []dag.ID

// uniform chooses two different tips, each pair as likely.
func uniform(t *tangle) []dag.ID { return t.visible.URTS(dag.NonLazy, 2, 0, t.r.Uint64) }

// walk chooses by weighted walks, W deep.
func walk(w dag.Walk) choose {
	return func(t *tangle) []dag.ID { return t.visible.MCMC(w, t.r.Uint64) }
}

// A tangle grows. Blocks are numbers, in the order of their issue; 0 is the genesis.
type tangle struct {
	r       *rand.Rand
	rate    float64 // lambda h
	now     float64 // in h
	visible *dag.DAG
	way     []int // issued, and not visible yet
	blocks  []studied
}

// studied is what a study remembers of a block.
type studied struct {
	at       float64 // issued, in h
	approved float64 // when its first approver was issued; +Inf if never
	tag      uint64  // whatever the study inherits from parent to child
	parents  []dag.ID
	lazy     bool
}

func newTangle(seed uint64, rate float64, o dag.Options) *tangle {
	o.Confirmed = func(id dag.ID) (uint32, bool) { return 1, id == number(0) }
	o.Milestone, o.Pool.Strict = 1, true
	return &tangle{
		r: rand.New(rand.NewPCG(seed, 0x7461_6e67_6c65)), rate: rate,
		visible: dag.New(o), blocks: make([]studied, 1),
	}
}

func number(n int) (id dag.ID) {
	binary.LittleEndian.PutUint64(id[:], uint64(n))
	return id
}

func index(id dag.ID) int { return int(binary.LittleEndian.Uint64(id[:])) }

// next waits for the next issue of a flow of some rate, or until a time, and reports
// whether the issue came first. A Poisson process has no memory: it may be asked anew
// from any time on.
func (t *tangle) next(rate, until float64) bool {
	at := t.now + t.r.ExpFloat64()/rate
	t.now = min(at, until)
	for len(t.way) > 0 && t.blocks[t.way[0]].at+1 <= t.now {
		t.show(t.way[0])
		t.way = t.way[1:]
	}
	return at < until
}

func (t *tangle) show(n int) {
	if err := t.visible.Attach(dag.Block{ID: number(n), Parents: t.blocks[n].parents}, 0); err != nil {
		panic(err) // a study's own mistake
	}
}

// issue makes a block, which nobody sees yet. Its tag has the bits of its parents'.
func (t *tangle) issue(parents []dag.ID) int {
	if len(parents) == 0 {
		parents = []dag.ID{number(0)}
	}
	b := studied{at: t.now, approved: math.Inf(1), parents: parents}
	for _, p := range parents {
		parent := &t.blocks[index(p)]
		parent.approved = min(parent.approved, t.now)
		b.tag |= parent.tag
	}
	t.blocks = append(t.blocks, b)
	return len(t.blocks) - 1
}

// grow issues blocks until a time, and tells a study of each.
func (t *tangle) grow(until float64, choose choose, tell func(n int)) {
	for t.next(t.rate, until) {
		n := t.issue(choose(t))
		t.way = append(t.way, n)
		if tell != nil {
			tell(n)
		}
	}
}
