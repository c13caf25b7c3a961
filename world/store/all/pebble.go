//go:build !omit_pebble

package all

import (
	"coinop.dev/world/store"
	"coinop.dev/world/store/pebble"
)

func init() { store.Default.Register("pebble", pebble.OpenURL) }
