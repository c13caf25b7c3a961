//go:build 386 || arm || mips || mipsle

package storetest

import "golang.org/x/sys/unix"

// A 32-bit process passes a 64-bit length, by another call.
const sysFtruncate = unix.SYS_FTRUNCATE64
