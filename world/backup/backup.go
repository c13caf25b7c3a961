// Package backup keeps the static channel backup in a file, which should be on
// another disk than the store.
package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"coinop.dev/core/lightning/backup"
	"coinop.dev/core/step"
	"coinop.dev/world/store"
)

// File is the path of the file.
type File string

// Returned is added to the path for a backup that a peer has returned because it is
// newer than the store's. The node adopts it by itself; the file is for what it
// could not adopt.
const Returned = ".returned"

// ErrNewer means that the file has a newer backup than the one to be written, so
// that the store is an old copy.
var ErrNewer = errors.New("the file has a newer backup")

// Write replaces the file, durably: after a crash it is the old one or the new. It
// refuses to replace a backup by one with a lower number.
func (f File) Write(sealed []byte) error {
	if err := f.replace(sealed); err != nil {
		return fmt.Errorf("backup %s: %w", f, err)
	}
	return nil
}

func (f File) replace(sealed []byte) error {
	change, err := backup.Change(sealed)
	if err != nil {
		return err
	}
	old, err := f.read()
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		// What is there and is no backup is not ours to replace.
		have, err := backup.Change(old)
		if err != nil {
			return err
		}
		if have > change {
			return fmt.Errorf("%w: it has change %d, and the store is at change %d", ErrNewer, have, change)
		}
	}
	if err := store.MakeDir(filepath.Dir(string(f))); err != nil {
		return err
	}
	return store.Replace(string(f), sealed)
}

// Read reads the file, still sealed. The error is fs.ErrNotExist if there is none.
func (f File) Read() ([]byte, error) {
	sealed, err := f.read()
	if err != nil {
		err = fmt.Errorf("backup: %w", err)
	}
	return sealed, err
}

func (f File) read() ([]byte, error) {
	info, err := os.Stat(string(f))
	if err != nil {
		return nil, err
	}
	if info.Size() > backup.MaxSize {
		return nil, fmt.Errorf("%s is %d bytes; the limit is %d", f, info.Size(), backup.MaxSize)
	}
	return os.ReadFile(string(f))
}

// Keep writes a copy where it belongs.
func (f File) Keep(c backup.Copy) error {
	if c.From != "" {
		return (f + Returned).Write(c.Sealed)
	}
	return f.Write(c.Sealed)
}

// Outlet is what the host registers as backup.Outlet. failed hears of what could
// not be written: the owner must be told, because until it is repaired the file
// does not have every channel.
func (f File) Outlet(failed func(error)) func(step.Packet) {
	return func(p step.Packet) {
		if c, ok := p.Msg.(backup.Copy); ok {
			if err := f.Keep(c); err != nil {
				failed(err)
			}
		}
	}
}
