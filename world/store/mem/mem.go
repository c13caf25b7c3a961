// Package mem is a store in memory, for tests and for machines that may forget.
// Snapshot and New stand for the disk that survives a crash.
package mem

import (
	"bytes"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"

	"coinop.dev/core/step"
	"coinop.dev/world/store"
)

// A DB is a store in memory.
type DB struct {
	*store.Guard
	table *table
}

// New returns a store that starts with the records of from, a Snapshot; nil is
// an empty disk. It fails only on a Snapshot from a newer format.
func New(from map[string][]byte) (*DB, error) {
	t := &table{values: maps.Clone(from)}
	if t.values == nil {
		t.values = map[string][]byte{}
	}
	g, err := store.NewGuard("mem:", t)
	if err != nil {
		return nil, err
	}
	return &DB{g, t}, nil
}

// OpenURL opens mem:, empty.
func OpenURL(u *url.URL) (store.DB, error) {
	if u.String() != "mem:" {
		return nil, fmt.Errorf("store %s: a store in memory has no name or options; write mem: alone", u)
	}
	return New(nil)
}

// Snapshot is everything a crash right now would leave on disk, the format
// record included. It works after Close too. The values must not be changed.
func (db *DB) Snapshot() map[string][]byte {
	db.table.mu.RLock()
	defer db.table.mu.RUnlock()
	return maps.Clone(db.table.values)
}

// Counts counts commits; there is no disk to sync.
func (db *DB) Counts() store.Counts { return store.Counts{Commits: db.Commits()} }

type table struct {
	mu     sync.RWMutex
	values map[string][]byte
}

func (t *table) Commit(records []step.Record) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range records {
		if r.Value == nil {
			delete(t.values, r.Key)
			continue
		}
		t.values[r.Key] = bytes.Clone(r.Value)
	}
	return nil
}

func (t *table) Get(key string) ([]byte, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return bytes.Clone(t.values[key]), nil
}

func (t *table) Scan(prefix string, yield func(key string, value []byte) bool) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	start, _ := store.Range(prefix)
	var keys []string
	for key := range t.values {
		if key >= start && strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		if !yield(key, t.values[key]) {
			break
		}
	}
	return nil
}

func (t *table) Close() error { return nil }
