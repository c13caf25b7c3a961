// Package c_test holds the C core against the machines that it talks to: its
// parts against Go's, byte for byte, and a whole device, a process that is
// killed and started again, against the real payees.
package c_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

var long = flag.Bool("long", false, "other builds too, all sizes, more power cuts, more noise")

// often is how many times a loop goes round: few by default.
func often(few, many int) int {
	if *long {
		return many
	}
	return few
}

// strict is how the library is compiled, in tests too.
var strict = strings.Fields("-std=c99 -Wall -Wextra -Wpedantic -Werror -Wconversion -Wshadow -Isrc")

// sanitized makes a program stop at its first fault, and usual is the build that
// most tests share: it checks stamps, and is impatient.
var (
	sanitized = strings.Fields("-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all")
	usual     = append(strings.Fields("-DCOINOP_STAMPS=1 -DCOINOP_RESEND=60"), sanitized...)
)

// built is what was compiled, by name. It is kept between runs: a file's name has
// the hash of all that it was made of.
var built struct {
	sync.Mutex
	dir string
}

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.UserCacheDir()
	if err == nil {
		dir = filepath.Join(dir, "coinop-sdk-c")
		err = os.MkdirAll(dir, 0o700)
	}
	remove := func() {}
	if err != nil {
		if dir, err = os.MkdirTemp("", "coinop-c"); err != nil {
			panic(err)
		}
		remove = func() { os.RemoveAll(dir) }
	}
	sweep(dir)
	built.dir = dir
	version, _ := exec.Command("gcc", "-dumpfullversion").Output()
	strict = append(strict, "-DGCC="+strings.TrimSpace(string(version))) // a cache is one compiler's
	code := m.Run()
	remove()
	os.Exit(code)
}

// keptFor bounds the cache: what is older is made again.
const keptFor = 7 * 24 * time.Hour

// sweep clears the cache of what is old.
func sweep(dir string) {
	all, _ := os.ReadDir(dir)
	for _, f := range all {
		if info, err := f.Info(); err == nil && time.Since(info.ModTime()) > keptFor {
			os.Remove(filepath.Join(dir, f.Name()))
		}
	}
}

// cached returns the path of what make makes of inputs, which it does once.
func cached(name string, inputs []string, make func(path string) error) (string, error) {
	sum := sha256.Sum256([]byte(strings.Join(inputs, "\x00")))
	path := filepath.Join(built.dir, fmt.Sprintf("%s-%x", name, sum[:12]))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	part := fmt.Sprintf("%s.%d", path, os.Getpid()) // another run may make the same
	if err := make(part); err != nil {
		return "", err
	}
	return path, os.Rename(part, path)
}

// contents are files' names and bytes; reading them tells go test what its cached
// results depend on.
func contents(files []string) (all []string) {
	for _, f := range files {
		b, _ := os.ReadFile(f)
		all = append(all, f, string(b))
	}
	return all
}

// library is what every program has.
func library() (sources, headers []string) {
	sources, _ = filepath.Glob("src/*.c")
	for _, pattern := range []string{"src/*.h", "test/*.h"} {
		some, _ := filepath.Glob(pattern)
		headers = append(headers, some...)
	}
	return sources, headers
}

func gcc(args ...string) error {
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("gcc %v: %w\n%s", args, err, out)
	}
	return nil
}

// objects compiles files with the same flags, as many at a time as there are
// processors.
func objects(flags, files []string) ([]string, error) {
	_, headers := library()
	under := contents(headers)
	paths, errs := make([]string, len(files)), make([]error, len(files))
	turn := make(chan bool, runtime.NumCPU())
	var all sync.WaitGroup
	for i, f := range files {
		turn <- true
		all.Go(func() {
			defer func() { <-turn }()
			args := append(append([]string{}, strict...), flags...)
			inputs := append(append(contents([]string{f}), under...), args...)
			paths[i], errs[i] = cached(strings.TrimSuffix(filepath.Base(f), ".c")+".o", inputs, func(path string) error {
				return gcc(append(args, "-c", "-o", path, "-x", "c", f)...)
			})
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// build makes a program of the library and files of ours, and returns its path.
func build(t testing.TB, name string, flags []string, files ...string) string {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no gcc here: the C core is not tested (apt-get install gcc)")
	}
	built.Lock()
	defer built.Unlock()
	sources, _ := library()
	parts, err := objects(flags, append(sources, files...))
	if err != nil {
		t.Fatal(err)
	}
	path, err := cached(name, append(parts, flags...), func(path string) error {
		return gcc(append(append([]string{"-o", path}, flags...), parts...)...)
	})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// bare is the program of parts, which answers line by line.
type bare struct {
	t   testing.TB
	in  *bufio.Writer
	out *bufio.Scanner
}

func newBare(t testing.TB, flags ...string) *bare {
	if flags == nil {
		flags = usual
	}
	path := build(t, "bare", flags, "test/bare.c")
	cmd := exec.Command(path)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	var faults bytes.Buffer
	cmd.Stderr = &faults
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v\n%s", err, faults.String())
		}
	})
	b := &bare{t, bufio.NewWriter(in), bufio.NewScanner(out)}
	b.out.Buffer(nil, 1<<20)
	return b
}

// ask calls a part with some bytes and returns what it gives.
func (b *bare) ask(part string, args ...[]byte) []byte {
	b.t.Helper()
	b.in.WriteString(part)
	for _, a := range args {
		b.in.WriteByte(' ')
		if len(a) == 0 {
			b.in.WriteByte('-')
		}
		b.in.WriteString(hex.EncodeToString(a))
	}
	b.in.WriteByte('\n')
	b.in.Flush()
	if !b.out.Scan() {
		b.t.Fatalf("%s(%x): the program is gone", part, args)
	}
	got, err := hex.DecodeString(b.out.Text())
	if err != nil {
		b.t.Fatalf("%s(%x) gives %q", part, args, b.out.Text())
	}
	return got
}

// wants compares.
func (b *bare) wants(want []byte, part string, args ...[]byte) {
	b.t.Helper()
	if got := b.ask(part, args...); !bytes.Equal(got, want) {
		b.t.Errorf("%s(%x)\n is %x\nnot %x", part, args, got, want)
	}
}
