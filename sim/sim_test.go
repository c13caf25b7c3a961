package sim_test

import (
	"flag"
	"testing"

	"coinop.dev/sim"
)

var (
	seed  = flag.Uint64("seed", 1, "first seed")
	seeds = flag.Int("seeds", 5, "how many seeds to run of each world")
)

func TestWorlds(t *testing.T) {
	for _, world := range sim.Names() {
		t.Run(world, func(t *testing.T) {
			seeds := *seeds
			if world == "lightning" || world == "gateway" || world == "kiosk" || world == "lattice" || world == "tangle" { // their stories are ten times as long
				seeds = (seeds + 3) / 4
			}
			for s := *seed; s < *seed+uint64(seeds); s++ {
				if err := sim.Seed(world, s); err != nil {
					t.Fatalf("%v\nreplay: go run ./cmd/coinop sim --world %s --seeds 1 --from %d --trace", err, world, s)
				}
			}
		})
	}
}
