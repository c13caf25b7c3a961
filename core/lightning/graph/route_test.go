package graph_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/graph"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
)

// BOLT 7's routing example: A, B, C and D in a square, each with one tariff for
// all its channels. https://github.com/lightning/bolts/blob/master/07-routing-gossip.md#routing-example
const (
	A = iota + 1
	B
	C
	D
)

func square(t testing.TB) *graph.Graph {
	g := graph.New(chain, graph.Limits{})
	of := map[int]graph.Policy{A: tariff(100, 1000, 10), B: tariff(200, 2000, 20), C: tariff(300, 3000, 30), D: tariff(400, 4000, 40)}
	link(t, g, 12, A, B, 0, of[A], of[B])
	link(t, g, 23, B, C, 0, of[B], of[C])
	link(t, g, 14, A, D, 0, of[A], of[D])
	link(t, g, 34, C, D, 0, of[C], of[D])
	return g
}

// fromTo asks for the example's payment: 4,999,999 msat, 18 blocks for C and 42
// of shadow route.
func fromTo(from, to int) graph.Request {
	return graph.Request{From: name(from), To: name(to), Amount: 4_999_999, FinalCLTV: 18 + 42, MaxFee: money.BTC}
}

func TestTheExampleOfBOLT7(t *testing.T) {
	g := square(t)
	for _, c := range []struct {
		title    string
		from     int
		avoid    []wire.SCID
		hops     []graph.Hop
		fee      money.Amount
		cltvPlus uint32
	}{
		{"B->C", B, nil, []graph.Hop{{name(C), 23, 4_999_999, 60}}, 0, 0},
		{"A->B->C", A, nil, []graph.Hop{{name(B), 12, 5_010_198, 80}, {name(C), 23, 4_999_999, 60}}, 10_199, 20},
		{"A->D->C", A, []wire.SCID{12}, []graph.Hop{{name(D), 14, 5_020_398, 100}, {name(C), 34, 4_999_999, 60}}, 20_399, 40},
	} {
		r := fromTo(c.from, C)
		r.AvoidChannels = c.avoid
		p, err := g.Route(r, nil)
		if err != nil {
			t.Fatalf("%s: %v", c.title, err)
		}
		if p.Fee != c.fee || p.CLTV != 60+c.cltvPlus || p.Amount != r.Amount || !equalHops(p.Hops, c.hops) {
			t.Errorf("%s: got %+v, want hops %+v, fee %d", c.title, p, c.hops, c.fee)
		}
	}
}

func equalHops(a, b []graph.Hop) bool {
	for i := range a {
		if len(a) != len(b) || a[i] != b[i] {
			return false
		}
	}
	return len(a) == len(b)
}

func TestWhatWasMissingIsNamed(t *testing.T) {
	for _, c := range []struct {
		title string
		edit  func(*graph.Request)
		want  error
	}{
		{"a fee limit below the cheapest", func(r *graph.Request) { r.MaxFee = 10_198 }, graph.ErrFee},
		{"no fee at all", func(r *graph.Request) { r.MaxFee = 0 }, graph.ErrFee},
		{"a time limit below the shortest", func(r *graph.Request) { r.MaxCLTV = 79 }, graph.ErrCLTV},
		{"a payee that alone wants too long", func(r *graph.Request) { r.FinalCLTV = 2017 }, graph.ErrCLTV},
		{"one hop", func(r *graph.Request) { r.MaxHops = 1 }, graph.ErrHops},
		{"an unknown payee", func(r *graph.Request) { r.To = name(99) }, graph.ErrNoPath},
		{"a payer without channels", func(r *graph.Request) { r.From = name(99) }, graph.ErrNoPath},
		{"both ways avoided", func(r *graph.Request) { r.AvoidNodes = []keys.Public{name(B), name(D)} }, graph.ErrNoPath},
		{"own channels that are empty", func(r *graph.Request) { r.Extra = []graph.Edge{own(12, A, B, 0)} }, graph.ErrAmount},
		{"own channels that are a little too small", func(r *graph.Request) { r.Extra = []graph.Edge{own(12, A, B, 5_010_197)} }, graph.ErrAmount},
	} {
		r := fromTo(A, C)
		c.edit(&r)
		if p, err := square(t).Route(r, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v and %v, want %v", c.title, p, err, c.want)
		}
	}
	g := square(t)
	for title, edit := range map[string]func(*graph.Request){
		"to self":        func(r *graph.Request) { r.To = r.From },
		"of nothing":     func(r *graph.Request) { r.Amount = 0 },
		"of everything":  func(r *graph.Request) { r.Amount = money.MaxAmount + 1 },
		"over 21 hops":   func(r *graph.Request) { r.MaxHops = graph.MaxHops + 1 },
		"with a flood":   func(r *graph.Request) { r.Extra = make([]graph.Edge, graph.MaxExtra+1) },
		"around a flood": func(r *graph.Request) { r.AvoidChannels = make([]wire.SCID, graph.MaxAvoided+1) },
	} {
		r := fromTo(A, C)
		edit(&r)
		if p, err := g.Route(r, nil); err == nil {
			t.Errorf("a payment %s finds %v", title, p)
		}
	}
}

