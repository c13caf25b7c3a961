package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

var whole = flag.Bool("release", false, "build coinop itself, twice and from nothing: some minutes")

const noon = "1700000000" // seconds of Unix time

// tiny is what these tests build: one of each package.
const tiny = "linux-amd64,openwrt-mipsel"

// makeTiny builds the tiny program's release into a new folder and returns it.
func makeTiny(t *testing.T) string {
	chosen, err := choose(tiny)
	if err != nil {
		t.Fatal(err)
	}
	r := release{root: "../..", program: "./cmd/release/testdata/tiny", dist: filepath.Join(t.TempDir(), "dist"), epoch: noon}
	if err := r.run(t.Context(), chosen, io.Discard); err != nil {
		t.Fatal(err)
	}
	return r.dist
}

func artefacts(t *testing.T, dist string) map[string]string {
	all := map[string]string{}
	err := filepath.WalkDir(dist, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		name, _ := filepath.Rel(dist, path)
		all[name] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// the finds the one artefact with an ending.
func the(t *testing.T, dist, ending string) string {
	found, _ := filepath.Glob(filepath.Join(dist, "*"+ending))
	if len(found) != 1 {
		t.Fatalf("%d artefacts end in %s: %q", len(found), ending, found)
	}
	return found[0]
}

func same(t *testing.T, a, b map[string]string) {
	t.Helper()
	if x, y := slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b)); !slices.Equal(x, y) {
		t.Fatalf("two releases hold\n%q\n%q", x, y)
	}
	for name := range a {
		if a[name] != b[name] {
			t.Errorf("%s differs", name)
		}
	}
}

func TestTiny(t *testing.T) {
	dist := makeTiny(t)
	t.Run("archive", func(t *testing.T) { testArchive(t, dist) })
	t.Run("debian", func(t *testing.T) { testDebian(t, dist) })
	t.Run("openwrt", func(t *testing.T) { testOpenwrt(t, dist) })
	t.Run("same bytes", func(t *testing.T) { testSameBytes(t, dist) })
}

// Two people who build one version get the same bytes, whatever their habits.
func testSameBytes(t *testing.T, dist string) {
	first := artefacts(t, dist)
	for name, value := range map[string]string{"GOFLAGS": "-tags=mine -trimpath=false", "TZ": "Asia/Tokyo", "LC_ALL": "C", "GOMIPS": "hardfloat", "GOARCH": "arm64"} {
		t.Setenv(name, value)
	}
	same(t, first, artefacts(t, makeTiny(t)))
	if len(first) != 8 { // tar.gz, deb, ipk, two bills of materials, SHA256SUMS, two binaries
		t.Errorf("a release of %s is %q", tiny, slices.Sorted(maps.Keys(first)))
	}
}

// An archive opens, holds what it promises, and says nothing of who made it.
func testArchive(t *testing.T, dist string) {
	raw, err := os.ReadFile(the(t, dist, ".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	var held []string
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if h.ModTime.Unix() != 1700000000 || h.Uid != 0 || h.Gid != 0 || h.Uname != "root" {
			t.Errorf("%s is of %s, %d %d %s", h.Name, h.ModTime, h.Uid, h.Gid, h.Uname)
		}
		_, inside, _ := strings.Cut(h.Name, "/")
		held = append(held, inside)
	}
	if !slices.IsSorted(held) {
		t.Errorf("it is not sorted: %q", held)
	}
	for _, want := range []string{"coinop", "LICENSE", "LICENSES.txt", "README.md", "coinop.toml", "coinop.service", "man/coinop.1", "completion/_coinop"} {
		if !slices.Contains(held, want) {
			t.Errorf("%s is missing among %q", want, held)
		}
	}
}

// Debian's own tools take the package apart.
func testDebian(t *testing.T, dist string) {
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("dpkg-deb is not here, and nobody else knows a .deb as well")
	}
	root := t.TempDir()
	must(t, "dpkg-deb", "-x", the(t, dist, "_amd64.deb"), root)
	must(t, "dpkg-deb", "-e", the(t, dist, "_amd64.deb"), filepath.Join(root, "DEBIAN"))
	sums := exec.CommandContext(t.Context(), "md5sum", "-c", "--quiet", "DEBIAN/md5sums")
	sums.Dir = root
	if out, err := sums.CombinedOutput(); err != nil {
		t.Errorf("md5sums: %v\n%s", err, out)
	}
	if got := must(t, filepath.Join(root, "usr/bin/coinop")); got != "tiny\n" {
		t.Errorf("the program says %q", got)
	}
	if got := must(t, "dpkg-deb", "-f", the(t, dist, "_amd64.deb"), "Architecture"); got != "amd64\n" {
		t.Errorf("its architecture is %q", got)
	}
	r := release{version: "v1.2.0-rc.1"}
	control := []file{{data: []byte("${VERSION}")}}
	r.fill(control, "amd64", nil)
	must(t, "dpkg", "--compare-versions", string(control[0].data), "lt", "1.2.0")
	must(t, "dpkg", "--compare-versions", string(control[0].data), "gt", "1.1.9")
}

