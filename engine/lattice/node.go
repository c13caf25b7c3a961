// Package nanonet runs a lattice node on a machine: it speaks Nano's protocol 21
// over TCP with other nodes, and hands what they say to the node's core, in turns
// that are fair to all of them.
//
// Two goroutines serve a peer, one that reads and one that writes. What a peer has
// sent waits in queues of its own by kind of message, so that one that sends more
// than the node can judge loses its own messages and nobody else's.
package nanonet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/gossip"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/core/step"
	"coinop.dev/engine"
	"coinop.dev/engine/news"
	"coinop.dev/world/drive"
)

const (
	// MaxIn bounds the peers that dial us, and MaxOut those that we dial because
	// others have told of them. The peers of Options.Peers come on top.
	MaxIn  = 256
	MaxOut = 32
	// MaxPerIP bounds the connections to one address, handshakes included: a node
	// with many addresses is dearer than one with many ports.
	MaxPerIP = 10
	// MaxHandshakes bounds the strangers that are listened to at once. Further ones
	// wait in the kernel.
	MaxHandshakes = 64
	// KeepAlive is how often peers are told that we are there, and of other nodes.
	KeepAlive = 15 * time.Second
	// MaxAhead is how many messages the core is handed before it has stepped: enough
	// to share a signature check and a durable write, and judged in milliseconds.
	MaxAhead = 512
	// IdleTime is how long a peer may be silent.
	IdleTime = 2 * time.Minute
)

// Options are what a node on its network is made of. A zero number means the
// constant of the same name.
type Options struct {
	Config node.Config
	Listen string   // host:port where peers may dial us; empty: nowhere
	Peers  []string // host:port of nodes that are dialled whenever they are not linked
	// Closed leaves alone what peers tell of other nodes: only Peers are dialled.
	Closed bool

	MaxIn, MaxOut, MaxPerIP            int
	KeepAlive, IdleTime, HandshakeTime time.Duration
	Log                                *slog.Logger // nil: the machine's
}

// A Node is a running lattice node.
type Node struct {
	Options
	machine  *engine.Machine
	network  lattice.Network
	self     eddsa.Secret
	id       lattice.Key
	genesis  lattice.Hash
	listener net.Listener
	fair     *fair
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
	asked    atomic.Uint64 // so far: each has its number
	counts   counts

	mu    sync.Mutex
	peers map[lattice.Key]*peer
	in    int
	out   int                // that were dialled because others told of them
	perIP map[netip.Addr]int // connections
	book  book

	hearing *news.Hearing[node.Watch]
}

// counts are what is counted anywhere.
type counts struct{ unsent, refused atomic.Uint64 }

// Open loads the node from the machine's store, adds it to the host and joins the
// network. The machine must run, and be closed after the node.
func Open(ctx context.Context, m *engine.Machine, o Options) (*Node, error) {
	n, err := prepare(m, o)
	if err != nil {
		return nil, err
	}
	if n.Config.Spread == nil {
		n.Config.Spread = spread
	}
	core, err := node.Load(m.DB, n.Config)
	if err != nil {
		n.Close()
		return nil, fmt.Errorf("load the lattice node: %w", err)
	}
	return n, n.start(ctx, core)
}

// spread has the processors that are free take the parts of a core's arithmetic.
func spread(parts int, do func(int)) {
	var next atomic.Int64
	var done sync.WaitGroup
	work := func() {
		for i := next.Add(1) - 1; int(i) < parts; i = next.Add(1) - 1 {
			do(int(i))
		}
	}
	for range min(parts, runtime.GOMAXPROCS(0)) - 1 {
		done.Go(work)
	}
	work()
	done.Wait()
}

// prepare checks and listens.
func prepare(m *engine.Machine, o Options) (*Node, error) {
	o.MaxIn, o.MaxOut, o.MaxPerIP = cmp.Or(o.MaxIn, MaxIn), cmp.Or(o.MaxOut, MaxOut), cmp.Or(o.MaxPerIP, MaxPerIP)
	o.KeepAlive, o.IdleTime = cmp.Or(o.KeepAlive, KeepAlive), cmp.Or(o.IdleTime, IdleTime)
	o.HandshakeTime = cmp.Or(o.HandshakeTime, HandshakeTime)
	o.Log = cmp.Or(o.Log, m.Log)
	if o.Config.ID.IsZero() {
		return nil, errors.New("a lattice node needs an ID: set Config.ID to a secret of its own, the same at every start")
	}
	n := &Node{
		Options: o, machine: m, network: o.Config.Network, self: o.Config.ID, id: o.Config.ID.Public(),
		fair: newFair(), peers: map[lattice.Key]*peer{}, perIP: map[netip.Addr]int{}, book: newBook(o.Peers),
		genesis: o.Config.Network.Genesis.Hash(),
	}
	n.ctx, n.cancel = context.WithCancel(m.Context())
	n.hearing = news.New("lattice node", n.watch)
	if o.Listen == "" {
		return n, nil
	}
	var err error
	if n.listener, err = net.Listen("tcp", o.Listen); err != nil {
		n.cancel()
		return nil, fmt.Errorf("listen for lattice nodes: %w", err)
	}
	return n, nil
}

