// Package scale plays payments over networks of payment channels that are larger
// than a computer has room to run: what share arrives, over how many channels, for
// which fee, and what becomes of the channels' balances.
//
// A payer knows what gossip tells: channels, their capacities and fees, not how a
// capacity is split. It takes the path that costs least, tries it, and if a channel
// on it cannot carry the payment, leaves that channel out and tries again. What is
// paid moves the balances for good: nobody rebalances.
//
// The pathfinder is not the one of core/lightning/graph, which takes milliseconds
// because it keeps to every limit of the protocol. It searches from both ends, and
// its cost is the fee, a price for each hop, and the expected price of a failed
// attempt if balances are uniform. Time locks, HTLC slots, minimal amounts and
// splitting are left out.
//
// A run depends on its options alone: integers everywhere, one random stream, one
// thread.
package scale

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"coinop.dev/core/money"
)

// The network that the survey counted.
const (
	SurveyNodes    = 13_504
	SurveyChannels = 37_093
)

// Limits of a simulation.
const (
	MaxNodes    = 4_000_000
	MaxChannels = 10_000_000
	MaxPayments = 100_000_000
	MaxAttempts = 100
)

// Options say what is played.
type Options struct {
	Times    int    // the survey's network so many times; of no effect with File
	File     string // a graph as lncli describegraph prints it; "" makes one
	Payments int
	Attempts int // paths tried for a payment
	// Amounts are spread evenly over the logarithm between these.
	Low, High money.Amount
	Seed      uint64
}

