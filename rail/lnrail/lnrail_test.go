package lnrail_test

import (
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/rail"
	"coinop.dev/rail/lnrail"
	"coinop.dev/rail/railtest"
)

func TestRail(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"0", "1"} {
		railtest.Test(t, func(t *testing.T) railtest.Rig {
			return railtest.Rig{
				Drivers: map[string]rail.Driver{lnrail.Scheme: lnrail.Driver{}},
				Earn:    func(addr string) []string { return []string{"lightning:?host=" + addr} },
				Pay: func(node keys.Public, addr string) []string {
					return []string{"lightning://" + node.String() + "@" + addr + "?capacity=1000000sat&static=" + kind}
				},
				Unit: 1_000 * money.Sat, TooMuch: 2_000_000 * money.Sat,
			}
		})
	}
}
