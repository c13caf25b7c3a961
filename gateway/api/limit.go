package api

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// publicRate and publicBurst bound what all callers without a credential may ask
	// for together, a second, and clientRate and clientBurst what one address may: an
	// offer costs a signature.
	publicRate  = 500
	publicBurst = 1000
	clientRate  = 50
	clientBurst = 200
	// claimRate and claimBurst bound the claim codes that strangers may try, a second:
	// a code is guessed by nobody, but five wrong ones end an invitation.
	claimRate  = 0.2
	claimBurst = 10
	// maxClients bounds the addresses that are remembered. One that is forgotten
	// begins anew, and the limit of all together holds.
	maxClients = 8192
)

// limiter bounds how often strangers may ask.
type limiter struct {
	each  rate.Limit
	burst int

	mu      sync.Mutex
	clients map[netip.Prefix]*rate.Limiter
	all     *rate.Limiter
}

func newLimiter(all rate.Limit, burst int, each rate.Limit, eachBurst int) *limiter {
	return &limiter{each: each, burst: eachBurst, clients: map[netip.Prefix]*rate.Limiter{}, all: rate.NewLimiter(all, burst)}
}

// allow takes one request of a client: from its own share first, so that one client
// cannot use up that of all.
func (l *limiter) allow(client netip.Prefix, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.clients[client]
	if c == nil {
		for old := range l.clients {
			if len(l.clients) < maxClients {
				break
			}
			delete(l.clients, old)
		}
		c = rate.NewLimiter(l.each, l.burst)
		l.clients[client] = c
	}
	return c.AllowN(now, 1) && l.all.AllowN(now, 1)
}

// client is the network that one customer has: an IPv4 address, or 64 bits of an
// IPv6 one. It is not valid over a Unix socket.
func client(r *http.Request) netip.Prefix {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Prefix{}
	}
	addr, bits := at.Addr().Unmap().WithZone(""), 64
	if addr.Is4() {
		bits = 32
	}
	p, _ := addr.Prefix(bits)
	return p
}
