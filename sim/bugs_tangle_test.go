package sim_test

import (
	"slices"
	"strings"
	"testing"

	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/step"
	"coinop.dev/sim"
	"coinop.dev/world/drive"
)

// withinTangle is how many stories may pass before a mistake of a node is caught, from
// the one on at which each begins.
const withinTangle = 12

// Mistakes that would make money, or two histories, on a Tangle do not survive.
func TestPlantedTangleBugsAreCaught(t *testing.T) {
	for _, c := range []struct {
		name string
		from uint64
		bug  sim.Bug
		want []string // part of the failure, one of them
	}{
		{"what is spent stays to be spent", 1, spoils("tangle/u/", true), []string{"is listed as unspent", "the supply is", "different outputs"}},
		{"an output is forgotten", 1, spoils("tangle/o/", false), []string{"the supply is", "different outputs", "other roots", "not settled", "other milestone", "has applied", "stops"}},
		{"an unconfirmed block is forgotten", 1, spoils("tangle/b/", false), []string{"memory and disk differ", "cannot be shown", "not settled"}},
		{"a vote is forgotten by a crash", 1, spoils("tangle/vote", false), []string{"signs two milestones", "memory and disk differ"}},
		{"where the ledger stands is not written", 1, spoils("tangle/head", false), []string{"memory and disk differ", "assert"}},
		{"a halt is not kept", 1, forgets("tangle/halt"), []string{"memory and disk differ", "not settled"}},
		{"send before commit", 15, sim.Bug{SendBeforeCommit: true}, []string{"signs two milestones"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for s := c.from; s < c.from+withinTangle; s++ {
				_, err := sim.Worlds["tangle"](s, nil, c.bug)
				if err == nil {
					continue
				}
				for _, want := range c.want {
					if strings.Contains(err.Error(), want) {
						t.Logf("seed %d: %.300v", s, err)
						return
					}
				}
				t.Fatalf("seed %d fails for another reason: %.2000v", s, err)
			}
			t.Errorf("%d seeds pass", withinTangle)
		})
	}
}

func wrapTangle(wrap func(wrapped) drive.Core) sim.Bug {
	return sim.Bug{Wrap: func(name string, core drive.Core) drive.Core {
		if _, ok := core.(*node.Node); !ok || name != node.Core {
			return core
		}
		return wrap(wrapped{core})
	}}
}

// spoils leaves out every third record with a prefix: all, or the deletions.
func spoils(prefix string, deletions bool) sim.Bug {
	return wrapTangle(func(w wrapped) drive.Core { return &leaver{w, prefix, deletions, 0} })
}

// forgets leaves out every record with a prefix.
func forgets(prefix string) sim.Bug {
	return wrapTangle(func(w wrapped) drive.Core { return &forgetter{w, prefix} })
}

type forgetter struct {
	wrapped
	prefix string
}

func (f *forgetter) Step(in step.Input) step.Effects {
	fx := f.Core.Step(in)
	fx.Put = slices.DeleteFunc(fx.Put, func(r step.Record) bool { return strings.HasPrefix(r.Key, f.prefix) })
	return fx
}
