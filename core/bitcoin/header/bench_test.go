package header_test

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/bitcoin/header/headertest"
	"coinop.dev/core/step"
)

// late is a time after that of all synthetic headers.
const late = step.Time(1<<32) * step.Second

// syncs feeds headers as a peer sends them: 2,000 at a time.
func syncs(tb testing.TB, c *header.Chain, headers []wire.BlockHeader) {
	tb.Helper()
	for batch := range slices.Chunk(headers, wire.MaxBlockHeadersPerMsg) {
		if _, better, err := c.Connect(batch, late); err != nil || !better {
			tb.Fatalf("Connect: better %v, %v", better, err)
		}
	}
}

// BenchmarkConnect validates 900,000 headers from the first block on.
func BenchmarkConnect(b *testing.B) {
	const n = 900_000
	headers := slices.AppendSeq(make([]wire.BlockHeader, 0, n), headertest.Synthetic(headertest.Params(), n))
	for _, way := range []struct {
		name string
		size int
	}{{"messages of 2000", 2000}, {"one branch", n}} {
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c := header.New(headertest.Params())
				for batch := range slices.Chunk(headers, way.size) {
					if _, better, err := c.Connect(batch, late); err != nil || !better {
						b.Fatalf("Connect: better %v, %v", better, err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/header")
		})
	}
}

// BenchmarkTip connects the next header to a chain at its tip.
func BenchmarkTip(b *testing.B) {
	const n = 4000
	headers := slices.Collect(headertest.Synthetic(headertest.Params(), n))
	c := header.New(headertest.Params())
	syncs(b, c, headers[:n-1])
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		next := c.Clone()
		b.StartTimer()
		if _, better, err := next.Connect(headers[n-1:], late); err != nil || !better {
			b.Fatal(better, err)
		}
	}
}

// BenchmarkLoad loads a chain of 1,000,000 headers, and says what it keeps.
func BenchmarkLoad(b *testing.B) {
	const n = 1_000_000
	c, d := header.New(headertest.Params()), newDisk()
	batch := make([]wire.BlockHeader, 0, 2000)
	for h := range headertest.Synthetic(headertest.Params(), n) {
		if batch = append(batch, h); len(batch) == cap(batch) {
			syncs(b, c, batch)
			batch = batch[:0]
		}
	}
	d.put(c.Changes("h/"))
	b.ReportAllocs()
	for b.Loop() {
		loaded, err := header.Load(d, "h/", headertest.Params())
		if err != nil {
			b.Fatal(err)
		}
		if height, _ := loaded.Tip(); height != n {
			b.Fatal(height)
		}
	}
	// A thousand chains, so that what else the process does is lost in the mean.
	const many = 1000
	keep := make([]*header.Chain, many)
	before := heap()
	for i := range keep {
		keep[i] = c.Clone()
	}
	b.ReportMetric(float64(heap()-before)/many, "B/chain")
	b.ReportMetric(float64(d.size()), "disk-B")
	runtime.KeepAlive(keep)
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	time.Sleep(time.Millisecond)
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
