//go:build !omit_sim

package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"coinop.dev/sim"
)

func simCommand(u *ui) *cobra.Command {
	var world string
	var seeds, from uint64
	var trace bool
	c := &cobra.Command{
		Use: "sim", Short: "Run the cores in a made-up world full of faults, by seed", Args: noArgs,
		Long:    "Runs each seed twice: machines crash, messages are lost, repeated and forged, the chain reorganises,\nand at the end every order must be settled once and every satoshi accounted for.",
		Example: "  coinop sim --world oneway --seeds 1000 --from 1\n  coinop sim --world oneway --seeds 1 --from 55 --trace",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, ok := sim.Worlds[world]; !ok {
				return usage{fmt.Errorf("no world is called %q; there are %s", world, strings.Join(sim.Names(), ", "))}
			}
			if trace {
				_, err := sim.Worlds[world](from, func(line string) { fmt.Fprintln(u.out, line) }, sim.NoBug)
				return err
			}
			return u.seeds(cmd, world, seeds, from)
		},
	}
	c.Flags().StringVar(&world, "world", "oneway", "which story: "+strings.Join(sim.Names(), ", "))
	c.Flags().Uint64Var(&seeds, "seeds", 100, "how many")
	c.Flags().Uint64Var(&from, "from", 1, "the first one")
	c.Flags().BoolVar(&trace, "trace", false, "print every event of the first seed")
	return c
}

// simWorkers is how many seeds run at a time.
const simWorkers = 2

func (u *ui) seeds(cmd *cobra.Command, world string, seeds, from uint64) error {
	begin := time.Now()
	bar := newBar(u, "seeds", seeds)
	var mu sync.Mutex
	var failed error
	var failedSeed uint64
	next, done := from, uint64(0)
	var workers sync.WaitGroup
	for range simWorkers {
		workers.Go(func() {
			for {
				mu.Lock()
				s := next
				stop := s >= from+seeds || failed != nil || cmd.Context().Err() != nil
				next++
				mu.Unlock()
				if stop {
					return
				}
				err := sim.Seed(world, s)
				mu.Lock()
				if err != nil && (failed == nil || s < failedSeed) {
					failed, failedSeed = err, s
				}
				done++
				bar.set(done)
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	bar.end()
	if failed != nil {
		return fmt.Errorf("seed %d: %w\n  replay: coinop sim --world %s --seeds 1 --from %d --trace", failedSeed, failed, world, failedSeed)
	}
	if err := cmd.Context().Err(); err != nil {
		return fmt.Errorf("stopped after %d of %d seeds: %w", done, seeds, err)
	}
	took := time.Since(begin)
	return u.show(map[string]any{"world": world, "from": from, "seeds": seeds, "failed": 0, "seconds": took.Seconds()}, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %d seeds from %d pass, each run twice, in %v\n", world, seeds, from, took.Round(time.Millisecond))
	})
}
