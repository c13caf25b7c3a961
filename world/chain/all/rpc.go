//go:build !omit_rpc

package all

import (
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/rpc"
)

func init() {
	chain.Default.Register("btcd", rpc.OpenURL)
	chain.Default.Register("bitcoind", rpc.OpenURL)
}
