//go:build !omit_oneway

package all

import (
	"coinop.dev/rail"
	"coinop.dev/rail/onewayrail"
)

func init() { rail.Default.Register(onewayrail.Scheme, onewayrail.Driver{}) }
