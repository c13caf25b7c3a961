// Command release builds everything that users install, into dist: for each
// kind of computer an archive, a Debian package or an OpenWrt package, with a
// bill of materials for each program and the checksums of all.
//
//	go run ./cmd/release                     everything
//	go run ./cmd/release -only linux-amd64   only this
//
// Equal sources and an equal Go give equal bytes, wherever and whenever it runs:
// no path, clock, user name or order of a map gets in. The version is the one
// that Go stamps from git, and all times are SOURCE_DATE_EPOCH, or else that of
// the commit.
package main

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxBuilds is how many compilers run at a time: each takes all cores it finds,
// and up to 1 GiB.
const maxBuilds = 2

// deviceTags leave out what a small computer does not need, as in .ci/run.
const deviceTags = "omit_demo,omit_lab,omit_sim,omit_regtest,omit_pebble,omit_lnd,omit_rpc,omit_electrum,omit_tpm,omit_pkcs11,omit_bitcoin,omit_postgres,omit_gateway,omit_ledger,omit_nano,omit_iota"

// A build is one program for one kind of computer, and how it is packed.
type build struct {
	name     string // as -only knows it
	platform string // as containers name it: a folder in dist/bin
	env      string // what chooses the computer, for the Go command
	tags     string
	deb, ipk string // the architecture's name in Debian, or in OpenWrt; "" is no such package
}

var builds = []build{
	{name: "linux-amd64", platform: "linux/amd64", env: "GOARCH=amd64 GOAMD64=v1", deb: "amd64"},
	{name: "linux-arm64", platform: "linux/arm64", env: "GOARCH=arm64 GOARM64=v8.0", deb: "arm64"},
	{name: "linux-armv7", platform: "linux/arm/v7", env: "GOARCH=arm GOARM=7", deb: "armhf"},
	{name: "linux-mipsle-softfloat", platform: "linux/mipsle", env: "GOARCH=mipsle GOMIPS=softfloat"},
	{name: "linux-riscv64", platform: "linux/riscv64", env: "GOARCH=riscv64 GORISCV64=rva20u64"},
	{name: "openwrt-mipsel", platform: "openwrt/mipsel_24kc", env: "GOARCH=mipsle GOMIPS=softfloat", tags: deviceTags, ipk: "mipsel_24kc"},
	{name: "openwrt-aarch64", platform: "openwrt/aarch64_cortex-a53", env: "GOARCH=arm64 GOARM64=v8.0", tags: deviceTags, ipk: "aarch64_cortex-a53"},
}

// A release is one run of this command.
type release struct {
	root    string // of the checkout
	program string // package to build; its binary is called coinop
	dist    string // where everything goes
	epoch   string // SOURCE_DATE_EPOCH: seconds of Unix time, or ""

	at      time.Time // of everything inside
	version string    // as the binaries say it
	manual  []file    // man pages and completions, as Debian lays them out
}

