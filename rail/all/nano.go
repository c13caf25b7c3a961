//go:build !omit_nano

package all

import (
	"coinop.dev/rail"
	"coinop.dev/rail/nanorail"
)

func init() { rail.Default.Register(nanorail.Scheme, nanorail.Driver{}) }
