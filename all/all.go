// Package all links every rail, store, chain and home of keys of this build.
package all

import (
	_ "coinop.dev/rail/all"
	_ "coinop.dev/world/chain/all"
	_ "coinop.dev/world/secret/all"
	_ "coinop.dev/world/store/all"
)
