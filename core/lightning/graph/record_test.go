package graph_test

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"testing"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/graph"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
)

func reload(t testing.TB, g *graph.Graph, limits graph.Limits) *graph.Graph {
	t.Helper()
	r := codec.NewReader(g.Append(nil))
	again := graph.Read(r, chain, limits)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return again
}

// After a restart the graph knows what it knew and finds the same paths, also
// after channels came and went.
func TestARestartChangesNothing(t *testing.T) {
	g := graph.New(chain, graph.Limits{})
	network(t, g, 300, 900, 5)
	rng := rand.New(rand.NewPCG(5, 5))
	for range 200 {
		g.Forget(wire.SCID(1 + rng.IntN(900)))
	}
	for i := range 50 {
		link(t, g, wire.SCID(2000+i), 400+i, rng.IntN(100), 1<<20, tariff(1, 1, 1), tariff(2, 2, 2))
	}
	again := reload(t, g, graph.Limits{})
	if again.Nodes() != g.Nodes() || again.Channels() != g.Channels() || !bytes.Equal(again.Append(nil), g.Append(nil)) {
		t.Errorf("%d nodes and %d channels come back as %d and %d", g.Nodes(), g.Channels(), again.Nodes(), again.Channels())
	}
	for range 100 {
		r := graph.Request{From: name(rng.IntN(100)), To: name(400 + rng.IntN(50)), Amount: 1000, MaxFee: money.BTC}
		a, errA := g.Route(r, nil)
		b, errB := again.Route(r, nil)
		if (errA == nil) != (errB == nil) || !equalHops(a.Hops, b.Hops) {
			t.Errorf("before the restart %+v, %v; after it %+v, %v", a, errA, b, errB)
		}
	}
	// The budget of updates survives too.
	g, c := graph.New(chain, graph.Limits{}), newCouple(t, 1, 2)
	must(t, true)(g.Announce(c.announce(5), 7))
	for i := range uint32(graph.UpdateBurst) {
		must(t, true)(g.Update(c.update(5, 0, seconds+i), now))
	}
	refused(t, graph.ErrTooMany)(reload(t, g, graph.Limits{}).Update(c.update(5, 0, seconds+99), now))
}

// A record from a larger machine does not fill a smaller one.
func TestARecordBeyondTheLimitsIsRefused(t *testing.T) {
	g := graph.New(chain, graph.Limits{})
	network(t, g, 30, 90, 5)
	for _, l := range []graph.Limits{{MaxNodes: 29}, {MaxChannels: 89}, {MaxBytes: 10_000}} {
		r := codec.NewReader(g.Append(nil))
		if again := graph.Read(r, chain, l); r.Close() == nil || again.Channels() != 0 || again.Nodes() != 0 {
			t.Errorf("%+v: %d channels are read", l, again.Channels())
		}
	}
}

// A flood of announcements, each with nodes nobody heard of, ends at the limit:
// the heap is no more than Size says, and Size no more than MaxBytes.
func TestAFloodIsBounded(t *testing.T) {
	const limit = 8 << 20
	before := heapInUse()
	g := graph.New(chain, graph.Limits{MaxBytes: limit})
	taken := 0
	for i := range 100_000 {
		ids := [2]keys.Public{name(2 * i), name(2*i + 1)}
		if g.Put(wire.SCID(i), ids, 0, [2]graph.Policy{}) == nil {
			taken++
		}
	}
	for i := range 100 { // the scratch counts too
		g.Route(graph.Request{From: name(2 * i), To: name(2*i + 1), Amount: 1}, nil)
	}
	heap := int64(heapInUse() - before)
	if taken < 10_000 || taken == 100_000 || g.Size() > limit || heap > g.Size() {
		t.Errorf("%d of 100,000 are taken; the heap holds %d bytes, Size says %d, the limit is %d", taken, heap, g.Size(), limit)
	}
	runtime.KeepAlive(g)
}

// The network that the survey counted fits 12 MiB with all that a search needs.
func TestTheNetworkFits(t *testing.T) {
	before := heapInUse()
	g := graph.New(chain, graph.Limits{})
	network(t, g, surveyNodes, surveyChannels, 1)
	for range 10 {
		if _, err := g.Route(graph.Request{From: name(1), To: name(77), Amount: 1000, MaxFee: money.BTC}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if heap := int64(heapInUse() - before); heap > g.Size() || g.Size() > 12<<20 {
		t.Errorf("%d nodes and %d channels: the heap holds %d bytes, Size says %d", g.Nodes(), g.Channels(), heap, g.Size())
	}
	runtime.KeepAlive(g)
}

func FuzzRead(f *testing.F) {
	g := graph.New(chain, graph.Limits{})
	f.Add(g.Append(nil))
	network(f, g, 4, 5, 1)
	f.Add(g.Append(nil))
	g.Forget(2)
	f.Add(g.Append(nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := codec.NewReader(raw)
		g := graph.Read(r, chain, graph.Limits{})
		if r.Close() != nil {
			return
		}
		if again := g.Append(nil); !bytes.Equal(again, raw) {
			t.Errorf("%x is read, and written as %x", raw, again)
		}
		for a := range 4 {
			g.Route(graph.Request{From: name(a), To: name(3 - a), Amount: 1000, MaxFee: money.BTC, Extra: []graph.Edge{own(1<<40, a, 2, money.BTC)}}, nil)
		}
		g.Prune(now)
	})
}
