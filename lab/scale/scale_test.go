package scale

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"coinop.dev/core/money"
)

func play1(t *testing.T, o Options) *Result {
	t.Helper()
	o.Fill()
	r, err := Run(t.Context(), o, func(uint64) {})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The survey's network carries micropayments; the same seed plays the same.
func TestSurvey(t *testing.T) {
	r := play1(t, Options{Payments: 2000})
	if r.Nodes != SurveyNodes || r.Channels != SurveyChannels || r.Success < 0.8 || r.Success > 1 || r.First > r.Success {
		t.Errorf("%+v", r)
	}
	if r.Hops.P50 < 2 || r.Hops.P50 > 12 || len(r.Tenths) != 10 || len(r.ByAmount) < 5 {
		t.Errorf("%+v", r)
	}
	for i := 1; i < len(r.Observed); i++ {
		if r.Observed[i].Seen < r.Observed[i-1].Seen || r.Observed[i].Linked > r.Observed[i].Seen {
			t.Errorf("%+v", r.Observed)
		}
	}
	again := play1(t, Options{Payments: 2000})
	r.TookS, again.TookS, r.SearchUs, again.SearchUs = 0, 0, Ranks{}, Ranks{}
	if !reflect.DeepEqual(r, again) {
		t.Error("two runs of one seed differ")
	}
}

// On small networks the search from both ends finds what trying all paths finds.
func TestCheapest(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		g := synthetic(7, 12, random)
		g.split(random)
		f := newFinder(g)
		from, to := int32(random.IntN(7)), int32(random.IntN(6))
		if to >= from {
			to++
		}
		amount := int64(1 + random.IntN(2_000_000_000))
		var best uint64
		found := false
		var walk func(n int32, cost uint64, seen map[int32]bool)
		walk = func(n int32, cost uint64, seen map[int32]bool) {
			if n == to {
				if !found || cost < best {
					best, found = cost, true
				}
				return
			}
			seen[n] = true
			for _, a := range g.arcs[g.first[n]:g.first[n+1]] {
				if step, ok := f.cost(a, from, amount); ok && !seen[g.to(a)] {
					walk(g.to(a), cost+step, seen)
				}
			}
			delete(seen, n)
		}
		walk(from, 0, map[int32]bool{})
		path := f.path(from, to, amount)
		if (path != nil) != found {
			t.Fatalf("seed %d: path %v, and there is one: %v", seed, path, found)
		}
		cost, at := uint64(0), from
		for _, a := range path {
			if g.from(a) != at {
				t.Fatalf("seed %d: the path is broken", seed)
			}
			step, _ := f.cost(a, from, amount)
			cost, at = cost+step, g.to(a)
		}
		if found && (cost != best || at != to) {
			t.Errorf("seed %d: cost %d, the best is %d", seed, cost, best)
		}
	}
}

// What is paid moves, and nothing else: routers keep their fee.
func TestTry(t *testing.T) {
	g := &network{channels: []channel{
		{ends: [2]int32{0, 1}, capacity: 1000_000, balance: 600_000, policy: [2]policy{{0, 9999}, {off, off}}},
		{ends: [2]int32{2, 1}, capacity: 1000_000, balance: 0, policy: [2]policy{{}, {1000, 10_000}}},
	}}
	g.index(3)
	path := []arc{0, 3}
	if stuck, sent := g.try(path, 100_000); stuck != -1 || sent != 102_000 {
		t.Errorf("stuck at %d, sent %d", stuck, sent)
	}
	if g.channels[0].balance != 498_000 || g.channels[1].balance != 100_000 {
		t.Errorf("balances %d and %d", g.channels[0].balance, g.channels[1].balance)
	}
	if stuck, _ := g.try(path, 495_000); stuck != 0 || g.channels[0].balance != 498_000 {
		t.Errorf("a payment that cannot be sent is stuck at %d", stuck)
	}
}

// A user's own graph.
func TestGraphFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "graph.json")
	const text = `{"nodes":[],"edges":[
	{"node1_pub":"a","node2_pub":"b","capacity":"1000000","node1_policy":{"fee_base_msat":"1000","fee_rate_milli_msat":"10"},"node2_policy":{"fee_base_msat":"0","fee_rate_milli_msat":"1"}},
	{"node1_pub":"b","node2_pub":"c","capacity":"1000000","node1_policy":{"fee_base_msat":"1000","fee_rate_milli_msat":"10"},"node2_policy":null}]}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := play1(t, Options{File: path, Payments: 200, High: 1000 * money.Sat})
	if r.Nodes != 3 || r.Channels != 2 || r.Success < 0.4 || r.Capacity != 2_000_000 {
		t.Errorf("%+v", r)
	}
	for name, text := range map[string]string{"no graph": "{", "no channel": "{}", "a loop": `{"edges":[{"node1_pub":"a","node2_pub":"a","capacity":"1"}]}`, "no capacity": `{"edges":[{"node1_pub":"a","node2_pub":"b"}]}`} {
		os.WriteFile(path, []byte(text), 0o600)
		if _, err := readGraph(path); err == nil {
			t.Errorf("%s is read", name)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, o := range []Options{{Times: 1000}, {Payments: -1}, {Attempts: MaxAttempts + 1}, {Low: 10, High: 1}} {
		o.Fill()
		if _, err := Run(t.Context(), o, nil); !errors.Is(err, money.Invalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestTally(t *testing.T) {
	var x tally
	for i := range 100 {
		x.add(float64(i % 10))
	}
	if r := x.ranks(); r.P50 != 5 || r.Max != 9 || r.Mean != 4.5 {
		t.Errorf("%+v", r)
	}
}
