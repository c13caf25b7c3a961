//go:build unix

package main

import (
	"os"
	"syscall"
)

// sameOwner gives a file to the owner of another, where we may: a machine must
// still be able to read a config that root has changed.
func sameOwner(f *os.File, like os.FileInfo) {
	if s, ok := like.Sys().(*syscall.Stat_t); ok {
		f.Chown(int(s.Uid), int(s.Gid))
	}
}
