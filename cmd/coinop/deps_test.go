package main

import (
	"flag"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

var updateDeps = flag.Bool("update-deps", false, "rewrite deps.txt")

// deviceTags is what a build for a small device leaves out.
const deviceTags = "omit_demo,omit_lab,omit_sim,omit_regtest,omit_pebble,omit_lnd,omit_rpc,omit_electrum,omit_tpm,omit_pkcs11,omit_bitcoin,omit_postgres,omit_gateway,omit_ledger,omit_nano,omit_iota"

// deps.txt is every module that is linked, so that a new one is a line in a
// diff that somebody must approve.
func TestDependenciesAreListed(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	out.WriteString("# Modules linked into coinop; those marked * are in the device build too.\n# go test ./cmd/coinop -run Dependencies -update-deps\n")
	device := linked(t, deviceTags, "{{with .Module}}{{.Path}}{{end}}")
	for _, module := range linked(t, "", "{{with .Module}}{{.Path}}{{end}}") {
		mark := " "
		if slices.Contains(device, module) {
			mark = "*"
		}
		out.WriteString(mark + " " + module + "\n")
	}
	if *updateDeps {
		if err := os.WriteFile("deps.txt", []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("deps.txt")
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("the linked modules changed; if that is meant, add an ADR line and run with -update-deps:\n%s", out.String())
	}
}

// What a device must not link, and why.
func TestDeviceBuildIsLean(t *testing.T) {
	t.Parallel()
	never := map[string]string{
		"github.com/cockroachdb/pebble/v2":        "a store for nodes; three quarters of the binary",
		"github.com/btcsuite/btcd/blockchain":     "the chain in the box",
		"github.com/syndtr/goleveldb/leveldb":     "the chain in the box",
		"net/http/pprof":                          "an open door on a machine in a field",
		"database/sql":                            "does not build for mipsle",
		"testing":                                 "a test in the product",
		"coinop.dev/sim":                          "for developers",
		"coinop.dev/lab":                          "for developers",
		"coinop.dev/cmd/coinop/page":              "the demo's page",
		"github.com/chromedp/chromedp":            "for tests",
		"github.com/rogpeppe/go-internal/txtar":   "for tests",
		"github.com/prometheus/client_golang":     "not used yet, and large",
		"google.golang.org/protobuf":              "nothing here speaks it",
		"go.opentelemetry.io/otel":                "not worth eight megabytes",
		"github.com/btcsuite/btcd/database/ffldb": "the chain in the box",
	}
	for _, pkg := range linked(t, deviceTags, "{{.ImportPath}}") {
		if why, bad := never[pkg]; bad {
			t.Errorf("the device build links %s: %s", pkg, why)
		}
	}
}

func linked(t *testing.T, tags, format string) []string {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags", tags, "-f", format, ".")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm", "CGO_ENABLED=0")
	raw, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return slices.Compact(slices.Sorted(slices.Values(strings.Fields(string(raw)))))
}
