package sim_test

import (
	"strings"
	"testing"

	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/core/step"
	"coinop.dev/sim"
	"coinop.dev/world/drive"
)

// withinLattice is how many stories may pass before a mistake of a node is caught,
// from the one on at which each begins.
const withinLattice = 12

// Mistakes that would make money on a block lattice do not survive.
func TestPlantedLatticeBugsAreCaught(t *testing.T) {
	for _, c := range []struct {
		name string
		from uint64
		bug  sim.Bug
		want []string // part of the failure, one of them
	}{
		{"what is received stays to be received", 1, leavesOut("lattice/r/", true), []string{"receives what is not there", "the supply is", "is not cemented"}},
		{"a block is forgotten", 1, leavesOut("lattice/b/", false), []string{"does not have it", "is not cemented", "on disk", "the nodes have"}},
		{"an account is forgotten", 1, leavesOut("lattice/a/", false), []string{"different ledgers", "the supply is", "follows", "is not cemented", "the nodes have", "memory and disk"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for s := c.from; s < c.from+withinLattice; s++ {
				_, err := sim.Worlds["lattice"](s, nil, c.bug)
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
			t.Errorf("%d seeds pass", withinLattice)
		})
	}
}

// leavesOut leaves out every third record with a prefix: all, or the deletions.
func leavesOut(prefix string, deletions bool) sim.Bug {
	return sim.Bug{Wrap: func(name string, core drive.Core) drive.Core {
		if _, ok := core.(*node.Node); !ok {
			return core
		}
		return &leaver{wrapped{core}, prefix, deletions, 0}
	}}
}

type leaver struct {
	wrapped
	prefix    string
	deletions bool
	n         int
}

func (f *leaver) Step(in step.Input) step.Effects {
	fx := f.Core.Step(in)
	kept := fx.Put[:0]
	for _, r := range fx.Put {
		if strings.HasPrefix(r.Key, f.prefix) && (r.Value == nil) == f.deletions {
			if f.n++; f.n%3 == 0 {
				continue
			}
		}
		kept = append(kept, r)
	}
	fx.Put = kept
	return fx
}
