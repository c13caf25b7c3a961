//go:build !omit_fake

package all

import (
	"coinop.dev/rail"
	"coinop.dev/rail/fakerail"
)

func init() { rail.Default.Register(fakerail.Scheme, fakerail.Driver{}) }
