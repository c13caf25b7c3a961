// Package store keeps records durably behind one four-method interface, and
// opens a backend by URI: mem:, bbolt:///path, pebble:///path.
package store

import (
	"errors"

	"coinop.dev/core/step"
)

// A DB is a durable map from keys to values. All methods are safe for use by
// several goroutines.
type DB interface {
	// Commit writes all records or none, and returns nil only once they would
	// survive a loss of power. A nil Value deletes its key; of two records with
	// one key the later wins. After an error the state on disk is unknown and
	// every later Commit fails with ErrFailed: close, open again and load. Only
	// ErrRefused is milder: nothing was written and the store goes on.
	Commit([]step.Record) error
	// Get returns nil if key is missing. The caller owns the slice.
	Get(key string) ([]byte, error)
	// Scan yields records whose key starts with prefix, in key order, until
	// yield returns false. value is valid only during the call, and yield must
	// not call the DB: a writer that waits for the scan would never end.
	Scan(prefix string, yield func(key string, value []byte) bool) error
	// Close waits for running calls; later ones fail with ErrClosed.
	Close() error
}

// Counts is what a backend has done since it was opened, from counters at the
// place of the call, never estimated.
type Counts struct {
	Commits uint64 `json:"commits"`
	Fsyncs  uint64 `json:"fsyncs"`
	Bytes   uint64 `json:"bytes"` // written to files
}

// A Counter is a DB that counts.
type Counter interface{ Counts() Counts }

var (
	// ErrFailed is what Commit returns once an earlier Commit has failed.
	ErrFailed = errors.New("store failed earlier; close it, check the disk and open it again")
	// ErrNewer means the store was written by a newer version of coinop.
	ErrNewer = errors.New("store was written by a newer coinop")
	// ErrLocked means the store is open already, as a rule in another process.
	ErrLocked = errors.New("store is in use by another process")
	// ErrRefused means a commit broke a limit of the caller's; nothing was written.
	ErrRefused = errors.New("commit refused")
	// ErrClosed is what every method returns after Close.
	ErrClosed = errors.New("store is closed")
)

// Format is the version of the record layout this build reads and writes. Every
// backend keeps it with the records; a store with a higher number is refused
// with ErrNewer. A lower number is raised on opening, before newer records are
// written; migrating the old ones is for the core that owns them.
const Format = 1
