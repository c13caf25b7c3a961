package report

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"coinop.dev/sim"
)

// An AttackResult is some seeds of a world.
type AttackResult struct {
	World string `json:"world"`
	From  uint64 `json:"from_seed"`
	Seeds int    `json:"seeds"`
	// Cheats is in how many of them a node published a commitment that may have been
	// revoked, and the chain took it.
	Cheats int      `json:"cheats"`
	Broken []string `json:"broken,omitempty"` // promises, with their seeds
}

// quickSeeds is how many are played in a run of a quick report.
const quickSeeds = 8

// attack plays seeds of a world: other ones in every run.
func attack(world string, w *Workload, b *Bench) (*Plan, error) {
	play, ok := sim.Worlds[world]
	if !ok {
		return nil, absent("the simulator has no world %s", world)
	}
	seeds := w.Seeds
	if b.Quick {
		seeds = quickSeeds
	}
	return &Plan{
		Options: struct {
			World  string
			Seeds  int
			Orders int
		}{world, seeds, sim.OrdersPerSeed}, Takes: time.Duration(seeds) * 150 * time.Millisecond,
		Run: func(ctx context.Context, run uint64, progress func(float64)) (*Outcome, error) {
			r := AttackResult{World: world, From: (run-1)*uint64(seeds) + 1, Seeds: seeds}
			broken, cheated := make([]error, seeds), make([]bool, seeds)
			var players sync.WaitGroup
			var next atomic.Int64
			var say sync.Mutex
			done := 0
			for range min(runtime.NumCPU(), seeds) {
				players.Go(func() {
					for i := next.Add(1) - 1; i < int64(seeds) && ctx.Err() == nil; i = next.Add(1) - 1 {
						_, broken[i] = play(r.From+uint64(i), func(line string) {
							cheated[i] = cheated[i] || strings.Contains(line, " publishes ") && strings.HasSuffix(line, "<nil>")
						}, sim.NoBug)
						say.Lock()
						done++
						progress(float64(done) / float64(seeds))
						say.Unlock()
					}
				})
			}
			players.Wait()
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			for i := range seeds {
				if broken[i] != nil {
					r.Broken = append(r.Broken, broken[i].Error())
				}
				r.Cheats += b2i(cheated[i])
			}
			f := figures{"broken": float64(len(r.Broken)), "seeds": float64(seeds)}
			o := &Outcome{Figures: f, Raw: r, Missing: map[string]string{}}
			if world == "lightning" {
				f["cheats"] = float64(r.Cheats)
			} else {
				o.Missing["cheats"] = "no node of this world publishes what is revoked"
			}
			return o, nil
		},
	}, nil
}
