// Package interop tests coinop against other people's programs: btcd, lnd, LDK
// Node and bcoin as processes, neutrino as a library. It is a module of its own,
// so that what those need stays out of coinop's.
package interop
