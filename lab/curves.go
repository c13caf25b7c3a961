package lab

import (
	"fmt"
	"io"

	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/sim"
)

// CurveOptions say which confirmation times to simulate: in virtual time, on an earth
// where messages take long and nodes compute in none.
type CurveOptions struct {
	Rail     string // nano or iota
	Nodes    []int
	Voters   int // of them: representatives, or coordinators
	Blocks   int
	Rate     float64   // blocks a second
	Interval step.Time // between milestones
	Earth    sim.Earth
	Seed     uint64
}

// Fill sets what is not said.
func (o *CurveOptions) Fill() {
	if len(o.Nodes) == 0 {
		o.Nodes = []int{4, 16, 50, 100, 150}
	}
	if o.Voters == 0 {
		o.Voters = 20
	}
	if o.Blocks == 0 {
		o.Blocks = 20
	}
	if o.Rate == 0 {
		o.Rate = 10
	}
	if o.Interval == 0 {
		o.Interval = step.Second
	}
	if o.Earth == (sim.Earth{}) {
		o.Earth = sim.Wide
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
}

// maxCurveNodes bounds a simulation: each node has its own disk and memory.
const maxCurveNodes = 1000

// Curves simulates each size of network; each hears a point when it is there.
func Curves(o CurveOptions, each func(sim.Confirmation) error) error {
	invalid := func(format string, args ...any) error {
		return &money.Error{Kind: money.Invalid, Op: "lab", Err: fmt.Errorf(format, args...)}
	}
	switch {
	case o.Rail != railNano && o.Rail != railIota:
		return invalid("rail %.20q has no network of its own to simulate; %v have", o.Rail, Ledgers())
	case o.Voters < 1 || o.Blocks < 1 || o.Rate <= 0 || o.Interval < 10*step.Millisecond:
		return invalid("%d voters, %d blocks, %g a second, milestones every %d ms; all must be more than none", o.Voters, o.Blocks, o.Rate, o.Interval)
	}
	for _, n := range o.Nodes {
		if n < 2 || n > maxCurveNodes {
			return invalid("nodes is %d; it must be 2 to %d", n, maxCurveNodes)
		}
		var c sim.Confirmation
		var err error
		if o.Rail == railNano {
			c, err = sim.LatticeConfirmation(o.Seed, n, min(n, o.Voters), o.Blocks, o.Rate, o.Earth)
		} else {
			c, err = sim.TangleConfirmation(o.Seed, n, min(n, o.Voters, 7), o.Blocks, o.Rate, o.Interval, o.Earth)
		}
		if err != nil {
			return err
		}
		if err := each(c); err != nil {
			return err
		}
	}
	return nil
}

// WriteCurves prints points for a person.
func WriteCurves(w io.Writer, rail string, all []sim.Confirmation) {
	fmt.Fprintf(w, "%-5s %6s %7s %8s %8s %8s %15s %15s %14s\n", "rail", "nodes", "voters", "p50 ms", "p95 ms", "p99 ms", "everywhere p50", "everywhere p99", "messages/block")
	for _, c := range all {
		fmt.Fprintf(w, "%-5s %6d %7d %8.0f %8.0f %8.0f %15.0f %15.0f %14.0f\n", rail, c.Nodes, c.Voters, c.P50, c.P95, c.P99, c.P50All, c.P99All, c.Messages)
	}
}
