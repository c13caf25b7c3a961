package node

import (
	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/lightning/tower"
	"coinop.dev/core/step"
)

// A node whose machine has a watchtower's client (package tower) tells it of
// every channel, and of every commitment that a peer revokes, in the step that
// takes the revocation: one durable write covers both.

func (n *Node) tellTower(msg any) {
	if n.Tower {
		n.fx.Send = append(n.fx.Send, step.Packet{To: tower.ClientName, Msg: msg})
	}
}

// cover asks for a tower's session for a channel. Asking again is harmless.
func (n *Node) cover(c *chanState) {
	if c.Status() < channel.Failed {
		secrets := commit.NewSecrets(n.secretOf(c.Index))
		n.tellTower(tower.Cover{Channel: tower.ChannelID(c.ID), Secrets: &secrets})
	}
}

func (n *Node) revoked(c *chanState, r channel.Revoked) {
	if r.State != nil {
		n.tellTower(tower.Guard{
			Channel: tower.ChannelID(c.ID), Params: c.Commit, Secrets: commit.NewSecrets(n.secretOf(c.Index)), State: *r.State, Revealed: r.Secret,
		})
	}
}

// uncover is for a channel that is over.
func (n *Node) uncover(c *chanState) { n.tellTower(tower.Forget{Channel: tower.ChannelID(c.ID)}) }
