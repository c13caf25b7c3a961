package graph_test

import (
	"bytes"
	"errors"
	"testing"

	"coinop.dev/core/codec"
	"coinop.dev/core/lightning/graph"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

const now step.Time = 1_700_000_000_000

// A payment takes the cheap way, fails there, takes the dear one, and comes back
// to the cheap one when the failure is long ago.
func TestAFailureMakesTheRetryGoAround(t *testing.T) {
	g, l := square(t), &graph.Liquidity{}
	r := fromTo(A, C)
	first := func(at step.Time) wire.SCID {
		t.Helper()
		r.At = at
		p, err := g.Route(r, l)
		if err != nil {
			t.Fatal(err)
		}
		return p.Hops[0].SCID
	}
	if first(now) != 12 {
		t.Fatal("the cheap way is not the first")
	}
	l.Succeeded(12, name(A), 5_010_198, now)
	l.Failed(23, name(B), 4_999_999, now)
	if first(now) != 14 {
		t.Error("the retry takes the way that has just failed")
	}
	if first(now+graph.LearnedFor) != 12 {
		t.Error("a failure is held against a channel for ever")
	}
	r.Amount = 1000
	if first(now) != 12 {
		t.Error("a channel that could not pass 5,000 sat is not asked for 1")
	}
}

func TestWhenAllWaysHaveFailedThereIsNone(t *testing.T) {
	g, l := square(t), &graph.Liquidity{}
	l.Failed(23, name(B), 4_999_999, now)
	l.Failed(34, name(D), 4_999_999, now)
	r := fromTo(A, C)
	r.At = now
	if p, err := g.Route(r, l); !errors.Is(err, graph.ErrAmount) {
		t.Errorf("%+v, %v", p, err)
	}
	l.Succeeded(34, name(D), 4_999_999, now+1)
	if _, err := g.Route(r, l); err != nil {
		t.Errorf("what succeeds after all is not used: %v", err)
	}
	r.From, r.To = name(C), name(A) // nothing was learned of the other direction
	if p, err := g.Route(r, l); err != nil || p.Hops[0].SCID != 23 && p.Hops[0].SCID != 34 {
		t.Errorf("the way back: %+v, %v", p, err)
	}
}

// A success makes a channel sure for that amount, then ever less.
func TestASuccessIsWorthLessWithTime(t *testing.T) {
	g := graph.New(chain, graph.Limits{})
	link(t, g, 1, A, B, 1_000_000, tariff(0, 0, 0), tariff(0, 0, 0))
	l := &graph.Liquidity{}
	r := graph.Request{From: name(A), To: name(B), Amount: 500_000 * money.Sat, At: now}
	odds := func(at step.Time) uint32 {
		r.At = at
		p, err := g.Route(r, l)
		if err != nil {
			t.Fatal(err)
		}
		return p.PPM
	}
	if got := odds(now); got < 499_999 || got > 500_001 {
		t.Errorf("half of a channel passes with a chance of %d ppm", got)
	}
	l.Succeeded(1, name(A), r.Amount, now)
	if got := odds(now); got != 1_000_000 {
		t.Errorf("what has just passed passes with a chance of %d ppm", got)
	}
	if a, b := odds(now+graph.LearnedFor/4), odds(now+graph.LearnedFor/2); a >= 1_000_000 || b >= a || b <= 500_000 {
		t.Errorf("the chance does not fall with time: %d ppm, %d ppm", a, b)
	}
	l = &graph.Liquidity{}
	l.Failed(1, name(A), r.Amount, now)
	r.Amount /= 2
	for _, c := range []struct {
		at  step.Time
		ppm uint32
	}{{now, 500_000}, {now + graph.LearnedFor/2, 666_666}, {now + graph.LearnedFor, 750_000}} {
		if got := odds(c.at); got < c.ppm-2 || got > c.ppm+2 {
			t.Errorf("half of what failed has a chance of %d ppm after %d ms, want %d", got, c.at-now, c.ppm)
		}
	}
}

// The last word on an amount counts, and it counts from when it was said.
func TestTheLastWordCounts(t *testing.T) {
	g, l := square(t), &graph.Liquidity{}
	r := fromTo(A, C)
	for _, at := range []step.Time{now, now + 5*step.Hour} {
		r.At = at
		l.Succeeded(23, name(B), 4_999_999, at)
		if p, err := g.Route(r, l); err != nil || p.Hops[0].SCID != 12 {
			t.Errorf("after a success: %+v, %v", p, err)
		}
		l.Failed(23, name(B), 4_999_999, at)
		if p, err := g.Route(r, l); err != nil || p.Hops[0].SCID != 14 {
			t.Errorf("after a failure: %+v, %v", p, err)
		}
	}
	l.Failed(23, name(B), 1000, now+5*step.Hour)
	r.At += graph.LearnedFor - 1
	if p, err := g.Route(r, l); err != nil || p.Hops[0].SCID != 14 {
		t.Errorf("4,000 msat are the most after 1,000 failed: %+v, %v", p, err)
	}
	r.At++
	if p, err := g.Route(r, l); err != nil || p.Hops[0].SCID != 12 {
		t.Errorf("forgotten: %+v, %v", p, err)
	}
}

// What is learned has a limit: the oldest goes.
func TestLearningIsBounded(t *testing.T) {
	l := &graph.Liquidity{}
	l.Failed(23, name(B), 1, now-1)
	for i := range 3 * graph.MaxLearned {
		l.Failed(wire.SCID(1000+i), name(i), money.Amount(i), now+step.Time(i))
		l.Succeeded(wire.SCID(1000+i), name(i), money.Amount(i/2), now+step.Time(i))
	}
	r := fromTo(A, C)
	r.At = now
	if p, err := square(t).Route(r, l); err != nil || p.Hops[0].SCID != 12 {
		t.Errorf("what was forgotten still counts, or counts as somebody else's: %+v, %v", p, err)
	}
	if l.Len() != graph.MaxLearned {
		t.Errorf("%d are remembered; the limit is %d", l.Len(), graph.MaxLearned)
	}
	record := codec.NewReader(l.Append(nil))
	again := graph.ReadLiquidity(record)
	if err := record.Close(); err != nil || !bytes.Equal(again.Append(nil), l.Append(nil)) {
		t.Errorf("it is not read as it was written: %v", err)
	}
}

func FuzzLiquidity(f *testing.F) {
	l := &graph.Liquidity{}
	f.Add(l.Append(nil))
	l.Failed(7, name(1), 1000, now)
	l.Succeeded(8, name(2), money.MaxAmount, now)
	f.Add(l.Append(nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := codec.NewReader(raw)
		l := graph.ReadLiquidity(r)
		if r.Close() != nil {
			return
		}
		if again := l.Append(nil); !bytes.Equal(again, raw) {
			t.Errorf("%x is read, and written as %x", raw, again)
		}
		l.Failed(7, name(1), 0, now)
		l.Succeeded(7, name(1), money.MaxAmount+1, now)
		r = codec.NewReader(l.Append(nil))
		if graph.ReadLiquidity(r); r.Close() != nil {
			t.Error("what is learned afterwards is not read")
		}
	})
}
