//go:build !omit_tpm

package all

import (
	"coinop.dev/world/secret"
	"coinop.dev/world/secret/tpm"
)

func init() { secret.Default.Register("tpm", tpm.OpenURL) }
