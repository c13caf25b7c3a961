package main

import "syscall"

// diskLeft is what a process without privileges may still write, in bytes.
func diskLeft(path string) (int64, bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, false
	}
	return int64(s.Bavail) * int64(s.Bsize), true
}
