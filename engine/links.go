package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/step"
	"coinop.dev/world/drive"
	"coinop.dev/world/link"
	"coinop.dev/world/link/tcp"
)

// MaxPeers bounds the strangers that have a link to us: peers that we do not
// dial. Each may have MaxQueue messages waiting, and is told of to every core.
const MaxPeers = 512

// hold returns the peer for a key, marked by mark as worth remembering. A peer
// that is new makes room for itself only if it is no stranger.
func (m *Machine) hold(key keys.Public, stranger bool, mark func(*peer)) (*peer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := key.PeerName()
	p := m.peers[name]
	if p == nil {
		if stranger && m.strangers() >= m.MaxPeers {
			return nil, fmt.Errorf("peer %s: all %d places for peers that we do not dial are taken: raise MaxPeers, or disconnect one", key, m.MaxPeers)
		}
		p = &peer{m: m, key: key, up: make(chan struct{})}
		m.peers[name] = p
		m.Host.Outlet(name, p.take)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	mark(p)
	return p, nil
}

// strangers is called with m.mu held.
func (m *Machine) strangers() (n int) {
	for _, p := range m.peers {
		p.mu.Lock()
		if p.dial == nil && p.passive == nil {
			n++
		}
		p.mu.Unlock()
	}
	return n
}

// release is called when a goroutine that serves a peer ends.
func (m *Machine) release(p *peer) {
	p.mu.Lock()
	p.serving--
	p.mu.Unlock()
	m.forget(p)
}

// forget drops a peer that nobody holds, so that those who come and go leave
// nothing behind.
func (m *Machine) forget(p *peer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if name := p.key.PeerName(); m.peers[name] == p && !p.held() {
		delete(m.peers, name)
		m.Host.Outlet(name, nil)
	}
}

// find returns the peer for a key if there is one.
func (m *Machine) find(key keys.Public) *peer {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.peers[key.PeerName()]
}

// Listen lets peers connect until the machine closes.
func (m *Machine) Listen(addr string) (net.Addr, error) {
	refuse := func(err error) { m.Log.Debug("refused a peer", "err", err) }
	l, err := tcp.Listen(addr, m.Key, link.Options{OnRefuse: refuse})
	if err != nil {
		return nil, err
	}
	m.spawn(func() {
		// Here, so that who closes the machine can listen there again at once.
		defer l.Close()
		for {
			s, err := l.Accept(m.ctx)
			if err != nil {
				return
			}
			p, err := m.hold(s.Peer(), true, func(p *peer) { p.serving++ })
			if err != nil {
				refuse(err)
				s.Close()
				continue
			}
			m.spawn(func() { m.serve(p, s) })
		}
	})
	return l.Addr(), nil
}

// serve reads what a peer that has dialled us says, until it hangs up.
func (m *Machine) serve(p *peer, s *link.Session) {
	defer m.release(p)
	defer context.AfterFunc(m.ctx, func() { s.Close() })()
	c := p.connected(s)
	if c == nil {
		return
	}
	for {
		raw, err := s.Recv()
		if err != nil {
			p.lost(c, err)
			return
		}
		m.received(c, raw)
	}
}

// Connect keeps a link to a peer up until the machine closes or Disconnect is
// called, and waits for the first. A second call for the same peer only waits.
func (m *Machine) Connect(ctx context.Context, addr string, key keys.Public) error {
	d := &dial{addr: addr}
	d.ctx, d.cancel = context.WithCancel(m.ctx)
	first := false
	p, _ := m.hold(key, false, func(p *peer) {
		if first = p.dial == nil; first {
			p.dial = d
			p.serving++
		}
	})
	if first {
		m.spawn(func() { m.keep(p, d) })
	} else {
		d.cancel()
	}
	return p.wait(ctx)
}

// A dial keeps a link to a peer up until it is cancelled.
type dial struct {
	addr   string
	ctx    context.Context
	cancel func()
}

var errOtherEnd = errors.New("the link that the peer had made has ended")

// keep dials whenever there is no link, neither ours nor one the peer has made.
func (m *Machine) keep(p *peer, d *dial) {
	defer m.release(p)
	defer d.cancel()
	var c *conn
	link.Keep{
		Dial: func(ctx context.Context) (link.Link, error) {
			if !p.dialledBy(d) {
				d.cancel()
				return nil, context.Canceled
			}
			if theirs := p.current(); theirs != nil {
				select {
				case <-theirs.closed:
					return nil, errOtherEnd
				case <-ctx.Done():
					return nil, context.Cause(ctx)
				}
			}
			if p.cut() {
				return nil, errors.New("the link is cut on purpose")
			}
			return tcp.Dial(ctx, d.addr, m.Key, p.key)
		},
		OnUp: func(l link.Link) { c = p.connected(l) },
		OnMessage: func(_ keys.Public, raw []byte) {
			if c != nil {
				m.received(c, raw)
			}
		},
		OnDown: func(err error) {
			p.lost(c, err)
			c = nil
			if !p.dialledBy(d) {
				d.cancel()
			}
		},
	}.Run(d.ctx)
}

func (p *peer) dialledBy(d *dial) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dial == d
}

