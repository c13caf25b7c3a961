//go:build !(386 || arm || mips || mipsle)

package storetest

import "golang.org/x/sys/unix"

const sysFtruncate = unix.SYS_FTRUNCATE
