package lab

import (
	"coinop.dev/world/link"
	"coinop.dev/world/store"
)

// counts is what one end has done since it started. The kernel's are nil where
// it does not tell.
type counts struct {
	User, Sys  *float64 `json:",omitempty"` // processor time in microseconds
	DiskBytes  *uint64  `json:",omitempty"` // that the kernel sent to disk for the process
	RSS, Peak  *uint64  `json:",omitempty"` // bytes of memory, now and at most
	Private    *uint64  `json:",omitempty"` // of RSS, what is not the program's file
	Store      *store.Counts
	Wire       link.Counts
	Signatures *uint64
	Rounds     uint64 // of its host
	Events     uint64
}
