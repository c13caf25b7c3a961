//go:build !omit_oneway

// Package all links the rails in, one file and one build tag each.
package all

import (
	"coinop.dev/rail"
	"coinop.dev/rail/onewayrail"
)

func init() { rail.Default.Register(onewayrail.Scheme, onewayrail.Driver{}) }
