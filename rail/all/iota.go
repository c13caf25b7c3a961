//go:build !omit_iota

package all

import (
	"coinop.dev/rail"
	"coinop.dev/rail/iotarail"
)

func init() { rail.Default.Register(iotarail.Scheme, iotarail.Driver{}) }
