// Package all links every home of secrets into secret.Default. One file is one
// home; the tag omit_<name> leaves it out of a small build.
package all

import (
	"coinop.dev/world/secret"
	"coinop.dev/world/secret/file"
)

func init() { secret.Default.Register("file", file.OpenURL) }
