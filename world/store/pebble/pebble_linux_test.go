package pebble

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"coinop.dev/world/store"
	"coinop.dev/world/store/storetest"
)

func openDir(dir string) (store.DB, error) {
	db, err := Open(filepath.Join(dir, "state"))
	if err != nil {
		return nil, err // a nil *DB would be a store.DB that is not nil
	}
	return db, nil
}

func TestStore(t *testing.T)   { storetest.Test(t, openDir) }
func TestProcess(t *testing.T) { storetest.TestProcess(t, openDir) }
func TestFaults(t *testing.T)  { storetest.TestFaults(t, openDir) }
func TestCalls(t *testing.T)   { storetest.TestCalls(t, openDir) }

// The log is well and the tables are not: pebble would try again for ever and
// keep commits waiting.
func TestFaultInATable(t *testing.T) {
	storetest.TestFault(t, openDir, "write", "ENOSPC", ".sst", 0)
}

// A list of tables that cannot be written is fatal to pebble, not to us.
func TestFaultInTheManifest(t *testing.T) {
	storetest.TestFault(t, openDir, "sync", "EIO", "MANIFEST-000001", 0)
}

func TestNewer(t *testing.T) {
	storetest.TestNewer(t, openDir, func(dir, key, value string) error {
		db, err := pebble.Open(filepath.Join(dir, "state"), options(newDisk()))
		if err != nil {
			return err
		}
		defer db.Close()
		return db.Set([]byte(key), []byte(value), pebble.Sync)
	})
}

func TestOnlyTheOwnerReadsTheFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "deep")
	db, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, want 0600", f.Name(), info.Mode().Perm())
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%s: mode %v, %v, want 0700", dir, info.Mode().Perm(), err)
	}
}

func BenchmarkCommit(b *testing.B) {
	for _, shape := range []struct{ records, size int }{{1, 200}, {256, 100}} {
		b.Run(fmt.Sprintf("%dx%dB", shape.records, shape.size), func(b *testing.B) {
			db, err := openDir(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			storetest.Bench(b, db, b.N, shape.records, shape.size)
		})
	}
}

// BenchmarkMillion is what chose the sizes in options.go: run it with
// -benchtime 1x, and look at the memory that is left.
func BenchmarkMillion(b *testing.B) {
	const million, perCommit = 1_000_000, 256
	for b.Loop() {
		db, err := openDir(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		storetest.Bench(b, db, million/perCommit, perCommit, 100)
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
