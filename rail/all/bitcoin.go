//go:build !omit_bitcoin

package all

import (
	"coinop.dev/rail"
	"coinop.dev/rail/bitcoinrail"
)

func init() { rail.Default.Register(bitcoinrail.Scheme, bitcoinrail.Driver{}) }
