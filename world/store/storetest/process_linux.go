package storetest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"coinop.dev/core/step"
	"coinop.dev/world/store"
)

// A child is the test binary run again, with one of the roles below. What it
// prints on standard output is its report, a line each.
const (
	roleEnv = "COINOP_STORETEST_ROLE"
	dirEnv  = "COINOP_STORETEST_DIR"
	argEnv  = "COINOP_STORETEST_ARG"
)

var roles = map[string]func(open Open, dir, arg string) error{
	"hold":   holdRole,
	"commit": commitRole,
	"fill":   fillRole,
	"limit":  limitRole,
	"fault":  faultRole,
	"trace":  traceRole,
}

// isChild runs the role this process was started for, if it was, and then ends
// the process. Each test that starts children calls it first.
func isChild(open Open) {
	role := os.Getenv(roleEnv)
	if role == "" {
		return
	}
	if err := roles[role](open, os.Getenv(dirEnv), os.Getenv(argEnv)); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(t *testing.T, role, dir, arg string) *exec.Cmd {
	t.Helper()
	test, _, _ := strings.Cut(t.Name(), "/")
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$")
	cmd.Env = append(os.Environ(), roleEnv+"="+role, dirEnv+"="+dir, argEnv+"="+arg)
	cmd.Stderr = os.Stderr
	return cmd
}

// TestProcess checks the store against a process that dies by kill -9 and one
// that wants the same store.
func TestProcess(t *testing.T, open Open) {
	isChild(open)
	t.Run("locked by another process", func(t *testing.T) { testLocked(t, open) })
	t.Run("kill -9", func(t *testing.T) { testKill(t, open) })
}

func testLocked(t *testing.T, open Open) {
	dir := t.TempDir()
	cmd := child(t, "hold", dir, "")
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "open\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
	if _, err := open(dir); !errors.Is(err, store.ErrLocked) {
		t.Errorf("store open elsewhere: got %v, want ErrLocked", err)
	}
	in.Close()
	must(t, cmd.Wait())
	must(t, mustOpen(t, open, dir).Close())
}

// holdRole holds the store open until standard input ends.
func holdRole(open Open, dir, _ string) error {
	db, err := open(dir)
	if err != nil {
		return err
	}
	fmt.Println("open")
	io.Copy(io.Discard, os.Stdin)
	return db.Close()
}

func testKill(t *testing.T, open Open) {
	const life = 100 // commits before each kill
	dir := t.TempDir()
	acked := -1
	for range 3 {
		cmd := child(t, "commit", dir, strconv.Itoa(acked+1))
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for deadline := acked + life; lines.Scan(); {
			if acked, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatalf("child said %q", lines.Text())
			}
			if acked == deadline {
				must(t, cmd.Process.Kill())
			}
		}
		cmd.Wait() // it was killed
		acked = wantBatches(t, open, dir, acked)
	}
}

// commitRole commits batches from number arg on, and prints each that is done.
func commitRole(open Open, dir, arg string) error {
	db, err := open(dir)
	if err != nil {
		return err
	}
	first, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	for i := first; ; i++ {
		if err := db.Commit(batch(i)); err != nil {
			return err
		}
		fmt.Println(i)
	}
}

const (
	batchRecords = 4
	batchValue   = 2048
)

// batch is the i-th commit of a child. Its values do not compress.
func batch(i int) []step.Record {
	noise := rand.NewChaCha8([32]byte{byte(i), byte(i >> 8), byte(i >> 16)})
	records := make([]step.Record, batchRecords)
	for r := range records {
		records[r] = step.Record{Key: fmt.Sprintf("%06d/%d", i, r), Value: make([]byte, batchValue)}
		noise.Read(records[r].Value)
	}
	return records
}

// wantBatches checks that all batches up to acked are there whole, and that
// those after it are whole or missing. It returns the last one there.
func wantBatches(t *testing.T, open Open, dir string, acked int) int {
	t.Helper()
	db := mustOpen(t, open, dir)
	defer db.Close()
	next, records := 0, batch(0)
	must(t, db.Scan("", func(key string, value []byte) bool {
		if key != records[0].Key || string(value) != string(records[0].Value) {
			t.Fatalf("found %q (%d bytes) where batch %d has %q", key, len(value), next, records[0].Key)
		}
		if records = records[1:]; len(records) == 0 {
			next++
			records = batch(next)
		}
		return true
	}))
	if len(records) != batchRecords {
		t.Errorf("batch %d is there in part", next)
	}
	if next <= acked {
		t.Errorf("batch %d was acknowledged and is gone; %d are there", acked, next)
	}
	return next - 1
}