// An OpenWrt package is three files, in a tarball.
func testOpenwrt(t *testing.T, dist string) {
	root := t.TempDir()
	must(t, "tar", "-xzf", the(t, dist, "_mipsel_24kc.ipk"), "-C", root)
	if raw, err := os.ReadFile(filepath.Join(root, "debian-binary")); err != nil || string(raw) != "2.0\n" {
		t.Errorf("debian-binary is %q, %v", raw, err)
	}
	control := must(t, "tar", "-xzOf", filepath.Join(root, "control.tar.gz"), "./control")
	for _, want := range []string{"Architecture: mipsel_24kc\n", "Version: 0.0.0~", "Require-User: coinop="} {
		if !strings.Contains(control, want) {
			t.Errorf("%q is missing in\n%s", want, control)
		}
	}
	if strings.Contains(control, "${") {
		t.Errorf("a gap is left in\n%s", control)
	}
	must(t, "tar", "-xzf", filepath.Join(root, "data.tar.gz"), "-C", root)
	info, err := buildinfo.ReadFile(filepath.Join(root, "usr/bin/coinop"))
	if err != nil {
		t.Fatal(err)
	}
	if setting(info, "GOMIPS") != "softfloat" || setting(info, "CGO_ENABLED") != "0" || setting(info, "-tags") != deviceTags {
		t.Errorf("it was built with %v", info.Settings)
	}
}

func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// The bill of materials keeps what the schema of CycloneDX 1.5 demands of the
// fields it has.
func TestMaterials(t *testing.T) {
	info := &buildinfo.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Path: "coinop.dev"}, Deps: []*debug.Module{
		{Path: "golang.org/x/sys", Version: "v0.49.0", Sum: "h1:COkYLr4k7nDI4r6QtMML2AfzeIswWHAJthLS6K/M/54="},
		{Path: "example.com/old", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/new", Version: "v1.1.0+incompatible"}},
	}, Settings: []debug.BuildSetting{{Key: "GOARCH", Value: "arm"}}}
	raw, err := materials(info, []byte("program"), "v1.0.0+dirty", time.Unix(1700000000, 0).UTC())
	if err != nil {
		t.Fatal(err)
	}
	var b bom
	if err := json.Unmarshal(raw, &b); err != nil {
		t.Fatal(err)
	}
	if b.Format != "CycloneDX" || b.Spec != "1.5" || b.Version < 1 {
		t.Errorf("it is %s %s, version %d", b.Format, b.Spec, b.Version)
	}
	if !regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(b.Serial) {
		t.Errorf("serial number %q", b.Serial)
	}
	if _, err := time.Parse(time.RFC3339, b.Metadata.Timestamp); err != nil {
		t.Error(err)
	}
	if b.Metadata.Component.Type != "application" || b.Metadata.Component.Licenses[0].License.ID != "MIT" {
		t.Errorf("it is of %+v", b.Metadata.Component)
	}
	refs := map[string]bool{}
	for _, c := range append(b.Components, b.Metadata.Component) {
		if c.Name == "" || c.Type == "" || refs[c.Ref] || !regexp.MustCompile(`^pkg:golang/[a-z0-9./-]+@[^ @?#]+$`).MatchString(c.PURL) {
			t.Errorf("component %+v", c)
		}
		refs[c.Ref] = true
		for _, h := range c.Hashes {
			if h.Algorithm != "SHA-256" || !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(h.Content) {
				t.Errorf("%s has the hash %+v", c.Name, h)
			}
		}
	}
	for _, want := range []string{"pkg:golang/std@1.26.8", "pkg:golang/golang.org/x/sys@v0.49.0", "pkg:golang/example.com/new@v1.1.0+incompatible"} {
		if !refs[want] {
			t.Errorf("%s is not in %v", want, refs)
		}
	}
	if len(b.Dependencies) != len(refs) || len(b.Dependencies[0].DependsOn) != len(b.Components) {
		t.Errorf("%d components depend so: %+v", len(refs), b.Dependencies)
	}
	for _, d := range b.Dependencies {
		for _, ref := range append(d.DependsOn, d.Ref) {
			if !refs[ref] {
				t.Errorf("nobody is called %s", ref)
			}
		}
	}
	info.Deps[0].Sum = "h1:!"
	if _, err := materials(info, nil, "v1.0.0", time.Time{}); err == nil {
		t.Error("a sum that is none passes")
	}
}

