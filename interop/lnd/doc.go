// Package lnd pins lnd, the Lightning node the interop tests run as a
// process, to one version.
package lnd
