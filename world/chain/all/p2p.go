// Package all links every kind of chain into chain.Default. One file is one
// kind; the tag omit_<name> leaves it out of a small build.
package all

import (
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/p2p"
)

func init() {
	chain.Default.Register("p2p", p2p.OpenURL)
	chain.Default.Register("spv", p2p.OpenURL)
}
