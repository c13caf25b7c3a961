package postgres_test

import (
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coinop.dev/core/step"
	"coinop.dev/world/store"
	"coinop.dev/world/store/postgres"
	"coinop.dev/world/store/postgres/pgtest"
	"coinop.dev/world/store/storetest"
)

// databaseEnv tells the children of a test which database it uses.
const databaseEnv = "COINOP_POSTGRES_TEST"

func database(t *testing.T) string {
	t.Helper()
	if uri := os.Getenv(databaseEnv); uri != "" {
		return uri
	}
	uri := pgtest.Start(t)
	t.Setenv(databaseEnv, uri)
	return uri
}

func open(uri, machine string) (store.DB, error) {
	u, err := url.Parse(pgtest.Machine(uri, machine))
	if err != nil {
		return nil, err
	}
	return postgres.OpenURL(u)
}

// dirs opens a machine for each directory.
func dirs(uri string) storetest.Open {
	return func(dir string) (store.DB, error) { return open(uri, machine(dir)) }
}

func machine(dir string) string {
	h := fnv.New64a()
	h.Write([]byte(dir))
	return fmt.Sprintf("m%x", h.Sum64())
}

func TestStore(t *testing.T) { storetest.Test(t, dirs(database(t))) }

func TestNewer(t *testing.T) {
	uri := database(t)
	storetest.TestNewer(t, dirs(uri), func(dir, key, value string) error {
		db, err := sql.Open("pgx", uri)
		if err != nil {
			return err
		}
		defer db.Close()
		_, err = db.Exec("UPDATE records SET value = $1 WHERE machine = $2 AND key = $3", []byte(value), machine(dir), []byte(key))
		return err
	})
}

