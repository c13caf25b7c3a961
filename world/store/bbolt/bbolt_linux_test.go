package bbolt

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"coinop.dev/core/step"
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

// bbolt grows its file before it writes to the new end of it.
func TestFaultInGrowing(t *testing.T) {
	storetest.TestFault(t, openDir, "resize", "ENOSPC", "", 0)
}

func TestNewer(t *testing.T) {
	storetest.TestNewer(t, openDir, func(dir, key, value string) error {
		db, err := bbolt.Open(filepath.Join(dir, "state"), 0o600, nil)
		if err != nil {
			return err
		}
		defer db.Close()
		return db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put([]byte(key), []byte(value)) })
	})
}

func TestOnlyTheOwnerReadsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "deep", "state")
	db, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v, want %v", name, info.Mode().Perm(), err, want)
		}
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

func TestNoCommitBuildsOnAFailedOne(t *testing.T) {
	db, err := Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	db.file.failed = true // as if another commit had failed just now
	if err := db.Commit([]step.Record{{Key: "a", Value: []byte("1")}}); err == nil {
		t.Error("a commit built on a failed one")
	}
}
