// Package secrettest is what every home of secrets must pass: Test for the promises
// of secret.Home, TestSealed for a home whose files say nothing, TestRollback for a
// counter that does not come back with an old disk image.
package secrettest

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/core/step"
	"coinop.dev/world/generation"
	"coinop.dev/world/secret"
	"coinop.dev/world/store/bbolt"
)

// Open opens the home under test; what it keeps on disk is in dir. Opening the same
// dir again must show the same secret.
type Open func(dir string) (secret.Home, error)

// Seed makes a random secret.
func Seed(t testing.TB, size int) secret.Seed {
	t.Helper()
	b := make([]byte, size)
	rand.Read(b)
	s, err := secret.NewSeed(b)
	must(t, err)
	return s
}

// Test checks the promises of secret.Home.
func Test(t *testing.T, open Open) {
	t.Run("an empty home says so", func(t *testing.T) {
		h := opened(t, open, t.TempDir())
		if s, err := h.Load(); !errors.Is(err, secret.ErrEmpty) || !errors.Is(err, fs.ErrNotExist) || !s.IsZero() {
			t.Errorf("got %v, want ErrEmpty", err)
		}
	})
	t.Run("what is stored is there after it", func(t *testing.T) {
		for _, size := range []int{secret.MinSize, secret.MaxSize} {
			dir, s := t.TempDir(), Seed(t, size)
			h := opened(t, open, dir)
			must(t, h.Store(s))
			same(t, h, s)
			must(t, h.Close())
			same(t, opened(t, open, dir), s)
		}
	})
	t.Run("nothing is written over", func(t *testing.T) {
		dir, s := t.TempDir(), Seed(t, 32)
		h := opened(t, open, dir)
		must(t, h.Store(s))
		for _, again := range []secret.Home{h, opened(t, open, dir)} {
			if err := again.Store(Seed(t, 32)); !errors.Is(err, secret.ErrFull) {
				t.Errorf("a second secret: got %v, want ErrFull", err)
			}
		}
		same(t, opened(t, open, dir), s)
	})
	t.Run("of two that store at once one wins", func(t *testing.T) { testRace(t, open) })
	t.Run("a wiped secret is not stored", func(t *testing.T) {
		h, s := opened(t, open, t.TempDir()), Seed(t, 32)
		s.Wipe()
		if err := h.Store(s); err == nil {
			t.Error("a secret of no bytes was stored")
		}
		if _, err := h.Load(); !errors.Is(err, secret.ErrEmpty) {
			t.Errorf("after it: got %v, want ErrEmpty", err)
		}
	})
	t.Run("what is loaded is the caller's to wipe", func(t *testing.T) {
		h, s := opened(t, open, t.TempDir()), Seed(t, 64)
		must(t, h.Store(s))
		loaded, err := h.Load()
		must(t, err)
		loaded.Wipe()
		same(t, h, s)
	})
	t.Run("a machine makes its key once", func(t *testing.T) {
		dir := t.TempDir()
		key, err := secret.MachineKey(opened(t, open, dir), rand.Reader)
		must(t, err)
		again, err := secret.MachineKey(opened(t, open, dir), rand.Reader)
		must(t, err)
		if key.Public() != again.Public() {
			t.Error("the second start has another key")
		}
	})
	t.Run("a cut off attempt is not in the way", func(t *testing.T) {
		dir, s := t.TempDir(), Seed(t, 32)
		must(t, os.WriteFile(filepath.Join(dir, ".key.new123"), []byte("half"), 0o600))
		must(t, opened(t, open, dir).Store(s))
		same(t, opened(t, open, dir), s)
	})
	t.Run("nothing prints", func(t *testing.T) { testPrints(t, open) })
}

func testRace(t *testing.T, open Open) {
	dir := t.TempDir()
	h := opened(t, open, dir)
	seeds := []secret.Seed{Seed(t, 32), Seed(t, 32)}
	won := make([]bool, len(seeds))
	var wait sync.WaitGroup
	for i, s := range seeds {
		wait.Go(func() {
			err := h.Store(s)
			if won[i] = err == nil; !won[i] && !errors.Is(err, secret.ErrFull) {
				t.Errorf("the loser got %v, want ErrFull", err)
			}
		})
	}
	wait.Wait()
	winners := 0
	for i, s := range seeds {
		if won[i] {
			winners++
			same(t, opened(t, open, dir), s)
		}
	}
	if winners != 1 {
		t.Errorf("%d of %d stores succeeded", winners, len(seeds))
	}
}

