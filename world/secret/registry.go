package secret

import (
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// An Opener opens the home that u names. It does not need to hold a secret.
type Opener func(u *url.URL) (Home, error)

// A Registry knows how to open homes, by URI scheme.
type Registry map[string]Opener

// Default is filled by the files of world/secret/all.
var Default = Registry{}

// Register panics if open is nil or scheme is taken: both are mistakes in the
// program.
func (r Registry) Register(scheme string, open Opener) {
	if open == nil {
		panic("secret: no opener for " + scheme)
	}
	if _, taken := r[scheme]; taken {
		panic("secret: " + scheme + " is registered twice")
	}
	r[scheme] = open
}

// Open opens file:, env:, tpm: and the like. Its errors leave out what stands
// after the question mark, where somebody may have written a PIN.
func (r Registry) Open(uri string) (Home, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme == "" {
		shown, _, _ := strings.Cut(uri, "?")
		return nil, fmt.Errorf("secret %.80q is not a URI; write for example file:/var/lib/coinop/key", shown)
	}
	open, known := r[u.Scheme]
	if !known {
		schemes := strings.Join(slices.Sorted(maps.Keys(r)), ", ")
		return nil, fmt.Errorf("secret %s: scheme %q is not one this build knows: %s", Name(u), u.Scheme, schemes)
	}
	home, err := open(u)
	if err != nil {
		return nil, err // and not a typed nil, which would not be nil to anybody
	}
	return home, nil
}

// Name is u without its options and without a password, for errors.
func Name(u *url.URL) string {
	bare := *u
	bare.RawQuery, bare.ForceQuery, bare.Fragment, bare.User = "", false, "", nil
	return bare.String()
}

// Path is the file that u names: scheme:/absolute or scheme:relative.
func Path(u *url.URL) (string, error) {
	path, err := u.Path, error(nil)
	if u.Opaque != "" {
		path, err = url.PathUnescape(u.Opaque)
	}
	if err != nil || path == "" || u.Host != "" || u.User != nil || u.Fragment != "" {
		return "", fmt.Errorf("secret %s names no file; write %s:/absolute/path or %s:relative/path", Name(u), u.Scheme, u.Scheme)
	}
	return filepath.FromSlash(path), nil
}

// Options are the options of u, each at most once and none but the known.
func Options(u *url.URL, known ...string) (map[string]string, error) {
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("secret %s: its options cannot be read; write ?name=value&name=value", Name(u))
	}
	options := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch {
		case !slices.Contains(known, name):
			return nil, fmt.Errorf("secret %s has no option %.40q; there is %s", Name(u), name, strings.Join(known, ", "))
		case len(values[name]) > 1:
			return nil, fmt.Errorf("secret %s: option %s is given %d times; give it once", Name(u), name, len(values[name]))
		}
		options[name] = values[name][0]
	}
	return options, nil
}