// Every limit is kept to the msat and the block: at the limit a path is found.
func TestALimitIsNotOffByOne(t *testing.T) {
	r := fromTo(A, C)
	r.MaxFee, r.MaxCLTV, r.MaxHops = 10_199, 80, 2
	r.Extra = []graph.Edge{own(12, A, B, 5_010_198)}
	if _, err := square(t).Route(r, nil); err != nil {
		t.Error(err)
	}
	r.To, r.MaxFee, r.Amount = name(B), 0, 5_010_198 // all there is
	if _, err := square(t).Route(r, nil); err != nil {
		t.Error(err)
	}
}

// The best path to a node may leave too little of a limit for the rest of the
// way; then another is taken.
func TestALimitIsNotSpentTooEarly(t *testing.T) {
	const amount = 1_000_000 * money.Sat
	for _, c := range []struct {
		title      string
		better     graph.Policy // of channel 34, which costs less all in all
		worse      graph.Policy // of channel 35
		longer     bool         // the better one has a hop more
		r          graph.Request
		cost, cltv int
	}{
		{"fee", tariff(3000, 0, 10), tariff(0, 0, 1000), false, graph.Request{MaxFee: 3500}, 1000, 1010},
		{"time", tariff(0, 0, 100), tariff(9000, 0, 10), false, graph.Request{MaxFee: money.BTC, MaxCLTV: 105}, 10_000, 20},
		{"hops", tariff(0, 0, 1), tariff(9000, 0, 10), true, graph.Request{MaxFee: money.BTC, MaxHops: 3}, 10_000, 20},
	} {
		g := graph.New(chain, graph.Limits{})
		link(t, g, 12, 1, 2, 0, tariff(0, 0, 0), tariff(0, 0, 0))
		link(t, g, 23, 2, 3, 0, tariff(1000, 0, 10), tariff(0, 0, 0))
		if c.longer {
			link(t, g, 34, 3, 5, 0, c.better, tariff(0, 0, 0))
			link(t, g, 54, 5, 4, 0, tariff(0, 0, 0), tariff(0, 0, 0))
		} else {
			link(t, g, 34, 3, 4, 0, c.better, tariff(0, 0, 0))
		}
		link(t, g, 35, 3, 4, 0, c.worse, tariff(0, 0, 0))
		c.r.From, c.r.To, c.r.Amount = name(1), name(4), amount
		p, err := g.Route(c.r, nil)
		if err != nil || p.Hops[2].SCID != 35 || p.Fee != money.Amount(c.cost) || p.CLTV != uint32(c.cltv) {
			t.Errorf("%s: %+v, %v", c.title, p, err)
		}
		c.r.MaxFee, c.r.MaxCLTV, c.r.MaxHops = money.BTC, 0, 0
		if p, err = g.Route(c.r, nil); err != nil || p.Hops[2].SCID != 34 {
			t.Errorf("%s: without the limit: %+v, %v", c.title, p, err)
		}
	}
}

