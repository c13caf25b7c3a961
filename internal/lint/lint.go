// Package lint is the law of the source tree: imports go downward, cores are
// pure, packages say what they are, only packages named all have init, and no
// name is empty of meaning. A reviewer should never have to say any of it.
package lint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Module is the path of the module under the law.
const Module = "coinop.dev"

// A Package is what the law looks at.
type Package struct {
	Path    string // import path
	Name    string
	Doc     bool     // has a package comment
	Files   []string // base names of all files, tests included
	Imports []string // of the files that are no tests, whatever their build tags
	Inits   []string // base names of files with an init function, no tests
}

// Load asks the go command for packages once and parses their files, also those
// that this platform or these build tags leave out.
func Load(pattern string) ([]Package, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Dir,GoFiles,CgoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles", pattern)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go list %s: %w\n%s", pattern, err, stderr.Bytes())
	}
	var all []Package
	for d := json.NewDecoder(&stdout); ; {
		var l listed
		if err := d.Decode(&l); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list %s: %w", pattern, err)
		}
		p, err := l.parse()
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
}

// listed is what go list prints of a package.
type listed struct {
	ImportPath, Name, Dir             string
	GoFiles, CgoFiles, IgnoredGoFiles []string
	TestGoFiles, XTestGoFiles         []string
}

func (l listed) parse() (Package, error) {
	files := slices.Concat(l.GoFiles, l.CgoFiles, l.IgnoredGoFiles)
	p := Package{Path: l.ImportPath, Name: l.Name, Files: slices.Concat(files, l.TestGoFiles, l.XTestGoFiles)}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(l.Dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return p, err
		}
		if f.Name.Name != l.Name {
			continue // a program run by go generate
		}
		p.Doc = p.Doc || f.Doc.Text() != ""
		if hasInit(f) && !ast.IsGenerated(f) {
			p.Inits = append(p.Inits, name)
		}
		for _, spec := range f.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return p, fmt.Errorf("%s/%s: import %s: %w", l.ImportPath, name, spec.Path.Value, err)
			}
			p.Imports = append(p.Imports, path)
		}
	}
	slices.Sort(p.Imports)
	p.Imports = slices.Compact(p.Imports)
	return p, nil
}

func hasInit(f *ast.File) bool {
	return slices.ContainsFunc(f.Decls, func(d ast.Decl) bool {
		fn, ok := d.(*ast.FuncDecl)
		return ok && fn.Recv == nil && fn.Name.Name == "init"
	})
}

// Layers is layers.txt: line by line, the packages that stand together.
type Layers [][]string

// ParseLayers reads layers.txt. A name that stands twice is an error.
func ParseLayers(text string) (Layers, error) {
	var layers Layers
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		names := strings.Fields(line)
		if len(names) == 0 || strings.HasPrefix(names[0], "#") {
			continue
		}
		for _, name := range names {
			if seen[name] {
				return nil, fmt.Errorf("%s stands twice", name)
			}
			seen[name] = true
		}
		layers = append(layers, names)
	}
	return layers, nil
}

// rank finds the line of an import path: its own name first, then the longest
// folder.
func (l Layers) rank(path string) (line int, ok bool) {
	name := "coinop"
	if path != Module {
		name = strings.TrimPrefix(path, Module+"/")
	}
	best := ""
	for i, names := range l {
		for _, n := range names {
			folder, isFolder := strings.CutSuffix(n, "...")
			switch {
			case n == name:
				return i, true
			case isFolder && strings.HasPrefix(name, folder) && len(folder) > len(best):
				best, line, ok = folder, i, true
			}
		}
	}
	return line, ok
}

// Downward reports imports that do not go to a line above.
func Downward(all []Package, l Layers) (faults []string) {
	for _, p := range all {
		mine, ok := l.rank(p.Path)
		if !ok {
			faults = append(faults, p.Path+" has no line in layers.txt")
			continue
		}
		for _, imp := range p.Imports {
			if !ours(imp) {
				continue
			}
			if theirs, ok := l.rank(imp); !ok || theirs >= mine {
				faults = append(faults, fmt.Sprintf("%s may not import %s: it is not on a line above", p.Path, imp))
			}
		}
	}
	return faults
}

