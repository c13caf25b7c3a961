package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"coinop.dev/core/keys"
)

const (
	// MaxHandshakes bounds the strangers served at once. Further ones wait in
	// the kernel's backlog, where they cost us nothing.
	MaxHandshakes = 64

	// MaxPeers bounds the links a listener has open. Each may hold two packets
	// of 65,569 bytes, so a full house is 150 MB at the very worst.
	MaxPeers = 1024
)

// acceptPause is how long a listener rests after the system could not give it
// a connection, usually for want of file descriptors.
const acceptPause = 50 * time.Millisecond

// Options of a listener. A zero field means the constant of the same name.
type Options struct {
	MaxPeers         int
	MaxHandshakes    int
	HandshakeTimeout time.Duration
	SendTimeout      time.Duration

	// OnRefuse is told why somebody was not let in, from several goroutines at
	// once. It must not close the listener.
	OnRefuse func(err error)
}

func (o Options) filled() Options {
	o.MaxPeers = cmp.Or(o.MaxPeers, MaxPeers)
	o.MaxHandshakes = cmp.Or(o.MaxHandshakes, MaxHandshakes)
	o.HandshakeTimeout = cmp.Or(o.HandshakeTimeout, HandshakeTimeout)
	o.SendTimeout = cmp.Or(o.SendTimeout, SendTimeout)
	if o.OnRefuse == nil {
		o.OnRefuse = func(error) {}
	}
	return o
}

// A Listener answers the handshakes of those who dial in.
type Listener struct {
	inner   net.Listener
	answer  func(net.Conn) (*Session, error) // holds our key, as a print of the struct would show it
	options Options
	ready   chan *Session
	peers   chan struct{} // one for every open link
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// Listen answers on inner, which is closed with the listener.
func Listen(inner net.Listener, self keys.Secret, o Options) *Listener {
	o = o.filled()
	l := &Listener{inner: inner, options: o, ready: make(chan *Session), peers: make(chan struct{}, o.MaxPeers)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.answer = func(conn net.Conn) (*Session, error) { return respond(l.ctx, conn, self, o) }
	l.running.Go(l.run)
	return l
}

// Addr is where the listener can be dialled.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Accept waits for a peer that has proved its key.
func (l *Listener) Accept(ctx context.Context) (*Session, error) {
	select {
	case s := <-l.ready:
		return s, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("accept on %s: %w", l.Addr(), context.Cause(ctx))
	case <-l.ctx.Done():
		return nil, fmt.Errorf("accept on %s: %w", l.Addr(), net.ErrClosed)
	}
}

// Close stops listening and drops the handshakes under way. Links that were
// accepted stay up.
func (l *Listener) Close() error {
	l.cancel()
	err := l.inner.Close()
	l.running.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil // closed before
	}
	return err
}

func (l *Listener) run() {
	slots := make(chan struct{}, l.options.MaxHandshakes)
	for l.ctx.Err() == nil {
		select {
		case slots <- struct{}{}:
		case <-l.ctx.Done():
			return
		}
		conn, err := l.inner.Accept()
		if err != nil {
			<-slots
			l.rest(err)
			continue
		}
		l.running.Go(func() {
			defer func() { <-slots }()
			l.welcome(conn)
		})
	}
}

func (l *Listener) rest(err error) {
	if l.ctx.Err() != nil {
		return
	}
	l.options.OnRefuse(fmt.Errorf("accept on %s: %w: check the limit on open files", l.Addr(), err))
	select {
	case <-time.After(acceptPause):
	case <-l.ctx.Done():
	}
}

// welcome keeps its handshake slot until the peer is taken by Accept, so a
// program that does not accept is not flooded.
func (l *Listener) welcome(conn net.Conn) {
	s, err := l.answer(conn)
	if err != nil {
		l.options.OnRefuse(err)
		return
	}
	select {
	case l.peers <- struct{}{}:
		s.leave = func() { <-l.peers }
	default:
		s.Close()
		l.options.OnRefuse(fmt.Errorf("peer %s at %s: all %d places are taken: raise MaxPeers or close a link", s.Peer(), conn.RemoteAddr(), l.options.MaxPeers))
		return
	}
	select {
	case l.ready <- s:
	case <-l.ctx.Done():
		s.Close()
	}
}
