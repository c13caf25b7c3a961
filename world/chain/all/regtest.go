//go:build !omit_regtest

package all

import (
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/regtest"
)

func init() { chain.Default.Register("regtest", regtest.OpenURL) }
