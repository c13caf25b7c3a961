// Package memlink carries links inside one process, with the same handshake and
// session as the real ones. It runs in a testing/synctest bubble.
package memlink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"coinop.dev/core/keys"
	"coinop.dev/world/link"
)

// A Net is a made-up network: addresses are any names. The zero Net is ready,
// and nobody listens on it.
type Net struct {
	mu    sync.Mutex
	ports map[Addr]*port
}

// An Addr is a name on a Net.
type Addr string

// Network is "mem".
func (Addr) Network() string { return "mem" }

// String is the name.
func (a Addr) String() string { return string(a) }

var errRefused = errors.New("nobody listens there")

// Dial connects to addr and proves that the holder of peer answers there.
func (n *Net) Dial(ctx context.Context, addr string, self keys.Secret, peer keys.Public) (*link.Session, error) {
	conn, err := n.DialConn(ctx, addr)
	if err != nil {
		return nil, err
	}
	return link.Initiate(ctx, conn, self, peer)
}

// Listen waits for peers on addr.
func (n *Net) Listen(addr string, self keys.Secret, o link.Options) (*link.Listener, error) {
	inner, err := n.ListenConn(addr)
	if err != nil {
		return nil, err
	}
	return link.Listen(inner, self, o), nil
}

// DialConn connects to addr without a handshake. It waits until the listener
// accepts: a Net has no backlog.
func (n *Net) DialConn(ctx context.Context, addr string) (net.Conn, error) {
	n.mu.Lock()
	p := n.ports[Addr(addr)]
	n.mu.Unlock()
	if p == nil {
		return nil, fmt.Errorf("dial mem %s: %w: listen first", addr, errRefused)
	}
	ours, theirs := Pipe(Addr(addr+"/dialler"), p.addr)
	select {
	case p.dialled <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, fmt.Errorf("dial mem %s: %w: listen again", addr, errRefused)
	case <-ctx.Done():
		return nil, fmt.Errorf("dial mem %s: %w", addr, context.Cause(ctx))
	}
}

// ListenConn accepts connections without a handshake.
func (n *Net) ListenConn(addr string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ports[Addr(addr)] != nil {
		return nil, fmt.Errorf("listen mem %s: taken: close the other listener", addr)
	}
	if n.ports == nil {
		n.ports = map[Addr]*port{}
	}
	p := &port{net: n, addr: Addr(addr), dialled: make(chan net.Conn), closed: make(chan struct{})}
	n.ports[p.addr] = p
	return p, nil
}

// A port is where somebody listens.
type port struct {
	net     *Net
	addr    Addr
	dialled chan net.Conn
	closed  chan struct{}
}

func (p *port) Addr() net.Addr { return p.addr }

func (p *port) Accept() (net.Conn, error) {
	select {
	case conn := <-p.dialled:
		return conn, nil
	case <-p.closed:
		return nil, fmt.Errorf("accept mem %s: %w", p.addr, net.ErrClosed)
	}
}

func (p *port) Close() error {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	if p.net.ports[p.addr] != p {
		return net.ErrClosed
	}
	delete(p.net.ports, p.addr)
	close(p.closed)
	return nil
}
