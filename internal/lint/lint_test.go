package lint_test

import (
	_ "embed"
	"slices"
	"strings"
	"sync"
	"testing"

	"coinop.dev/internal/lint"
)

//go:embed layers.txt
var layersText string

// packages is the one call of the go command that all tests share.
var packages = sync.OnceValues(func() ([]lint.Package, error) { return lint.Load(lint.Module + "/...") })

func tree(t *testing.T) []lint.Package {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func layers(t *testing.T) lint.Layers {
	t.Helper()
	l, err := lint.ParseLayers(layersText)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func report(t *testing.T, faults []string) {
	t.Helper()
	for _, f := range faults {
		t.Error(f)
	}
}

func TestImportsGoDownward(t *testing.T)      { report(t, lint.Downward(tree(t), layers(t))) }
func TestCoreIsPure(t *testing.T)             { report(t, lint.Pure(tree(t))) }
func TestPackagesSayWhatTheyAre(t *testing.T) { report(t, lint.Commented(tree(t))) }
func TestImportingDoesNothing(t *testing.T)   { report(t, lint.Wired(tree(t))) }
func TestNamesSayWhatIsInside(t *testing.T)   { report(t, lint.Named(tree(t))) }
func TestLoadSeesTheTree(t *testing.T) {
	for _, p := range tree(t) {
		if p.Path != "coinop.dev/core/step" {
			continue
		}
		if !p.Doc || !slices.Contains(p.Files, "step.go") || !slices.Contains(p.Imports, "fmt") {
			t.Errorf("core/step was read as %+v", p)
		}
		return
	}
	t.Error("core/step is not in the tree")
}

// The test of the tests: every law catches what it is for, and only that.
func TestAPlantedViolationIsCaught(t *testing.T) {
	downward := func(all []lint.Package) []string { return lint.Downward(all, layers(t)) }
	type law = func([]lint.Package) []string
	pkg := func(path string, imports ...string) lint.Package {
		name := path[strings.LastIndex(path, "/")+1:]
		return lint.Package{Path: "coinop.dev/" + path, Name: name, Doc: true, Files: []string{name + ".go"}, Imports: imports}
	}
	with := func(p lint.Package, change func(*lint.Package)) lint.Package { change(&p); return p }
	nouns := pkg("core/money", "coinop.dev/core/step", "github.com/btcsuite/btcd/wire/v2")

	for _, c := range []struct {
		name string
		law  law
		pkg  lint.Package
		want string // part of the one fault; empty for none
	}{
		{"down is fine", downward, pkg("purse", "coinop.dev/rail", "coinop.dev/core/money", "os", "example.com/x"), ""},
		{"up", downward, pkg("core/step", "coinop.dev/world/drive"), "core/step may not import coinop.dev/world/drive"},
		{"sideways", downward, pkg("core/channel/payword", "coinop.dev/core/channel/oneway"), "may not import"},
		{"a channel on a ledger", downward, pkg("core/channel/oneway", "coinop.dev/core/ledger/lattice/node"), "may not import"},
		{"the nouns on a core", downward, nouns, "core/money may not import coinop.dev/core/step"},
		{"a backend on its list", downward, pkg("world/store/bbolt", "coinop.dev/world/store/all"), "may not import"},
		{"a list on its backends", downward, pkg("world/store/all", "coinop.dev/world/store/bbolt"), ""},
		{"product code on a test tool", downward, pkg("cmd/coinop", "coinop.dev/internal/script"), "may not import"},
		{"an import without a line", downward, pkg("lab", "coinop.dev/unheard"), "may not import coinop.dev/unheard"},
		{"a package without a line", downward, pkg("unheard/of"), "has no line"},
		{"a prefix is no folder", downward, pkg("enginex"), "has no line"},

		{"sums are pure", lint.Pure, pkg("core/keys", "crypto/sha256", "fmt", "io", "net/url"), ""},
		{"the world may have a clock", lint.Pure, pkg("world/drive", "time", "sync"), ""},
		{"a clock", lint.Pure, pkg("core/spend", "time"), "core/spend may not import time"},
		{"chance", lint.Pure, pkg("core/keys", "crypto/rand"), "crypto/rand"},
		{"chance, second version", lint.Pure, pkg("core/keys", "math/rand/v2"), "math/rand/v2"},
		{"a network", lint.Pure, pkg("core/lightning/noise", "net/http"), "net/http"},
		{"a network in x", lint.Pure, pkg("core/lightning/noise", "golang.org/x/net/http2"), "golang.org/x/net"},
		{"a cipher in x", lint.Pure, pkg("core/lightning/noise", "golang.org/x/crypto/chacha20poly1305"), ""},
		{"a named library", lint.Pure, pkg("core/bitcoin/tx", "github.com/btcsuite/btcd/wire/v2"), ""},
		{"a store", lint.Pure, pkg("core/earn", "go.etcd.io/bbolt"), "bbolt"},
		{"a library in the nouns", lint.Pure, nouns, "btcd/wire"},

		{"a comment", lint.Commented, pkg("till"), ""},
		{"no comment", lint.Commented, with(pkg("till"), func(p *lint.Package) { p.Doc = false }), "till has no package comment"},
		{"nothing but tests", lint.Commented, lint.Package{Path: "coinop.dev/x", Files: []string{"x_test.go"}}, ""},

		{"init in a list", lint.Wired, with(pkg("rail/all"), func(p *lint.Package) { p.Inits = []string{"fake.go"} }), ""},
		{"init elsewhere", lint.Wired, with(pkg("rail/fakerail"), func(p *lint.Package) { p.Inits = []string{"fake.go"} }), "rail/fakerail/fake.go has an init"},

		{"a telling name", lint.Named, pkg("core/receipt"), ""},
		{"an empty package", lint.Named, pkg("world/common", "fmt"), `world/common: "common"`},
		{"an empty file", lint.Named, with(pkg("purse"), func(p *lint.Package) { p.Files = []string{"order_manager.go"} }), "purse/order_manager.go"},
		{"an empty test file", lint.Named, with(pkg("purse"), func(p *lint.Package) { p.Files = []string{"helpers_test.go"} }), "purse/helpers_test.go"},
	} {
		t.Run(c.name, func(t *testing.T) {
			faults := c.law([]lint.Package{c.pkg})
			switch {
			case c.want == "" && len(faults) > 0:
				t.Errorf("found %q in a lawful package", faults)
			case c.want != "" && (len(faults) == 0 || !strings.Contains(faults[0], c.want)):
				t.Errorf("found %q; one should say %q", faults, c.want)
			}
		})
	}
}

func TestANameMayNotStandTwice(t *testing.T) {
	if _, err := lint.ParseLayers("# law\ncoinop\n\ncore/step coinop\n"); err == nil {
		t.Error("coinop stands twice and nobody minds")
	}
}