func ours(path string) bool { return path == Module || strings.HasPrefix(path, Module+"/") }

// impure names what a core may not import, with all below it: what reads a
// clock, a disk, a network or a random source, or shares memory between
// goroutines.
var impure = []string{
	"bufio", "context", "crypto/rand", "crypto/tls", "database", "embed", "expvar", "io/fs", "io/ioutil", "log",
	"math/rand", "net", "os", "path/filepath", "plugin", "runtime", "sync", "syscall", "testing", "time", "unsafe",
}

// parsers stand below an impure name and only read text.
var parsers = []string{"net/netip", "net/url"}

// pureModules are the libraries that a core may use: Bitcoin's formats and
// script, and curves. Another one needs an ADR.
var pureModules = []string{
	"github.com/btcsuite/btcd",
	"github.com/decred/dcrd/crypto", "github.com/decred/dcrd/dcrec",
	"github.com/fxamacker/cbor", "github.com/veraison/go-cose",
	"github.com/oasisprotocol/curve25519-voi",
	"golang.org/x/crypto",
}

// nouns is the one core that knows of no other library either.
const nouns = Module + "/core/money"

// Pure reports what cores may not import, and anything but std in the nouns.
func Pure(all []Package) (faults []string) {
	for _, p := range all {
		if !strings.HasPrefix(p.Path, Module+"/core/") {
			continue
		}
		for _, imp := range p.Imports {
			switch {
			case ours(imp):
			case isStd(imp) && (!under(imp, impure) || under(imp, parsers)):
			case p.Path != nouns && !isStd(imp) && under(imp, pureModules):
			default:
				faults = append(faults, fmt.Sprintf("%s may not import %s: a core decides, it has no hands", p.Path, imp))
			}
		}
	}
	return faults
}

// isStd reports whether path is of the standard library: no dot in its first
// part.
func isStd(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

func under(path string, names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return path == n || strings.HasPrefix(path, n+"/") })
}

// Commented reports packages without a package comment.
func Commented(all []Package) (faults []string) {
	for _, p := range all {
		onlyTests := !slices.ContainsFunc(p.Files, func(f string) bool { return !strings.HasSuffix(f, "_test.go") })
		if !p.Doc && !onlyTests {
			faults = append(faults, p.Path+" has no package comment")
		}
	}
	return faults
}

// Wired reports init functions outside packages named all: importing does
// nothing.
func Wired(all []Package) (faults []string) {
	for _, p := range all {
		if p.Name == "all" {
			continue
		}
		for _, f := range p.Inits {
			faults = append(faults, fmt.Sprintf("%s/%s has an init function; only packages named all may", p.Path, f))
		}
	}
	return faults
}

// empty names say nothing of what is inside.
var empty = []string{
	"base", "common", "helper", "helpers", "impl", "lib", "manager", "managers", "misc",
	"pkg", "service", "shared", "types", "util", "utils",
}

// Named reports packages and files with an empty name.
func Named(all []Package) (faults []string) {
	for _, p := range all {
		for part := range strings.SplitSeq(strings.TrimPrefix(p.Path, Module), "/") {
			if slices.Contains(empty, part) {
				faults = append(faults, fmt.Sprintf("%s: %q does not say what is inside", p.Path, part))
			}
		}
		for _, f := range p.Files {
			stem := strings.TrimSuffix(strings.TrimSuffix(f, ".go"), "_test")
			for part := range strings.SplitSeq(stem, "_") {
				if slices.Contains(empty, part) {
					faults = append(faults, fmt.Sprintf("%s/%s: %q does not say what is inside", p.Path, f, part))
				}
			}
		}
	}
	return faults
}
