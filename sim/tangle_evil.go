package sim

import (
	"math/rand/v2"

	"coinop.dev/core/ledger/gossip"
	stardust "coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/step"
)

// An evilTangle is a peer, and a coordinator: it signs whatever it sees and what
// nobody has seen, says that it is far ahead, changes blocks, sends blocks behind
// ones that nobody has, lists wrong blocks of milestones, and says everything again.
type evilTangle struct {
	network *stardust.Network
	random  *rand.Rand
	to      []string
	old     []gossip.Frame
}

// Step answers frames with lies.
func (e *evilTangle) Step(in step.Input) (fx step.Effects) {
	say := func(m node.Message) {
		fx.Send = append(fx.Send, step.Packet{To: e.to[e.random.IntN(len(e.to))], Msg: node.Frame(m)})
	}
	for _, ev := range in.Events {
		r, ok := ev.(step.Recv)
		if !ok {
			continue
		}
		f, ok := r.Msg.(gossip.Frame)
		if !ok {
			continue
		}
		e.old = append(e.old, f)
		e.old = e.old[max(0, len(e.old)-maxEvil):]
		if e.random.IntN(6) == 0 {
			fx.Send = append(fx.Send, step.Packet{To: e.to[e.random.IntN(len(e.to))], Msg: e.old[e.random.IntN(len(e.old))]})
		}
		msg, err := node.Decode(f.Raw)
		if err != nil {
			continue
		}
		switch m := msg.(type) {
		case node.Greet:
			say(node.Greet{Network: m.Network, Latest: m.Latest + e.random.Uint32N(5), Oldest: 1, Tips: []stardust.BlockID{e.id()}})
		case node.Blocks:
			e.blocks(m, say)
		case node.Propose:
			e.sign(m.Milestone, say)
		case node.AskMilestone:
			say(node.Cone{Index: m.Index, Pieces: 1, IDs: []stardust.BlockID{e.id()}})
		}
	}
	return fx
}

func (e *evilTangle) id() (id stardust.BlockID) {
	for i := range 4 {
		id[i] = byte(e.random.Uint32())
	}
	return id
}

// blocks spoils what it was sent.
func (e *evilTangle) blocks(m node.Blocks, say func(node.Message)) {
	raw := append([]byte(nil), m.Raw[e.random.IntN(len(m.Raw))]...)
	switch e.random.IntN(3) {
	case 0: // the signature, or something else
		raw[e.random.IntN(len(raw))] ^= 1
	case 1: // behind one that nobody has
		b := stardust.Block{Protocol: stardust.Protocol, Parents: []stardust.BlockID{e.id()}}
		raw = b.Append(nil)
	case 2: // beside it, with the same payload
		if b, err := stardust.DecodeBlock(raw); err == nil && b.Payload != nil && b.Payload.Type() != stardust.TypeMilestone {
			b.Parents = []stardust.BlockID{{}}
			raw = b.Append(nil)
		}
	}
	say(node.Blocks{Raw: [][]byte{raw}})
}

// sign signs what was proposed, and something else.
func (e *evilTangle) sign(m *stardust.Milestone, say func(node.Message)) {
	mine := tangleCoordinators()[3]
	for _, spoilt := range []bool{false, true} {
		c := *m
		c.Signatures = nil
		if spoilt {
			c.Timestamp += e.random.Uint32N(5)
			c.InclusionRoot[e.random.IntN(32)] ^= 1
		}
		c.Sign(mine)
		say(node.Sign{Index: c.Index, Milestone: c.ID(), Signature: c.Signatures[0]})
		if spoilt {
			say(node.Propose{Milestone: &c})
		}
	}
}