func testPrints(t *testing.T, open Open) {
	h, s := opened(t, open, t.TempDir()), Seed(t, 32)
	must(t, h.Store(s))
	loaded, err := h.Load()
	must(t, err)
	type owner struct {
		Open   secret.Seed
		closed secret.Seed
		h      secret.Home
	}
	_, marshal := json.Marshal(owner{Open: loaded})
	text := fmt.Sprint(marshal, h.Store(s))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		text += fmt.Sprintf(verb+verb+verb, loaded, owner{loaded, loaded, h}, h)
	}
	if marshal == nil {
		t.Error("a secret marshals")
	}
	clean(t, "what is printed", []byte(text), s)
}

// TestSealed checks that the files of a home can be read by its owner only and do not
// have the secret in them.
func TestSealed(t *testing.T, open Open) {
	dir, s := t.TempDir(), Seed(t, 32)
	must(t, opened(t, open, dir).Store(s))
	files := 0
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %04o", path, info.Mode().Perm())
		}
		raw, err := os.ReadFile(path)
		must(t, err)
		clean(t, path, raw, s)
		files++
		if err := os.Chmod(path, 0o640); err != nil {
			return err
		}
		_, err = opened(t, open, dir).Load()
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte("chmod 600 "+path)) {
			t.Errorf("%s can be read by the group, and Load says %v", path, err)
		}
		return os.Chmod(path, 0o600)
	}))
	if files != 1 {
		t.Errorf("the home has %d files, want one", files)
	}
}

// TestRollback puts old disk images back: the store and the home's files, all that is
// in the directory. Each is refused before anything is signed.
func TestRollback(t *testing.T, open Open) {
	dir := t.TempDir()
	m := machine{open: open}
	n, err := m.start(t, dir)
	if n != 1 || err != nil {
		t.Fatalf("the first start is number %d, %v", n, err)
	}
	var images []string
	for want := uint64(2); want < 6; want++ {
		image := t.TempDir()
		must(t, os.CopyFS(image, os.DirFS(dir)))
		must(t, filepath.WalkDir(image, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				return os.Chmod(path, 0o600)
			}
			return err
		}))
		images = append(images, image)
		if n, err := m.start(t, dir); n != want || err != nil {
			t.Fatalf("start %d is number %d, %v", want, n, err)
		}
	}
	signed := m.signed
	for i, image := range images {
		_, err := m.start(t, image)
		var stale *generation.Stale
		if !errors.As(err, &stale) || stale.Store != uint64(i+1) || stale.Counter != 5 {
			t.Errorf("the image from start %d: got %v, want it refused at start %d of 5", i+1, err, i+1)
		}
	}
	if m.signed != signed {
		t.Error("an old image signed something")
	}
	// The disk that is up to date goes on.
	if n, err := m.start(t, dir); n != 6 || err != nil {
		t.Errorf("after the refusals: start %d, %v", n, err)
	}
	t.Run("an empty disk with the same home", func(t *testing.T) {
		empty := t.TempDir()
		must(t, os.CopyFS(empty, os.DirFS(dir)))
		must(t, os.Chmod(filepath.Join(empty, "key"), 0o600))
		must(t, os.Remove(filepath.Join(empty, "state")))
		var stale *generation.Stale
		if _, err := m.start(t, empty); !errors.As(err, &stale) {
			t.Errorf("got %v, want it refused", err)
		}
	})
}

// A machine starts as cmd/coinop does: key, store, count, and only then it signs.
type machine struct {
	open   Open
	signed int
}

