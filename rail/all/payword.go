//go:build !omit_payword

package all

import (
	"coinop.dev/rail"
	"coinop.dev/rail/paywordrail"
)

func init() { rail.Default.Register(paywordrail.Scheme, paywordrail.Driver{}) }