// TestFaults checks that no acknowledged record is lost, and no commit accepted
// after a failed one, whatever the kernel answers. Errors are injected below
// the store, at the system call.
func TestFaults(t *testing.T, open Open) {
	isChild(open)
	for _, f := range []fault{
		{"write", "EIO", "", 1}, {"write", "ENOSPC", "", 2}, {"write", "ENOSPC", "", 0},
		{"sync", "EIO", "", 1}, {"sync", "EIO", "", 2}, {"sync", "EIO", "", 0},
		{"sync", "ENOSPC", "", 1},
	} {
		t.Run(f.String(), func(t *testing.T) { TestFault(t, open, f.Calls, f.Errno, f.Path, f.Nth) })
	}
	t.Run("full disk", func(t *testing.T) { testFull(t, open) })
	t.Run("file size limit", func(t *testing.T) {
		dir := t.TempDir()
		wantBatches(t, open, dir, runFaulty(t, child(t, "limit", dir, "")))
	})
}

// A fault makes system calls fail.
type fault struct {
	Calls string // write, sync or resize
	Errno string // EIO or ENOSPC
	Path  string // only of files whose name ends so
	Nth   int    // only the n-th; 0 is all
}

func (f fault) String() string { return fmt.Sprintf("%s %s %s %d", f.Errno, f.Calls, f.Path, f.Nth) }

// TestFault checks one fault: calls is write, sync or resize, of files whose
// name ends in path, and nth is which of them fails, 0 for all.
func TestFault(t *testing.T, open Open, calls, errno, path string, nth int) {
	isChild(open)
	dir := t.TempDir()
	arg := strings.Join([]string{calls, errno, path, strconv.Itoa(nth)}, " ")
	wantBatches(t, open, dir, runFaulty(t, child(t, "fault", dir, arg)))
}

// runFaulty runs a child that commits until it fails, and returns the last
// batch it acknowledged.
func runFaulty(t *testing.T, cmd *exec.Cmd) (acked int) {
	t.Helper()
	out, err := cmd.Output()
	if reason, skip := strings.CutPrefix(string(out), "skip "); skip {
		t.Skip(reason)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	last := lines[len(lines)-1]
	if err != nil || last != "failed as it should" {
		t.Fatalf("child: %v, %q", err, last)
	}
	if len(lines) < 2 {
		return -1
	}
	if acked, err = strconv.Atoi(lines[len(lines)-2]); err != nil {
		t.Fatalf("child said %q", lines[len(lines)-2])
	}
	return acked
}

// untilFailed commits until that fails, and checks how the store behaves then.
func untilFailed(db store.DB, first int) error {
	const enough = 5000
	for i := first; i < enough; i++ {
		err := db.Commit(batch(i))
		if err == nil {
			fmt.Println(i)
			continue
		}
		for range 2 {
			if again := db.Commit(batch(i)); !errors.Is(again, store.ErrFailed) {
				return fmt.Errorf("after %v a commit gave %v, want ErrFailed", err, again)
			}
		}
		if first > 0 {
			if v, err := db.Get(batch(0)[0].Key); err != nil || len(v) != batchValue {
				return fmt.Errorf("reading a failed store gave %d bytes, %v", len(v), err)
			}
		}
		db.Close() // it may say that it could not
		return nil
	}
	return fmt.Errorf("%d batches were committed and none failed", enough)
}

// faultRole makes a few commits, then has the fault of arg injected, and at the
// end opens the store again in the same process with the disk well.
func faultRole(open Open, dir, arg string) error {
	const well = 5 // commits before the fault
	fields := strings.Split(arg, " ")
	nth, err := strconv.Atoi(fields[3])
	if err != nil {
		return err
	}
	errno := map[string]int32{"EIO": int32(syscall.EIO), "ENOSPC": int32(syscall.ENOSPC)}[fields[1]]
	var (
		mu    sync.Mutex
		armed bool
		seen  int
	)
	err = watch(func(c call) int32 {
		if c.kind() != fields[0] || !strings.HasPrefix(c.Path, dir) || !strings.HasSuffix(c.Path, fields[2]) {
			return 0
		}
		mu.Lock()
		defer mu.Unlock()
		if !armed {
			return 0
		}
		seen++
		if nth == 0 || nth == seen {
			return errno
		}
		return 0
	})
	if err != nil {
		fmt.Println("skip", err)
		return nil
	}
	arm := func(on bool) { mu.Lock(); armed = on; mu.Unlock() }
	db, err := open(dir)
	if err != nil {
		return err
	}
	for i := range well {
		if err := db.Commit(batch(i)); err != nil {
			return err
		}
		fmt.Println(i)
	}
	arm(true)
	if err := untilFailed(db, well); err != nil {
		return err
	}
	arm(false)
	if db, err = open(dir); err != nil {
		return fmt.Errorf("opening again on a healthy disk: %w", err)
	}
	if v, err := db.Get(batch(well - 1)[0].Key); err != nil || len(v) != batchValue {
		return fmt.Errorf("after opening again an acknowledged record is %d bytes, %v", len(v), err)
	}
	if err := db.Close(); err != nil {
		return err
	}
	fmt.Println("failed as it should")
	return nil
}

// testFull fills a small file system, which takes root to mount.
func testFull(t *testing.T, open Open) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skip("mounting a small file system: ", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	acked := runFaulty(t, child(t, "fill", dir, ""))
	if _, err := open(filepath.Join(dir, "more")); err == nil {
		t.Error("a second store fits on a full disk")
	}
	must(t, unix.Mount("none", dir, "tmpfs", unix.MS_REMOUNT, "size=64m"))
	wantBatches(t, open, dir, acked)
}

func fillRole(open Open, dir, _ string) error {
	db, err := open(dir)
	if err != nil {
		return err
	}
	if err := untilFailed(db, 0); err != nil {
		return err
	}
	fmt.Println("failed as it should")
	return nil
}

// limitRole is fillRole where a write past the limit is done in part, as on a
// real full disk, and then refused with EFBIG.
func limitRole(open Open, dir, arg string) error {
	const limit = 512 << 10
	signal.Ignore(syscall.SIGXFSZ)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		fmt.Println("skip", err)
		return nil
	}
	return fillRole(open, dir, arg)
}

