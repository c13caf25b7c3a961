package pgtest

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// A Proxy stands between a program and the database, and can be cut.
type Proxy struct {
	URI string // the database's, through the proxy

	server   string
	listener net.Listener

	mu    sync.Mutex
	mute  bool // bytes are swallowed both ways; nobody is told
	down  bool // new connections are closed at once
	conns map[net.Conn]bool
	freed *sync.Cond // mute has ended
}

// NewProxy listens on a port of its own for the database at uri, until the test
// ends.
func NewProxy(t testing.TB, uri string) *Proxy {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{server: u.Host, listener: l, conns: map[net.Conn]bool{}}
	p.freed = sync.NewCond(&p.mu)
	u.Host = l.Addr().String()
	p.URI = u.String()
	go p.accept()
	t.Cleanup(func() { l.Close(); p.Cut() })
	return p
}

// Cut breaks every connection and lets no new one through: the cable is out, and
// both ends see it.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down, p.mute = true, false
	p.freed.Broadcast()
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}

// Mute stops all bytes and closes nothing: the far end is simply silent, as when
// a route is lost. Mend ends it.
func (p *Proxy) Mute() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = true
}

// Mend lets connections through again.
func (p *Proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down, p.mute = false, false
	p.freed.Broadcast()
}

func (p *Proxy) accept() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", p.server)
		if err != nil || !p.keep(near, far) {
			near.Close()
			continue
		}
		go p.copy(near, far)
		go p.copy(far, near)
	}
}

func (p *Proxy) keep(near, far net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		far.Close()
		return false
	}
	p.conns[near], p.conns[far] = true, true
	return true
}

func (p *Proxy) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	io.Copy(gate{p, to}, from)
}

// gate is a connection that waits while the proxy is mute.
type gate struct {
	p  *Proxy
	to net.Conn
}

func (g gate) Write(b []byte) (int, error) {
	g.p.mu.Lock()
	for g.p.mute {
		g.p.freed.Wait()
	}
	g.p.mu.Unlock()
	return g.to.Write(b)
}