func (m *machine) start(t *testing.T, dir string) (uint64, error) {
	t.Helper()
	h := opened(t, m.open, dir)
	defer h.Close()
	key, err := secret.MachineKey(h, rand.Reader)
	if err != nil {
		return 0, err
	}
	db, err := bbolt.Open(filepath.Join(dir, "state"))
	must(t, err)
	defer db.Close()
	n, err := generation.Begin(db, h.Counter(key.Public()))
	if err != nil {
		return 0, err
	}
	sig := key.Sign(keys.Digest("start", fmt.Append(nil, n)))
	m.signed++
	return n, db.Commit([]step.Record{{Key: "signed", Value: sig[:]}})
}

// Count checks a counter that is at 0: it goes up in steps and in a leap, it is there
// when the home is opened again, and it does not go back.
func Count(t *testing.T, open Open) {
	dir := t.TempDir()
	h := opened(t, open, dir)
	key, err := secret.MachineKey(h, rand.Reader)
	must(t, err)
	c := h.Counter(key.Public())
	for _, n := range []uint64{0, 1, 2, 2, 7, 5000, 5001, 1 << 40} {
		if n > 0 {
			must(t, c.Write(n))
		}
		h := opened(t, open, dir)
		_, err := h.Load()
		must(t, err)
		for _, c := range []generation.Counter{c, h.Counter(key.Public())} {
			if got, err := c.Read(); got != n || err != nil {
				t.Fatalf("%d was read as %d, %v", n, got, err)
			}
		}
	}
	if err := c.Write(5000); err == nil {
		t.Error("the counter went back")
	}
	if got, err := c.Read(); got != 1<<40 || err != nil {
		t.Errorf("after that it is at %d, %v", got, err)
	}
	_, err = h.Load() // what a leap has written can be opened
	must(t, err)
}

// Damage changes each byte of the home's file, one after the other: no change may be
// taken for another secret. every is how many bytes to go on.
func Damage(t *testing.T, open Open, every int) {
	dir, s := t.TempDir(), Seed(t, 32)
	must(t, opened(t, open, dir).Store(s))
	path := filepath.Join(dir, "key")
	whole, err := os.ReadFile(path)
	must(t, err)
	refused := 0
	for i := 0; i < len(whole); i += every {
		bad := bytes.Clone(whole)
		bad[i] ^= 1
		must(t, os.WriteFile(path, bad, 0o600))
		got, err := opened(t, open, dir).Load()
		if err == nil && !got.Equal(s) {
			t.Fatalf("byte %d changed gives another secret", i)
		}
		if err != nil {
			refused++
			clean(t, "the error", []byte(err.Error()), s)
		}
	}
	if refused == 0 {
		t.Error("no damage was noticed: the test tries nothing")
	}
	for _, bad := range [][]byte{nil, []byte("{}"), whole[:len(whole)/2], bytes.Repeat([]byte("x"), secret.MaxFile+1)} {
		must(t, os.WriteFile(path, bad, 0o600))
		if _, err := opened(t, open, dir).Load(); err == nil || errors.Is(err, secret.ErrEmpty) {
			t.Errorf("a file of %d bad bytes: %v", len(bad), err)
		}
	}
}

// clean checks that text does not have s in it, in any spelling.
func clean(t *testing.T, where string, text []byte, s secret.Seed) {
	t.Helper()
	raw := s.Reveal()
	for _, form := range [][]byte{
		raw, raw[:8], []byte(hex.EncodeToString(raw[:8])), []byte(base64.StdEncoding.EncodeToString(raw)[:16]),
		[]byte(base64.URLEncoding.EncodeToString(raw)[:16]), fmt.Append(nil, raw[:8])[1:15], fmt.Appendf(nil, "%X", raw[:8]),
	} {
		if bytes.Contains(text, form) {
			t.Errorf("%s has the secret in it", where)
		}
	}
}

func opened(t *testing.T, open Open, dir string) secret.Home {
	t.Helper()
	h, err := open(dir)
	must(t, err)
	t.Cleanup(func() { must(t, h.Close()) })
	return h
}

func same(t *testing.T, h secret.Home, want secret.Seed) {
	t.Helper()
	got, err := h.Load()
	must(t, err)
	if !got.Equal(want) {
		t.Fatal("another secret came back")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
