//go:build !omit_bbolt

package all

import (
	"coinop.dev/world/store"
	"coinop.dev/world/store/bbolt"
)

func init() { store.Default.Register("bbolt", bbolt.OpenURL) }
