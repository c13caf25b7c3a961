package sim_test

import (
	"errors"
	"strings"
	"testing"

	"coinop.dev/core/lightning/node"
	ln "coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/sim"
	"coinop.dev/world/drive"
)

// Mistakes of a Lightning node that cost money do not survive this many stories.
const withinLightning = 24

func TestPlantedLightningBugsAreCaught(t *testing.T) {
	for _, c := range []struct {
		name string
		bug  sim.Bug
		want []string // part of the failure, one of them
	}{
		{"send before commit", sim.Bug{SendBeforeCommit: true}, []string{"gives up its channel", "and have", "was never answered"}},
		{"a revocation that is not saved", wrapNodes(func(n drive.Core) drive.Core { return &unsaved{wrapped: wrapped{n}} }), []string{"memory and disk differ", "would not start from its disk", "gives up its channel"}},
		{"a preimage that is not passed on", wrapNodes(func(n drive.Core) drive.Core { return &mute{wrapped: wrapped{n}, links: map[uint64]bool{}} }), []string{"gives up its channel", "was never answered", "still hang"}},
		{"a settled order that is lost", wrapNodes(func(n drive.Core) drive.Core { return &lossy{wrapped{n}} }), []string{"memory and disk differ"}},
		{"a payment taken twice", wrapNodes(func(n drive.Core) drive.Core { return &greedy{wrapped: wrapped{n}} }), []string{"was earned 2 times", "paid nothing and has"}},
		{"given up when the link goes", wrapNodes(func(n drive.Core) drive.Core {
			return &hasty{wrapped: wrapped{n}, pending: map[money.OrderID]bool{}}
		}), []string{"counts as not paid", "the purse of"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for s := uint64(2); s < 2+2*withinLightning; s += 2 { // those without an adversary
				_, err := sim.Worlds["lightning"](s, nil, c.bug)
				if err == nil {
					continue
				}
				for _, want := range c.want {
					if strings.Contains(err.Error(), want) {
						t.Logf("seed %d: %.300v", s, err)
						return
					}
				}
				t.Fatalf("seed %d fails for another reason: %v", s, err)
			}
			t.Errorf("%d seeds pass", withinLightning)
		})
	}
}

func wrapNodes(wrap func(drive.Core) drive.Core) sim.Bug {
	return sim.Bug{Wrap: func(name string, core drive.Core) drive.Core {
		if name == node.Name {
			return wrap(core)
		}
		return core
	}}
}

// unsaved reveals a revocation secret, and does not write down that it has.
type unsaved struct{ wrapped }

func (u *unsaved) Step(in step.Input) step.Effects {
	fx := u.Core.Step(in)
	for _, p := range fx.Send {
		if _, revokes := p.Msg.(*ln.RevokeAndAck); revokes {
			fx.Put = nil
		}
	}
	return fx
}

// mute never says a preimage, nor anything after it over the same connection.
type mute struct {
	wrapped
	links map[uint64]bool
}

func (m *mute) Step(in step.Input) step.Effects {
	fx := m.Core.Step(in)
	said := fx.Send[:0]
	for _, p := range fx.Send {
		if _, preimage := p.Msg.(*ln.UpdateFulfillHTLC); preimage {
			m.links[p.Link] = true
		}
		if p.Link == 0 || !m.links[p.Link] {
			said = append(said, p)
		}
	}
	fx.Send = said
	return fx
}

// lossy does not write down what it has paid.
type lossy struct{ wrapped }

func (l *lossy) Step(in step.Input) step.Effects {
	fx := l.Core.Step(in)
	kept := fx.Put[:0]
	for _, r := range fx.Put {
		if !strings.HasPrefix(r.Key, "ln/d/") {
			kept = append(kept, r)
		}
	}
	fx.Put = kept
	return fx
}

// greedy counts every fifth payment twice.
type greedy struct {
	wrapped
	n int
}

func (g *greedy) Step(in step.Input) step.Effects {
	fx := g.Core.Step(in)
	for _, d := range fx.Done {
		if _, earned := d.Value.(node.Earned); earned {
			if g.n++; g.n%5 == 0 {
				fx.Done = append(fx.Done, d)
			}
		}
	}
	return fx
}

// hasty says that orders are not paid when a connection is lost.
type hasty struct {
	wrapped
	pending map[money.OrderID]bool
}

func (h *hasty) Step(in step.Input) step.Effects {
	lost := false
	for _, event := range in.Events {
		switch ev := event.(type) {
		case step.Unlinked:
			lost = true
		case step.Recv:
			if o, ok := ev.Msg.(money.Order); ok {
				h.pending[o.ID] = true
			}
		}
	}
	fx := h.Core.Step(in)
	for _, d := range fx.Done {
		if id, ok := money.OrderIDFromKey(d.ID); ok {
			delete(h.pending, id)
		}
	}
	for id := range h.pending {
		if lost {
			delete(h.pending, id)
			err := &money.Error{Kind: money.Unpaid, Op: "pay", Err: errors.New("the link is gone")}
			fx.Done = append(fx.Done, step.Outcome{ID: id.Key(), Err: err})
			break
		}
	}
	return fx
}