func TestPayerAndPayeeAreNeverAvoided(t *testing.T) {
	r := fromTo(A, C)
	r.AvoidNodes = []keys.Public{name(A), name(B), name(C), name(77)}
	if p, err := square(t).Route(r, nil); err != nil || p.Hops[0].Node != name(D) {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestALineOfTwentyHops(t *testing.T) {
	g := graph.New(chain, graph.Limits{})
	for i := range 25 {
		link(t, g, wire.SCID(i), i, i+1, 0, tariff(1, 0, 1), tariff(1, 0, 1))
	}
	r := fromTo(0, graph.MaxHops)
	if p, err := g.Route(r, nil); err != nil || len(p.Hops) != graph.MaxHops || p.Fee != graph.MaxHops-1 {
		t.Errorf("20 hops: %v, %v", p, err)
	}
	r = fromTo(0, graph.MaxHops+1)
	if p, err := g.Route(r, nil); !errors.Is(err, graph.ErrHops) {
		t.Errorf("21 hops: %v, %v", p, err)
	}
}

// What a channel says of itself is obeyed in the direction it says it for.
func TestPoliciesThatForbid(t *testing.T) {
	free := tariff(0, 0, 0)
	for _, c := range []struct {
		title    string
		capacity int64
		edit     func(*graph.Policy)
		ok       bool
	}{
		{"nothing", 0, func(p *graph.Policy) {}, true},
		{"disabled", 0, func(p *graph.Policy) { p.Disabled = true }, false},
		{"the minimum is the amount", 0, func(p *graph.Policy) { p.Min = 4_999_999 }, true},
		{"the minimum is above the amount", 0, func(p *graph.Policy) { p.Min = 5_000_000 }, false},
		{"the maximum is the amount", 0, func(p *graph.Policy) { p.Max = 4_999_999 }, true},
		{"the maximum is below the amount", 0, func(p *graph.Policy) { p.Max = 4_999_998 }, false},
		{"the channel is just large enough", 5000, func(p *graph.Policy) { p.Max = 5_000_000 }, true},
		{"the channel is too small", 4999, func(p *graph.Policy) { p.Max = 0 }, false},
		{"the maximum is more than the channel has", 5000, func(p *graph.Policy) { p.Max = 5_000_001 }, false},
	} {
		for _, reverse := range []bool{false, true} {
			g := graph.New(chain, graph.Limits{})
			p := free
			c.edit(&p)
			from, to := 1, 3
			if reverse {
				from, to = 3, 1
			}
			link(t, g, 1, from, 2, 0, free, free)
			link(t, g, 2, 2, to, c.capacity, p, free)
			if path, err := g.Route(fromTo(from, to), nil); (err == nil) != c.ok {
				t.Errorf("%s, reverse %v: %v, %v", c.title, reverse, path, err)
			}
			if path, err := g.Route(fromTo(to, from), nil); err != nil && c.capacity != 4999 {
				t.Errorf("%s, reverse %v: the other direction is closed too: %v, %v", c.title, reverse, path, err)
			}
		}
	}
}

// A hostile policy is dear, never cheap: no sum or product wraps round.
func TestFeesDoNotOverflow(t *testing.T) {
	const most = math.MaxUint32
	for _, p := range []graph.Policy{
		tariff(most, most, math.MaxUint16), tariff(0, most, 0), tariff(most, 0, 0), tariff(0, 8_000_000, 0), tariff(0, 15_000_000, 0), tariff(0, 0, math.MaxUint16),
		{Min: math.MaxUint64}, {Min: math.MaxUint64, Max: math.MaxUint64}, {FeePPM: most, Max: math.MaxUint64},
	} {
		for _, amount := range []money.Amount{1, 1000, money.BTC, 1 << 60, money.MaxAmount - 1, money.MaxAmount} {
			g := graph.New(chain, graph.Limits{})
			for i := range 10 {
				link(t, g, wire.SCID(i), i, i+1, 0, p, p)
			}
			r := graph.Request{From: name(0), To: name(10), Amount: amount, MaxFee: math.MaxUint64, MaxCLTV: math.MaxUint32}
			path, err := g.Route(r, nil)
			if err != nil {
				continue
			}
			if sum, ok := path.Amount.Add(path.Fee); !ok || path.Hops[0].Amount != sum || path.CLTV != 9*uint32(p.CLTVDelta) {
				t.Errorf("policy %+v, amount %d: %+v", p, amount, path)
			}
		}
	}
}

// An invoice's hint leads to a payee that the graph does not know, over a node
// that it does not know either.
func TestHintsLeadToAPrivatePayee(t *testing.T) {
	g := square(t)
	r := fromTo(A, 9)
	r.Extra = []graph.Edge{
		{SCID: 66, From: name(C), To: name(9), Policy: graph.Policy{Disabled: true}},
		{SCID: 89, From: name(8), To: name(9), Policy: tariff(8, 0, 8)},
		{SCID: 38, From: name(C), To: name(8), Policy: tariff(3, 0, 3)},
	}
	p, err := g.Route(r, nil)
	if err != nil || len(p.Hops) != 4 {
		t.Fatalf("%+v, %v", p, err)
	}
	if h := p.Hops[2]; h != (graph.Hop{Node: name(8), SCID: 38, Amount: 5_000_007, Expiry: 68}) {
		t.Errorf("the HTLC to the hint's node is %+v", h)
	}
	if g.HasNode(name(9)) {
		t.Error("the hint stays in the graph")
	}
	if _, err := g.Route(fromTo(A, 9), nil); !errors.Is(err, graph.ErrNoPath) {
		t.Errorf("without the hint: %v", err)
	}
}

// The payer's own channels are what the request says, whatever the graph says.
func TestOwnChannelsReplaceTheGraphs(t *testing.T) {
	r := fromTo(A, C)
	r.Extra = []graph.Edge{own(14, A, D, money.BTC)} // 12 is offline
	p, err := square(t).Route(r, nil)
	if err != nil || p.Hops[0].SCID != 14 {
		t.Errorf("%+v, %v", p, err)
	}
}

// Whatever the network: a path satisfies every policy it meets, exactly.
func TestEveryHopIsPaidExactly(t *testing.T) {
	g := graph.New(chain, graph.Limits{})
	network(t, g, 400, 1200, 7)
	rng := rand.New(rand.NewPCG(7, 7))
	found := 0
	for range 300 {
		r := graph.Request{
			From: name(rng.IntN(400)), To: name(rng.IntN(400)), Amount: money.Amount(1 + rng.Uint64N(1<<(1+rng.IntN(35)))),
			FinalCLTV: uint32(rng.IntN(100)), MaxFee: money.Amount(rng.Uint64N(1 << 22)), MaxCLTV: uint32(200 + rng.IntN(1500)), MaxHops: 1 + rng.IntN(20),
		}
		p, err := g.Route(r, nil)
		if err != nil {
			continue
		}
		found++
		satisfies(t, g, r, p)
	}
	if found < 100 {
		t.Errorf("only %d of 300 payments find a path; the test is about nothing", found)
	}
}

// satisfies checks a path against the policies of the graph.
func satisfies(t *testing.T, g *graph.Graph, r graph.Request, p graph.Path) {
	t.Helper()
	last := p.Hops[len(p.Hops)-1]
	if last.Node != r.To || last.Amount != p.Amount || last.Expiry != r.FinalCLTV {
		t.Errorf("the last HTLC is %+v; the payee wants %d msat and %d blocks", last, p.Amount, r.FinalCLTV)
	}
	if p.Hops[0].Amount != p.Amount+p.Fee || p.Fee > r.MaxFee || p.CLTV != p.Hops[0].Expiry || p.CLTV > r.MaxCLTV || len(p.Hops) > r.MaxHops {
		t.Errorf("the path breaks the request: %+v, %+v", r, p)
	}
	seen := map[keys.Public]bool{r.From: true}
	at := r.From
	for i, h := range p.Hops {
		c, ok := g.Channel(h.SCID)
		side := 0
		if c.Nodes[1] == at {
			side = 1
		}
		q := c.Policies[side]
		if !ok || c.Nodes[side] != at || c.Nodes[1-side] != h.Node || seen[h.Node] {
			t.Fatalf("hop %d of %+v is no channel from %s, or a loop", i, p, at)
		}
		if q.Disabled || h.Amount < q.Min || q.Max != 0 && h.Amount > q.Max || h.Amount > money.Amount(c.Capacity)*money.Sat {
			t.Errorf("hop %d carries %d msat against %+v", i, h.Amount, q)
		}
		if i > 0 {
			fee := q.FeeBase + h.Amount*money.Amount(q.FeePPM)/1_000_000
			if in := p.Hops[i-1]; in.Amount != h.Amount+fee || in.Expiry != h.Expiry+uint32(q.CLTVDelta) {
				t.Errorf("hop %d asks %d msat and %d blocks, gets %d and %d", i, fee, q.CLTVDelta, in.Amount-h.Amount, in.Expiry-h.Expiry)
			}
		}
		seen[h.Node], at = true, h.Node
	}
}
