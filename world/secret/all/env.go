//go:build !omit_env

package all

import (
	"coinop.dev/world/secret"
	"coinop.dev/world/secret/env"
)

func init() { secret.Default.Register("env", env.OpenURL) }
