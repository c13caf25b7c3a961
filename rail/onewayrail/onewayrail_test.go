package onewayrail_test

import (
	"fmt"
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/rail"
	"coinop.dev/rail/onewayrail"
	"coinop.dev/rail/railtest"
)

func TestRail(t *testing.T) {
	railtest.Test(t, func(*testing.T) railtest.Rig {
		return railtest.Rig{
			Drivers: map[string]rail.Driver{onewayrail.Scheme: onewayrail.Driver{}},
			Earn:    func(addr string) []string { return []string{"oneway:?host=" + addr} },
			Pay: func(node keys.Public, addr string) []string {
				return []string{fmt.Sprintf("oneway://%v@%s?capacity=50000sat", node, addr)}
			},
			Unit: 10 * money.Sat, TooMuch: 49_900 * money.Sat,
		}
	})
}
