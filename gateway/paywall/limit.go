package paywall

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// clientChallenges is how many challenges a client is given in a minute; it may
	// take as many at once.
	clientChallenges = 60
	// allChallenges is how many all clients together are given in a second, and
	// allAtOnce in a moment: what bounds the CPU of a flood from many addresses, at
	// two invoices for each challenge.
	allChallenges = 200
	allAtOnce     = 400
	// maxClients bounds the addresses that are remembered. One that is forgotten
	// begins anew, and the limit of all together holds.
	maxClients = 8192
)

// limiter bounds how many challenges are made.
type limiter struct {
	perClient int // in a minute

	mu      sync.Mutex
	clients map[netip.Prefix]*rate.Limiter
	all     *rate.Limiter
}

func newLimiter(perClient int) *limiter {
	return &limiter{perClient: perClient, clients: map[netip.Prefix]*rate.Limiter{}, all: rate.NewLimiter(allChallenges, allAtOnce)}
}

// take takes one challenge for a client, or says how long to wait for one.
func (l *limiter) take(client netip.Prefix, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.clients[client]
	if c == nil {
		l.forget(now)
		c = rate.NewLimiter(rate.Limit(l.perClient)/60, l.perClient)
		l.clients[client] = c
	}
	// Its own limit first, so that one client cannot use up that of all.
	if r := c.ReserveN(now, 1); r.DelayFrom(now) > 0 {
		wait = r.DelayFrom(now)
		r.CancelAt(now)
		return wait
	}
	if !l.all.AllowN(now, 1) {
		return time.Second
	}
	return 0
}

// forget makes room for one more client: it looks at a few, in no order, and
// drops one that has its full share again, or the last it looked at.
func (l *limiter) forget(now time.Time) {
	if len(l.clients) < maxClients {
		return
	}
	const few = 8
	n := 0
	var drop netip.Prefix
	for p, c := range l.clients {
		drop = p
		if n++; n == few || c.TokensAt(now) >= float64(l.perClient) {
			break
		}
	}
	delete(l.clients, drop)
}
