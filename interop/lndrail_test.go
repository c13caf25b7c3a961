package interop

import (
	"fmt"
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/rail"
	"coinop.dev/rail/lndrail"
	"coinop.dev/rail/railtest"
)

// TestLndRail: a machine pays over one lnd another that is paid over its own,
// and keeps every promise of a rail.
func TestLndRail(t *testing.T) {
	const channel = 5_000_000 // sat
	ctx, _, nodes := lnds(t, 2)
	a, b := nodes[0], nodes[1]
	_, err := a.OpenChannel(ctx, b, channel)
	must(t, err)
	railtest.Test(t, func(*testing.T) railtest.Rig {
		return railtest.Rig{
			Drivers: map[string]rail.Driver{lndrail.Scheme: lndrail.Driver{}},
			Earn: func(addr string) []string {
				return []string{fmt.Sprintf("lnd:?rpc=%s&cert=%s&macaroon=%s&host=%s", b.RPC, b.CertFile, b.MacaroonFile, addr)}
			},
			Pay: func(keys.Public, string) []string {
				return []string{fmt.Sprintf("lnd://%s?cert=%s&macaroon=%s", a.RPC, a.CertFile, a.MacaroonFile)}
			},
			Late: true,
			Unit: 1000 * money.Sat, TooMuch: (channel + 1) * money.Sat,
		}
	})
}
