// Package interop tests coinop against other people's programs: btcd, lnd, LDK
// Node, bcoin and IOTA's JavaScript as processes, neutrino and iota.go as
// libraries. It is a module of its own, so that what those need stays out of
// coinop's.
package interop
