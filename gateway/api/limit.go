package api

import (
	"golang.org/x/time/rate"

	"coinop.dev/gateway"
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

// newLimiter bounds how often strangers may ask.
func newLimiter(all rate.Limit, burst int, each rate.Limit, eachBurst int) *gateway.Limiter {
	return gateway.NewLimiter(each, eachBurst, maxClients, rate.NewLimiter(all, burst))
}