func (p *peer) cut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.down
}

// wait blocks until the link is up.
func (p *peer) wait(ctx context.Context) error {
	p.mu.Lock()
	up := p.up
	p.mu.Unlock()
	select {
	case <-up:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no link to %s: %w", p.key, ctx.Err())
	case <-p.m.ctx.Done():
		return drive.ErrStopped
	}
}

// Disconnect hangs up once what waits to be written is, and does not dial again
// until Connect is called. The peer may dial us.
func (m *Machine) Disconnect(key keys.Public) {
	p := m.find(key)
	if p == nil {
		return
	}
	p.mu.Lock()
	d, c := p.dial, p.conn
	p.dial = nil
	p.mu.Unlock()
	switch {
	case c != nil:
		c.finish() // whoever dials sees that it is no longer asked to
	case d != nil:
		d.cancel()
	}
}

// Cut drops the link to a peer and keeps it down until it is called with false:
// the demo's button, and a test's.
func (m *Machine) Cut(key keys.Public, down bool) {
	p, _ := m.hold(key, false, func(p *peer) { p.down = down })
	if c := p.current(); c != nil && down {
		c.link.Close()
	}
	m.forget(p)
}

// A Peer is what a machine knows of another one.
type Peer struct {
	Key  keys.Public
	Addr string // where we dial it; "" for one that has dialled us
	Link uint64 // the connection's number, as cores have it; 0 while it is down
}

// Peers lists those that are linked or dialled, by key.
func (m *Machine) Peers() (list []Peer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.peers {
		p.mu.Lock()
		is := Peer{Key: p.key}
		if p.dial != nil {
			is.Addr = p.dial.addr
		}
		if p.conn != nil {
			is.Link = p.conn.number
		}
		p.mu.Unlock()
		if is.Addr != "" || is.Link != 0 {
			list = append(list, is)
		}
	}
	slices.SortFunc(list, func(a, b Peer) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	return list
}

// Send sends a message that is not a core's. It is as little a promise as any.
func (m *Machine) Send(to keys.Public, msg message.Message) {
	if p := m.find(to); p != nil {
		p.take(step.Packet{Msg: msg})
	}
}

// customTypes is the first message type that is not Lightning's (BOLT 1,
// "Lightning Message Format").
const customTypes = 32768

// received hands a message to a door or a core. A Lightning message that cannot
// be read fails the connection: what it would have changed is unknown.
func (m *Machine) received(c *conn, raw []byte) {
	from := c.peer.key
	msg, err := message.Decode(raw)
	if err != nil {
		m.Log.Warn("peer sends what cannot be read", "peer", from, "err", err)
		if len(raw) < 2 || binary.BigEndian.Uint16(raw) < customTypes {
			c.link.Close()
		}
		return
	}
	if msg == nil {
		return
	}
	if m.takenByDoor(from, msg) {
		return
	}
	if core := msg.Core(); core != "" {
		c.peer.hear(c, core, msg)
	}
}

func (m *Machine) takenByDoor(from keys.Public, msg message.Message) bool {
	m.mu.Lock()
	doors := m.doors
	m.mu.Unlock()
	for _, door := range doors {
		if (*door)(from, msg) {
			return true
		}
	}
	return false
}

func (m *Machine) count(l link.Link) {
	if c, ok := l.(interface{ Counts() link.Counts }); ok {
		m.mu.Lock()
		defer m.mu.Unlock()
		n := c.Counts()
		m.wire.Sent += n.Sent
		m.wire.Received += n.Received
	}
}

// Wire is the bytes that have gone over all links.
func (m *Machine) Wire() link.Counts {
	m.mu.Lock()
	n := m.wire
	var live []*conn
	for _, p := range m.peers {
		if c := p.current(); c != nil {
			live = append(live, c)
		}
	}
	m.mu.Unlock()
	for _, c := range live {
		if c, ok := c.link.(interface{ Counts() link.Counts }); ok {
			n.Sent += c.Counts().Sent
			n.Received += c.Counts().Received
		}
	}
	return n
}

// Address splits "key@host:port".
func Address(text string) (key keys.Public, addr string, err error) {
	hexKey, addr, ok := strings.Cut(text, "@")
	if !ok {
		return key, "", fmt.Errorf("address %.150q is not <node key>@<host>:<port>", text)
	}
	if key, err = keys.ParsePublicHex(hexKey); err != nil {
		return key, "", fmt.Errorf("address %.150q: %w", text, err)
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return key, "", fmt.Errorf("address %.150q: %w", text, err)
	}
	return key, addr, nil
}