func mustOpen(t *testing.T, uri, machine string) store.DB {
	t.Helper()
	db, err := open(uri, machine)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func record(key, value string) []step.Record {
	return []step.Record{{Key: key, Value: []byte(value)}}
}

func TestMachinesDoNotSeeEachOther(t *testing.T) {
	uri := database(t)
	a, b := mustOpen(t, uri, "a"), mustOpen(t, uri, "b")
	if err := errors.Join(a.Commit(record("k", "a's")), b.Commit(record("k", "b's"))); err != nil {
		t.Fatal(err)
	}
	for want, db := range map[string]store.DB{"a's": a, "b's": b} {
		if got, err := db.Get("k"); string(got) != want || err != nil {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
}

// An index entry holds 2,700 bytes; a key that does not compress may be longer.
func TestLongKeysThatDifferAtTheirEnd(t *testing.T) {
	db := mustOpen(t, database(t), "a")
	long := make([]byte, store.MaxKey-1)
	for i := range long {
		long[i] = byte(i*i>>3 | 1)
	}
	for _, end := range []string{"c", "a", "b"} {
		if err := db.Commit(record(string(long)+end, end)); err != nil {
			t.Fatal(err)
		}
	}
	var got string
	db.Scan(string(long), func(_ string, v []byte) bool { got += string(v); return true })
	if b, err := db.Get(string(long) + "b"); got != "abc" || string(b) != "b" || err != nil {
		t.Errorf("scan %q, get %q, %v", got, b, err)
	}
}

func TestTakeoverEndsTheOtherProcess(t *testing.T) {
	uri := database(t)
	old := mustOpen(t, uri, "a")
	if err := old.Commit(record("k", "1")); err != nil {
		t.Fatal(err)
	}
	if _, err := open(uri, "a"); !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), "takeover=yes") {
		t.Errorf("opened twice: %v", err)
	}
	young := mustOpen(t, uri+"&takeover=yes", "a")
	if err := old.Commit(record("k", "old")); err == nil {
		t.Error("the old process wrote after the takeover")
	}
	if err := old.Commit(record("k", "old")); !errors.Is(err, store.ErrFailed) {
		t.Errorf("and again: %v", err)
	}
	if err := young.Commit(record("k2", "2")); err != nil {
		t.Error(err)
	}
	if got, _ := young.Get("k"); string(got) != "1" {
		t.Errorf("k is %q", got)
	}
}

// A pooler may give the lock's session to somebody else; the epoch still holds.
func TestAnEpochThatIsOverWritesNothing(t *testing.T) {
	uri := database(t)
	old := mustOpen(t, uri, "a")
	exec(t, uri, "UPDATE machines SET epoch = epoch + 1")
	if err := old.Commit(record("k", "old")); !errors.Is(err, store.ErrLocked) {
		t.Errorf("a commit of an old epoch: %v, want ErrLocked", err)
	}
	if got, _ := old.Get("k"); got != nil {
		t.Errorf("it wrote %q", got)
	}
	if err := old.Commit(record("k", "old")); !errors.Is(err, store.ErrFailed) {
		t.Errorf("and again: %v", err)
	}
}

func exec(t *testing.T, uri, statement string) {
	t.Helper()
	db, err := sql.Open("pgx", uri)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

// TestACutNetwork cuts the cable under a machine that commits as fast as it can,
// several times. Each time the store stops, and when it is opened again all that
// was acknowledged is there, and at most the one commit whose answer was lost.
func TestACutNetwork(t *testing.T) {
	uri := database(t)
	proxy := pgtest.NewProxy(t, uri)
	for round := range 5 {
		proxy.Mend()
		db, err := open(proxy.URI, "a")
		if err != nil {
			t.Fatal(err)
		}
		var acked atomic.Int64
		time.AfterFunc(time.Duration(20+7*round)*time.Millisecond, proxy.Cut)
		for err == nil {
			next := acked.Load() + 1
			if err = db.Commit(record(fmt.Sprintf("%d/%06d", round, next), "x")); err == nil {
				acked.Store(next)
			}
		}
		if errors.Is(err, store.ErrFailed) {
			t.Errorf("the first failure is %v", err)
		}
		proxy.Mend() // the network is well again; the store is not
		if err := db.Commit(record("later", "x")); !errors.Is(err, store.ErrFailed) {
			t.Errorf("a commit after the cut: %v, want ErrFailed", err)
		}
		db.Close()
		again := mustOpen(t, uri, "a")
		found := int64(0)
		again.Scan(fmt.Sprintf("%d/", round), func(string, []byte) bool { found++; return true })
		if got := acked.Load(); found != got && found != got+1 {
			t.Errorf("round %d: %d commits were acknowledged and %d are there", round, got, found)
		}
		if later, _ := again.Get("later"); later != nil {
			t.Error("a failed store wrote")
		}
		again.Close()
	}
}

func TestAServerThatMayLoseCommitsIsRefused(t *testing.T) {
	uri := database(t)
	exec(t, uri, "ALTER SYSTEM SET fsync = off")
	exec(t, uri, "SELECT pg_reload_conf()")
	defer func() {
		exec(t, uri, "ALTER SYSTEM RESET fsync")
		exec(t, uri, "SELECT pg_reload_conf()")
		time.Sleep(100 * time.Millisecond)
	}()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		db, err := open(uri, "a")
		if err == nil {
			db.Close()
		} else if strings.Contains(err.Error(), "fsync = off") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("without fsync: %v", err)
		}
	}
}

func TestErrorsSayWhatToDoAndHideThePassword(t *testing.T) {
	for uri, want := range map[string]string{
		"postgres://u:hush@127.0.0.1:1/db":                     "machine=NAME",
		"postgres://u:hush@127.0.0.1:1/db?machine=Bad!":        "machine=NAME",
		"postgres://u:hush@127.0.0.1:1/db?machine=a":           "connect",
		"postgres://u:hush@127.0.0.1:1/db?machine=a&sslmode=x": "sslmode",
	} {
		u, _ := url.Parse(uri)
		_, err := postgres.OpenURL(u)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v, want %q and no password", uri, err, want)
		}
	}
}
