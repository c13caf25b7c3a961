package engine

import (
	"fmt"
	"sync"

	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/step"
	"coinop.dev/world/link"
)

// MaxQueue bounds the messages that wait to be written to one connection. One
// too many for any connection is dropped, as a network would, and cores send
// again; one too many for this connection cuts it, because what follows a gap
// would be taken for a fault of ours.
const MaxQueue = 4096

// A peer is the other end of a link, whether it is up or not.
type peer struct {
	m   *Machine
	key keys.Public

	// telling keeps what cores hear of this peer in order: Linked, what came
	// over that connection, Unlinked. Whoever holds it may wait for room in the
	// host's inbox, so the host's goroutine must never take it.
	telling sync.Mutex

	mu      sync.Mutex
	conn    *conn         // the current connection, or nil
	up      chan struct{} // closed once cores have been told of it
	dial    *dial         // who keeps it up; nil for a stranger
	down    bool          // cut on purpose: a link is refused until it is mended
	serving int           // goroutines that read from it or dial it
	passive *attached     // where packets go while there is no connection
}

// held tells whether the peer is worth remembering.
func (p *peer) held() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.serving > 0 || p.dial != nil || p.down || p.passive != nil
}

func (p *peer) current() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn
}

// take queues a packet; it is encoded and sealed on the connection's own
// goroutine. It runs on the host's.
func (p *peer) take(packet step.Packet) {
	msg, ok := packet.Msg.(message.Message)
	if !ok {
		p.m.Log.Error("a core sends what is not a message", "core", packet.From, "type", fmt.Sprintf("%T", packet.Msg))
		return
	}
	p.mu.Lock()
	c, a := p.conn, p.passive
	p.mu.Unlock()
	switch {
	case c == nil && a != nil && packet.Link == 0:
		a.send(msg)
	case c != nil && (packet.Link == 0 || packet.Link == c.number):
		c.queue(outgoing{msg, packet.Link != 0})
	}
}

// connected puts a new connection in the place of an older one: cores hear of
// the old one's end first.
func (p *peer) connected(l link.Link) *conn {
	p.telling.Lock()
	defer p.telling.Unlock()
	c := &conn{peer: p, link: l, number: p.m.links.Add(1), wake: make(chan struct{}, 1), closed: make(chan struct{})}
	p.mu.Lock()
	if p.down {
		p.mu.Unlock()
		l.Close()
		return nil
	}
	old := p.conn
	p.conn = c
	p.mu.Unlock()
	if old != nil {
		p.ended(old)
	}
	p.m.spawn(c.write)
	p.m.Log.Info("link up", "peer", p.key, "link", c.number)
	p.m.Host.Tell(p.m.ctx, "", step.Linked{Peer: p.key.PeerName(), Link: c.number})
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.up:
	default:
		close(p.up)
	}
	return c
}

// lost is called once by whoever reads from the connection, when it does no
// more. A dial that failed has none.
func (p *peer) lost(c *conn, err error) {
	p.m.Log.Info("link down", "peer", p.key, "err", err)
	if c == nil {
		return
	}
	p.telling.Lock()
	defer p.telling.Unlock()
	p.mu.Lock()
	current := p.conn == c
	if current {
		p.conn, p.up = nil, make(chan struct{})
	}
	p.mu.Unlock()
	if current {
		p.ended(c)
	}
	p.m.count(c.link)
}

// ended closes a connection that is not current any more and tells cores.
// telling is held, so what its reader still has is dropped.
func (p *peer) ended(c *conn) {
	close(c.closed)
	c.link.Close()
	p.m.Host.Tell(p.m.ctx, "", step.Unlinked{Peer: p.key.PeerName(), Link: c.number})
}

// hear tells a core what came over a connection, while it is the current one.
func (p *peer) hear(c *conn, core string, msg message.Message) {
	p.telling.Lock()
	defer p.telling.Unlock()
	if p.current() == c {
		p.m.Host.Tell(p.m.ctx, core, step.Recv{From: p.key.PeerName(), Msg: msg, Link: c.number})
	}
}

// A conn is one connection to a peer, with what waits to be written to it. What
// waits goes with it.
type conn struct {
	peer   *peer
	link   link.Link
	number uint64
	wake   chan struct{} // something waits
	closed chan struct{} // it is not the current connection any more

	mu      sync.Mutex
	waiting []outgoing
	full    bool // one did not fit, and none may follow it
	last    bool // close when nothing waits
}

type outgoing struct {
	msg     message.Message
	ordered bool // without it, none that follow
}

func (c *conn) queue(o outgoing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.full || c.last:
	case len(c.waiting) < MaxQueue:
		c.waiting = append(c.waiting, o)
		c.nudge()
	case o.ordered:
		c.full = true
		c.link.Close()
		c.peer.m.Log.Warn("link cut: its queue is full, and a gap is worse", "peer", c.peer.key, "link", c.number, "messages", MaxQueue)
	default:
		c.peer.m.Log.Warn("queue to peer is full", "peer", c.peer.key)
	}
}

// finish hangs up once what waits is written.
func (c *conn) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = true
	c.nudge()
}

func (c *conn) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// write writes all that waits at once, again and again: while the kernel takes
// one batch the next one gathers.
func (c *conn) write() {
	var batch []outgoing
	var buf []byte
	for {
		select {
		case <-c.closed:
			return
		case <-c.wake:
		}
		c.mu.Lock()
		batch, c.waiting = c.waiting, batch[:0]
		last := c.last
		c.mu.Unlock()
		for _, o := range batch {
			buf = o.msg.Append(buf[:0])
			if err := c.link.Add(buf); err != nil {
				c.failed(o, err)
			}
		}
		clear(batch)
		if err := c.link.Flush(); err != nil {
			c.failed(outgoing{}, err)
		}
		if last {
			c.link.Close()
		}
	}
}

// failed takes the loss of one message, unless others count on it. A link that
// is broken has closed by itself.
func (c *conn) failed(o outgoing, err error) {
	c.peer.m.Log.Debug("send", "peer", c.peer.key, "err", err)
	if o.ordered {
		c.link.Close()
	}
}
