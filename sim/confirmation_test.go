package sim_test

import (
	"testing"

	"coinop.dev/core/step"
	"coinop.dev/sim"
)

// A network whose messages take tens of milliseconds is final after three of them:
// the block, the votes, the final votes; and no message goes to everybody.
func TestLatticeConfirmation(t *testing.T) {
	e := sim.Wide
	c, err := sim.LatticeConfirmation(1, 12, 6, 12, 20, e)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", c)
	if hop := float64(e.Across) / 4; c.P50 < 2*hop || c.P50 > 8*float64(e.Across) {
		t.Errorf("blocks are final after %v ms, with nodes up to %v ms apart", c.P50, e.Across)
	}
	if c.P50All < c.P50 || c.P99 < c.P50 {
		t.Errorf("quantiles are out of order: %+v", c)
	}
}

// In a Tangle a block is final with the next milestone but for the way there and the
// coordinators' signatures.
func TestTangleConfirmation(t *testing.T) {
	interval := step.Second
	c, err := sim.TangleConfirmation(1, 12, 4, 12, 20, interval, sim.Wide)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", c)
	if c.P50 < float64(interval)/4 || c.P50 > 4*float64(interval) || c.P50All < c.P50 {
		t.Errorf("with a milestone every %d ms blocks are final after %+v", interval, c)
	}
}
