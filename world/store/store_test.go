package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"coinop.dev/core/step"
	"coinop.dev/world/store"
	_ "coinop.dev/world/store/all"
	"coinop.dev/world/store/mem"
)

func TestEachSchemeOpens(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, uri := range []string{
		"mem:", "bbolt://" + filepath.Join(t.TempDir(), "a", "b"), "bbolt:dir/state%201",
		"pebble://" + filepath.Join(t.TempDir(), "c", "d"), "pebble:tree",
	} {
		db, err := store.Default.Open(uri)
		if err != nil {
			t.Errorf("%s: %v", uri, err)
			continue
		}
		if err := errors.Join(db.Commit([]step.Record{{Key: "a", Value: []byte("1")}}), db.Close()); err != nil {
			t.Errorf("%s: %v", uri, err)
		}
	}
	for _, path := range []string{"dir/state 1", "tree"} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for uri, want := range map[string]string{
		"redis:x":            "bbolt, mem, pebble",
		"":                   "bbolt, mem, pebble",
		"%zz":                "is not a URI",
		"mem:x":              "write mem:",
		"bbolt:":             "no path",
		"bbolt://rel/state":  "names a host",
		"bbolt:/a?sync=off":  "has options",
		"bbolt:a%zz":         "invalid URL escape",
		"bbolt:file/state":   "file is a file",
		"pebble:file":        "file is a file",
		"pebble:file/deeper": "not a directory",
	} {
		_, err := store.Default.Open(uri)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want it to say %q", uri, err, want)
		}
	}
}

func TestRegisterPanicsOnMistakes(t *testing.T) {
	r := store.Registry{}
	r.Register("mem", mem.OpenURL)
	for name, register := range map[string]func(){
		"nil":       func() { r.Register("x", nil) },
		"duplicate": func() { r.Register("mem", mem.OpenURL) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			register()
		}()
	}
}

// flaky is a backend whose first commit fails, and no other.
type flaky struct {
	store.DB
	commits int
}

var errDisk = errors.New("disk on fire")

func (f *flaky) Get(string) ([]byte, error) { return []byte(strconv.Itoa(store.Format)), nil }

func (f *flaky) Commit([]step.Record) error {
	if f.commits++; f.commits == 1 {
		return errDisk
	}
	return nil
}

func TestNothingIsCommittedAfterAFailure(t *testing.T) {
	disk := &flaky{}
	db, err := store.NewGuard("flaky:", disk)
	if err != nil {
		t.Fatal(err)
	}
	records := []step.Record{{Key: "a", Value: []byte("1")}}
	if err := db.Commit(records); !errors.Is(err, errDisk) || errors.Is(err, store.ErrFailed) {
		t.Errorf("first failure: %v", err)
	}
	for range 2 {
		if err := db.Commit(records); !errors.Is(err, store.ErrFailed) || !strings.Contains(err.Error(), "on fire") {
			t.Errorf("later: %v, want ErrFailed and the first cause", err)
		}
	}
	if disk.commits != 1 || db.Commits() != 0 {
		t.Errorf("the backend got %d commits and %d succeeded, want 1 and 0", disk.commits, db.Commits())
	}
}

func FuzzRange(f *testing.F) {
	f.Add("a\xff", "b")
	f.Add("", "\x00")
	f.Add("\xff", "\xff\xff")
	f.Fuzz(func(t *testing.T, prefix, key string) {
		start, end := store.Range(prefix)
		in := key >= start && (end == "" || key < end)
		if want := strings.HasPrefix(key, prefix) && key >= "\x01"; in != want {
			t.Errorf("prefix %q, key %q: in the range %t, want %t", prefix, key, in, want)
		}
	})
}
