//go:build !omit_lnd

package all

import (
	"coinop.dev/rail"
	"coinop.dev/rail/lndrail"
)

func init() { rail.Default.Register(lndrail.Scheme, lndrail.Driver{}) }
