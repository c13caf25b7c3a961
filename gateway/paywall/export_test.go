package paywall

import (
	"net/http"
	"net/netip"
	"time"

	"coinop.dev/core/money"
	"coinop.dev/gateway"
	"golang.org/x/time/rate"
)

// SetIdle shortens the time that a client may be silent.
func (w *Wall) SetIdle(d time.Duration) { w.idle = d }

// Unlimited lets everybody have as many challenges as can be made.
func (w *Wall) Unlimited() {
	w.limit = gateway.NewLimiter(rate.Limit(w.o.Challenges)/60, w.o.Challenges, maxClients, nil)
}

// Take takes a challenge for a client.
func (w *Wall) Take(client netip.Addr) bool {
	return w.limit.Take(gateway.Network(client), time.Now()) == 0
}

// Remembered is how many clients the limiter knows.
func (w *Wall) Remembered() int { return w.limit.Known() }

const MaxClients = maxClients

// Orders are what a client could pay of an answer.
func Orders(h http.Header) (all []money.Order) {
	for _, c := range choices(h, time.Now()) {
		all = append(all, c.order)
	}
	return all
}