// start adds the core and begins to talk to others.
func (n *Node) start(ctx context.Context, core drive.Core) error {
	var taken bool
	err := n.machine.Host.Do(ctx, func(m *drive.Machine) {
		if taken = m.Core(node.Core) != nil; !taken {
			m.Add(node.Core, core)
		}
	})
	if taken {
		err = errors.New("this machine has a lattice node already; a machine has one")
	}
	if err == nil {
		n.machine.Host.Hear(n.hear)
		err = n.machine.Host.Tell(ctx, node.Core, step.Rang{ID: step.Start})
	}
	if err != nil {
		n.cancel()
		n.unlisten()
		return err
	}
	n.running.Go(n.pump)
	n.running.Go(n.tend)
	if n.listener != nil {
		n.running.Go(n.accept)
	}
	return nil
}

// pump hands what peers say to the core. It does not fill the host's inbox, where
// all wait behind one who floods: it lets the host come round now and then.
func (n *Node) pump() {
	host, told := n.machine.Host, 0
	n.fair.run(n.ctx, func(news any) error {
		return host.Tell(n.ctx, node.Core, news)
	}, func(peer string, raw []byte) error {
		if told++; told%MaxAhead == 0 {
			if err := host.Do(n.ctx, func(*drive.Machine) {}); err != nil {
				return err
			}
		}
		return host.Tell(n.ctx, node.Core, step.Recv{From: peer, Msg: gossip.Frame{Ledger: gossip.Lattice, Raw: raw}})
	})
}

// Close leaves the network and takes the core out of its machine.
func (n *Node) Close() error {
	n.cancel()
	n.unlisten()
	n.running.Wait()
	n.hearing.Close()
	err := n.machine.Host.Do(context.Background(), func(m *drive.Machine) { m.Remove(node.Core) })
	if errors.Is(err, drive.ErrStopped) {
		return nil
	}
	return err
}

func (n *Node) unlisten() {
	if n.listener != nil {
		n.listener.Close()
	}
}

// ID is the node's own public key.
func (n *Node) ID() lattice.Key { return n.id }

// Network is the one that the node is part of.
func (n *Node) Network() lattice.Network { return n.network }

// Now is the clock that the node's core sees.
func (n *Node) Now() step.Time { return n.machine.Host.Now() }

// Addr is where peers may dial us; nil if they may not.
func (n *Node) Addr() net.Addr {
	if n.listener == nil {
		return nil
	}
	return n.listener.Addr()
}

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

// Process has a block judged. The error's cause is a lattice.Refusal if the ledger
// cannot take it; with force the block takes a fork's place, unless that is
// cemented.
func (n *Node) Process(ctx context.Context, b lattice.Block, force bool) (node.Processed, error) {
	id := fmt.Sprintf("process/%d", n.asked.Add(1))
	v, err := n.machine.Host.Ask(ctx, node.Core, id, node.Process{ID: id, Block: b, Force: force})
	processed, _ := v.(node.Processed)
	return processed, err
}

// ProcessLater has a block judged, and does not wait for it.
func (n *Node) ProcessLater(ctx context.Context, b lattice.Block) error {
	id := fmt.Sprintf("process/%d", n.asked.Add(1))
	return n.machine.Host.Tell(ctx, node.Core, node.Process{ID: id, Block: b})
}

// Elect has an election of a block that is not cemented.
func (n *Node) Elect(ctx context.Context, h lattice.Hash) error {
	id := fmt.Sprintf("elect/%d", n.asked.Add(1))
	_, err := n.machine.Host.Ask(ctx, node.Core, id, node.Elect{ID: id, Hash: h})
	return err
}

// Certify gathers final votes on a cemented block.
func (n *Node) Certify(ctx context.Context, h lattice.Hash) (lattice.Certificate, error) {
	v, err := n.machine.Host.Ask(ctx, node.Core, node.CertifyID(h), node.Certify{Hash: h})
	c, _ := v.(lattice.Certificate)
	return c, err
}
