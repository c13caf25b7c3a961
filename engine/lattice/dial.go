package nanonet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"coinop.dev/core/ledger/lattice"
)

const (
	// MaxKnown bounds the places that peers have told of.
	MaxKnown = 1024
	// MaxDials bounds the places that are dialled at once.
	MaxDials = 16
	// MinBackoff is the shortest wait before a place is dialled again, MaxBackoff
	// the longest for one of Options.Peers, and MaxFarBackoff for others, which are
	// forgotten after so many failures.
	MinBackoff    = 100 * time.Millisecond
	MaxBackoff    = 10 * time.Second
	MaxFarBackoff = 5 * time.Minute
	maxFailures   = 5
	// Steady is how long a link must last for the waits to start small again.
	Steady = 10 * time.Second
)

// A place is where a node may be dialled.
type place struct {
	addr     string
	fixed    bool // one of Options.Peers
	busy     bool // dialled, or linked
	self     bool // it is this node
	wait     time.Duration
	failures int
	next     time.Time   // it may be dialled
	id       lattice.Key // who was there last
}

// A book is the places that are known.
type book struct {
	places map[string]*place
	known  int // of them that are not fixed
	wake   chan struct{}
}

func newBook(fixed []string) book {
	b := book{places: map[string]*place{}, wake: make(chan struct{}, 1)}
	for _, addr := range fixed {
		b.places[addr] = &place{addr: addr, fixed: true}
	}
	return b
}

// learn notes a place that a peer has told of, if we may dial it. Who is on the
// open internet cannot have us dial into the networks that we are on.
func (n *Node) learn(from netip.Addr, at netip.AddrPort) {
	at = endpoint(at)
	addr := at.Addr()
	switch {
	case n.Closed || at.Port() == 0 || !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() || addr.IsLinkLocalUnicast():
		return
	case addr.IsLoopback() && !from.IsLoopback():
		return
	case addr.IsPrivate() && !from.IsPrivate() && !from.IsLoopback():
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	text := at.String()
	if n.book.places[text] != nil || n.book.known >= MaxKnown {
		return
	}
	for _, p := range n.peers {
		if p.where() == at {
			return
		}
	}
	n.book.places[text] = &place{addr: text}
	n.book.known++
	n.redial()
}

func (n *Node) redial() {
	select {
	case n.book.wake <- struct{}{}:
	default:
	}
}

// tend dials, and says that we are there.
func (n *Node) tend() {
	alive := time.NewTicker(n.KeepAlive)
	defer alive.Stop()
	redial := time.NewTimer(0)
	defer redial.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-alive.C:
			n.sayAlive()
		case <-redial.C:
			redial.Reset(n.dialDue())
		case <-n.book.wake:
			redial.Reset(n.dialDue())
		}
	}
}

// dialDue dials what is due, and says when the next is.
func (n *Node) dialDue() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	now, next := time.Now(), time.Minute
	dialling, others := 0, 0
	for _, p := range n.book.places {
		if p.busy && n.peers[p.id] == nil {
			dialling++
			if !p.fixed {
				others++
			}
		}
	}
	for _, p := range n.book.places {
		switch linked := n.peers[p.id] != nil; {
		case p.busy || p.self || linked || !p.fixed && n.out+others >= n.MaxOut:
		case now.Before(p.next):
			next = min(next, p.next.Sub(now))
		case dialling >= MaxDials:
			return MinBackoff
		default:
			if dialling++; !p.fixed {
				others++
			}
			p.busy = true
			n.running.Go(func() { n.dial(p) })
		}
	}
	return next
}

// dial makes one attempt at a place: from dialling to the end of the link.
func (n *Node) dial(p *place) {
	began := time.Now()
	id, err := n.dialled(p)
	lasted := time.Since(began)
	n.Log.Debug("lattice link", "place", p.addr, "err", err)
	n.mu.Lock()
	defer n.mu.Unlock()
	defer n.redial()
	p.busy, p.id, p.self = false, id, errors.Is(err, errSelf)
	most := MaxFarBackoff
	if p.fixed {
		most = MaxBackoff
	}
	if lasted >= Steady {
		p.wait, p.failures = 0, 0
	}
	p.wait = min(max(2*p.wait, MinBackoff), most)
	p.next = time.Now().Add(p.wait/2 + rand.N(p.wait))
	if p.failures++; !p.fixed && p.failures > maxFailures {
		delete(n.book.places, p.addr)
		n.book.known--
	}
}

