package paywordrail_test

import (
	"fmt"
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/rail"
	"coinop.dev/rail/onewayrail"
	"coinop.dev/rail/paywordrail"
	"coinop.dev/rail/railtest"
)

var drivers = map[string]rail.Driver{onewayrail.Scheme: onewayrail.Driver{}, paywordrail.Scheme: paywordrail.Driver{}}

func TestRail(t *testing.T) {
	railtest.Test(t, func(*testing.T) railtest.Rig {
		return railtest.Rig{
			Drivers: drivers,
			Earn:    func(addr string) []string { return []string{"oneway:?host=" + addr, "payword:?host=" + addr} },
			Pay: func(node keys.Public, addr string) []string {
				at := fmt.Sprintf("://%v@%s", node, addr)
				return []string{"oneway" + at + "?capacity=50000sat", "payword" + at + "?coin=1sat&every=50sat&credit=100sat&chain=1024"}
			},
			Unit: money.Sat, TooMuch: 101 * money.Sat,
		}
	})
}
