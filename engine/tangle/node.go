// Package tanglenet runs a Tangle node on a machine: it speaks with other nodes over
// the machine's own links, does work for those who cannot, and tells what milestones
// confirm.
//
// The links are the machine's: who runs it has it listen (engine.Machine.Listen), and
// other cores use them too. What a peer sends faster than MaxRate waits at its end,
// so that nobody else's frames do.
package tanglenet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"coinop.dev/core/keys"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/step"
	"coinop.dev/engine"
	"coinop.dev/engine/news"
	"coinop.dev/world/drive"
)

// Options are what a node on its network is made of.
type Options struct {
	// Config is the core's. Its Peers are set by the Peers here.
	Config node.Config
	// Peers are other nodes, as engine.Address reads them: the machine keeps a link
	// to each. Others may dial the machine.
	Peers []string
	// MaxZeros is how many zero trits are searched in worker goroutines for those who
	// submit a block without work; 0 is DefaultZeros, less than 0 is none.
	MaxZeros int
	// MaxRate is how many bytes of frames a second are taken from one peer; 0 is the
	// constant.
	MaxRate int
	Log     *slog.Logger // nil: the machine's
}

// A Node is a running Tangle node.
type Node struct {
	Options
	machine *engine.Machine
	dial    []dial
	rates   rates
	works   works
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	asked   atomic.Uint64 // so far: each has its number
	hearing *news.Hearing[node.Watch]
	undoor  func()
}

type dial struct {
	key  keys.Public
	addr string
}

// Open loads the node from the machine's store, adds it to the host and dials its
// peers. The machine must run, and be closed after the node.
func Open(ctx context.Context, m *engine.Machine, o Options) (*Node, error) {
	n, err := prepare(m, o)
	if err != nil {
		return nil, err
	}
	core, err := node.Load(m.DB, n.Config)
	if err != nil {
		n.cancel()
		return nil, fmt.Errorf("load the Tangle node: %w", err)
	}
	return n, n.start(ctx, core)
}

func prepare(m *engine.Machine, o Options) (*Node, error) {
	o.MaxZeros, o.MaxRate = min(cmp.Or(o.MaxZeros, DefaultZeros), tangle.MaxZeros), cmp.Or(o.MaxRate, MaxRate)
	o.Config.MaxWork = cmp.Or(o.Config.MaxWork, node.DefaultWork)
	o.Log = cmp.Or(o.Log, m.Log)
	n := &Node{
		Options: o, machine: m, works: newWorks(), rates: newRates(o.MaxRate),
		undoor: func() {},
	}
	n.Config.Peers = nil
	for _, text := range o.Peers {
		key, addr, err := engine.Address(text)
		if err != nil {
			return nil, fmt.Errorf("peer of the Tangle node: %w", err)
		}
		if key == m.Key.Public() {
			return nil, fmt.Errorf("peer %s of the Tangle node is this machine; leave it out", key)
		}
		if slices.Contains(n.Config.Peers, key.PeerName()) {
			continue
		}
		n.dial = append(n.dial, dial{key, addr})
		n.Config.Peers = append(n.Config.Peers, key.PeerName())
	}
	n.ctx, n.cancel = context.WithCancel(m.Context())
	n.hearing = news.New("Tangle node", n.watch)
	return n, nil
}

// start adds the core and begins to talk to others.
func (n *Node) start(ctx context.Context, core drive.Core) error {
	var taken bool
	host := n.machine.Host
	err := host.Do(ctx, func(m *drive.Machine) {
		if taken = m.Core(node.Core) != nil; !taken {
			m.Add(node.Core, core)
		}
	})
	if taken {
		err = errors.New("this machine has a Tangle node already; a machine has one")
	}
	if err == nil {
		host.Hear(n.hear)
		err = host.Tell(ctx, node.Core, step.Rang{ID: step.Start})
	}
	if err != nil {
		n.cancel()
		return err
	}
	n.undoor = n.machine.AddDoor(n.door)
	// It has not heard of links that were there before it.
	for _, p := range n.machine.Peers() {
		if p.Link != 0 {
			host.Tell(ctx, node.Core, step.Linked{Peer: p.Key.PeerName(), Link: p.Link})
		}
	}
	for _, d := range n.dial {
		n.running.Go(func() {
			if err := n.machine.Connect(n.ctx, d.addr, d.key); err != nil {
				n.Log.Debug("dial a Tangle node", "peer", d.key, "err", err)
			}
		})
	}
	return nil
}

