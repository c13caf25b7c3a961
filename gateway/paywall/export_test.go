package paywall

import (
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/time/rate"

	"coinop.dev/core/money"
)

// SetIdle shortens the time that a client may be silent.
func (w *Wall) SetIdle(d time.Duration) { w.idle = d }

// Unlimited lets everybody have as many challenges as can be made.
func (w *Wall) Unlimited() { w.limit.all.SetLimit(rate.Inf) }

// Take takes a challenge for a client.
func (w *Wall) Take(client netip.Addr) bool { return w.limit.take(network(client), time.Now()) == 0 }

// Remembered is how many clients the limiter knows.
func (w *Wall) Remembered() int { return len(w.limit.clients) }

const MaxClients = maxClients

// Orders are what a client could pay of an answer.
func Orders(h http.Header) (all []money.Order) {
	for _, c := range choices(h, time.Now()) {
		all = append(all, c.order)
	}
	return all
}
