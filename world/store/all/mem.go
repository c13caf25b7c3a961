// Package all links every store into store.Default. One file is one backend;
// the tag omit_<name> leaves it out of a small build.
package all

import (
	"coinop.dev/world/store"
	"coinop.dev/world/store/mem"
)

func init() { store.Default.Register("mem", mem.OpenURL) }
