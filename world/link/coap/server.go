package coap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/dtls/v3"

	wire "coinop.dev/core/coap"
)

// A Server answers on one port.
type Server struct {
	addr   net.Addr
	cancel context.CancelFunc
	closer func() error
	over   sync.WaitGroup
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.addr }

// Close stops answering; what is worked on is told by its context.
func (s *Server) Close() error {
	s.cancel()
	err := s.closer()
	s.over.Wait()
	return err
}

// Listen answers on a UDP port ("host:5683"; port 0 picks a free one). Nobody
// there proves who they are.
func Listen(addr string, h Handler, o Options) (*Server, error) {
	conn, err := net.ListenPacket("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w: check that %s is an address of this machine and not in use", err, addr)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{addr: conn.LocalAddr(), cancel: cancel, closer: conn.Close}
	u := &udp{conn: conn.(*net.UDPConn), end: newEndpoint(h, o), ctx: ctx}
	s.over.Go(u.run)
	return s, nil
}

// udp sorts the datagrams of a port by who sent them. Peers of the last Remember
// are known: those that were heard of since the tables were turned, in young.
type udp struct {
	conn   *net.UDPConn
	end    *endpoint
	ctx    context.Context
	young  map[netip.AddrPort]*peer
	old    map[netip.AddrPort]*peer
	turned time.Time
}

func (u *udp) run() {
	u.turn(time.Now())
	buf := make([]byte, wire.MaxMessage+1)
	for {
		n, from, err := u.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of somebody else's
		}
		if p := u.peer(from, time.Now()); p != nil {
			p.receive(append([]byte(nil), buf[:n]...))
		}
	}
}

func (u *udp) peer(from netip.AddrPort, now time.Time) *peer {
	if now.Sub(u.turned) > Remember || len(u.young) >= u.end.o.maxPeers()/2 {
		u.turn(now)
	}
	if p := u.young[from]; p != nil {
		return p
	}
	p := u.old[from]
	if p == nil {
		if len(u.young) >= u.end.o.maxPeers()/2 {
			return nil // all of them busy
		}
		p = u.end.newPeer(u.ctx, from.String(), "", false, func(b []byte) error {
			_, err := u.conn.WriteToUDPAddrPort(b, from)
			return err
		})
	}
	delete(u.old, from)
	u.young[from] = p
	return p
}

// turn forgets the peers that were not heard of since the last turn, except busy
// ones and, while the table is only crowded, those that have shown where they are:
// a flood from made-up addresses does not make a server forget its customers.
func (u *udp) turn(now time.Time) {
	quiet := now.Sub(u.turned) > Remember
	young := map[netip.AddrPort]*peer{}
	for from, p := range u.old {
		if p.busy() || !quiet && p.isProved() && len(young) < u.end.o.maxPeers()/4 {
			young[from] = p
			continue
		}
		p.cancel()
	}
	u.old, u.young, u.turned = u.young, young, now
	if u.old == nil {
		u.old = map[netip.AddrPort]*peer{}
	}
}

// cidSize is the length of our connection IDs: with them a device keeps its
// session when its address changes (RFC 9146).
const cidSize = 8

// ListenDTLS answers on a UDP port ("host:5684") under DTLS 1.2, to those who have
// a pre-shared key, and to all if there is a certificate.
func ListenDTLS(addr string, h Handler, o Options) (*Server, error) {
	at, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	options := []dtls.ServerOption{dtls.WithConnectionIDGenerator(dtls.RandomCIDGenerator(cidSize)), dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret)}
	suites := []dtls.CipherSuiteID{}
	if o.PSK != nil {
		options = append(options, dtls.WithPSK(func(name []byte) ([]byte, error) {
			if key := o.PSK(string(name)); len(key) > 0 {
				return key, nil
			}
			return nil, fmt.Errorf("nobody is called %.64q", name)
		}), dtls.WithPSKIdentityHint([]byte("coinop")))
		suites = append(suites, pskSuites...)
	}
	if o.Certificate != nil {
		options = append(options, dtls.WithCertificates(*o.Certificate))
		suites = append(suites, certificateSuites...)
	}
	options = append(options, dtls.WithCipherSuites(suites...))
	l, err := dtls.ListenWithOptions("udp", at, options...)
	if err != nil {
		return nil, fmt.Errorf("%w: check that %s is an address of this machine and not in use, and that there is a key or a certificate", err, addr)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{addr: l.Addr(), cancel: cancel, closer: l.Close}
	d := &secure{end: newEndpoint(h, o), ctx: ctx, shaking: make(chan struct{}, MaxHandshakes), peers: map[*peer]*dtls.Conn{}}
	s.over.Go(func() { d.run(l) })
	return s, nil
}

// The suites that RFC 7252, section 9, and RFC 7925 ask for, and their newer kin.
var (
	pskSuites         = []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_CCM_8, dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, dtls.TLS_PSK_WITH_AES_128_CCM}
	certificateSuites = []dtls.CipherSuiteID{dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8}
)

// secure is a port with DTLS: a goroutine for each peer.
type secure struct {
	end     *endpoint
	ctx     context.Context
	shaking chan struct{}

	mu    sync.Mutex
	peers map[*peer]*dtls.Conn
	over  sync.WaitGroup
}

func (d *secure) run(l net.Listener) {
	defer d.over.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			if d.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(time.Millisecond) // one that could not be set up; not in a tight loop
			continue
		}
		select {
		case d.shaking <- struct{}{}:
			d.over.Go(func() { d.serve(conn.(*dtls.Conn)) })
		default:
			conn.Close()
		}
	}
}

func (d *secure) serve(conn *dtls.Conn) {
	defer conn.Close()
	defer context.AfterFunc(d.ctx, func() { conn.Close() })()
	p, err := d.shake(conn)
	if err != nil {
		return
	}
	defer d.leave(p)
	buf := make([]byte, wire.MaxMessage+1)
	for {
		conn.SetReadDeadline(time.Now().Add(IdleAfter))
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		p.receive(append([]byte(nil), buf[:n]...))
	}
}

func (d *secure) shake(conn *dtls.Conn) (*peer, error) {
	defer func() { <-d.shaking }()
	ctx, cancel := context.WithTimeout(d.ctx, HandshakeTimeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	state, _ := conn.ConnectionState()
	name := string(state.IdentityHint)
	key := "dtls/" + conn.RemoteAddr().String()
	if name != "" {
		key = "psk/" + name
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if limit := d.end.o.maxPeers(); len(d.peers) >= limit {
		return nil, tooMany(limit)
	}
	p := d.end.newPeer(d.ctx, key, name, true, func(b []byte) error {
		_, err := conn.Write(b)
		return err
	})
	for other, its := range d.peers {
		if name != "" && other.name == name {
			its.Close() // the device has begun anew
		}
	}
	d.peers[p] = conn
	return p, nil
}

func (d *secure) leave(p *peer) {
	p.cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.peers, p)
}