func (n *Node) dialled(place *place) (id lattice.Key, err error) {
	ctx, cancel := context.WithTimeout(n.ctx, n.HandshakeTime)
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", place.addr)
	cancel()
	if err != nil {
		return id, err
	}
	defer conn.Close()
	defer context.AfterFunc(n.ctx, func() { conn.Close() })()
	release, err := n.enter(remoteOf(conn).Addr())
	if err != nil {
		return id, err
	}
	defer release()
	s := newStream(conn, n.network.Magic)
	id, version, err := n.greet(conn, s)
	if err != nil {
		n.counts.refused.Add(1)
		return id, fmt.Errorf("node at %s: %w", place.addr, err)
	}
	return id, n.serve(n.newPeer(conn, s, id, version, place))
}

// enter counts a connection to an address.
func (n *Node) enter(ip netip.Addr) (release func(), err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.perIP[ip] >= n.MaxPerIP {
		return nil, fmt.Errorf("there are %d connections to %s already: MaxPerIP is the limit", n.perIP[ip], ip)
	}
	n.perIP[ip]++
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.perIP[ip]--; n.perIP[ip] == 0 {
			delete(n.perIP, ip)
		}
	}, nil
}

// acceptPause is how long the listener rests after the system could not give it a
// connection, usually for want of file descriptors.
const acceptPause = 50 * time.Millisecond

// accept serves whoever dials us.
func (n *Node) accept() {
	slots := make(chan struct{}, MaxHandshakes)
	for {
		select {
		case slots <- struct{}{}:
		case <-n.ctx.Done():
			return
		}
		conn, err := n.listener.Accept()
		if err != nil {
			<-slots
			select {
			case <-time.After(acceptPause):
				continue
			case <-n.ctx.Done():
				return
			}
		}
		n.running.Go(func() {
			err := n.accepted(conn, func() { <-slots })
			n.Log.Debug("lattice link", "from", conn.RemoteAddr(), "err", err)
		})
	}
}

// accepted serves one connection. shaken is called once the handshake is over.
func (n *Node) accepted(conn net.Conn, shaken func()) error {
	defer conn.Close()
	defer context.AfterFunc(n.ctx, func() { conn.Close() })()
	release, err := n.enter(remoteOf(conn).Addr())
	if err != nil {
		n.counts.refused.Add(1)
		shaken()
		return err
	}
	defer release()
	s := newStream(conn, n.network.Magic)
	id, version, err := n.welcome(conn, s)
	shaken()
	if err != nil {
		n.counts.refused.Add(1)
		return err
	}
	return n.serve(n.newPeer(conn, s, id, version, nil))
}

// sayAlive tells peers where we listen, and of some others.
func (n *Node) sayAlive() {
	n.mu.Lock()
	var known []netip.AddrPort
	list := make([]*peer, 0, len(n.peers))
	for _, p := range n.peers { // in no order
		list = append(list, p)
		if at := p.where(); at.IsValid() && len(known) < 4*lattice.KeepalivePeers {
			known = append(known, at)
		}
	}
	n.mu.Unlock()
	for _, p := range list {
		m := n.keepalive(known, p)
		p.send(m.Append(nil, n.network.Magic))
	}
}

// keepalive is one for a peer: our own port first, as Nano's nodes have it, and
// then others than the peer.
func (n *Node) keepalive(known []netip.AddrPort, to *peer) *lattice.Keepalive {
	m := new(lattice.Keepalive)
	for i := range m.Peers {
		m.Peers[i] = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
	}
	if n.listener != nil {
		m.Peers[0] = netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(n.listener.Addr().(*net.TCPAddr).Port))
	}
	if n.Closed {
		return m
	}
	at := 1
	for _, i := range rand.Perm(len(known)) {
		if at < len(m.Peers) && known[i] != to.where() {
			m.Peers[at] = known[i]
			at++
		}
	}
	return m
}

// Counts says what a node's network has seen.
type Counts struct {
	Peers, Known int       // connected, and places that others told of
	Taken, Lost  [4]uint64 // messages by kind: votes, blocks, requests, bootstrap
	Unsent       uint64    // messages that found no room in a peer's queue
	Refused      uint64    // connections
}

// Counts are since the node was opened.
func (n *Node) Counts() Counts {
	c := Counts{Unsent: n.counts.unsent.Load(), Refused: n.counts.refused.Load()}
	c.Taken, c.Lost = n.fair.counts()
	n.mu.Lock()
	defer n.mu.Unlock()
	c.Peers, c.Known = len(n.peers), n.book.known
	return c
}
