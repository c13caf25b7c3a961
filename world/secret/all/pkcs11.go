//go:build !omit_pkcs11

package all

import (
	"coinop.dev/world/secret"
	"coinop.dev/world/secret/pkcs11"
)

func init() { secret.Default.Register("pkcs11", pkcs11.OpenURL) }
