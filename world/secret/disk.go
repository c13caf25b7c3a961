package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"coinop.dev/world/store"
)

// MaxFile is the most bytes of a file that a home keeps.
const MaxFile = 16 << 10

// Read reads a home's file. One that is not there is ErrEmpty; one that others
// than its owner may read or write is refused.
func Read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, ErrEmpty)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file; name one", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("%s can be reached by others than its owner (mode %04o); if nobody has taken the secret, chmod 600 %s", path, mode, path)
	}
	return readAll(f, path)
}

// readAll reads at most MaxFile bytes.
func readAll(f *os.File, path string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err == nil && len(b) > MaxFile {
		err = fmt.Errorf("%s has more than the %d bytes of a home's file; name the right one", path, MaxFile)
	}
	if err != nil {
		clear(b)
		return nil, err
	}
	return b, nil
}

// Create writes a file that is not there yet, for the owner only: after a crash it
// is whole or not there. If it is there, the error is ErrFull.
func Create(path string, content []byte) error {
	dir := filepath.Dir(path)
	if err := store.MakeDir(dir); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".new*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	// A link fails where a file is, and a rename does not. Some file systems (FAT)
	// and systems (Android) have no links: there two machines that start at the same
	// time for the first time could still meet.
	err = os.Link(f.Name(), path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		if _, err = os.Lstat(path); err == nil {
			err = fs.ErrExist
		} else if errors.Is(err, fs.ErrNotExist) {
			err = os.Rename(f.Name(), path)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", path, ErrFull)
	}
	if err != nil {
		return err
	}
	return store.SyncDir(dir)
}

// ReadWord reads a passphrase or PIN from a file, without the newline at its end.
// What a container or systemd mounts may be readable by others, so that is not
// judged.
func ReadWord(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := readAll(f, path)
	if err != nil {
		return nil, err
	}
	word := bytes.TrimRight(b, "\r\n")
	if len(word) == 0 {
		return nil, fmt.Errorf("%s is empty; write the passphrase or PIN into it", path)
	}
	return word, nil
}
