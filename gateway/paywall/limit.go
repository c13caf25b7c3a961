package paywall

import (
	"golang.org/x/time/rate"

	"coinop.dev/gateway"
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

// newLimiter bounds how many challenges are made: so many a minute for a client.
func newLimiter(perClient int) *gateway.Limiter {
	return gateway.NewLimiter(rate.Limit(perClient)/60, perClient, maxClients, rate.NewLimiter(allChallenges, allAtOnce))
}
