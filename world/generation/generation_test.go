package generation_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/core/step"
	"coinop.dev/world/generation"
)

// db is a store with one record that can be copied, and that dies on request.
type db struct {
	value []byte
	dies  bool
}

var errDied = errors.New("died")

func (d *db) Get(string) ([]byte, error) { return d.value, nil }

func (d *db) Scan(string, func(string, []byte) bool) error { return nil }

func (d *db) Close() error { return nil }

func (d *db) Commit(records []step.Record) error {
	if d.dies {
		return errDied
	}
	d.value = records[0].Value
	return nil
}

// counter is one in memory that dies on request: before its write, or after it.
type counter struct {
	n    uint64
	dies bool
	late bool
}

func (c *counter) Read() (uint64, error) { return c.n, nil }

func (c *counter) String() string { return "the counter" }

func (c *counter) Write(n uint64) error {
	if c.dies && !c.late {
		return errDied
	}
	c.n = n
	if c.dies {
		return errDied
	}
	return nil
}

// A machine is started again and again, and dies anywhere on the way. It is
// always let in.
func TestHonestMachinesAlwaysStart(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		d, c := &db{}, &counter{}
		last := uint64(0)
		for range 30 {
			d.dies, c.dies, c.late = r.IntN(4) == 0, r.IntN(3) == 0, r.IntN(2) == 0
			n, err := generation.Begin(d, c)
			switch {
			case err == nil && n <= last:
				t.Fatalf("start %d follows start %d", n, last)
			case err == nil:
				last = n
			case !errors.Is(err, errDied):
				t.Fatalf("an honest store was refused: %v", err)
			}
		}
	}
}

// Whoever puts back a copy from before the last completed start is refused, at
// whatever point machines died in between. Only a copy of the very last run comes
// through.
func TestOldCopiesAreRefused(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	refused, window := 0, 0
	for range 5000 {
		d, c := &db{}, &counter{}
		type snapshot struct {
			value []byte
			run   int // completed starts before it
		}
		var copies []snapshot
		runs := 0
		for range 2 + r.IntN(8) {
			d.dies, c.dies, c.late = r.IntN(6) == 0, r.IntN(4) == 0, r.IntN(2) == 0
			if _, err := generation.Begin(d, c); err == nil {
				runs++
			}
			copies = append(copies, snapshot{d.value, runs})
		}
		d.dies, c.dies = false, false
		old := copies[r.IntN(len(copies))]
		_, err := generation.Begin(&db{value: old.value}, c)
		var stale *generation.Stale
		switch {
		case old.run < runs && !errors.As(err, &stale):
			t.Fatalf("a copy from run %d of %d was let in: %v", old.run, runs, err)
		case old.run < runs:
			refused++
		case err != nil && !errors.As(err, &stale):
			t.Fatal(err)
		case err == nil:
			window++
		}
	}
	if refused < 1000 || window == 0 {
		t.Errorf("%d refused and %d in the window: the test tries nothing", refused, window)
	}
}

// A refusal names both numbers and what to do, and changes nothing.
func TestTheRefusalSaysWhatToDo(t *testing.T) {
	for _, test := range []struct {
		store, counter uint64
		ok             bool
		says           string
	}{
		{0, 0, true, ""},
		{1, 0, true, ""}, // died in its first start
		{7, 7, true, ""},
		{8, 7, true, ""},
		{6, 7, false, "put the newest store back"},
		{0, 7, false, "put the newest store back"}, // an empty store, where there was one
		{9, 7, false, "set it to 9"},
		{5, 0, false, "set it to 5"}, // the counter was lost
	} {
		d, c := &db{}, &counter{n: test.counter}
		if test.store > 0 {
			d.value = fmt.Append(nil, test.store)
		}
		before := string(d.value)
		n, err := generation.Begin(d, c)
		if test.ok {
			if err != nil || n != test.store+1 {
				t.Errorf("%d and %d: %d, %v", test.store, test.counter, n, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%d and %d were let in", test.store, test.counter)
			continue
		}
		for _, word := range []string{fmt.Sprintf("store is at start %d", test.store), fmt.Sprintf("at start %d:", test.counter), "coinop restore", "--accept-stale", test.says} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%d and %d: %q is not in: %v", test.store, test.counter, word, err)
			}
		}
		if string(d.value) != before || c.n != test.counter {
			t.Error("a refusal changed something")
		}
		// Accepted, both go on from the higher one.
		if n, err := generation.Accept(d, c, 20); n != 21 || err != nil {
			t.Errorf("accept: %d, %v", n, err)
		}
		if n, err := generation.Begin(d, c); n != 22 || err != nil {
			t.Errorf("the start after: %d, %v", n, err)
		}
	}
}

// The counter in a file.
func TestFile(t *testing.T) {
	k, err := keys.NewSecret(strings.NewReader(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	other := k.Derive("other").Public()
	path := filepath.Join(t.TempDir(), "elsewhere", "generation")
	f := generation.File{Path: path, Node: k.Public()}
	if n, err := f.Read(); n != 0 || err != nil {
		t.Errorf("no file: %d, %v", n, err)
	}
	for n := uint64(1); n < 4; n++ {
		if err := f.Write(n); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Read(); got != n || err != nil {
			t.Errorf("%d was read as %d, %v", n, got, err)
		}
	}
	if _, err := (generation.File{Path: path, Node: other}).Read(); err == nil || !strings.Contains(err.Error(), "belongs to the machine with key") {
		t.Errorf("another machine's file: %v", err)
	}
	// What a crash leaves beside it is not read.
	if err := os.WriteFile(path+".new", []byte("start 99"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := f.Read(); n != 3 || err != nil {
		t.Errorf("beside a torn file: %d, %v", n, err)
	}
	for _, bad := range []string{"", "start", "start x of " + k.Public().String(), "start -1 of " + k.Public().String(), strings.Repeat("7", 1000)} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if n, err := f.Read(); err == nil {
			t.Errorf("%.20q is %d", bad, n)
		}
	}
}
