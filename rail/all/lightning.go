//go:build !omit_lightning

package all

import (
	"coinop.dev/rail"
	"coinop.dev/rail/lnrail"
)

func init() { rail.Default.Register(lnrail.Scheme, lnrail.Driver{}) }
