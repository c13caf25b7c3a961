// Package peers builds and runs other people's nodes, btcd and lnd, as
// processes on loopback, for tests and measurements.
//
// A node that is started stops when its context ends, when Stop is called and
// when the process that started it dies, whichever comes first. It listens on
// 127.0.0.1 only, at ports that were free, and keeps everything in a folder of
// its own.
package peers

import (
	"context"
	"crypto/sha256"
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
	if p.pkg == "." { // our own wrapper
		main, err := os.ReadFile(filepath.Join(source, "main.go"))
		if err != nil {
			return "", err
		}
		mod = append(mod, main...)
	}
	path := filepath.Join(cache, fmt.Sprintf("%s-%x", p.name, p.key(mod)))
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
	compile.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := compile.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", p.name, err, out)
	}
	// Two tests may build at once; each moves a whole program into place.
	return path, os.Rename(fresh.Name(), path)
}

// key changes with whatever changes the program. Lines of go.mod that do not
// name a module's version do not.
func (p program) key(mod []byte) []byte {
	sum := sha256.New()
	fmt.Fprintln(sum, p.pkg, p.tags)
	for line := range strings.Lines(string(mod)) {
		if f := strings.Fields(line); len(f) >= 2 && !strings.HasPrefix(line, "//") {
			fmt.Fprintln(sum, f)
		}
	}
	return sum.Sum(nil)[:8]
}
