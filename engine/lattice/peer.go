package nanonet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"coinop.dev/core/ledger/gossip"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/core/step"
)

const (
	// MaxQueue and MaxQueueBytes bound what waits to be written to one peer. What
	// finds no room is dropped, as a network would, and the node sends again.
	MaxQueue      = 2048
	MaxQueueBytes = 1 << 20
	// SendTime is how long a peer may leave what we write unread.
	SendTime = 10 * time.Second
	// MaxRate is how many bytes a second are read from one peer; what is more waits
	// at its end. A thousand blocks a second, voted for by a hundred representatives
	// each by itself, are less.
	MaxRate = 16 << 20
)

// A peer is another node that has shown who it is.
type peer struct {
	n       *Node
	id      lattice.Key
	name    string // what the core calls it
	conn    net.Conn
	stream  stream
	remote  netip.AddrPort
	dialled *place // nil if it has dialled us
	version uint8
	since   time.Time
	flow    flow
	closing sync.Once
	closed  chan struct{}
	left    chan struct{} // closed when its place is free
	wake    chan struct{} // something waits to be written
	got     atomic.Uint64 // bytes
	sent    atomic.Uint64
	dropped atomic.Uint64 // that were to be written
	at      atomic.Pointer[netip.AddrPort]

	mu      sync.Mutex
	waiting [][]byte
	bytes   int
}

// name is what the core knows a node by.
func name(id lattice.Key) string { return "nano:" + id.Hex() }

// A Peer is what is known of another node.
type Peer struct {
	Name     string // as the core has it
	ID       lattice.Key
	Remote   netip.AddrPort // the connection's other end
	At       netip.AddrPort // where it can be dialled; not valid if nobody knows
	Dialled  bool           // by us
	Version  uint8          // of the protocol
	Since    time.Time
	Sent     uint64 // bytes
	Received uint64
	Dropped  uint64 // messages that found no room in its queue
}

func (p *peer) seen() Peer {
	return Peer{
		Name: p.name, ID: p.id, Remote: p.remote, At: p.where(), Dialled: p.dialled != nil, Version: p.version,
		Since: p.since, Sent: p.sent.Load(), Received: p.got.Load(), Dropped: p.dropped.Load(),
	}
}

func (p *peer) where() netip.AddrPort {
	if at := p.at.Load(); at != nil {
		return *at
	}
	return netip.AddrPort{}
}

// close hangs up. Its reader does the rest.
func (p *peer) close() {
	p.closing.Do(func() {
		close(p.closed)
		p.conn.Close()
	})
}

// take queues what the core sends, on the host's goroutine.
func (p *peer) take(packet step.Packet) {
	if frame, ok := packet.Msg.(gossip.Frame); ok {
		p.send(frame.Raw)
	}
}

func (p *peer) send(raw []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) >= MaxQueue || p.bytes+len(raw) > MaxQueueBytes {
		p.dropped.Add(1)
		p.n.counts.unsent.Add(1)
		return
	}
	p.waiting = append(p.waiting, raw)
	p.bytes += len(raw)
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// write writes all that waits at once, again and again: while the kernel takes one
// batch the next one gathers.
func (p *peer) write() {
	var batch [][]byte
	for {
		select {
		case <-p.closed:
			return
		case <-p.wake:
		}
		p.mu.Lock()
		batch, p.waiting, p.bytes = p.waiting, batch[:0], 0
		p.mu.Unlock()
		p.conn.SetWriteDeadline(time.Now().Add(SendTime))
		buffers := net.Buffers(batch) // WriteTo eats it
		wrote, err := buffers.WriteTo(p.conn)
		p.sent.Add(uint64(wrote))
		if err != nil {
			p.close()
			return
		}
		clear(batch)
		if cap(batch) > MaxQueue/8 {
			batch = nil // after a burst
		}
	}
}

// read takes what the peer says until it ends.
func (p *peer) read() error {
	limit := rate.NewLimiter(MaxRate, 2*(lattice.HeaderSize+lattice.MaxBody))
	for {
		p.conn.SetReadDeadline(time.Now().Add(p.n.IdleTime))
		h, raw, err := p.stream.read(lattice.MaxBody)
		if err != nil {
			return err
		}
		p.got.Add(uint64(len(raw)))
		if err := limit.WaitN(p.n.ctx, len(raw)); err != nil {
			return err
		}
		switch h.Type {
		case lattice.TypeHandshake:
			return errors.New("peer shakes hands again")
		case lattice.TypeKeepalive:
			p.alive(raw)
		}
		p.n.fair.put(&p.flow, classOf(h.Type), raw)
	}
}

