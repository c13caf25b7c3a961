package pebble

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"coinop.dev/world/store"
)

// disk is the file system as pebble sees it. It counts, and it dies of the
// first error: pebble would retry some for ever, and end the process on others.
//
// Once the store is open, a caller that meets a dead disk is parked for good.
// So pebble never learns of the error and cannot act on it, such as by deleting
// a file that a reopened store needs.
type disk struct {
	vfs.FS
	fsyncs atomic.Uint64
	bytes  atomic.Uint64

	park atomic.Bool
	once sync.Once
	dead chan struct{} // closed once err is set
	err  error

	calls sync.RWMutex // held for reading by a call that changes the disk
	lock  io.Closer
}

func newDisk() *disk { return &disk{FS: vfs.Default, dead: make(chan struct{})} }

// note declares the disk dead.
func (d *disk) note(err error) {
	d.once.Do(func() {
		d.err = err
		close(d.dead)
	})
}

// fail declares the disk dead and does not return, unless the store is still
// being opened: then pebble cleans up after itself.
func (d *disk) fail(err error) error {
	d.note(err)
	if d.park.Load() {
		select {}
	}
	return d.err
}

func (d *disk) failure() error {
	select {
	case <-d.dead:
		return d.err
	default:
		return nil
	}
}

// change runs a call that changes the disk, unless it is dead.
func (d *disk) change(call func() error) error {
	d.calls.RLock()
	err := d.failure()
	if err == nil {
		err = call()
	}
	d.calls.RUnlock()
	if err != nil {
		return d.fail(err)
	}
	return nil
}

// abandon waits for running calls, lets no more through, and gives up the lock,
// so that the directory may be opened again.
func (d *disk) abandon() {
	d.note(store.ErrClosed)
	d.calls.Lock()
	defer d.calls.Unlock()
	if d.lock != nil {
		d.lock.Close()
		d.lock = nil
	}
}

// Lock takes the lock of the directory.
func (d *disk) Lock(name string) (io.Closer, error) {
	lock, err := d.FS.Lock(name)
	var denied syscall.Errno // from fcntl; an *os.PathError is about the file
	var path *os.PathError
	switch {
	case err == nil:
		d.lock = &onceCloser{Closer: lock}
		return d.lock, os.Chmod(name, 0o600)
	case errors.As(err, &path):
		return nil, err
	case errors.As(err, &denied), strings.Contains(err.Error(), "lock held by current process"):
		return nil, fmt.Errorf("%w (%v); stop that one, or give this one another path", store.ErrLocked, err)
	}
	return nil, err
}

// onceCloser lets both pebble and abandon close the lock; vfs panics at the
// second time.
type onceCloser struct {
	io.Closer
	once sync.Once
}

func (c *onceCloser) Close() (err error) {
	c.once.Do(func() { err = c.Closer.Close() })
	return err
}

func (d *disk) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return d.file(name, func() (vfs.File, error) { return d.FS.Create(name, category) })
}

func (d *disk) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return d.file(name, func() (vfs.File, error) { return d.FS.OpenReadWrite(name, category, opts...) })
}

func (d *disk) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return d.file(name, func() (vfs.File, error) { return d.FS.ReuseForWrite(old, name, category) })
}

func (d *disk) OpenDir(name string) (vfs.File, error) {
	f, err := d.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return file{f, d}, nil
}

// file opens a file to write, which nobody but the owner may read.
func (d *disk) file(name string, open func() (vfs.File, error)) (f vfs.File, err error) {
	err = d.change(func() error {
		if f, err = open(); err != nil {
			return err
		}
		return os.Chmod(name, 0o600)
	})
	if err != nil {
		return nil, err
	}
	return file{f, d}, nil
}

func (d *disk) Rename(old, name string) error {
	return d.change(func() error { return d.FS.Rename(old, name) })
}

func (d *disk) Link(old, name string) error {
	return d.change(func() error { return d.FS.Link(old, name) })
}

// Remove may fail without harm: pebble tries again when it is opened.
func (d *disk) Remove(name string) (err error) {
	if dead := d.change(func() error { err = d.FS.Remove(name); return nil }); dead != nil {
		return dead
	}
	return err
}

func (d *disk) Unwrap() vfs.FS { return d.FS }

type file struct {
	vfs.File
	disk *disk
}

func (f file) Write(b []byte) (n int, err error) {
	err = f.disk.change(func() error {
		n, err = f.File.Write(b)
		f.disk.bytes.Add(uint64(n))
		return err
	})
	return n, err
}

func (f file) WriteAt(b []byte, at int64) (n int, err error) {
	err = f.disk.change(func() error {
		n, err = f.File.WriteAt(b, at)
		f.disk.bytes.Add(uint64(n))
		return err
	})
	return n, err
}

func (f file) Sync() error {
	f.disk.fsyncs.Add(1)
	return f.disk.change(f.File.Sync)
}

func (f file) SyncData() error {
	f.disk.fsyncs.Add(1)
	return f.disk.change(f.File.SyncData)
}

// SyncTo counts only if it was a full sync. Elsewhere it is a hint to start
// writing (sync_file_range), which promises nothing.
func (f file) SyncTo(length int64) (full bool, err error) {
	err = f.disk.change(func() error {
		full, err = f.File.SyncTo(length)
		return err
	})
	if full {
		f.disk.fsyncs.Add(1)
	}
	return full, err
}
