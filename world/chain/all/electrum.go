//go:build !omit_electrum

package all

import (
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/electrum"
)

func init() {
	chain.Default.Register("electrum", electrum.OpenURL)
	chain.Default.Register("electrums", electrum.OpenURL)
}
