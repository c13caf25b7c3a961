//go:build !omit_postgres

package all

import (
	"coinop.dev/world/store"
	"coinop.dev/world/store/postgres"
)

func init() { store.Default.Register("postgres", postgres.OpenURL) }
