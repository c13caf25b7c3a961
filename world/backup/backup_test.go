package backup_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coinop.dev/core/keys"
	core "coinop.dev/core/lightning/backup"
	"coinop.dev/core/step"
	"coinop.dev/world/backup"
)

func sealed(t *testing.T, change uint64) []byte {
	k, err := keys.NewSecret(strings.NewReader(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	return (&core.Backup{Change: change}).Seal(k, 0)
}

// The newest wins, and nothing that is there is lost for something older.
func TestTheNewestWins(t *testing.T) {
	f := backup.File(filepath.Join(t.TempDir(), "usb", "channels.backup"))
	if _, err := f.Read(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for _, change := range []uint64{1, 2, 2, 9} {
		if err := f.Write(sealed(t, change)); err != nil {
			t.Fatal(err)
		}
	}
	err := f.Write(sealed(t, 8))
	if !errors.Is(err, backup.ErrNewer) || !strings.Contains(err.Error(), "change 9, and the store is at change 8") {
		t.Errorf("an older one: %v", err)
	}
	if got, err := f.Read(); err != nil || !bytes.Equal(got, sealed(t, 9)) {
		t.Errorf("%x, %v", got, err)
	}
	info, err := os.Stat(string(f))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := f.Write([]byte("not a backup")); err == nil {
		t.Error("anything is written")
	}
}

// A wrong path in the config costs nobody a file.
func TestSomebodyElsesFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "photo.jpg")
	if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := backup.File(path).Write(sealed(t, 1)); err == nil {
		t.Error("it was overwritten")
	}
	if err := os.Truncate(path, core.MaxSize+1); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.File(path).Read(); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("a large one: %v", err)
	}
}

// What a crash leaves beside the file is replaced, and a full disk is reported.
func TestOutlet(t *testing.T) {
	dir := t.TempDir()
	f := backup.File(filepath.Join(dir, "b"))
	if err := os.WriteFile(string(f)+".new", []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	var failures []error
	out := f.Outlet(func(err error) { failures = append(failures, err) })
	out(step.Packet{Msg: core.Copy{Sealed: sealed(t, 1)}})
	out(step.Packet{Msg: core.Copy{Sealed: sealed(t, 7), From: "peer/02"}})
	if len(failures) > 0 {
		t.Fatal(failures)
	}
	own, err := f.Read()
	theirs, err2 := (f + backup.Returned).Read()
	if !bytes.Equal(own, sealed(t, 1)) || !bytes.Equal(theirs, sealed(t, 7)) {
		t.Error(err, err2)
	}
	out = backup.File(filepath.Join(string(f), "below", "a file")).Outlet(func(err error) { failures = append(failures, err) })
	out(step.Packet{Msg: core.Copy{Sealed: sealed(t, 2)}})
	if len(failures) != 1 {
		t.Error("nobody hears that a backup failed")
	}
}
