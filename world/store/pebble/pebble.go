// Package pebble is a store in a directory: a log-structured tree, for machines
// that write much. A commit is one record in the write-ahead log and one sync.
package pebble

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"coinop.dev/core/step"
	"coinop.dev/world/store"
)

// A DB is a store in a directory.
type DB struct {
	*store.Guard
	disk *disk
}

// Open opens the directory dir and makes it, and its parents, if missing.
func Open(dir string) (*DB, error) { return openWith(dir, 0) }

func openWith(dir string, memory int) (*DB, error) {
	name := "pebble:" + dir
	t, err := open(dir, memory)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", name, err)
	}
	g, err := store.NewGuard(name, t)
	if err != nil {
		return nil, err
	}
	return &DB{g, t.disk}, nil
}

// OpenURL opens pebble:///absolute/dir or pebble:relative/dir. With ?memory=64 it
// uses about so many MiB, from MinMemory to MaxMemory, instead of a few.
func OpenURL(u *url.URL) (store.DB, error) {
	plain, memory := *u, 0
	if text, ok := strings.CutPrefix(u.RawQuery, "memory="); ok {
		var err error
		if memory, err = strconv.Atoi(text); err != nil || memory < MinMemory || memory > MaxMemory {
			return nil, fmt.Errorf("store %s: memory is %.20q; it must be %d to %d, in MiB", u, text, MinMemory, MaxMemory)
		}
		plain.RawQuery = ""
	}
	dir, err := store.Path(&plain)
	if err != nil {
		return nil, err
	}
	return openWith(dir, memory)
}

// Counts counts what pebble does to its files, flushes and compactions
// included.
func (db *DB) Counts() store.Counts {
	return store.Counts{Commits: db.Commits(), Fsyncs: db.disk.fsyncs.Load(), Bytes: db.disk.bytes.Load()}
}

// tree is the pebble database behind the guard.
type tree struct {
	db   *pebble.DB
	disk *disk
}

func open(dir string, memory int) (*tree, error) {
	if err := store.MakeDir(dir); err != nil {
		return nil, err
	}
	d := newDisk()
	o := options(d)
	if memory > 0 {
		enlarge(o, memory)
	}
	db, err := pebble.Open(dir, o)
	if failure := d.failure(); failure != nil || err != nil {
		d.abandon()
		if failure != nil {
			err = failure
		}
		return nil, err
	}
	d.park.Store(true)
	return &tree{db, d}, nil
}

// do runs f, and returns early if the disk fails: pebble answers some failures
// by waiting for better times, and f would wait with it.
func (t *tree) do(f func() error) error {
	if err := t.disk.failure(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-t.disk.dead:
		return t.disk.err
	}
}

func (t *tree) Commit(records []step.Record) error {
	b := t.db.NewBatch()
	for _, r := range records {
		var err error
		if r.Value == nil {
			err = b.Delete([]byte(r.Key), nil)
		} else {
			err = b.Set([]byte(r.Key), r.Value, nil)
		}
		if err != nil {
			return err
		}
	}
	if err := t.do(func() error { return b.Commit(pebble.Sync) }); err != nil {
		return err // and leave the batch: pebble may still be reading it
	}
	return b.Close()
}

func (t *tree) Get(key string) ([]byte, error) {
	v, closer, err := t.db.Get([]byte(key))
	if err == pebble.ErrNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return append([]byte{}, v...), closer.Close()
}

func (t *tree) Scan(prefix string, yield func(key string, value []byte) bool) (err error) {
	start, end := store.Range(prefix)
	bounds := &pebble.IterOptions{LowerBound: []byte(start)}
	if end != "" {
		bounds.UpperBound = []byte(end)
	}
	it, err := t.db.NewIter(bounds)
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		if !yield(string(it.Key()), it.Value()) {
			break
		}
	}
	return it.Close() // it returns the error that ended the loop, if one did
}

// Close leaves a failed pebble where it stands: closing it would wait for the
// goroutines that the disk holds. They and a few MiB stay until the process
// ends, which is what should happen to a node without a disk.
func (t *tree) Close() error {
	if err := t.do(t.db.Close); err != nil || t.disk.failure() != nil {
		t.disk.abandon()
		return err
	}
	return nil
}
