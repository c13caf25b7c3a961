// Package storetest is what every store must pass: Test for the promises of
// store.DB, TestProcess for a process that dies or competes, TestFaults for a
// disk that fails, TestCalls for the exact calls a commit makes on the disk.
package storetest

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"coinop.dev/core/step"
	"coinop.dev/world/store"
)

// Open opens the store under test in dir, which is there. Opening the same dir
// again must show the same records.
type Open func(dir string) (store.DB, error)

var update = flag.Bool("update", false, "accept the golden files as they come out now")

// Test checks the promises of store.DB.
func Test(t *testing.T, open Open) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Open)
	}{
		{"get, set and delete", testGetSetDelete},
		{"an empty value is not a missing one", testEmptyValue},
		{"the later of two records wins", testLaterWins},
		{"scan", testScan},
		{"scan of awkward prefixes", testScanBytes},
		{"large values", testLargeValues},
		{"a commit of 10,000 records", testLargeCommit},
		{"reopen", testReopen},
		{"refused commits change nothing", testRefused},
		{"caller keeps its slices", testSlices},
		{"readers beside a writer", testConcurrent},
		{"use after close", testClosed},
		{"counts", testCounts},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open) })
	}
}

// TestNewer checks that a store of a later format is refused in plain words.
// poke writes a record past the guard into the closed store in dir.
func TestNewer(t *testing.T, open Open, poke func(dir, key, value string) error) {
	dir := t.TempDir()
	must(t, mustOpen(t, open, dir).Close())
	must(t, poke(dir, store.FormatKey, fmt.Sprint(store.Format+1)))
	_, err := open(dir)
	if !errors.Is(err, store.ErrNewer) {
		t.Fatalf("a newer store: got %v, want ErrNewer", err)
	}
	for _, word := range []string{fmt.Sprintf("format is %d", store.Format+1), fmt.Sprintf("up to %d", store.Format), "use the newer coinop"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
	must(t, poke(dir, store.FormatKey, "bitten"))
	if _, err := open(dir); err == nil || errors.Is(err, store.ErrNewer) {
		t.Errorf("a damaged format: got %v, want an error that is not ErrNewer", err)
	}
	must(t, poke(dir, store.FormatKey, fmt.Sprint(store.Format)))
	must(t, mustOpen(t, open, dir).Close())
}

func testGetSetDelete(t *testing.T, open Open) {
	db := opened(t, open)
	wantValue(t, db, "a", nil)
	put(t, db, "a", "1", "b", "2")
	wantValue(t, db, "a", []byte("1"))
	must(t, db.Commit([]step.Record{{Key: "a"}, {Key: "never there"}, {Key: "c", Value: []byte("3")}}))
	wantValue(t, db, "a", nil)
	wantScan(t, db, "", "b=2", "c=3")
	put(t, db, "b", "22")
	wantScan(t, db, "", "b=22", "c=3")
}

func testEmptyValue(t *testing.T, open Open) {
	db := opened(t, open)
	must(t, db.Commit([]step.Record{{Key: "empty", Value: []byte{}}}))
	wantValue(t, db, "empty", []byte{})
	wantScan(t, db, "", "empty=")
	must(t, db.Commit([]step.Record{{Key: "empty", Value: nil}}))
	wantValue(t, db, "empty", nil)
}

func testLaterWins(t *testing.T, open Open) {
	db := opened(t, open)
	put(t, db, "a", "1", "a", "2")
	wantValue(t, db, "a", []byte("2"))
	must(t, db.Commit([]step.Record{{Key: "a", Value: []byte("3")}, {Key: "a"}}))
	wantValue(t, db, "a", nil)
}

func testScan(t *testing.T, open Open) {
	db := opened(t, open)
	put(t, db, "b/2", "4", "a", "1", "b", "2", "b/1", "3", "c", "6", "b0", "5")
	wantScan(t, db, "", "a=1", "b=2", "b/1=3", "b/2=4", "b0=5", "c=6")
	wantScan(t, db, "b", "b=2", "b/1=3", "b/2=4", "b0=5")
	wantScan(t, db, "b/", "b/1=3", "b/2=4")
	wantScan(t, db, "bb")
	wantScan(t, db, "d")
	calls := 0
	must(t, db.Scan("b", func(string, []byte) bool { calls++; return calls < 2 }))
	if calls != 2 {
		t.Errorf("yield said stop at call 2 and was called %d times", calls)
	}
}

func testScanBytes(t *testing.T, open Open) {
	db := opened(t, open)
	put(t, db, "\x01", "1", "a\xfe", "2", "a\xff", "3", "a\xff\xff", "4", "b", "5", "\xff", "6", "\xff\xff", "7")
	wantScan(t, db, "a\xff", "a\xff=3", "a\xff\xff=4")
	wantScan(t, db, "\xff", "\xff=6", "\xff\xff=7")
	wantScan(t, db, "\xff\xff", "\xff\xff=7")
	wantScan(t, db, "\x01", "\x01=1")
	wantScan(t, db, "\x00")
	wantScan(t, db, store.FormatKey)
	wantValue(t, db, store.FormatKey, nil)
}

func testLargeValues(t *testing.T, open Open) {
	dir := t.TempDir()
	db := mustOpen(t, open, dir)
	large := func(i int) []byte { return bytes.Repeat([]byte{byte(i), 1, 2, 3}, 16<<10) }
	for i := range 8 {
		must(t, db.Commit([]step.Record{{Key: fmt.Sprint(i), Value: large(i)}}))
	}
	must(t, db.Close())
	db = mustOpen(t, open, dir)
	defer db.Close()
	for i := range 8 {
		wantValue(t, db, fmt.Sprint(i), large(i))
	}
	key := strings.Repeat("k", store.MaxKey)
	put(t, db, key, "longest")
	wantValue(t, db, key, []byte("longest"))
}

func testLargeCommit(t *testing.T, open Open) {
	const n = 10_000
	dir := t.TempDir()
	db := mustOpen(t, open, dir)
	records := make([]step.Record, n)
	for i := range records {
		records[i] = step.Record{Key: fmt.Sprintf("k%05d", i), Value: bytes.Repeat([]byte{byte(i)}, 100)}
	}
	must(t, db.Commit(records))
	must(t, db.Close())
	db = mustOpen(t, open, dir)
	defer db.Close()
	i := 0
	must(t, db.Scan("k", func(key string, value []byte) bool {
		if key != records[i].Key || !bytes.Equal(value, records[i].Value) {
			t.Fatalf("record %d is %s=%x", i, key, value)
		}
		i++
		return true
	}))
	if i != n {
		t.Fatalf("%d records of %d came back", i, n)
	}
}

func testReopen(t *testing.T, open Open) {
	dir := t.TempDir()
	var want []string
	for i := range 5 {
		db := mustOpen(t, open, dir)
		wantScan(t, db, "", want...)
		put(t, db, fmt.Sprint("k", i), fmt.Sprint(i))
		want = append(want, fmt.Sprintf("k%d=%d", i, i))
		must(t, db.Close())
	}
}

func testRefused(t *testing.T, open Open) {
	db := opened(t, open)
	good := step.Record{Key: "good", Value: []byte("1")}
	big := make([]byte, store.MaxCommit/2)
	for name, bad := range map[string][]step.Record{
		"empty key":      {good, {Key: "", Value: []byte("1")}},
		"reserved key":   {good, {Key: "\x00mine", Value: []byte("1")}},
		"format":         {good, {Key: store.FormatKey, Value: []byte("9")}},
		"deleted format": {good, {Key: store.FormatKey}},
		"long key":       {good, {Key: strings.Repeat("k", store.MaxKey+1), Value: []byte("1")}},
		"big commit":     {good, {Key: "a", Value: big}, {Key: "b", Value: big}},
	} {
		if err := db.Commit(bad); !errors.Is(err, store.ErrRefused) {
			t.Errorf("%s: got %v, want ErrRefused", name, err)
		}
	}
	wantScan(t, db, "")
	must(t, db.Commit(nil))
	put(t, db, "good", "2")
}

func testSlices(t *testing.T, open Open) {
	db := opened(t, open)
	value := []byte("mine")
	must(t, db.Commit([]step.Record{{Key: "a", Value: value}}))
	value[0] = 'X'
	got, err := db.Get("a")
	must(t, err)
	got[1] = 'Y'
	wantValue(t, db, "a", []byte("mine"))
}

// testConcurrent writes pairs that must always be seen equal.
func testConcurrent(t *testing.T, open Open) {
	const writers, rounds = 4, 25
	db := opened(t, open)
	var writing, reading sync.WaitGroup
	stop := make(chan struct{})
	for w := range writers {
		writing.Go(func() {
			for i := range rounds {
				v := []byte(fmt.Sprint(i))
				if err := db.Commit([]step.Record{{Key: fmt.Sprint(w, "/x"), Value: v}, {Key: fmt.Sprint(w, "/y"), Value: v}}); err != nil {
					t.Error(err)
				}
			}
		})
		reading.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				var values []string
				if err := db.Scan(fmt.Sprint(w, "/"), func(_ string, v []byte) bool { values = append(values, string(v)); return true }); err != nil {
					t.Error(err)
				}
				if len(values) == 1 || len(values) == 2 && values[0] != values[1] {
					t.Errorf("half a commit: %q", values)
				}
				if _, err := db.Get(fmt.Sprint(w, "/x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	close(stop)
	reading.Wait()
	for w := range writers {
		wantValue(t, db, fmt.Sprint(w, "/y"), []byte(fmt.Sprint(rounds-1)))
	}
}

func testClosed(t *testing.T, open Open) {
	db := opened(t, open)
	put(t, db, "a", "1")
	must(t, db.Close())
	must(t, db.Close())
	_, getErr := db.Get("a")
	for name, err := range map[string]error{
		"Commit": db.Commit([]step.Record{{Key: "a"}}),
		"Get":    getErr,
		"Scan":   db.Scan("", func(string, []byte) bool { t.Error("yield called"); return true }),
	} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s after Close: got %v, want ErrClosed", name, err)
		}
	}
}

func testCounts(t *testing.T, open Open) {
	db := opened(t, open)
	before := db.(store.Counter).Counts()
	for range 3 {
		put(t, db, "a", "1")
	}
	if got := db.(store.Counter).Counts(); got.Commits != before.Commits+3 {
		t.Errorf("3 commits were counted as %d", got.Commits-before.Commits)
	}
}

func opened(t *testing.T, open Open) store.DB {
	t.Helper()
	db := mustOpen(t, open, t.TempDir())
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

func mustOpen(t *testing.T, open Open, dir string) store.DB {
	t.Helper()
	db, err := open(dir)
	must(t, err)
	return db
}

// put commits keysAndValues as one.
func put(t *testing.T, db store.DB, keysAndValues ...string) {
	t.Helper()
	var records []step.Record
	for i := 0; i < len(keysAndValues); i += 2 {
		records = append(records, step.Record{Key: keysAndValues[i], Value: []byte(keysAndValues[i+1])})
	}
	must(t, db.Commit(records))
}

func wantValue(t *testing.T, db store.DB, key string, want []byte) {
	t.Helper()
	got, err := db.Get(key)
	must(t, err)
	if !bytes.Equal(got, want) || (got == nil) != (want == nil) {
		t.Errorf("%.40q is %.40q (missing: %t), want %.40q (missing: %t)", key, got, got == nil, want, want == nil)
	}
}

func wantScan(t *testing.T, db store.DB, prefix string, want ...string) {
	t.Helper()
	var got []string
	must(t, db.Scan(prefix, func(key string, value []byte) bool {
		got = append(got, key+"="+string(value))
		return true
	}))
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("scan of %q gave %q, want %q", prefix, got, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// golden compares got with testdata/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if got != string(want) {
		t.Errorf("%s differs; if the change is meant, run go test with -update.\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}
