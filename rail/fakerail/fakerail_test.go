package fakerail_test

import (
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/rail"
	"coinop.dev/rail/fakerail"
	"coinop.dev/rail/railtest"
)

func TestRail(t *testing.T) {
	railtest.Test(t, func(*testing.T) railtest.Rig {
		return railtest.Rig{
			Drivers: map[string]rail.Driver{fakerail.Scheme: fakerail.Driver{}},
			Earn:    func(string) []string { return []string{"fake:"} },
			Pay:     func(keys.Public, string) []string { return []string{"fake:?balance=1000sat"} },
			Alone:   true,
			Unit:    10 * money.Sat, TooMuch: 991 * money.Sat,
		}
	})
}
