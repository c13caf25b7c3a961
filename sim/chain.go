package sim

import (
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
)

// A Chain is a Ledger as the machines of a world see it: it takes what their
// cores publish, and tells those that watch an output what became of it.
type Chain struct {
	*Ledger
	world *World
	asked []*asked
}

// asked is one core that watches one output or script, until its machine crashes.
type asked struct {
	m      *Machine
	life   int
	core   string
	point  wire.OutPoint
	script string // "" if it is an output
	told   string // of a script: what was said last
}

// NewChain returns a chain without blocks.
func NewChain(w *World) *Chain { return &Chain{Ledger: NewLedger(), world: w} }

// Take takes a packet that a core sends to watch.Chain, and reports whether it
// was one.
func (c *Chain) Take(m *Machine, p step.Packet) bool {
	switch msg := p.Msg.(type) {
	case watch.Publish:
		err := c.Publish(msg.Tx)
		c.world.log("publish %v: %v", msg.Tx.TxHash(), err)
	case watch.Output:
		c.report(c.watch(asked{m: m, life: m.life, core: p.From, point: msg.Point}))
	case watch.Script:
		a := c.watch(asked{m: m, life: m.life, core: p.From, script: string(msg.Script)})
		a.told = ""
		c.report(a)
	case watch.HeadersAfter:
		life := m.life
		c.later(func() {
			if life == m.life {
				c.world.step(m, drive.Event{Core: p.From, What: step.Recv{From: watch.Chain, Msg: c.headersAfter(msg)}})
			}
		})
	default:
		return false
	}
	return true
}

// watch files a question, once.
func (c *Chain) watch(a asked) *asked {
	for _, other := range c.asked {
		if other.m == a.m && other.life == a.life && other.core == a.core && other.point == a.point && other.script == a.script {
			return other
		}
	}
	c.asked = append(c.asked, &a)
	return &a
}

// Blocks come every five seconds or so, until a time; in rough weather some are
// undone.
func (c *Chain) Blocks(until step.Time) {
	w, r := c.world, c.world.Random("chain")
	for t := w.Now; t < until; t += step.Second + step.Time(r.Int64N(int64(8*step.Second))) {
		undo := 0
		if r.IntN(8) == 0 {
			undo = 1 + r.IntN(3)
		}
		w.At(t, func() {
			if undo > 0 && w.Faults.Lose > 0 {
				c.Reorg(undo)
				w.log("reorganisation of %d blocks", undo)
			} else {
				c.Mine()
			}
			c.tell()
		})
	}
}

// tell reports to all that watch.
func (c *Chain) tell() {
	alive := c.asked[:0]
	for _, a := range c.asked {
		if a.life == a.m.life {
			alive = append(alive, a)
		}
	}
	c.asked = alive
	for _, a := range alive {
		c.report(a)
	}
}

// report tells a core what its machine's view of the chain says, sooner or later.
// In a market the news is what is so when it arrives: a core is never told what
// was so before what it knows already.
func (c *Chain) report(a *asked) {
	status := c.Status(a.point)
	c.later(func() {
		if a.life != a.m.life {
			return
		}
		news := any(status)
		switch {
		case a.script != "":
			coins := c.Coins([]byte(a.script))
			told := describeCoins(coins)
			if told == a.told {
				return
			}
			a.told, news = told, coins
		case c.market != nil:
			news = c.Status(a.point)
		}
		c.world.step(a.m, drive.Event{Core: a.core, What: step.Recv{From: watch.Chain, Msg: news}})
	})
}

func (c *Chain) later(do func()) {
	w := c.world
	w.at(w.Now+step.Time(w.Random("chain").Int64N(500)), do)
}