func main() {
	r := release{root: ".", program: "./cmd/coinop", epoch: os.Getenv("SOURCE_DATE_EPOCH")}
	only := flag.String("only", "", "names of builds, with commas between: "+strings.Join(names(builds), ", "))
	flag.StringVar(&r.dist, "dist", "dist", "folder that everything goes to; what is in it goes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	chosen, err := choose(*only)
	if err == nil {
		err = r.run(ctx, chosen, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func names(all []build) (out []string) {
	for _, b := range all {
		out = append(out, b.name)
	}
	return out
}

func choose(only string) ([]build, error) {
	if only == "" {
		return builds, nil
	}
	var chosen []build
	for name := range strings.SplitSeq(only, ",") {
		i := slices.Index(names(builds), name)
		if i < 0 {
			return nil, fmt.Errorf("no build is called %q; there are %s", name, strings.Join(names(builds), ", "))
		}
		chosen = append(chosen, builds[i])
	}
	return chosen, nil
}

// run compiles, packs and counts.
func (r *release) run(ctx context.Context, chosen []build, out io.Writer) error {
	if err := os.RemoveAll(r.dist); err != nil {
		return err
	}
	if err := atOnce(chosen, func(b build) error { return r.compile(ctx, b, r.binary(b)) }); err != nil {
		return err
	}
	if err := r.identify(chosen); err != nil {
		return err
	}
	if strings.HasSuffix(r.version, "+dirty") {
		fmt.Fprintln(out, "the checkout has changes that no commit holds: nobody can make this release again")
	}
	if err := r.document(ctx); err != nil {
		return err
	}
	if err := atOnce(chosen, func(b build) error { return r.pack(ctx, b) }); err != nil {
		return err
	}
	return r.checksums(out)
}

// atOnce does all of them, maxBuilds at a time.
func atOnce(all []build, do func(build) error) error {
	var group sync.WaitGroup
	errs := make([]error, len(all))
	slots := make(chan struct{}, maxBuilds)
	for i, b := range all {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if errs[i] = do(b); errs[i] != nil {
				errs[i] = fmt.Errorf("%s: %w", b.name, errs[i])
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

func (r *release) binary(b build) string {
	return filepath.Join(r.dist, "bin", filepath.FromSlash(b.platform), "coinop")
}

// command is a command of Go for a build. What a person has set for themselves
// does not get in.
func (r *release) command(ctx context.Context, b build, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = r.root
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOEXPERIMENT=", "GOFIPS140=off", "GOWORK=off", "CGO_ENABLED=0", "GOOS=linux")
	cmd.Env = append(cmd.Env, strings.Fields(b.env)...)
	return cmd
}

func (r *release) compile(ctx context.Context, b build, to string) error {
	to, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	out, err := r.command(ctx, b, "build", "-trimpath", "-buildvcs=auto", "-ldflags", "-s -w", "-tags", b.tags, "-o", to, r.program).CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// identify asks the binaries which version they are, and of when. They differ if
// somebody commits in the meantime.
func (r *release) identify(chosen []build) error {
	for i, b := range chosen {
		info, err := buildinfo.ReadFile(r.binary(b))
		if err != nil {
			return err
		}
		version := info.Main.Version
		if version == "" || version == "(devel)" {
			version = "v0.0.0-devel"
		}
		if i > 0 && version != r.version {
			return fmt.Errorf("%s is %s and %s is %s; the checkout changed in between: start again", chosen[0].name, r.version, b.name, version)
		}
		r.version = version
		if r.epoch == "" {
			r.at, err = time.Parse(time.RFC3339, setting(info, "vcs.time"))
		} else {
			var s int64
			s, err = strconv.ParseInt(r.epoch, 10, 64)
			r.at = time.Unix(s, 0)
		}
		if err != nil {
			return fmt.Errorf("no time for the release: set SOURCE_DATE_EPOCH, or build in a git checkout: %w", err)
		}
	}
	r.at = r.at.UTC()
	return nil
}

func setting(info *buildinfo.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// document has the program, built for this computer, write its man pages and
// completions.
func (r *release) document(ctx context.Context) error {
	folder, err := os.MkdirTemp("", "release")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	program := filepath.Join(folder, "coinop")
	if err := r.compile(ctx, build{env: "GOOS=" + runtime.GOOS + " GOARCH=" + runtime.GOARCH}, program); err != nil {
		return err
	}
	pages := filepath.Join(folder, "man")
	if out, err := exec.CommandContext(ctx, program, "man", pages).CombinedOutput(); err != nil {
		return fmt.Errorf("coinop man: %w\n%s", err, out)
	}
	entries, err := os.ReadDir(pages)
	if err != nil {
		return err
	}
	r.manual = nil
	for _, e := range entries {
		page, err := os.ReadFile(filepath.Join(pages, e.Name()))
		if err != nil {
			return err
		}
		r.manual = append(r.manual, file{"usr/share/man/man1/" + e.Name(), 0o644, page})
	}
	for _, to := range []struct{ shell, name string }{
		{"bash", "usr/share/bash-completion/completions/coinop"},
		{"zsh", "usr/share/zsh/vendor-completions/_coinop"},
		{"fish", "usr/share/fish/vendor_completions.d/coinop.fish"},
	} {
		script, err := exec.CommandContext(ctx, program, "completion", to.shell).Output()
		if err != nil {
			return fmt.Errorf("coinop completion %s: %w", to.shell, err)
		}
		r.manual = append(r.manual, file{to.name, 0o644, script})
	}
	return nil
}

// checksums writes SHA256SUMS over all files of dist, as sha256sum -c reads it,
// and says how large each is.
func (r *release) checksums(out io.Writer) error {
	entries, err := os.ReadDir(r.dist) // sorted by name
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(r.dist, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(raw), e.Name())
		fmt.Fprintf(out, "%11d bytes  %s\n", len(raw), e.Name())
	}
	return os.WriteFile(filepath.Join(r.dist, "SHA256SUMS"), []byte(sums.String()), 0o644)
}