// TestCalls compares the calls on the disk that some commits make with
// testdata/calls.golden, and the store's own counts with the calls.
func TestCalls(t *testing.T, open Open) {
	isChild(open)
	out, err := child(t, "trace", t.TempDir(), "").Output()
	if reason, skip := strings.CutPrefix(string(out), "skip "); skip {
		t.Skip(reason)
	}
	if err != nil {
		t.Fatalf("child: %v, %s", err, out)
	}
	golden(t, "calls.golden", string(out))
}

// traceRole prints the calls of commits of several shapes.
func traceRole(open Open, dir, _ string) error {
	var (
		mu    sync.Mutex
		calls []call
	)
	err := watch(func(c call) int32 {
		if strings.HasPrefix(c.Path, dir) {
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, c)
		}
		return 0
	})
	if err != nil {
		fmt.Println("skip", err)
		return nil
	}
	db, err := open(dir)
	if err != nil {
		return err
	}
	large := make([]step.Record, 256)
	for i := range large {
		large[i] = step.Record{Key: fmt.Sprintf("many/%03d", i), Value: make([]byte, 100)}
	}
	for _, commit := range []struct {
		name    string
		records []step.Record
	}{
		{"first record of 200 bytes", []step.Record{{Key: "one", Value: make([]byte, 200)}}},
		{"the same again", []step.Record{{Key: "one", Value: make([]byte, 200)}}},
		{"256 records of 100 bytes", large},
		{"deleting one", []step.Record{{Key: "one"}}},
	} {
		mu.Lock()
		calls = nil
		mu.Unlock()
		before := db.(store.Counter).Counts()
		if err := db.Commit(commit.records); err != nil {
			return err
		}
		after := db.(store.Counter).Counts()
		var syncs, bytes uint64
		fmt.Printf("commit: %s\n", commit.name)
		mu.Lock()
		for _, c := range calls {
			fmt.Printf("\t%s\n", strings.ReplaceAll(c.String(), dir+"/", ""))
			switch c.kind() {
			case "sync":
				syncs++
			case "write":
				bytes += c.Len
			}
		}
		mu.Unlock()
		if after.Fsyncs-before.Fsyncs != syncs || after.Bytes-before.Bytes != bytes {
			return fmt.Errorf("the kernel saw %d syncs and %d bytes, the store counted %d and %d",
				syncs, bytes, after.Fsyncs-before.Fsyncs, after.Bytes-before.Bytes)
		}
	}
	return db.Close()
}
