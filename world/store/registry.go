package store

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// An Opener opens the store that u names. It makes it if it is not there.
type Opener func(u *url.URL) (DB, error)

// A Registry knows how to open stores, by URI scheme.
type Registry map[string]Opener

// Default is filled by the files of world/store/all.
var Default = Registry{}

// Register panics if open is nil or scheme is taken: both are mistakes in the
// program, and a program that starts with the wrong store loses money.
func (r Registry) Register(scheme string, open Opener) {
	if open == nil {
		panic("store: no opener for " + scheme)
	}
	if _, taken := r[scheme]; taken {
		panic("store: " + scheme + " is registered twice")
	}
	r[scheme] = open
}

// Open opens mem:, bbolt:///path/to/file, pebble:relative/dir and the like.
func (r Registry) Open(uri string) (DB, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, fmt.Errorf("store %q is not a URI; write for example bbolt:///var/lib/coinop/state", uri)
	}
	open, known := r[u.Scheme]
	if !known {
		schemes := strings.Join(slices.Sorted(maps.Keys(r)), ", ")
		return nil, fmt.Errorf("store %q: scheme %q is not one this build knows: %s", uri, u.Scheme, schemes)
	}
	db, err := open(u)
	if err != nil {
		return nil, err // and not a typed nil, which would not be nil to anybody
	}
	return db, nil
}

// Path is the file or directory that u names: scheme:///absolute or
// scheme:relative.
func Path(u *url.URL) (string, error) {
	path, err := u.Path, error(nil)
	if u.Opaque != "" {
		path, err = url.PathUnescape(u.Opaque)
	}
	switch {
	case err != nil:
		return "", fmt.Errorf("store %s: %w", u, err)
	case u.Host != "" || u.User != nil:
		return "", fmt.Errorf("store %s names a host; write %s:///absolute/path or %s:relative/path", u, u.Scheme, u.Scheme)
	case u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("store %s has options; there are none, write %s:%s", u, u.Scheme, path)
	case path == "":
		return "", fmt.Errorf("store %s has no path; write %s:///absolute/path or %s:relative/path", u, u.Scheme, u.Scheme)
	}
	return filepath.FromSlash(path), nil
}

// MakeDir makes dir and its missing parents, for the owner only, and syncs
// their names to disk: a durable file in a directory that a loss of power takes
// away is not durable.
func MakeDir(dir string) error {
	dir = filepath.Clean(dir)
	parent := filepath.Dir(dir)
	switch info, err := os.Stat(dir); {
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s is a file, and the store needs a directory there; choose another path", dir)
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case parent != dir:
		if err := MakeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncDir(parent)
}

// SyncDir makes the names in dir durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