// Fill sets what is not said.
func (o *Options) Fill() {
	set := func(v *int, to int) {
		if *v == 0 {
			*v = to
		}
	}
	set(&o.Times, 1)
	set(&o.Payments, 1_000_000)
	set(&o.Attempts, 5)
	if o.Low == 0 {
		o.Low = money.Sat
	}
	if o.High == 0 {
		o.High = 100_000 * money.Sat
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
}

// Check reports what cannot be played.
func (o *Options) Check() error {
	invalid := func(format string, args ...any) error {
		return &money.Error{Kind: money.Invalid, Op: "lab scale", Err: fmt.Errorf(format, args...)}
	}
	switch {
	case o.Times < 1 || o.Times*SurveyNodes > MaxNodes:
		return invalid("times is %d; it must be 1 to %d", o.Times, MaxNodes/SurveyNodes)
	case o.Payments < 1 || o.Payments > MaxPayments:
		return invalid("payments is %d; it must be 1 to %d", o.Payments, MaxPayments)
	case o.Attempts < 1 || o.Attempts > MaxAttempts:
		return invalid("attempts is %d; it must be 1 to %d", o.Attempts, MaxAttempts)
	case o.Low < 1 || o.High < o.Low || o.High > money.BTC:
		return invalid("amounts are %v to %v; they must be 1 msat to %v, the lower first", o.Low, o.High, money.BTC)
	}
	return nil
}

// A Result is one simulation.
type Result struct {
	Source   string `json:"source"`
	Nodes    int    `json:"nodes"`
	Channels int    `json:"channels"`
	Capacity int64  `json:"capacity_sat"`
	Degrees  Ranks  `json:"degree"`
	Sizes    Ranks  `json:"channel_capacity_sat"`
	Seed     uint64 `json:"seed"`

	Payments int `json:"payments"`
	// First is the share that arrived at the first attempt, Success after all.
	First    float64 `json:"success_first"`
	Success  float64 `json:"success"`
	NoPath   float64 `json:"no_path"` // share for which no path was left to try
	Attempts float64 `json:"attempts_mean"`
	// Of those that arrived.
	Hops   Ranks `json:"hops"`
	FeePPM Ranks `json:"fee_ppm"`
	Fee    Ranks `json:"fee_msat"`

	ByAmount []Decade `json:"by_amount"`
	Tenths   []Tenth  `json:"tenths"`

	// Observed is what the largest nodes would see if they put together what they
	// know: so many of them.
	Observed []Observed `json:"observers"`

	SearchUs    Ranks   `json:"search_us"`
	TookS       float64 `json:"took_s"`
	MemoryBytes int64   `json:"memory_bytes"` // of the network and the search, by the size of their tables
}

// A Decade is the payments whose amounts are of one length.
type Decade struct {
	FromSat  int64   `json:"from_sat"`
	Payments int     `json:"payments"`
	Success  float64 `json:"success"`
}

// A Tenth is a part of the run.
type Tenth struct {
	Payments int     `json:"payments"` // so far
	Success  float64 `json:"success"`  // in this tenth
	// Depleted is the share of channels of which one side has less than a twentieth.
	Depleted float64 `json:"depleted"`
	Hops     float64 `json:"hops_mean"`
}

// Observed is what observers learn of payments that arrived.
type Observed struct {
	Nodes int `json:"nodes"` // the so many with most channels
	// Seen: one of them forwards it, and so knows the amount within its fee.
	Seen float64 `json:"seen"`
	// Linked: they stand beside the payer and beside the payee, and the payment's hash
	// is the same in both places: they know both neighbours, though not that these are
	// the ends.
	Linked float64 `json:"linked"`
}

// Ranks are some of many values in order.
type Ranks struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P95  float64 `json:"p95"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
}

// depleted is the share of a channel below which a side counts as empty.
const depleted = 20 // a twentieth

// pulse is how many payments pass between two looks at the context.
const pulse = 64

// observers are how many of the largest nodes put together what they see.
var observers = []int{1, 10, 100}

// Run plays a simulation. progress hears how many payments are done.
func Run(ctx context.Context, o Options, progress func(done uint64)) (*Result, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(o.Seed, 0))
	var g *network
	var err error
	if o.File != "" {
		g, err = readGraph(o.File)
	} else {
		g, err = synthetic(SurveyNodes*o.Times, SurveyChannels*o.Times, random), nil
	}
	if err != nil {
		return nil, err
	}
	g.split(random)
	r := &Result{Source: source(&o), Nodes: g.nodes(), Channels: len(g.channels), Seed: o.Seed, Payments: o.Payments}
	g.describe(r)
	p := newPlay(g, &o, random, r)
	begin := time.Now()
	for i := range o.Payments {
		if i%pulse == 0 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			progress(uint64(i))
		}
		p.payment(i)
	}
	r.TookS = time.Since(begin).Seconds()
	p.finish()
	return r, nil
}

func source(o *Options) string {
	if o.File != "" {
		return o.File
	}
	return fmt.Sprintf("synthetic, the survey's network times %d", o.Times)
}

// play is a simulation that goes on.
type play struct {
	g      *network
	o      *Options
	random *rand.Rand
	r      *Result
	find   *finder
	rank   []int32 // of nodes by channels, 0 has most

	arrived, first, nowhere, attempts int
	hops, ppm, fees, took             tally
	decades                           map[int][2]int
	tenth                             [3]int // payments, arrived, hops
	seen, linked                      []int
}

func newPlay(g *network, o *Options, random *rand.Rand, r *Result) *play {
	p := &play{g: g, o: o, random: random, r: r, find: newFinder(g), decades: map[int][2]int{}}
	p.seen, p.linked = make([]int, len(observers)), make([]int, len(observers))
	order := make([]int32, g.nodes())
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return int(g.degree(b)) - int(g.degree(a)) })
	p.rank = make([]int32, len(order))
	for at, n := range order {
		p.rank[n] = int32(at)
	}
	return p
}

// payment has one node pay another.
func (p *play) payment(i int) {
	n := p.g.nodes()
	from, to := int32(p.random.IntN(n)), int32(p.random.IntN(n-1))
	if to >= from {
		to++
	}
	low, high := math.Log(float64(p.o.Low)), math.Log(float64(p.o.High))
	amount := int64(math.Exp(low + (high-low)*p.random.Float64()))
	decade := len(fmt.Sprint(amount / int64(money.Sat)))
	if amount < int64(money.Sat) {
		decade = 0
	}
	count := p.decades[decade]
	count[0]++
	p.tenth[0]++
	p.find.forget()
	for attempt := range p.o.Attempts {
		begin := time.Now()
		path := p.find.path(from, to, amount)
		p.took.add(float64(time.Since(begin).Nanoseconds()) / 1e3)
		if path == nil {
			p.nowhere++
			break
		}
		p.attempts++
		stuck, sent := p.g.try(path, amount)
		if stuck >= 0 {
			p.find.avoid(path[stuck])
			continue
		}
		if attempt == 0 {
			p.first++
		}
		p.arrived++
		count[1]++
		p.tenth[1]++
		p.tenth[2] += len(path)
		p.hops.add(float64(len(path)))
		p.fees.add(float64(sent - amount))
		p.ppm.add(float64(sent-amount) * 1e6 / float64(amount))
		p.observe(path)
		break
	}
	p.decades[decade] = count
	if each := max(p.o.Payments/10, 1); (i+1)%each == 0 {
		t := Tenth{Payments: i + 1, Success: share(p.tenth[1], p.tenth[0]), Depleted: p.g.depleted(), Hops: share(p.tenth[2], p.tenth[1])}
		p.r.Tenths = append(p.r.Tenths, t)
		p.tenth = [3]int{}
	}
}

// observe notes what the largest nodes on a path see. Who forwards it is between.
func (p *play) observe(path []arc) {
	routers := len(path) - 1
	if routers < 1 {
		return
	}
	for i, n := range observers {
		in := func(at int) bool { return p.rank[p.g.to(path[at])] < int32(n) }
		seen := false
		for at := range routers {
			seen = seen || in(at)
		}
		if seen {
			p.seen[i]++
		}
		if in(0) && in(routers-1) {
			p.linked[i]++
		}
	}
}

func (p *play) finish() {
	r := p.r
	r.First, r.Success, r.NoPath = share(p.first, r.Payments), share(p.arrived, r.Payments), share(p.nowhere, r.Payments)
	r.Attempts = share(p.attempts, r.Payments)
	r.Hops, r.Fee, r.FeePPM, r.SearchUs = p.hops.ranks(), p.fees.ranks(), p.ppm.ranks(), p.took.ranks()
	for decade := range 12 {
		if c, ok := p.decades[decade]; ok {
			from := int64(0)
			if decade > 0 {
				from = int64(math.Pow10(decade - 1))
			}
			r.ByAmount = append(r.ByAmount, Decade{from, c[0], share(c[1], c[0])})
		}
	}
	for i, n := range observers {
		r.Observed = append(r.Observed, Observed{n, share(p.seen[i], p.arrived), share(p.linked[i], p.arrived)})
	}
	r.MemoryBytes = p.g.bytes() + p.find.bytes()
}

func share(n, of int) float64 {
	if of == 0 {
		return 0
	}
	return float64(n) / float64(of)
}
