package graph

import (
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/wire"
)

// Put puts a channel in as if gossip had said so, without the signatures, which
// would take tests of path finding minutes. ids ascend.
func (g *Graph) Put(scid wire.SCID, ids [2]keys.Public, capacitySat int64, policies [2]Policy) error {
	if err := g.room(ids); err != nil {
		return err
	}
	c := g.add(scid, ids, capacitySat)
	for i, p := range policies {
		c.policy[i] = policy{
			min: uint64(p.Min), max: uint64(p.Max), base: uint32(p.FeeBase), ppm: p.FeePPM, updated: 1, delta: p.CLTVDelta,
		}
		if p.Disabled {
			c.policy[i].flags = disabled
		}
	}
	return nil
}

// Log2 in fixed point, and the value of 1.
func Log2(v uint64) (log, one uint64) { return log2(v), log2One }