// Close takes the core out of its machine. Links stay up: they are the machine's.
func (n *Node) Close() error {
	n.cancel()
	n.undoor()
	n.running.Wait()
	n.hearing.Close()
	err := n.machine.Host.Do(context.Background(), func(m *drive.Machine) { m.Remove(node.Core) })
	if errors.Is(err, drive.ErrStopped) {
		return nil
	}
	return err
}

// Network is the one that the node is part of.
func (n *Node) Network() *tangle.Network { return n.Config.Network }

// Now is the clock that the node's core sees.
func (n *Node) Now() step.Time { return n.machine.Host.Now() }

// Peers are the machine's links, those that do not speak of the Tangle too.
func (n *Node) Peers() []engine.Peer { return n.machine.Peers() }

// Look lets f look at the core between two of its steps. f must be quick: nothing
// else happens meanwhile.
func (n *Node) Look(ctx context.Context, f func(*node.Node)) error {
	gone := false
	err := n.machine.Host.Do(ctx, func(m *drive.Machine) {
		core, ok := m.Core(node.Core).(*node.Node)
		if gone = !ok; ok {
			f(core)
		}
	})
	if gone {
		return drive.ErrNoCore
	}
	return err
}

// Info tells the node's state.
func (n *Node) Info(ctx context.Context) (i node.Info, err error) {
	err = n.Look(ctx, func(c *node.Node) { i = c.Info() })
	return i, err
}

// Tips are parents for a new block.
func (n *Node) Tips(ctx context.Context) (ids []tangle.BlockID, err error) {
	err = n.Look(ctx, func(c *node.Node) { ids = c.Tips() })
	return ids, err
}

// Block is a serialised block; nil if the node does not have it. It is not to be
// changed.
func (n *Node) Block(ctx context.Context, id tangle.BlockID) (raw []byte, err error) {
	err = n.Look(ctx, func(c *node.Node) { raw = c.Block(id) })
	return raw, err
}

// Metadata tells what became of a block.
func (n *Node) Metadata(ctx context.Context, id tangle.BlockID) (m node.Metadata, ok bool, err error) {
	err = n.Look(ctx, func(c *node.Node) { m, ok = c.Metadata(id) })
	return m, ok, err
}

// Output is one that a milestone has applied.
func (n *Node) Output(ctx context.Context, id tangle.OutputID) (o node.Output, ok bool, err error) {
	err = n.Look(ctx, func(c *node.Node) { o, ok = c.Output(id) })
	return o, ok, err
}

// OutputsOf lists unspent outputs of an address by their IDs, at most limit, after
// one; the zero ID is the beginning. The milestone that has left the ledger so is at.
func (n *Node) OutputsOf(ctx context.Context, a tangle.Address, after tangle.OutputID, limit int) (list []node.Output, at node.Mark, err error) {
	err = n.Look(ctx, func(c *node.Node) { list, at = c.OutputsOf(a, after, limit), c.Info().Latest })
	return list, at, err
}

// Milestone is one that is confirmed and not pruned.
func (n *Node) Milestone(ctx context.Context, index uint32) (m *tangle.Milestone, c node.Confirmed, ok bool, err error) {
	err = n.Look(ctx, func(core *node.Node) { m, c, ok = core.Milestone(index) })
	return m, c, ok, err
}

// Proof shows that a milestone has applied a transaction: node.ErrNotApplied if none
// has yet.
func (n *Node) Proof(ctx context.Context, id tangle.TransactionID) (p tangle.Proof, err error) {
	if gone := n.Look(ctx, func(c *node.Node) { p, err = c.Proof(id) }); gone != nil {
		return p, gone
	}
	return p, err
}

// Settle waits until a milestone has applied a transaction that this node has
// attached, or cannot any more: the error's cause is then a node.Conflict or
// node.ErrOrphan. Of a transaction that nobody has submitted here it waits until ctx
// ends.
func (n *Node) Settle(ctx context.Context, id tangle.TransactionID) (node.Settled, error) {
	wait, err := n.machine.Host.Await(node.Core, node.TxID(id))
	if err != nil {
		return node.Settled{}, err
	}
	var o node.Output
	found := false
	err = n.Look(ctx, func(c *node.Node) { o, found = c.Output(tangle.NewOutputID(id, 0)) })
	if err != nil || found {
		ended, stop := context.WithCancel(ctx)
		stop()
		wait(ended)
		return node.Settled{Block: o.Block, Milestone: o.Booked}, err
	}
	v, err := wait(ctx)
	settled, _ := v.(node.Settled)
	return settled, err
}
