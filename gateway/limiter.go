package gateway

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A Limiter bounds how often strangers may ask for what costs this machine
// something: each network by itself, and all together. What it remembers of them is
// bounded too; a network that is forgotten begins anew, and the limit of all holds.
type Limiter struct {
	each  rate.Limit
	burst int
	most  int           // networks
	all   *rate.Limiter // nil: no limit together

	mu      sync.Mutex
	clients map[netip.Prefix]*rate.Limiter
}

// NewLimiter allows each network so many a second, burst of them at once, and
// remembers so many networks. all may be nil.
func NewLimiter(each rate.Limit, burst, networks int, all *rate.Limiter) *Limiter {
	return &Limiter{each: each, burst: burst, most: networks, all: all, clients: map[netip.Prefix]*rate.Limiter{}}
}

// of is the share of a network. mu is held.
func (l *Limiter) of(client netip.Prefix, now time.Time) *rate.Limiter {
	c := l.clients[client]
	if c == nil {
		l.forget(now)
		c = rate.NewLimiter(l.each, l.burst)
		l.clients[client] = c
	}
	return c
}

// forget makes room for one more network: it looks at a few, in no order, and drops
// one that has its full share again, or the last it looked at.
func (l *Limiter) forget(now time.Time) {
	if len(l.clients) < l.most {
		return
	}
	const few = 8
	n := 0
	var drop netip.Prefix
	for p, c := range l.clients {
		drop = p
		if n++; n == few || c.TokensAt(now) >= float64(l.burst) {
			break
		}
	}
	delete(l.clients, drop)
}

// Take takes one for a network, or says how long to wait for one. The network's own
// share goes first, so that one cannot use up that of all.
func (l *Limiter) Take(client netip.Prefix, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.of(client, now).ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return wait
	}
	if l.all != nil && !l.all.AllowN(now, 1) {
		return time.Second
	}
	return 0
}

// May reports whether a network has anything left of its own, and takes nothing.
func (l *Limiter) May(client netip.Prefix, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(client, now).TokensAt(now) >= 1
}

// Known is how many networks it remembers.
func (l *Limiter) Known() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.clients)
}

// Network is what one customer has: an IPv4 address, or 64 bits of an IPv6 one.
func Network(addr netip.Addr) netip.Prefix {
	bits := 64
	if addr = addr.Unmap().WithZone(""); addr.Is4() {
		bits = 32
	}
	p, _ := addr.Prefix(bits)
	return p
}

// Client is the network that a request comes from. It is not valid over a Unix
// socket.
func Client(r *http.Request) netip.Prefix {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Prefix{}
	}
	return Network(at.Addr())
}

// Loopback reports whether a host's name or address is this computer's own: nobody
// is on the way there.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