func TestChoose(t *testing.T) {
	if all, err := choose(""); err != nil || len(all) != len(builds) {
		t.Errorf("%d of %d builds, %v", len(all), len(builds), err)
	}
	if _, err := choose("linux-amd64,windows"); err == nil || !strings.Contains(err.Error(), `"windows"`) {
		t.Errorf("an unknown build: %v", err)
	}
}

// What is written twice is the same.
func TestDeviceTagsAgree(t *testing.T) {
	for path, start := range map[string]string{".ci/run": "device_tags=", "contrib/openwrt/Makefile": "GO_PKG_TAGS:=", "cmd/coinop/deps_test.go": "const deviceTags = "} {
		raw, err := os.ReadFile(filepath.Join("../..", path))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(raw), "\n"+start)
		line, _, _ := strings.Cut(rest, "\n")
		if got := strings.Trim(line, `"`); got != deviceTags {
			t.Errorf("%s leaves out %s, and this %s", path, got, deviceTags)
		}
	}
}

func TestShellScripts(t *testing.T) {
	for _, pattern := range []string{"debian/p*", "openwrt/p*", "openwrt/files/*.init"} {
		found, _ := filepath.Glob(filepath.Join("../../contrib", pattern))
		if len(found) == 0 {
			t.Errorf("contrib/%s is empty", pattern)
		}
		for _, path := range found {
			must(t, "sh", "-n", path)
		}
	}
}

// systemd itself finds no fault with the unit, and little that an intruder could
// do in it.
func TestUnit(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not here; the unit is not looked at")
	}
	raw, err := os.ReadFile("../../contrib/systemd/coinop.service")
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "coinop.service")
	if err := os.WriteFile(unit, bytes.ReplaceAll(raw, []byte("/usr/bin/coinop "), []byte("/bin/true ")), 0o644); err != nil {
		t.Fatal(err)
	}
	if out := must(t, "systemd-analyze", "verify", "--man=no", unit); out != "" {
		t.Errorf("systemd-analyze verify:\n%s", out)
	}
	must(t, "systemd-analyze", "security", "--offline=true", "--threshold=15", unit) // of 100
}

// The release of coinop itself: two checkouts at different paths, one with
// nothing compiled before.
func TestWhole(t *testing.T) {
	if !*whole {
		t.Skip("SKIPPED: the release of coinop itself takes minutes; go test ./cmd/release -release builds it twice")
	}
	var dists []string
	for _, fresh := range []bool{false, true} {
		root := filepath.Join(t.TempDir(), "checkout")
		must(t, "git", "clone", "-q", "--shared", "../..", root)
		if fresh {
			t.Setenv("GOCACHE", t.TempDir())
		}
		r := release{root: root, program: "./cmd/coinop", dist: filepath.Join(t.TempDir(), "dist")}
		chosen, err := choose(tiny)
		if err != nil {
			t.Fatal(err)
		}
		var sizes strings.Builder
		if err := r.run(context.WithoutCancel(t.Context()), chosen, &sizes); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s\n%s", r.version, &sizes)
		dists = append(dists, r.dist)
	}
	same(t, artefacts(t, dists[0]), artefacts(t, dists[1]))
}
