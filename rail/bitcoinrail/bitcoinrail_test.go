package bitcoinrail_test

import (
	"fmt"
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/rail"
	"coinop.dev/rail/bitcoinrail"
	"coinop.dev/rail/railtest"
	"coinop.dev/world/chain/regtest"
)

func fund(key keys.Secret) ([]byte, error) { return bitcoinrail.Fund(key, regtest.Params()) }

func TestRail(t *testing.T) {
	railtest.Test(t, func(*testing.T) railtest.Rig {
		return railtest.Rig{
			Drivers: map[string]rail.Driver{bitcoinrail.Scheme: bitcoinrail.Driver{}},
			Earn:    func(addr string) []string { return []string{"bitcoin:?host=" + addr} },
			Pay: func(keys.Public, string) []string {
				return []string{fmt.Sprintf("bitcoin://%s?gather=20", bitcoinrail.Self)}
			},
			Fund: fund,
			Late: true,
			Unit: 1000 * money.Sat, TooMuch: 20_000_000 * money.Sat,
		}
	})
}
