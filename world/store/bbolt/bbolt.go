// Package bbolt is a store in one file: small, old, and built everywhere.
//
// A commit is one transaction. bbolt writes the changed pages beside the old
// ones, syncs, writes a meta page that points to them, and syncs again; a crash
// between leaves the old meta page in force. testdata/calls.golden has every
// call.
package bbolt

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"coinop.dev/core/step"
	"coinop.dev/world/store"
)

// lockWait is how long Open waits for another process to let go of the file:
// enough for a restart to overtake the old process, short for a human.
const lockWait = time.Second

// bucket holds all records. One is enough: keys of cores have prefixes.
var bucket = []byte("coinop")

// A DB is a store in one file.
type DB struct {
	*store.Guard
	file *file
}

// Open opens the file at path and makes it, and its directory, if missing.
func Open(path string) (*DB, error) {
	name := "bbolt:" + path
	f, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", name, err)
	}
	g, err := store.NewGuard(name, f)
	if err != nil {
		return nil, err
	}
	return &DB{g, f}, nil
}

// OpenURL opens bbolt:///absolute/file or bbolt:relative/file.
func OpenURL(u *url.URL) (store.DB, error) {
	path, err := store.Path(u)
	if err != nil {
		return nil, err
	}
	return Open(path)
}

// Counts counts the calls on the file that bbolt makes by its own statistics;
// storetest holds them against the kernel's.
func (db *DB) Counts() store.Counts {
	return store.Counts{Commits: db.Commits(), Fsyncs: db.file.fsyncs.Load(), Bytes: db.file.bytes.Load()}
}

// file is the bbolt database behind the guard.
type file struct {
	db     *bbolt.DB
	fsyncs atomic.Uint64
	bytes  atomic.Uint64

	mu     sync.Mutex // one commit at a time; bbolt has the same rule
	failed bool
	size   int64 // of the file
	pages  int64 // bytes of pages allocated, by bbolt's statistics
}

func open(path string) (*file, error) {
	dir := filepath.Dir(path)
	if err := store.MakeDir(dir); err != nil {
		return nil, err
	}
	_, statErr := os.Stat(path)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: lockWait,
		// The free list is rebuilt on opening, which costs a walk over the
		// file, and in return no commit writes a page for it.
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
	})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("%w; stop that one, or give this one another path", store.ErrLocked)
	}
	if err != nil {
		return nil, err
	}
	f := &file{db: db}
	if errors.Is(statErr, os.ErrNotExist) {
		// bbolt starts a file with four pages and one sync, and leaves the
		// directory to us.
		f.fsyncs.Add(2)
		f.bytes.Add(4 * uint64(db.Info().PageSize))
		err = store.SyncDir(dir)
	}
	if err == nil {
		f.size, err = size(path)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return f, nil
}

func size(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f *file) Commit(records []step.Record) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed {
		// This commit overtook the guard. What the failed one left in the page
		// cache may never reach the disk, so nothing may build on it.
		return store.ErrFailed
	}
	err := f.db.Update(func(tx *bbolt.Tx) error { return put(tx, records) })
	if err == nil {
		err = f.count()
	}
	f.failed = err != nil
	return err
}

func put(tx *bbolt.Tx, records []step.Record) error {
	b, err := tx.CreateBucketIfNotExists(bucket)
	if err != nil {
		return err
	}
	for _, r := range records {
		if r.Value == nil {
			err = b.Delete([]byte(r.Key))
		} else {
			err = b.Put([]byte(r.Key), r.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// count adds up a commit that succeeded. bbolt has then synced twice, once
// after the data pages and once after the meta page, and once more before both
// if it grew the file. It has written every page it allocated, and the meta
// page.
func (f *file) count() error {
	grown, err := size(f.db.Path())
	if err != nil {
		return err
	}
	f.fsyncs.Add(2)
	if grown > f.size {
		f.fsyncs.Add(1)
		f.size = grown
	}
	stats := f.db.Stats()
	pages := stats.TxStats.GetPageAlloc()
	f.bytes.Add(uint64(pages-f.pages) + uint64(f.db.Info().PageSize))
	f.pages = pages
	return nil
}

func (f *file) Get(key string) (value []byte, err error) {
	err = f.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		if b == nil {
			return nil
		}
		if v := b.Get([]byte(key)); v != nil {
			value = append([]byte{}, v...)
		}
		return nil
	})
	return value, err
}

func (f *file) Scan(prefix string, yield func(key string, value []byte) bool) error {
	start, _ := store.Range(prefix)
	return f.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		if b == nil {
			return nil
		}
		c := b.Cursor()
		for k, v := c.Seek([]byte(start)); k != nil; k, v = c.Next() {
			key := string(k)
			if !strings.HasPrefix(key, prefix) || !yield(key, v) {
				break
			}
		}
		return nil
	})
}

func (f *file) Close() error { return f.db.Close() }
