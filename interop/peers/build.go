// Package peers builds and runs other people's nodes, btcd, lnd, LDK Node and
// bcoin, as processes on loopback, for tests and measurements.
//
// A node that is started stops when its context ends, when Stop is called and
// when the process that started it dies, whichever comes first. It listens on
// 127.0.0.1 only, at ports that were free, and keeps everything in a folder of
// its own.
package peers

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A program is somebody else's, at the version that a go.mod of ours pins.
type program struct {
	name   string
	folder string // of the go.mod, below interop
	pkg    string
	tags   string
	cgo    bool
}

var (
	btcd = program{name: "btcd", pkg: "github.com/btcsuite/btcd"}
	lnd  = program{
		name: "lnd", folder: "lnd", pkg: "github.com/lightningnetwork/lnd/cmd/lnd",
		tags: "autopilotrpc signrpc walletrpc chainrpc invoicesrpc",
	}
	ldk = program{name: "ldk", folder: "ldk", pkg: ".", cgo: true}
)

// ErrNoCompiler says that a program needs a C compiler, which is not there.
var ErrNoCompiler = errors.New("no C compiler: install gcc, or name one in CC")

// build compiles the program, unless it lies in the user's cache folder from an
// earlier time. lnd takes about 4 minutes of two cores the first time.
func (p program) build(ctx context.Context) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "coinop.dev/interop").Output()
	if err != nil {
		return "", fmt.Errorf("build %s: run this from a folder below interop: %w", p.name, err)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), p.folder)
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	cache = filepath.Join(cache, "coinop-interop")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	mod, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil {
		return "", err
	}
	var more []byte
	if p.cgo {
		if more, err = p.wrapper(ctx, source); err != nil {
			return "", err
		}
	}
	path := filepath.Join(cache, fmt.Sprintf("%s-%x", p.name, p.key(mod, more)))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	fresh, err := os.CreateTemp(cache, p.name+"-*")
	if err != nil {
		return "", err
	}
	fresh.Close()
	defer os.Remove(fresh.Name())
	compile := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w -buildid=", "-tags="+p.tags, "-o", fresh.Name(), p.pkg)
	compile.Dir = source
	compile.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if p.cgo {
		compile.Env = append(compile.Env, "CGO_ENABLED=1")
	}
	if out, err := compile.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", p.name, err, out)
	}
	// Two tests may build at once; each moves a whole program into place.
	return path, os.Rename(fresh.Name(), path)
}

// wrapper readies a program of ours around a library that stays in Go's module
// cache, where the program finds it when it runs. It returns what, beside
// go.mod, changes the program.
func (p program) wrapper(ctx context.Context, source string) ([]byte, error) {
	env, err := exec.CommandContext(ctx, "go", "env", "CC", "GOMODCACHE").Output()
	if err != nil {
		return nil, err
	}
	compiler, modules, _ := strings.Cut(string(env), "\n")
	if _, err := exec.LookPath(strings.Fields(compiler + " cc")[0]); err != nil {
		return nil, fmt.Errorf("build %s: %w: %w", p.name, ErrNoCompiler, err)
	}
	fetch := exec.CommandContext(ctx, "go", "mod", "download")
	fetch.Dir, fetch.Env = source, append(os.Environ(), "GOWORK=off")
	if out, err := fetch.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s: %w: %s", p.name, err, out)
	}
	main, err := os.ReadFile(filepath.Join(source, "main.go"))
	return append([]byte(modules), main...), err
}

// key changes with whatever changes the program. Lines of go.mod that do not
// name a module's version do not.
func (p program) key(mod, more []byte) []byte {
	sum := sha256.New()
	fmt.Fprintln(sum, p.pkg, p.tags)
	for line := range strings.Lines(string(mod)) {
		if f := strings.Fields(line); len(f) >= 2 && !strings.HasPrefix(line, "//") {
			fmt.Fprintln(sum, f)
		}
	}
	sum.Write(more)
	return sum.Sum(nil)[:8]
}