// alive learns where the peer listens and what other nodes there are. The first
// place is the sender's: no address but a port, as we know the address.
func (p *peer) alive(raw []byte) {
	m, err := lattice.Decode(raw, p.n.network.Magic)
	if err != nil {
		return
	}
	listed := m.(*lattice.Keepalive).Peers
	if own := listed[0]; own.Addr().IsUnspecified() && own.Port() != 0 && p.dialled == nil {
		at := netip.AddrPortFrom(p.remote.Addr(), own.Port())
		p.at.Store(&at)
	}
	for _, at := range listed {
		p.n.learn(p.remote.Addr(), at)
	}
}

// serve carries a peer's messages until one side has had enough.
func (n *Node) serve(p *peer) error {
	if err := n.join(p); err != nil {
		return err
	}
	n.fair.tell(n.ctx, node.Joined{Peer: p.name, ID: p.id})
	n.running.Go(p.write)
	err := p.read()
	p.close()
	n.leave(p)
	n.fair.end(&p.flow)
	n.fair.tell(n.ctx, node.Left{Peer: p.name})
	close(p.left)
	return err
}

// join finds a place for a peer, or says why there is none. Of two connections to
// one node the one stays that the lower ID has dialled: both ends know that, and
// two nodes that dial each other at once keep one.
func (n *Node) join(p *peer) error {
	for {
		old, err := n.place(p)
		if old == nil {
			return err
		}
		old.close()
		<-old.left
	}
}

// place is one try of join. It fails, or returns who must leave first.
func (n *Node) place(p *peer) (old *peer, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ctx.Err() != nil {
		return nil, context.Cause(n.ctx)
	}
	if old := n.peers[p.id]; old != nil {
		lower := string(n.id[:]) < string(p.id[:])
		if (old.dialled != nil) != (p.dialled != nil) && lower == (p.dialled != nil) {
			return old, nil
		}
		return nil, fmt.Errorf("node %s is connected already", p.id.Node())
	}
	switch {
	case p.dialled == nil && n.in >= n.MaxIn:
		return nil, fmt.Errorf("all %d places for peers that dial us are taken: raise MaxIn", n.MaxIn)
	case p.dialled != nil && !p.dialled.fixed && n.out >= n.MaxOut:
		return nil, fmt.Errorf("all %d places for peers that others told of are taken", n.MaxOut)
	}
	n.count(p, 1)
	n.peers[p.id] = p
	n.machine.Host.Outlet(p.name, p.take)
	return nil, nil
}

func (n *Node) leave(p *peer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.count(p, -1)
	delete(n.peers, p.id)
	n.machine.Host.Outlet(p.name, nil)
	n.redial() // it may be one of Options.Peers that had dialled us
}

// count is called with n.mu held.
func (n *Node) count(p *peer, by int) {
	switch {
	case p.dialled == nil:
		n.in += by
	case !p.dialled.fixed:
		n.out += by
	}
}

// newPeer is a connection whose other end has shown who it is.
func (n *Node) newPeer(conn net.Conn, s stream, id lattice.Key, version uint8, dialled *place) *peer {
	conn.SetDeadline(time.Time{})
	p := &peer{
		n: n, id: id, name: name(id), conn: conn, stream: s, remote: remoteOf(conn), dialled: dialled, version: version,
		since: time.Now(), closed: make(chan struct{}), left: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	p.flow.peer = p.name
	if dialled != nil {
		p.at.Store(&p.remote)
	}
	return p
}

func remoteOf(conn net.Conn) netip.AddrPort {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return endpoint(tcp.AddrPort())
	}
	return netip.AddrPort{}
}

// endpoint is an address as it is compared: IPv4 is not written as IPv6.
func endpoint(at netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
}

// Peers lists the nodes that are connected, in no order.
func (n *Node) Peers() []Peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]Peer, 0, len(n.peers))
	for _, p := range n.peers {
		list = append(list, p.seen())
	}
	return list
}
