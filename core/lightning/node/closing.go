package node

import (
	"coinop.dev/core/step"
)

// spent hands a channel whose funding output is spent to claim.
func (n *Node) spent(c *chanState) {
	c.Spent()
}

// toldClaim gives a preimage to the claim of a channel that is closing.
func (n *Node) toldClaim(c *chanState, hash, preimage [32]byte) {}

// fromClaim hears what the chain has decided.
func (n *Node) fromClaim(o step.Outcome) {}
