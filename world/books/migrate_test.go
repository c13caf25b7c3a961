package books

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coinop.dev/core/journal"
	"coinop.dev/world/store/postgres/pgtest"
)

func TestOlderBooksAreCopiedAndChanged(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "books.db")
	for _, uri := range []string{"sqlite://" + path, pgtest.Start(t)} {
		b, err := Open(ctx, uri, "gate")
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		copied := 0
		backup := func(_ context.Context, version int) error { copied = version; return nil }
		bad := append(migrations(), "CREATE TABLE extra (n BIGINT)", "NONSENSE")
		if err := b.migrate(ctx, bad, backup); err == nil || !strings.Contains(err.Error(), "to version 4") {
			t.Errorf("a step that fails: %v", err)
		}
		if v, err := b.version(ctx, migrations()); v != 2 || err != nil {
			t.Errorf("after it the version is %d, %v", v, err)
		}
		if err := b.migrate(ctx, bad[:3], backup); err != nil || copied != 2 {
			t.Errorf("a good step: %v; the copy is of version %d", err, copied)
		}
		if _, err := Open(ctx, uri, "gate"); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "version is 3") {
			t.Errorf("opened by an older build: %v", err)
		}
	}
}

func TestTheCopyIsWholeBooks(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "books.db")
	b := &Books{gateway: "gate"}
	opened, err := Open(ctx, "sqlite://"+path, "gate")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := opened.PutDevice(ctx, "pump", "{}", 0, 1); err != nil {
		t.Fatal(err)
	}
	opened.Close()
	u, _ := url.Parse("sqlite://" + path)
	backup, err := b.openSQLite(ctx, u)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for range 2 { // the second takes the place of the first
		if err := b.migrate(ctx, append(migrations(), "CREATE TABLE extra (n BIGINT)"), backup); err != nil {
			t.Fatal(err)
		}
	}
	old, err := Open(ctx, "sqlite://"+path+".v2.backup", "gate")
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if list, err := old.Devices(ctx, 0); len(list) != 1 || err != nil {
		t.Errorf("the copy has %d devices, %v", len(list), err)
	}
	if info, err := os.Stat(path + ".v2.backup"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the copy's mode is %v, %v", info.Mode(), err)
	}
}

func TestEventsBeyondTheLimitAreForgottenAndThatIsSaid(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b, err := Open(ctx, "sqlite://"+filepath.Join(t.TempDir(), "books.db"), "gate")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	event := func(n uint64) []journal.Event {
		return []journal.Event{{N: n, At: 1, Type: journal.DeviceSeen, Subject: "pump"}}
	}
	if err := b.PutEndpoint(ctx, Endpoint{ID: "all"}); err != nil {
		t.Fatal(err)
	}
	b.Apply(ctx, event(1))
	if _, err := b.write.Exec("UPDATE counters SET value = ? WHERE name = 'events'", KeepEvents+1999); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Apply(ctx, event(2)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Events(ctx, 1, 10, nil); !errors.Is(err, ErrForgotten) {
		t.Errorf("after an event that is gone: %v", err)
	}
	if list, next, err := b.Events(ctx, 0, 10, nil); err != nil || len(list) != 1 || next != KeepEvents+2000 {
		t.Errorf("from the beginning: %d events up to %d, %v", len(list), next, err)
	}
	if list, err := b.Deliveries(ctx, "all", 0, 10); err != nil || len(list) != 1 {
		t.Errorf("%d deliveries, %v", len(list), err)
	}
}
